"""Dates in the words of a query: "beach july 2023", "christmas 2019", "dog last summer". English only.

A phrase counts as a date only if it can hardly be anything else; docs/queries.md states the rules. Reading it needs no
library: dateparser 1.5 takes 0.2 s to import and 0.5 s for its first date, gives a moment instead of a period, and
reads neither seasons, holidays, decades nor ranges, so that only names of months and "3 days ago" were left to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import NamedTuple

from .filter_dates import MONTHS, month_named, months_on

FIRST_YEAR = 1826
"""Of the oldest photo that exists."""
FIRST_BARE_YEAR = 1990
"""Older years need another word: "in 1967". Before digital cameras, a number is more often part of a name."""

Values = dict[str, str | tuple[str, ...]]
"""Filters by the names of the fields of `Filters`."""


class DateFound(NamedTuple):
    start: int
    end: int
    values: Values


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str], date], Values | None]
    """None if there is no such date."""
    is_weak: bool
    """Whether it is only a date where a clause ends."""


# ---- What is not a date ----------------------------------------------------------------------------------------------

_NOT_AFTER = frozenset(
    """
    a an the of for by like as about around circa than every each any no number this that
    saying says said reading reads titled called named labelled dated est established class happy merry
    room flight route highway bus train gate page chapter version windows office psychology usa
    """.split()
)
"""A date directly after one of these is not when the photo was taken."""
_DATED_THINGS = frozenset(
    """
    album attacks badge banner book bottle calendar calendars card cards car cars catalog catalogue coin coins
    collection cover covers diary dress edition fashion festival film flyer greeting greetings invitation issue jersey
    logo magazine memorial model movie mug museum newspaper novel ornament planner plate poster posters report
    schedule season series shirt show sign song stamp stamps style sweater t-shirt ticket tickets tour truck version
    vintage wine
    """.split()
)
"""Things that have a date on them or in their name: a date directly before or after one belongs to the thing."""
_TAKES = frozenset(("taken", "shot", "photographed", "captured", "recorded", "filmed"))
_MADE = frozenset(("built", "made", "born", "begun", "written", "drawn", "sung", "won", "set", "worn"))
_PARTICIPLE = re.compile("[a-z]{3,}(?<!e)ed")
"""Not red, bed, speed: "a poster printed in 2010", "a church built in 2004"."""
_WHEN = frozenset(("in", "on", "at", "during"))
_GOES_ON = frozenset(("at", "in", "on", "with", "near", "by", "from", "over", "under", "and", "or", "but", "inside"))
"""Words that begin the next part of a sentence."""

# ---- Patterns --------------------------------------------------------------------------------------------------------

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = f"(?:{'|'.join(_WEEKDAYS)})"
_DAY = r"(?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?\b"
_YEAR = r"(?:18|19|20)[0-9]{2}\b"
_SEASON = "(?:spring|summer|autumn|fall|winter)"
_HOLIDAY = (
    r"(?:(?:christmas|xmas)(?:\s+(?:eve|day))?|new\s+year(?:['’]?s)?(?:\s+(?:eve|day))?|boxing\s+day|halloween|"
    r"valentine(?:['’]?s)?(?:\s+day)?|easter)"
)
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNT = f"(?:[1-9][0-9]{{0,2}}|an?|{'|'.join(_COUNTS)})"

_DAY_MONTH = rf"(?:the\s+)?{_DAY}(?:\s+of)?\s+{_MONTH}"
_MONTH_DAY = rf"{_MONTH}\s+(?:the\s+)?{_DAY}"
_NUMERIC = (
    r"(?:(?:18|19|20)[0-9]{2}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:18|19|20)[0-9]{2}|"
    r"(?:18|19|20)[0-9]{2}-[0-9]{2}|[0-9]{1,2}/(?:18|19|20)[0-9]{2}|(?:19|20)[0-9]{6})\b"
)
_DATED = (
    rf"(?:{_DAY_MONTH},?\s+(?:of\s+)?{_YEAR}|{_MONTH_DAY},?\s+{_YEAR}|"
    rf"(?:(?:early|mid|late)[\s-]+)?{_MONTH},?\s+(?:of\s+)?{_YEAR}|{_YEAR}\s+{_MONTH})"
)
_PERIOD = rf"(?:{_DATED}|(?:18|19|20)[0-9]{{2}}-[0-9]{{2}}(?:-[0-9]{{2}})?\b|{_YEAR})"
_PART = rf"(?:{_PERIOD}|{_DAY_MONTH}|{_MONTH_DAY}|{_MONTH}|{_DAY})"
_TO = r"(?:\s*[-–—]\s*|\s+(?:to|until|till|through)\s+)"

_TAKEN = rf"(?:{'|'.join(sorted(_TAKES))})"
_IN = rf"(?:{_TAKEN}\s+)?(?:in|on|from|during|over|at|of)\s+"
_ON_WEEKDAY = rf"{_WEEKDAY},?\s+"
_START = r"(?<![^\s(,;\"])"
_END = r"(?=[,.;:!?)\"]*(?:\s|$))"

# ---- From a phrase to filters ----------------------------------------------------------------------------------------


def _parts(text: str) -> tuple[int | None, int | None, int | None]:
    """The year, month and day that are written there."""
    year = month = day = None
    for word in re.findall(r"[a-z]+|[0-9]+", text.lower()):
        if word.isdigit():
            year, day = (int(word), day) if len(word) == 4 else (year, int(word))
        else:
            month = month_named(word) or month
    return year, month, day


def _iso(text: str, today: date, *, year: int | None = None, month: int | None = None) -> str | None:
    """`2023`, `2023-07` or `2023-07-14`, with what is not written from the arguments; None if there is no such date."""
    written = _numeric(text) if re.fullmatch(r"[0-9./-]+", text) and len(text) > 4 else _parts(text)
    if written is None:
        return None
    year, month, day = written[0] or year, written[1] or month, written[2]
    if year is None or not FIRST_YEAR <= year <= today.year:
        return None
    return _dated(year, month, day)


def _dated(year: int, month: int | None, day: int | None) -> str | None:
    try:
        whole = date(year, month or 1, day or 1).isoformat()
    except ValueError:
        return None
    return whole[: 10 if day else 7 if month else 4]


def _numeric(text: str) -> tuple[int, int | None, int | None] | None:
    """The year, month and day of numbers. 4/7/2023 is either of two days, and none."""
    if re.fullmatch(r"[0-9]{8}", text):
        return int(text[:4]), int(text[4:6]), int(text[6:])
    if len(set(re.findall(r"[-/.]", text))) > 1:
        return None
    numbers = [int(number) for number in re.split(r"[-/.]", text)]
    if numbers[0] > 31:
        return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else None
    if len(numbers) == 2:
        return numbers[1], numbers[0], None
    first, second, year = numbers
    if "." in text or first > 12 or first == second:
        return year, second, first
    return (year, first, second) if second > 12 else None


def _one(iso: str | None) -> Values | None:
    if iso is None:
        return None
    if len(iso) == 4:
        return {"after": iso, "before": iso}
    return {"month" if len(iso) == 7 else "on": (iso,)}


def _span(first: date, last: date) -> Values:
    """The days from `first` to `last`, as briefly as possible."""
    if first == last:
        return {"on": (first.isoformat(),)}
    is_whole = first.day == 1 and (last + timedelta(days=1)).day == 1
    if is_whole and (first.year, first.month) == (last.year, last.month):
        return {"month": (first.isoformat()[:7],)}
    size = 4 if is_whole and (first.month, last.month) == (1, 12) else 7 if is_whole else 10
    return {"after": first.isoformat()[:size], "before": last.isoformat()[:size]}


def _beside(iso: str, step: int) -> str:
    """The year, month or day directly after or before that one."""
    if len(iso) == 4:
        return str(int(iso) + step)
    if len(iso) == 7:
        return months_on(date.fromisoformat(f"{iso}-01"), step).isoformat()[:7]
    return (date.fromisoformat(iso) + timedelta(days=step)).isoformat()


def _is_bare(iso: str) -> bool:
    return len(iso) == 4 and int(iso) < FIRST_BARE_YEAR


def _period(match: re.Match[str], today: date) -> Values | None:
    return _one(_iso(match["period"], today))


def _bare_year(match: re.Match[str], today: date) -> Values | None:
    iso = _iso(match["period"], today)
    return None if iso is None or _is_bare(iso) else _one(iso)


def _range(match: re.Match[str], today: date) -> Values | None:
    last = _iso(match["last"], today)
    if last is None:
        return None
    year, month = int(last[:4]), int(last[5:7]) if len(last) > 4 else None
    own_year, own_month, _ = _parts(match["first"])
    first = _iso(match["first"], today, year=year, month=month if own_year is None else None)
    if first is not None and own_year is None and own_month is not None and first > last:
        first = _dated(year - 1, *(int(part) for part in (first[5:7], first[8:] or 0)))
    if first is None or first >= last or len(first) > len(last) or (own_year is None and len(first) != len(last)):
        return None
    return None if _is_bare(first) else {"after": first, "before": last}


def _open_range(match: re.Match[str], today: date) -> Values | None:
    iso, word = _iso(match["period"], today), match["word"].lower()
    if iso is None or _is_bare(iso):
        return None
    if word == "since":
        return {"after": iso}
    if word == "after":
        return {"after": _beside(iso, 1)}
    return {"before": _beside(iso, -1) if word == "before" else iso}


def _any_year(match: re.Match[str], today: date) -> Values | None:
    """A day of every year."""
    _, month, day = _parts(match["day"])
    iso = _dated(2000, month, day)  # a leap year
    return None if iso is None else {"on": (iso[5:],)}


def _any_month(match: re.Match[str], today: date) -> Values | None:
    return {"month": (match["month"].lower(),)}


def _season(match: re.Match[str], today: date) -> Values | None:
    name, year, until = match["season"].lower(), int(match["year"]), match["until"]
    if not FIRST_YEAR <= year <= today.year:
        return None
    if until:
        is_next = name == "winter" and int(until) % 100 == (year + 1) % 100
        return _span(*_days_of_season(name, year)) if is_next else None
    if name == "winter":  # of one calendar year, because "winter 2020" may be either of two
        return {"after": str(year), "before": str(year), "month": ("january", "february", "december")}
    return _span(*_days_of_season(name, year))


def _holiday(match: re.Match[str], today: date) -> Values | None:
    year = int(match["year"])
    return _span(*_days_of_holiday(match["holiday"], year)) if FIRST_YEAR <= year <= today.year else None


def _days_of_season(name: str, year: int) -> tuple[date, date]:
    """In the north; a winter begins in that year."""
    month = {"spring": 3, "summer": 6, "winter": 12}.get(name, 9)
    first = date(year, month, 1)
    return first, months_on(first, 3) - timedelta(days=1)


def _days_of_holiday(typed: str, year: int) -> tuple[date, date]:
    name = " ".join(re.sub("['’]", "", typed.lower()).replace("xmas", "christmas").split())
    if name == "easter":  # from Good Friday to Easter Monday
        sunday = _easter(year)
        return sunday - timedelta(days=2), sunday + timedelta(days=1)
    if name == "christmas":
        return date(year, 12, 24), date(year, 12, 26)
    if name in ("new year", "new years"):
        return date(year - 1, 12, 31), date(year, 1, 1)
    days = {"christmas eve": (12, 24), "christmas day": (12, 25), "boxing day": (12, 26), "halloween": (10, 31)}
    month, day = days.get(name) or ((2, 14) if name[0] == "v" else (12, 31) if name.endswith("eve") else (1, 1))
    return date(year, month, day), date(year, month, day)


def _easter(year: int) -> date:
    """By the anonymous Gregorian algorithm (Nature, 1876)."""
    century, rest = divmod(year, 100)
    golden, leaps, f = year % 19, century // 4, (century + 8) // 25
    epact = (19 * golden + century - leaps - (century - f + 1) // 3 + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - epact - rest % 4) % 7
    late = (golden + 11 * epact + 22 * weekday) // 451
    month, day = divmod(epact + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)


# ---- Relative dates


def _last(match: re.Match[str], today: date) -> Values | None:
    """The last one that is over."""
    what = " ".join(match["what"].lower().split())
    day = timedelta(days=1)
    monday = today - today.weekday() * day
    if what == "night":
        return {"after": f"{today - day}T18:00", "before": f"{today}T06:00"}
    if what == "week":
        return _span(monday - 7 * day, monday - day)
    if what == "weekend":
        sunday = today - (today.isoweekday() % 7 or 7) * day
        return _span(sunday - day, sunday)
    if what in _WEEKDAYS:
        return _span(*[today - ((today.weekday() - _WEEKDAYS.index(what)) % 7 or 7) * day] * 2)
    if what == "month":
        return _one(_beside(today.isoformat()[:7], -1))
    if what == "year":
        return _one(str(today.year - 1))
    return next(_span(*days) for ago in range(3) if (days := _in_year(what, today.year - ago))[1] < today)


def _this(match: re.Match[str], today: date) -> Values | None:
    what = match["what"].lower()
    monday = today - timedelta(days=today.weekday())
    if what == "week":
        return _span(monday, monday + timedelta(days=6))
    if what in ("month", "year"):
        return _one(today.isoformat()[: 7 if what == "month" else 4])
    days = _in_year(what, today.year - (what == "winter" and today.month < 3))
    return _span(*days) if days[0] <= today else None


def _in_year(what: str, year: int) -> tuple[date, date]:
    """The days of a season, month or holiday."""
    if re.fullmatch(_SEASON, what):
        return _days_of_season(what, year)
    if month := month_named(what.rstrip(".")):
        return date(year, month, 1), months_on(date(year, month, 1), 1) - timedelta(days=1)
    return _days_of_holiday(what, year)


def _past(match: re.Match[str], today: date) -> Values | None:
    return {"after": _ago(match["count"] or "1", match["unit"], today).isoformat()}


def _then(match: re.Match[str], today: date) -> Values | None:
    """Of "3 days ago" the day, of "2 weeks ago" the week, and so on."""
    unit = match["unit"].lower()
    then = _ago(match["count"], unit, today)
    if unit.startswith("week"):
        monday = then - timedelta(days=then.weekday())
        return _span(monday, monday + timedelta(days=6))
    return _one(then.isoformat()[: {"d": 10, "m": 7, "y": 4}[unit[0]]]) if then.year >= FIRST_YEAR else None


def _ago(count: str, unit: str, today: date) -> date:
    count, unit = count.lower(), unit.lower()
    number = int(count) if count.isdigit() else _COUNTS.index(count) + 1 if count in _COUNTS else 1
    if unit[0] in "dw":
        return today - timedelta(days=number * (7 if unit[0] == "w" else 1))
    return months_on(today, -number * (12 if unit[0] == "y" else 1))


def _day(match: re.Match[str], today: date) -> Values | None:
    return {"on": ((today - timedelta(days=match["word"].lower() == "yesterday")).isoformat(),)}


def _decade(match: re.Match[str], today: date) -> Values | None:
    digits = match["decade"]
    first = int(digits) if len(digits) == 4 else int(digits) + (1900 if digits >= "30" else 2000)
    if not FIRST_YEAR <= first <= today.year or digits in ("20", "10"):
        return None
    return {"after": str(first), "before": str(first + 9)}


def _rule(pattern: str, read: Callable[[re.Match[str], date], Values | None], *, is_weak: bool = True) -> _Rule:
    return _Rule(re.compile(f"{_START}{pattern}{_END}", re.IGNORECASE), read, is_weak)


_FULL_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_UNIT = r"(?P<unit>(?:day|week|month|year)s?)"
_RULES = (
    _rule(rf"(?:{_IN})?(?:{_ON_WEEKDAY}|the\s+)?(?P<period>{_DATED})", _period, is_weak=False),
    _rule(rf"(?:{_IN})?(?P<period>{_NUMERIC})", _period, is_weak=False),
    _rule(
        rf"(?:(?:from|(?P<between>between))\s+)?(?P<first>{_PART})(?(between)\s+and\s+|{_TO})(?P<last>{_PERIOD})",
        _range,
    ),
    _rule(rf"(?P<word>since|after|before|until)\s+(?:the\s+)?(?P<period>{_PERIOD})", _open_range),
    _rule(
        rf"(?:{_IN})?(?:the\s+)?(?:(?:early|mid|late)[\s-]+)?(?P<season>{_SEASON}),?\s+(?:of\s+)?(?P<year>{_YEAR})"
        r"(?:[-/](?P<until>(?:20|19)?[0-9]{2}))?",
        _season,
        is_weak=False,
    ),
    _rule(rf"(?:{_IN})?(?P<holiday>{_HOLIDAY}),?\s+(?:(?:of|in)\s+)?(?P<year>{_YEAR})", _holiday, is_weak=False),
    _rule(rf"(?:{_IN})?(?:{_ON_WEEKDAY})?(?P<day>{_DAY_MONTH}|{_MONTH_DAY})", _any_year, is_weak=False),
    _rule(rf"(?:{_TAKEN}\s+)?(?:in|during)\s+{_FULL_MONTH}", _any_month),
    _rule(rf"(?:{_TAKEN}\s+)?(?:in|during)\s+(?P<period>{_YEAR})", _period),
    _rule(rf"(?:from\s+)?(?P<period>{_YEAR})", _bare_year),
    _rule(rf"(?:{_IN})?last\s+(?P<what>night|week|weekend|month|year|{_WEEKDAY}|{_SEASON}|{_MONTH}|{_HOLIDAY})", _last),
    _rule(rf"(?:{_IN})?this\s+(?P<what>week|month|year|{_SEASON})", _this),
    _rule(rf"(?:{_IN})?(?:the\s+)?(?:past|last)\s+(?P<count>{_COUNT})\s+{_UNIT}", _past),
    _rule(rf"(?:{_IN})?(?:the\s+past|past|the\s+last)(?P<count>)\s+{_UNIT}", _past),
    _rule(rf"(?:from\s+)?(?P<count>{_COUNT})\s+{_UNIT}\s+ago", _then),
    _rule(r"(?:from\s+)?(?P<word>yesterday|today)", _day),
    _rule(r"(?:in|during)\s+the\s+['’]?(?P<decade>(?:18|19|20)[0-9]0|[0-9]0)s", _decade),
)
_DOUBTFUL_MONTH = re.compile(r"\b(?:may|mar(?:ch)?)\b", re.IGNORECASE)
"""Also ordinary words: "march 4 freedom"."""

_WORD = re.compile(r"[^\s(,;\"]+")

# ---- Finding ---------------------------------------------------------------------------------------------------------


def dates_in(text: str, today: date) -> Iterator[DateFound]:
    """The dates in a text, in order. What looks like a date but may be something else is left out as a whole."""
    at = 0
    while word := _WORD.search(text, at):
        at = word.end()
        matches = [(rule, match) for rule in _RULES if (match := rule.pattern.match(text, word.start()))]
        if not matches:
            continue
        rule, match = max(matches, key=lambda each: each[1].end())
        at = match.end()
        if _is_when_taken(text, match, is_weak=rule.is_weak) and (values := _read(rule, match, today)):
            yield DateFound(match.start(), match.end(), values)


def _read(rule: _Rule, match: re.Match[str], today: date) -> Values | None:
    try:
        return rule.read(match, today)
    except (ValueError, OverflowError):  # before the year 1
        return None


def _is_when_taken(text: str, match: re.Match[str], *, is_weak: bool) -> bool:
    """Whether it says when the photo was taken, by the words beside it."""
    before = text[: match.start()].split()
    rest = text[match.end() :]
    after = re.findall(r"^\s+(?:['\"(]*)([^\s,.;:!?]+)", rest)
    previous, following = before[-1].lower().strip("'\"(") if before else "", after[0].lower() if after else ""
    words = match[0].lower()
    if previous in _NOT_AFTER or following in _DATED_THINGS | {"of"}:
        return False
    is_made = previous in _MADE or (_PARTICIPLE.fullmatch(previous) and previous not in _TAKES)
    if is_made and words.split()[0] in _WHEN:
        return False
    if previous in _DATED_THINGS and (words.split()[0] not in _WHEN or "decade" in match.re.groupindex):
        return False
    is_weak = is_weak or ("day" in match.re.groupindex and _DOUBTFUL_MONTH.search(words) is not None)
    return not is_weak or not following or following in _GOES_ON
