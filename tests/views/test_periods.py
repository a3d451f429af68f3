from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stac2cube.errors import BadInputError
from stac2cube.views.composite import periods_of


def days(*texts: str) -> np.ndarray:
    return np.array(texts, "datetime64[us]")


def begins(times: np.ndarray, period: str) -> list[str]:
    return [str(part.begin)[:10] for part in periods_of(times, period)]


def test_months_of_different_years_stay_apart_and_empty_ones_are_there() -> None:
    times = days("2023-01-31T23:59:59.999999", "2022-12-01", "2023-03-01T00:00:00")
    parts = periods_of(times, "month")
    assert [(str(part.begin)[:10], part.places) for part in parts] == [
        ("2022-12-01", (1,)),
        ("2023-01-01", (0,)),
        ("2023-02-01", ()),
        ("2023-03-01", (2,)),
    ]
    assert str(parts[-1].end)[:10] == "2023-04-01"
    assert parts == periods_of(times, "1MS") == periods_of(times, "MS")


def test_winter_reaches_over_new_year() -> None:
    assert begins(days("2022-12-31", "2023-02-28", "2023-03-01"), "season") == ["2022-12-01", "2023-03-01"]


def test_weeks_are_from_monday_to_sunday() -> None:
    parts = periods_of(days("2024-03-03T23:00", "2024-03-04T01:00", "2024-03-10"), "week")
    assert [str(part.begin)[:10] for part in parts] == ["2024-02-26", "2024-03-04"]
    assert all(np.datetime64(part.begin, "D").astype(object).weekday() == 0 for part in parts)


@given(
    st.lists(
        st.datetimes(min_value=np.datetime64("1972-07-23").astype("datetime64[us]").item()), min_size=1, max_size=8
    ),
    st.sampled_from(["7D", "10D", "1MS", "2MS", "5MS", "QS-DEC", "2QS", "1YS", "3YS", "week", "year"]),
)
@settings(max_examples=150, deadline=None)
def test_every_step_is_in_its_period_and_edges_do_not_depend_on_the_others(times: list, period: str) -> None:
    times = [time for time in times if time.year < 2200] or [np.datetime64("2020-02-29", "us").item()]
    stamps = np.array(times, "datetime64[us]")
    parts = periods_of(stamps, period)
    assert sorted(place for part in parts for place in part.places) == list(range(len(times)))
    assert parts[0].places
    assert parts[-1].places
    for part, following in pairwise(parts):
        assert part.end == following.begin
    for part in parts:
        assert list(stamps[list(part.places)]) == sorted(stamps[list(part.places)])
        for place in part.places:
            assert part.begin <= stamps[place] < part.end
            alone = periods_of(stamps[[place]], period)
            assert [(one.begin, one.end) for one in alone] == [(part.begin, part.end)]


def test_all_is_one_period() -> None:
    (part,) = periods_of(days("2023-05-01", "2020-01-01"), "all")
    assert part.places == (1, 0)
    assert part.begin == np.datetime64("2020-01-01")


@pytest.mark.parametrize("period", ["ME", "W", "12h", "QE", "-1MS", "0D", "B"])
def test_periods_that_do_not_begin(period: str) -> None:
    with pytest.raises(BadInputError, match=r"named by how it begins|unknown period"):
        periods_of(days("2023-05-01"), period)


def test_nonsense_and_nothing() -> None:
    with pytest.raises(BadInputError, match="unknown period 'fortnight': use week, month"):
        periods_of(days("2023-05-01"), "fortnight")
    with pytest.raises(BadInputError, match="no steps"):
        periods_of(days(), "month")
