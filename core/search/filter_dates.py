"""--after and --before: dates as typed, and the SQL that compares them with `taken_at`.

`taken_at` is the photo's own clock, without a time zone.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime, timedelta

from imgsearch.core.errors import UsageError

from .filter_sql import Parameters, refused, shown

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
        return _midnight(_months_on(today, -count * (12 if unit == "y" else 1))), 3
    found = _DATE_TYPED.fullmatch(text)
    if not found:
        raise ValueError(text)
    numbers = [int(part) for part in found.groups() if part is not None]
    return datetime(*(numbers + [1, 1][len(numbers) - 1 :])), len(numbers)  # type: ignore[arg-type]


def _end(start: datetime, given: int) -> datetime:
    if given < 3:
        return _midnight(_months_on(start.date(), 12 if given == 1 else 1))
    return start + {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[given]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def _months_on(day: date, months: int) -> date:
    """The same day `months` later, or the last day of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise ValueError(year)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
