"""--after, --before, --month and --on: dates as typed, and the SQL that compares them with `taken_at`.

`taken_at` is the photo's own clock, without a time zone.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from imgsearch.core.errors import UsageError

from .filter_sql import Parameters, any_of, refused, shown

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
"""January first. The first three letters are enough."""

_NEVER = "9999-12-31T24"
"""Later than every date."""

IS_DATED = (
    "typeof(p.taken_at) = 'text' and p.taken_at glob "
    "'[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'"
)
_DATE_TYPED = re.compile(
    r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})(?:[t ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?)?)?"
)
_AGO = re.compile(r"([0-9]{1,6}) ?([dwmy])")
_MONTH_TYPED = re.compile(r"(?:([0-9]{4})-)?([0-9]{1,2})")
_DAY_TYPED = re.compile(r"(?:([0-9]{4})-)?([0-9]{1,2})-([0-9]{1,2})")
_LEAP_YEAR = 2000


def taken_between(after: str | None, before: str | None, today: date, value: Parameters) -> str:
    tests = [IS_DATED]
    start = end = None
    if after is not None:
        start = _span("--after", after, today)[0]
        tests.append(f"p.taken_at >= {value(start)}")
    if before is not None:
        end = _span("--before", before, today)[1]
        tests.append(f"p.taken_at < {value(end)}")
    if start and end and start >= end:
        raise UsageError(
            f"--after {shown(after or '')} --before {shown(before or '')}: nothing can match",
            hint="--after takes the earlier date: --after 2023-05 --before 2024",
        )
    return " and ".join(tests)


def in_months(typed: Sequence[str], value: Parameters) -> str:
    """In one of these months, of every year or of one."""
    tests = []
    for each in typed:
        text = each.strip().lower()
        year, month = None, month_named(text)
        if found := _MONTH_TYPED.fullmatch(text):
            year, month = found[1], int(found[2])
        if not 1 <= month <= 12 or year == "0000":
            raise refused("--month", each, "a month: its name or number, or with a year", "july, 7 or 2023-07")
        tests.append(
            _taken_in("1, 7", f"{year}-{month:02}", value) if year else _taken_in("6, 2", f"{month:02}", value)
        )
    return f"{IS_DATED} and {any_of(tests)}"


def on_days(typed: Sequence[str], today: date, value: Parameters) -> str:
    """On one of these days, of every year or of one."""
    tests = []
    for each in typed:
        text = each.strip().lower()
        if text in ("today", "yesterday"):
            text = (today - timedelta(days=text == "yesterday")).isoformat()
        found = _DAY_TYPED.fullmatch(text)
        try:
            if found is None:
                raise ValueError(text)
            year = found[1]
            day = date(int(year or _LEAP_YEAR), int(found[2]), int(found[3])).isoformat()
        except ValueError as error:
            raise refused("--on", each, "a day: month and day, or with a year", "12-25 or 2019-12-25") from error
        tests.append(_taken_in("1, 10", day, value) if year else _taken_in("6, 5", day[5:], value))
    return f"{IS_DATED} and {any_of(tests)}"


def month_named(text: str) -> int:
    """1 to 12 for the name of a month in lower case, or its first three letters or `sept`; else 0."""
    names = {"sept": 9} | {name[:length]: at for at, name in enumerate(MONTHS, 1) for length in (3, len(name))}
    return names.get(text, 0)


def _taken_in(part: str, wanted: str, value: Parameters) -> str:
    """Whether a part of the date, as start and length, is what is wanted."""
    return f"substr(p.taken_at, {part}) = {value(wanted)}"


def _span(option: str, typed: str, today: date) -> tuple[str, str]:
    """The start of the typed period and the start of what follows it, both in the format of `taken_at`."""
    text = typed.strip().lower()
    try:
        start, given = _start(text, today)
    except (ValueError, OverflowError) as error:
        takes = "a date, a year or month, or a number of days"
        raise refused(option, typed, takes, "2024, 2024-07, 2024-07-03, 2024-07-03T12:30, yesterday or 30d") from error
    try:
        end = _end(start, given).isoformat()
    except (ValueError, OverflowError):
        end = _NEVER
    return start.isoformat(), end


def _start(text: str, today: date) -> tuple[datetime, int]:
    """The start, and the number of parts given: 1 year, 2 month, 3 day, 5 minute, 6 second.

    Raises ValueError, OverflowError.
    """
    if text in ("today", "yesterday"):
        return _midnight(today - timedelta(days=text == "yesterday")), 3
    if ago := _AGO.fullmatch(text):
        count, unit = int(ago[1]), ago[2]
        if unit in "dw":
            return _midnight(today - timedelta(days=count * (7 if unit == "w" else 1))), 3
        return _midnight(months_on(today, -count * (12 if unit == "y" else 1))), 3
    found = _DATE_TYPED.fullmatch(text)
    if not found:
        raise ValueError(text)
    numbers = [int(part) for part in found.groups() if part is not None]
    return datetime(*(numbers + [1, 1][len(numbers) - 1 :])), len(numbers)  # type: ignore[arg-type]


def _end(start: datetime, given: int) -> datetime:
    if given < 3:
        return _midnight(months_on(start.date(), 12 if given == 1 else 1))
    return start + {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[given]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def months_on(day: date, months: int) -> date:
    """The same day `months` later, or the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise ValueError(year)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
