"""Time ranges: user input turned into closed UTC intervals."""

from __future__ import annotations

import re
from calendar import isleap, monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from stac2cube.errors import BadInputError

Interval = tuple[datetime, datetime]
"""First and last instant, both included, timezone-aware UTC."""

OPEN_START = datetime(1972, 1, 1, tzinfo=UTC)
"""Begin of an open interval (``"../2018"``): the year of Landsat 1, before which no catalog holds a scene."""

FORMS = (
    "write a year 2018, a month 2018-07, a day 2018-07-14, an instant 2018-07-14T10:30:00Z, "
    "an interval A/B of two of these ('..' for an open end), or the season of years '2018/2020 06-01/08-31'; "
    "several go with commas between them"
)
"""The accepted forms, for error messages and for help texts."""

_TICK = timedelta(microseconds=1)
_YEARS = range(1900, 2200)

_YEAR = re.compile(r"\d{4}", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# RFC 3339 section 5.6; its section 4.3 offset is optional here, because a time without one is treated as UTC.
_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?\s?([Zz]|[+-]\d{2}:\d{2})?",
    re.ASCII,
)
_YEAR_RANGE = re.compile(r"(\d{4})(?:\s*/\s*(\d{4}))?", re.ASCII)
_SEASON = re.compile(r"(?P<years>\d{4}(?:/\d{4})?)\s+(?P<first>\d{2}-\d{2})\s*/\s*(?P<last>\d{2}-\d{2})", re.ASCII)
_SEASON_ALONE = re.compile(r"\d{2}-\d{2}\s*/\s*\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """A set of instants: the user's text and its intervals.

    Attributes:
        text: The user's text, or its equivalent for other types. :func:`parse_period` accepts it again.
        intervals: First and last instant of each interval, UTC, both included, to the microsecond; sorted, and merged
            where they overlap or touch.
    """

    text: str
    intervals: tuple[Interval, ...]

    @property
    def start(self) -> datetime:
        """First instant."""
        return self.intervals[0][0]

    @property
    def end(self) -> datetime:
        """Last instant."""
        return self.intervals[-1][1]

    def __contains__(self, instant: datetime) -> bool:
        moment = _aware(instant)
        return any(first <= moment <= last for first, last in self.intervals)

    def __str__(self) -> str:
        return self.text


def parse_period(time: object, *, today: date | None = None) -> Period:
    """Parse a time range.

    A year, month or day includes all of it, up to its last microsecond; a year range ``"2018/2020"`` includes both
    years. Times without an offset are UTC. An open end is the end of today, an open start 1972. In a season
    (``"2018/2020 06-01/08-31"``) the leading years, several separated by commas, are those in which it begins; a
    season over New Year (``"2018 12-01/02-28"``) ends in the following year. The last day 02-29 is the end of February
    in every year.

    Args:
        time: A text in one of :data:`FORMS`, an int (a year), a ``date``, a ``datetime``, a numpy ``datetime64``, a
            list or tuple of two of these (an interval; None is an open end), or a :class:`Period`.
        today: Day of an open end; the present UTC day if None.

    Raises:
        BadInputError: The text has none of the accepted forms, names a day that does not exist, or runs backwards.
    """
    if isinstance(time, Period):
        return time
    text = _text(time)
    end_of_today = _day_end(today or datetime.now(UTC).date())
    intervals = list(_parts(text, end_of_today))
    return Period(text, _merged(intervals))


def _text(time: object) -> str:
    """Any accepted value as one of the text forms."""
    if isinstance(time, list | tuple):
        if len(time) != 2:
            raise BadInputError(f"a time interval has two ends, not {len(time)}: {FORMS}")
        start, end = (".." if side is None else _text(side) for side in time)
        if "/" in start + end or "," in start + end:
            raise BadInputError(f"the ends of a time interval are single times, not {start!r} and {end!r}: {FORMS}")
        return f"{start}/{end}"
    if isinstance(time, str):
        return time.strip()
    if isinstance(time, datetime):
        return _aware(time).isoformat().replace("+00:00", "Z")
    if isinstance(time, date):
        return time.isoformat()
    # numpy scalars: the text of a datetime64 keeps its resolution ("2018-07"), that of an integer is a year.
    if (isinstance(time, int) and not isinstance(time, bool)) or hasattr(time, "dtype"):
        return str(time)
    raise BadInputError(f"cannot read {time!r} as a time: {FORMS}")


def _parts(text: str, end_of_today: datetime) -> Iterable[Interval]:
    """The intervals of every part between commas; plain years directly before a season belong to it."""
    waiting: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if season := _SEASON.fullmatch(part):
            for years in [*waiting, season["years"]]:
                yield from _seasons(years, season["first"], season["last"], text)
            waiting = []
        elif _SEASON_ALONE.fullmatch(part):
            raise BadInputError(f"time {text!r} does not say of which years: write for example '2018/2020 {part}'")
        elif _YEAR_RANGE.fullmatch(part):
            waiting.append(part)
        else:
            yield from (_interval(years, text, end_of_today) for years in waiting)
            waiting = []
            yield _interval(part, text, end_of_today)
    yield from (_interval(years, text, end_of_today) for years in waiting)


def _interval(part: str, text: str, end_of_today: datetime) -> Interval:
    """One interval, or one year, month, day or instant."""
    sides = [side.strip() for side in part.split("/")]
    if len(sides) > 2 or sides == ["..", ".."]:
        raise _nonsense(part, text)
    if len(sides) == 1:
        return _word(sides[0], text)
    # RFC 3339 intervals in STAC leave an open side empty or write two dots.
    first = OPEN_START if sides[0] in ("", "..") else _word(sides[0], text)[0]
    last = end_of_today if sides[1] in ("", "..") else _word(sides[1], text)[1]
    if sides[0] == sides[1] == "":
        raise _nonsense(part, text)
    if last < first:
        why = "starts after today" if sides[1] in ("", "..") else "runs backwards"
        raise BadInputError(f"time {part!r} {why}: the earlier end comes first, '2018-06-01/2018-08-31'")
    return first, last


def _word(word: str, text: str) -> Interval:
    """First and last instant of a year, month, day or instant."""
    try:
        if _YEAR.fullmatch(word):
            return _day_start(date(int(word), 1, 1)), _day_end(date(int(word), 12, 31))
        if match := _MONTH.fullmatch(word):
            year, month = int(match[1]), int(match[2])
            return _day_start(date(year, month, 1)), _day_end(_month_end(year, month))
        if _DAY.fullmatch(word):
            day = date.fromisoformat(word)
            return _day_start(day), _day_end(day)
        if match := _INSTANT.fullmatch(word):
            fraction = (match[3] or "0")[:6].ljust(6, "0")
            offset = (match[4] or "Z").upper()
            instant = _checked(datetime.fromisoformat(f"{match[1]}T{match[2]}.{fraction}{offset}"))
            return instant, instant
    except (ValueError, OverflowError) as error:
        raise BadInputError(f"no such time {word!r} ({error}): {FORMS}") from error
    raise _nonsense(word, text)


def _seasons(years: str, first: str, last: str, text: str) -> Iterable[Interval]:
    """The season of each chosen year, named by the year in which it begins."""
    match = _YEAR_RANGE.fullmatch(years)
    if match is None:
        raise _nonsense(years, text)
    begin, finish = int(match[1]), int(match[2] or match[1])
    if finish < begin:
        raise BadInputError(f"time {text!r} runs backwards: the earlier year comes first, '2018/2020 06-01/08-31'")
    over_new_year = last < first
    for year in range(begin, finish + 1):
        try:
            yield _season_start(year, first), _season_end(year + over_new_year, last)
        except ValueError as error:
            raise BadInputError(
                f"no such season {first}/{last} ({error}): write MM-DD/MM-DD as in '2018 06-01/08-31'"
            ) from error


def _season_start(year: int, month_day: str) -> datetime:
    if month_day == "02-29":
        return _day_start(date(year, 2, 29) if isleap(year) else date(year, 3, 1))
    return _day_start(date.fromisoformat(f"{year:04d}-{month_day}"))


def _season_end(year: int, month_day: str) -> datetime:
    if month_day == "02-29":
        return _day_end(_month_end(year, 2))
    return _day_end(date.fromisoformat(f"{year:04d}-{month_day}"))


def _merged(intervals: list[Interval]) -> tuple[Interval, ...]:
    """Sorted intervals, joined where they overlap or touch."""
    joined: list[Interval] = []
    for first, last in sorted(intervals):
        if joined and first - _TICK <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _day_start(day: date) -> datetime:
    return _checked(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _day_end(day: date) -> datetime:
    return _day_start(day) + timedelta(days=1) - _TICK


def _month_end(year: int, month: int) -> date:
    return date(year, month, monthrange(year, month)[1])


def _checked(instant: datetime) -> datetime:
    if instant.year not in _YEARS:
        raise ValueError(f"year {instant.year} is not in {_YEARS[0]} to {_YEARS[-1]}")
    return instant.astimezone(UTC)


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _nonsense(part: str, text: str) -> BadInputError:
    where = f" in {text!r}" if part != text else ""
    return BadInputError(f"cannot read time {part!r}{where}: {FORMS}")
