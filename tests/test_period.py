from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stac2cube.errors import BadInputError
from stac2cube.model.period import OPEN_START, Period, parse_period

TICK = timedelta(microseconds=1)
TODAY = date(2026, 5, 4)


def start(*ymd: int) -> datetime:
    return datetime(*ymd, tzinfo=UTC)  # type: ignore[misc,arg-type]


def end(*ymd: int) -> datetime:
    return start(*ymd) + timedelta(days=1) - TICK


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2018", [(start(2018, 1, 1), end(2018, 12, 31))]),
        (2018, [(start(2018, 1, 1), end(2018, 12, 31))]),
        (" 2018-02 ", [(start(2018, 2, 1), end(2018, 2, 28))]),
        ("2020-02", [(start(2020, 2, 1), end(2020, 2, 29))]),
        ("2018-12", [(start(2018, 12, 1), end(2018, 12, 31))]),
        ("2018-07-14", [(start(2018, 7, 14), end(2018, 7, 14))]),
        (date(2018, 7, 14), [(start(2018, 7, 14), end(2018, 7, 14))]),
        ("2018/2020", [(start(2018, 1, 1), end(2020, 12, 31))]),
        ("2018-03/2018-09", [(start(2018, 3, 1), end(2018, 9, 30))]),
        ("2018-03-05 / 2018", [(start(2018, 3, 5), end(2018, 12, 31))]),
        ("2018/..", [(start(2018, 1, 1), end(2026, 5, 4))]),
        ("2018/", [(start(2018, 1, 1), end(2026, 5, 4))]),
        ("../2018", [(OPEN_START, end(2018, 12, 31))]),
        ((None, 2018), [(OPEN_START, end(2018, 12, 31))]),
        ([2018, None], [(start(2018, 1, 1), end(2026, 5, 4))]),
        ((2018, 2020), [(start(2018, 1, 1), end(2020, 12, 31))]),
        ((date(2018, 7, 1), "2018-08"), [(start(2018, 7, 1), end(2018, 8, 31))]),
        ("2020,2018", [(start(2018, 1, 1), end(2018, 12, 31)), (start(2020, 1, 1), end(2020, 12, 31))]),
        ("2018,2019", [(start(2018, 1, 1), end(2019, 12, 31))]),
        ("2018, 2018-07", [(start(2018, 1, 1), end(2018, 12, 31))]),
        (np.datetime64("2018-07"), [(start(2018, 7, 1), end(2018, 7, 31))]),
        (np.int64(2018), [(start(2018, 1, 1), end(2018, 12, 31))]),
    ],
)
def test_words(time: object, expected: list[tuple[datetime, datetime]]) -> None:
    assert parse_period(time, today=TODAY).intervals == tuple(expected)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2018-07-14T10:30:00Z", start(2018, 7, 14, 10, 30)),
        ("2018-07-14t10:30:00z", start(2018, 7, 14, 10, 30)),
        ("2018-07-14 10:30:00", start(2018, 7, 14, 10, 30)),
        ("2018-07-14T12:30:00.25+02:00", start(2018, 7, 14, 10, 30) + timedelta(milliseconds=250)),
        ("2018-07-14T10:30:00.123456789Z", start(2018, 7, 14, 10, 30) + timedelta(microseconds=123456)),
        (datetime(2018, 7, 14, 10, 30), start(2018, 7, 14, 10, 30)),
        (datetime(2018, 7, 14, 6, 30, tzinfo=timezone(timedelta(hours=-4))), start(2018, 7, 14, 10, 30)),
        (np.datetime64("2018-07-14T10:30:00"), start(2018, 7, 14, 10, 30)),
    ],
)
def test_instants_are_exact_and_utc(time: object, expected: datetime) -> None:
    period = parse_period(time)
    assert period.intervals == ((expected, expected),)
    assert period.start.tzinfo is UTC


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2018 06-01/08-31", [(start(2018, 6, 1), end(2018, 8, 31))]),
        ("2018/2019 06-01/08-31", [(start(y, 6, 1), end(y, 8, 31)) for y in (2018, 2019)]),
        ("2018,2020 06-01/08-31", [(start(y, 6, 1), end(y, 8, 31)) for y in (2018, 2020)]),
        ("2018 06-01/08-31,2020", [(start(2018, 6, 1), end(2018, 8, 31)), (start(2020, 1, 1), end(2020, 12, 31))]),
        ("2018 12-01/02-28", [(start(2018, 12, 1), end(2019, 2, 28))]),
        ("2019 12-01/02-29", [(start(2019, 12, 1), end(2020, 2, 29))]),
        ("2018 12-01/02-29", [(start(2018, 12, 1), end(2019, 2, 28))]),
        ("2019/2020 02-29/04-30", [(start(2019, 3, 1), end(2019, 4, 30)), (start(2020, 2, 29), end(2020, 4, 30))]),
        ("2018/2019 01-01/12-31", [(start(2018, 1, 1), end(2019, 12, 31))]),
        ("2018 07-14/07-14", [(start(2018, 7, 14), end(2018, 7, 14))]),
    ],
)
def test_seasons(time: str, expected: list[tuple[datetime, datetime]]) -> None:
    assert parse_period(time).intervals == tuple(expected)


@pytest.mark.parametrize(
    ("time", "why"),
    [
        ("2020/2018", "backwards"),
        ("2018-07-14/2018-07-13", "backwards"),
        ("2020/2018 06-01/08-31", "backwards"),
        ("2027/..", "starts after today"),
        ("2018-13", "month"),
        ("2018-00", "month"),
        ("2018-02-30", "2018-02-30"),
        ("2018 02-30/04-01", "no such season"),
        ("2018 06-01/13-31", "no such season"),
        ("06-01/08-31", "of which years"),
        ("2018-07-14T25:00:00Z", "hour"),
        ("2018-07-14T10:30", "cannot read"),
        ("0208", "year 208"),
        ("2018/2019/2020", "cannot read"),
        ("../..", "cannot read"),
        ("/", "cannot read"),
        ("", "cannot read"),
        ("2018,,2019", "cannot read"),
        ("last summer", "cannot read"),
        ("14.07.2018", "cannot read"),
        ("20180714", "cannot read"),
        ("2018-7-14", "cannot read"),
        (None, "cannot read"),
        (True, "cannot read"),
        (2018.5, "cannot read"),
        ([2018, 2019, 2020], "two ends"),
        (("2018,2019", 2020), "single times"),
        (np.datetime64("NaT", "us"), "cannot read"),
    ],
)
def test_refused_with_one_clear_line(time: object, why: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_period(time, today=TODAY)
    line = str(caught.value)
    assert why in line
    assert "\n" not in line
    assert "2018" in line, "shows an accepted form"


def test_a_period_is_taken_as_it_is() -> None:
    period = parse_period("2018")
    assert parse_period(period) is period
    assert str(period) == "2018"


def test_contains_is_inclusive_and_knows_gaps() -> None:
    period = parse_period("2018/2019 06-01/08-31")
    assert start(2018, 6, 1) in period
    assert end(2019, 8, 31) in period
    assert end(2019, 8, 31) + TICK not in period
    assert start(2018, 12, 1) not in period
    assert datetime(2018, 7, 1) in period, "a naive time is UTC"


days = st.dates(date(1972, 1, 1), date(2100, 12, 31))
moments = st.datetimes(datetime(1972, 1, 1), datetime(2100, 12, 31)).map(lambda t: t.replace(tzinfo=UTC))
years = st.integers(1972, 2100)
month_days = st.dates(date(2020, 1, 1), date(2020, 12, 31)).map(lambda d: f"{d:%m-%d}")


def check(period: Period) -> None:
    assert parse_period(period.text).intervals == period.intervals
    assert list(period.intervals) == sorted(period.intervals)
    for first, last in period.intervals:
        assert first <= last
        assert first.tzinfo is UTC
        assert last.tzinfo is UTC
    for (_, before), (after, _) in zip(period.intervals, period.intervals[1:], strict=False):
        assert after - before > TICK


@given(days)
def test_a_day_lies_in_its_month_and_year(day: date) -> None:
    one, month, year = (parse_period(day.strftime(form)) for form in ("%Y-%m-%d", "%Y-%m", "%Y"))
    for period in (one, month, year):
        check(period)
    assert one.end - one.start == timedelta(days=1) - TICK
    assert year.start <= month.start <= one.start
    assert one.end <= month.end <= year.end
    assert one.start + timedelta(hours=12) in month


@given(moments, moments, st.integers(-14, 14))
def test_intervals_contain_exactly_what_lies_between(a: datetime, b: datetime, hours: int) -> None:
    first, last = sorted((a, b))
    period = parse_period((first.astimezone(timezone(timedelta(hours=hours))), last))
    check(period)
    assert period.intervals == ((first, last),)
    assert first in period
    assert last in period
    assert first - TICK not in period
    assert last + TICK not in period


@given(years, st.integers(0, 5), month_days, month_days, moments)
def test_seasons_hold_the_days_between(year: int, more: int, first: str, last: str, moment: datetime) -> None:
    period = parse_period(f"{year}/{year + more} {first}/{last}")
    check(period)
    day = f"{moment:%m-%d}"
    began = moment.year - (last < first and day <= last)
    inside = first <= day <= last if first <= last else (day >= first or day <= last)
    assert (moment in period) == (inside and year <= began <= year + more)


@given(st.lists(st.one_of(days.map(str), years.map(str)), min_size=1, max_size=6), moments)
def test_a_list_is_the_union_of_its_parts(parts: list[str], moment: datetime) -> None:
    period = parse_period(",".join(parts))
    check(period)
    assert (moment in period) == any(moment in parse_period(part) for part in parts)


@given(st.text(max_size=20))
def test_any_text_gives_a_period_or_one_line(text: str) -> None:
    lines: list[str] = []
    try:
        intervals = parse_period(text, today=TODAY).intervals
    except BadInputError as error:
        intervals, lines = (), str(error).splitlines()
    assert bool(intervals) != (len(lines) == 1)
