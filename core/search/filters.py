"""Filters: what a photo has to be apart from alike, as typed at the options, made into one condition in SQL.

Several values of one kind widen (any of them will do), several kinds narrow (all must hold); `keyword` and `has` ask
for all of theirs. Dates are those of the photo's own clock: `taken_at` has no time zone, and needs none here.

A catalogue may be somebody else's: a value of the wrong type matches nothing and stops nothing. SQL decides what it
can; functions of Python see only what SQL cannot tell, as bytes, and never raise.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import unicodedata
from calendar import monthrange
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import MOST_INTEGER, on_disk, printable
from imgsearch.core.store.catalog import Root, below
from imgsearch.core.store.store import Store

EARTH_RADIUS_KM = 6_371.0088
"""The mean radius; on a sphere of it a distance is at most half a percent off."""
BOX_MARGIN_DEGREES = 1e-6
"""A tenth of a metre: the box that SQL tests must not cut off what the exact distance would let in."""
LEAST_RATING, MOST_RATING = -1, 5
MAX_NAME_BYTES = 1 << 16
"""Longer than any path, camera or keyword list of ours: what is longer matches no pattern."""

_NEVER = "9999-12-31T24"
"""After every date that can be written."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The conditions as they were typed. None and () ask for nothing."""

    after: str | None = None
    """`2024`, `2024-07`, `2024-07-03`, `2024-07-03T12:30`, `today`, `yesterday`, `30d`, `6w`, `3m`, `2y`: from its
    start on."""
    before: str | None = None
    """The same, up to its end."""
    camera: tuple[str, ...] = ()
    """Parts of the camera's name, with or without its maker, in any case."""
    lens: tuple[str, ...] = ()
    near: str | None = None
    """`48.85,2.35,5km`: degrees north and east, and how far around in km, m or mi."""
    rating: str | None = None
    """`4` (at least), `=3`, `<=2`, `3-5`. No rating counts as 0, a rejected photo as -1."""
    keyword: tuple[str, ...] = ()
    """Whole keywords in any case, or patterns with * and ?."""
    under: tuple[str, ...] = ()
    """Folders, as paths."""
    glob: tuple[str, ...] = ()
    """Shell patterns: of the name, or with a slash of the path in its root, or from / on of the whole path."""
    ext: tuple[str, ...] = ()
    """`jpg`, `.JPG`, `jpg,png`."""
    min_size: str | None = None
    """`1600x1200` (either way round), `12MP`, or of the file `500kB`, `1.5GiB`, `4096`."""
    orientation: tuple[str, ...] = ()
    """`landscape`, `portrait`, `square`, as the upright picture is."""
    has: tuple[str, ...] = ()
    """`gps`, `caption` (a title, description or comment, in the photo or beside it; keywords are none), `date`."""
    root: tuple[str, ...] = ()
    """Roots of the index, by path or by the last part of it."""

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return any(getattr(self, each.name) not in (None, ()) for each in fields(self))


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression over `p` (photos) and `r` (roots), never empty, with the values it names."""

    sql: str
    parameters: dict[str, Any]


class _Values:
    """The parameters of a condition: a value put in is named in SQL by what comes back."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}

    def __call__(self, value: object) -> str:
        name = f"filter{len(self.by_name)}"
        self.by_name[name] = value
        return f":{name}"


def condition(filters: Filters, store: Store, *, today: date | None = None) -> Condition:
    """What SQL has to test. Raises UsageError for a value that means nothing, QueryError for a folder of `under` or
    `root` in which nothing is indexed."""
    value = _Values()
    tests = list(_tests(filters, store, value, today or date.today()))
    for name, function in _FUNCTIONS.items():
        store.catalog.define(name, function)
    return Condition(" and ".join(f"({test})" for test in tests) or "true", value.by_name)


def _tests(filters: Filters, store: Store, value: _Values, today: date) -> Iterator[str]:
    """What must hold, the cheapest and most telling first."""
    if filters.root:
        yield _in_roots(filters.root, store, value)
    if filters.under:
        yield _under(filters.under, store, value)
    if filters.after is not None or filters.before is not None:
        yield _taken(filters.after, filters.before, today, value)
    if filters.rating is not None:
        yield _rated(filters.rating, value)
    if filters.min_size is not None:
        yield _of_size(filters.min_size, value)
    if filters.orientation:
        yield _any(_ORIENTATIONS[each] for each in _words("--orientation", filters.orientation, _ORIENTATIONS))
    if filters.ext:
        yield _ending_in(filters.ext, value)
    if filters.near is not None:
        yield _near(filters.near, value)
    if filters.has:
        yield " and ".join(_HAS[each] for each in _words("--has", filters.has, _HAS))
    if filters.camera:
        names = value(_listed("--camera", filters.camera, "part of a camera's name", "'canon eos'"))
        yield f"is_called({_bytes_of('p.camera_make')}, {_bytes_of('p.camera')}, {names})"
    if filters.lens:
        names = value(_listed("--lens", filters.lens, "part of a lens's name", "'50mm'"))
        yield f"is_called(null, {_bytes_of('p.lens')}, {names})"
    if filters.keyword:
        words = value(_listed("--keyword", filters.keyword, "a keyword, or a pattern of one", "'beach*'"))
        yield f"p.keywords <> '[]' and has_keywords({_bytes_of('p.keywords')}, {words})"
    if filters.glob:
        yield _any(_globbed(filters.glob, store, value))


def _any(tests: Iterator[str] | Sequence[str]) -> str:
    """One of them holds. Nested by halves: SQLite goes a thousand deep, and hundreds of folders may be named."""
    tests = list(tests)
    if len(tests) < 2:
        return tests[0] if tests else "false"
    middle = len(tests) // 2
    return f"({_any(tests[:middle])} or {_any(tests[middle:])})"


def _bytes_of(column: str) -> str:
    """A text for a function of Python, which as text would have to be UTF-8 first."""
    return f"case typeof({column}) when 'text' then cast({column} as blob) end"


def _refused(option: str, typed: str, takes: str, example: str) -> UsageError:
    return UsageError(f"{option} {_shown(typed)}: takes {takes}", hint=f"for example: {option} {example}")


def _shown(typed: str) -> str:
    return printable(typed[:80]) if typed.strip() else repr(typed)


def _words(option: str, typed: Sequence[str], known: dict[str, str]) -> list[str]:
    words = [each.strip().lower() for each in typed]
    for each, word in zip(typed, words, strict=True):
        if word not in known:
            *others, last = known
            raise _refused(option, each, f"{', '.join(others)} or {last}", last)
    return list(dict.fromkeys(words))


def _listed(option: str, typed: Sequence[str], takes: str, example: str) -> str:
    """Names as one parameter: JSON escapes even what is no UTF-8."""
    for each in typed:
        if not each.strip():
            raise _refused(option, each, takes, example)
    return json.dumps([_folded(each) for each in typed])


# When

_IS_DATED = (
    "typeof(p.taken_at) = 'text' and p.taken_at glob "
    "'[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'"
)
_DATE_TYPED = re.compile(
    r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})(?:[t ]([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?)?)?)?"
)
_AGO = re.compile(r"([0-9]{1,6}) ?([dwmy])")


def _taken(after: str | None, before: str | None, today: date, value: _Values) -> str:
    tests = [_IS_DATED]
    start = end = None
    if after is not None:
        start = _span("--after", after, today)[0]
        tests.append(f"p.taken_at >= {value(start)}")
    if before is not None:
        end = _span("--before", before, today)[1]
        tests.append(f"p.taken_at < {value(end)}")
    if start and end and start >= end:
        raise UsageError(
            f"--after {_shown(after or '')} --before {_shown(before or '')}: nothing can match",
            hint="the date after which comes first: --after 2023-05 --before 2024",
        )
    return " and ".join(tests)


def _span(option: str, typed: str, today: date) -> tuple[str, str]:
    """The first moment of what was typed, and the first one that is no more of it; both as `taken_at` is written."""
    text = typed.strip().lower()
    try:
        start, given = _start(text, today)
    except (ValueError, OverflowError) as error:
        takes = "a date, a part of one, or how long ago"
        raise _refused(option, typed, takes, "2024, 2024-07, 2024-07-03, 2024-07-03T12:30, yesterday or 30d") from error
    try:
        end = _end(start, given).isoformat()
    except (ValueError, OverflowError):
        end = _NEVER
    return start.isoformat(), end


def _start(text: str, today: date) -> tuple[datetime, int]:
    """The first moment, and how much of it was given: 1 the year, 2 the month, 3 the day, 5 the minute, 6 the second.
    Raises ValueError, OverflowError."""
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
    """The same day so many months later, or the last of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise ValueError(year)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


# Where on Earth

_IS_PLACED = "p.latitude between -90 and 90 and p.longitude between -180 and 180"
"""To SQLite a text, or bytes, is more than any number."""

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}"
_DEGREES = re.compile(rf"[+-]?(?:{_NUMBER})")
_RADIUS = re.compile(rf"({_NUMBER})\s*(km|mi|m|)", re.IGNORECASE)
_KM = {"km": 1.0, "": 1.0, "m": 0.001, "mi": 1.609344}


def _near(typed: str, value: _Values) -> str:
    """The box around the circle, then the circle: most photos need no trigonometry."""
    latitude, longitude, km = _circle(typed)
    north = math.degrees(km / EARTH_RADIUS_KM) + BOX_MARGIN_DEGREES
    tests = [_IS_PLACED, f"p.latitude between {value(latitude - north)} and {value(latitude + north)}"]
    if abs(latitude) + north < 90:  # otherwise a pole is inside, and every meridian
        reach = math.sin(math.radians(north)) / math.cos(math.radians(latitude))
        east = math.degrees(math.asin(min(1.0, reach))) + BOX_MARGIN_DEGREES
        tests.append(_between_meridians(longitude - east, longitude + east, value))
    tests.append(f"km_between(p.latitude, p.longitude, {value(latitude)}, {value(longitude)}) <= {value(km)}")
    return " and ".join(tests)


def _circle(typed: str) -> tuple[float, float, float]:
    """Degrees north, degrees east from -180 to 180, and the radius in km."""
    takes, example = "LATITUDE,LONGITUDE,RADIUS", "48.85,2.35,5km (or 500m, 3mi)"
    parts = [part.strip() for part in typed.split(",")]
    radius = _RADIUS.fullmatch(parts[-1])
    if len(parts) != 3 or not radius or not all(_DEGREES.fullmatch(part) for part in parts[:2]):
        raise _refused("--near", typed, takes, example)
    latitude, longitude = float(parts[0]), float(parts[1])
    if abs(latitude) > 90:
        raise _refused("--near", typed, f"{takes}, the latitude from -90 to 90", example)
    if not -180 <= longitude <= 360:
        raise _refused("--near", typed, f"{takes}, the longitude from -180 to 180", example)
    km = float(radius[1]) * _KM[radius[2].lower()]
    if km <= 0:
        raise _refused("--near", typed, f"{takes}, the radius more than 0", example)
    return latitude, longitude - 360 if longitude > 180 else longitude, km


def _between_meridians(west: float, east: float, value: _Values) -> str:
    if west < -180:
        return f"(p.longitude >= {value(west + 360)} or p.longitude <= {value(east)})"
    if east > 180:
        return f"(p.longitude >= {value(west)} or p.longitude <= {value(east - 360)})"
    return f"p.longitude between {value(west)} and {value(east)}"


def _km_between(latitude: object, longitude: object, to_latitude: float, to_longitude: float) -> float | None:
    """By the haversine formula; None for what is no place."""
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    here, there = math.radians(latitude), math.radians(to_latitude)
    east = math.radians(to_longitude - longitude)
    a = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, a)))


# What the photo says of itself

_RATING = re.compile(r"(<=|>=|<|>|=|)(-?[0-9])(\+?)")
_RATINGS = re.compile(r"(-?[0-9])-(-?[0-9])")


def _rated(typed: str, value: _Values) -> str:
    low, high = _rating_range(typed)
    return (
        f"case typeof(p.rating) when 'integer' then p.rating when 'null' then 0 end "
        f"between {value(low)} and {value(high)}"
    )


def _rating_range(typed: str) -> tuple[int, int]:
    text = "".join(typed.split())
    if found := _RATINGS.fullmatch(text):
        stated = [int(found[1]), int(found[2])]
        low, high = stated
    elif (found := _RATING.fullmatch(text)) and not (found[1] and found[3]):
        number = int(found[2])
        stated = [number]
        low, high = {
            "=": (number, number),
            "<=": (LEAST_RATING, number),
            "<": (LEAST_RATING, number - 1),
            ">": (number + 1, MOST_RATING),
        }.get(found[1], (number, MOST_RATING))
    else:
        stated, low, high = [], 0, 0
    if not stated or not all(LEAST_RATING <= number <= MOST_RATING for number in stated):
        takes = "stars from 0 to 5 (-1 is rejected): at least so many, or with = < <= > >=, or a range"
        raise _refused("--rating", typed, takes, "4, or '=3', '<=2', 3-5")
    if low > high or low > MOST_RATING:
        raise UsageError(f"--rating {_shown(typed)}: nothing can match", hint="for example: --rating 3-5")
    return low, high


_IS_CAPTIONED = """
    exists (
        select 1 from photo_texts caption
        where caption.photo_id = p.id and typeof(caption.source) = 'text'
            and caption.source not in ('xmp:dc:subject', 'iptc:keywords', 'exif:XPKeywords')
            and caption.source not glob 'sidecar:*:dc:subject'
    )
"""
"""Keywords are also kept strung together as a text that can be searched; that one is no caption."""

_HAS = {"gps": _IS_PLACED, "caption": _IS_CAPTIONED, "date": _IS_DATED}


def _is_called(make: object, model: object, names: str) -> bool:
    """Whether any of the names is part of the camera's: `nikon d70` is also found in `NIKON CORPORATION` `D70`."""
    maker, own = _text(make), _text(model)
    full = f"{maker} {own}\n{maker.partition(' ')[0]} {own}"
    return any(name in full for name in _needles(names))


def _has_keywords(keywords: object, wanted: str) -> bool:
    """Whether for each that is wanted one of the photo's keywords, which are a list in JSON, is it or is like it."""
    try:
        found = json.loads(_text(keywords, fold=False))
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, list):
        return False
    own = [_folded(each) for each in found if isinstance(each, str)]
    return all(
        any(pattern.match(each) for each in own) if pattern else word in own
        for word, pattern in zip(_needles(wanted), _wildcards(wanted), strict=True)
    )


def _folded(text: str) -> str:
    """So that what differs only in case, in blanks or in how its accents are written is the same."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _text(stored: object, *, fold: bool = True) -> str:
    if not isinstance(stored, bytes) or len(stored) > MAX_NAME_BYTES:
        return ""
    text = stored.decode("utf-8", errors="replace")
    return _folded(text) if fold else text


@lru_cache(maxsize=64)
def _needles(listed: str) -> tuple[str, ...]:
    return tuple(json.loads(listed))


@lru_cache(maxsize=64)
def _wildcards(listed: str) -> tuple[re.Pattern[str] | None, ...]:
    return tuple(_like(word.replace("[", "[[]")) if set("*?") & set(word) else None for word in _needles(listed))


def _like(pattern: str) -> re.Pattern[str]:
    """For a whole name. That of the standard library takes no time that grows with the number of stars."""
    return re.compile(fnmatch.translate(pattern))


# What the file is

_SIDES = re.compile(r"([0-9]{1,9}) ?[x×] ?([0-9]{1,9})")
_AMOUNT = re.compile(rf"({_NUMBER}) ?(mp|b|kb|mb|gb|tb|kib|mib|gib|tib|)")
_UNITS = {"": 1, "b": 1} | {f"{letter}b": 1_000**n for n, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}ib": 1_024**n for n, letter in enumerate("kmgt", 1)} | {"mp": 1_000_000}

_IS_SIZED = "typeof(p.width) = 'integer' and p.width > 0 and typeof(p.height) = 'integer' and p.height > 0"
_ORIENTATIONS = {
    "landscape": f"({_IS_SIZED} and p.width > p.height)",
    "portrait": f"({_IS_SIZED} and p.width < p.height)",
    "square": f"({_IS_SIZED} and p.width = p.height)",
}

_SAME_ENDINGS = (("jpg", "jpeg", "jpe"), ("tif", "tiff"), ("heic", "heif", "hif"))
_ENDING = re.compile(r"\.?([a-z0-9][a-z0-9_+~-]{0,31})")


def _of_size(typed: str, value: _Values) -> str:
    text = typed.strip().lower()
    if found := _SIDES.fullmatch(text):
        short, long = sorted((int(found[1]), int(found[2])))
        return f"{_IS_SIZED} and max(p.width, p.height) >= {value(long)} and min(p.width, p.height) >= {value(short)}"
    found = _AMOUNT.fullmatch(text)
    if not found:
        takes = "WIDTHxHEIGHT, megapixels, or bytes of the file"
        raise _refused("--min-size", typed, takes, "1600x1200, 12MP, 500kB or 1.5GiB")
    least = value(min(MOST_INTEGER, math.ceil(round(float(found[1]) * _UNITS[found[2]], 3))))
    if found[2] == "mp":
        return f"{_IS_SIZED} and p.width * p.height >= {least}"
    return f"typeof(p.size) = 'integer' and p.size >= {least}"


def _ending_in(typed: Sequence[str], value: _Values) -> str:
    endings: dict[str, None] = {}
    for each in typed:
        for part in each.split(","):
            found = _ENDING.fullmatch(part.strip().lower())
            if not found:
                raise _refused("--ext", each, "endings of file names (patterns are for --glob)", "jpg or jpg,png")
            same = next((group for group in _SAME_ENDINGS if found[1] in group), (found[1],))
            endings |= dict.fromkeys(same)
    by_length: dict[int, list[str]] = {}
    for ending in endings:
        by_length.setdefault(len(ending) + 1, []).append(f".{ending}")
    tests = []
    for length, some in by_length.items():
        listed = f"json_each({value(json.dumps(some))})"  # one parameter: SQLite takes some 30,000 of them, or fewer
        ending = f"lower(substr(p.name, {value(-length)}))"
        tests.append(f"(length(p.name) > {value(length)} and {ending} in (select value from {listed}))")  # noqa: S608
    return f"typeof(p.name) = 'blob' and {_any(tests)}"


# Where on the disk


def _under(folders: Sequence[str], store: Store, value: _Values) -> str:
    """At or below any of these folders."""
    tests: list[str] = []
    for folder in folders:
        found = list(_in_folder(folder, store, value))
        if not found:
            raise QueryError(
                f"{printable(folder)}: nothing indexed under this folder",
                hint="`imgsearch status` lists what is indexed",
            )
        tests += found
    return _any(tests)


def _in_folder(folder: str, store: Store, value: _Values) -> Iterator[str]:
    """The part of each root over the folder, and each root below it."""
    path = _path(folder)
    for root, relpath in store.roots_over(path):
        top = os.fsencode(relpath)
        if store.catalog.has_photos_below(root.id, top):
            low, high = below(top)
            yield (
                f"(p.root_id = {value(root.id)} and (p.folder = {value(top)} "
                f"or (p.folder >= {value(low)} and p.folder < {value(high)})))"
            )
    for spelling in dict.fromkeys((path, os.path.realpath(path))):
        for root in store.catalog.roots():
            if any(top.startswith(spelling.rstrip("/") + "/") for top in _spellings(root)):
                yield f"p.root_id = {value(root.id)}"


def _in_roots(typed: Sequence[str], store: Store, value: _Values) -> str:
    known = store.catalog.roots()
    chosen = {root.id for each in typed for root in _roots(each, known)}
    return f"p.root_id in ({', '.join(value(root_id) for root_id in sorted(chosen))})"


def _roots(typed: str, known: Sequence[Root]) -> list[Root]:
    """Those of that path, or else the one of that name."""
    path = _path(typed)
    asked = {path, os.path.realpath(path)}
    if found := [root for root in known if asked & set(_spellings(root))]:
        return found
    found = [root for root in known if os.path.basename(root.path) == typed.rstrip("/")]
    if not found:
        raise QueryError(
            f"{printable(typed)}: nothing indexed as this root", hint="`imgsearch status` lists what is indexed"
        )
    if len(found) > 1:
        raise UsageError(
            f"--root {_shown(typed)}: {len(found)} roots are called so",
            hint="name one by its path: " + " or ".join(printable(root.path) for root in found[:3]),
        )
    return found


def _path(typed: str) -> str:
    if not typed:
        raise UsageError("an empty name for a folder", hint="is a variable of your shell unset?")
    if not _can_be_path(typed):
        raise UsageError(
            f"{printable(typed)}: no name that a folder can have", hint="`imgsearch status` lists what is indexed"
        )
    return on_disk(os.path.abspath(os.path.expanduser(typed)))


def _can_be_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _spellings(root: Root) -> tuple[str, ...]:
    """The root's path, and where links in it lead."""
    return tuple(dict.fromkeys((root.path, os.path.realpath(root.path))))


def _globbed(typed: Sequence[str], store: Store, value: _Values) -> Iterator[str]:
    patterns = [_glob(each) for each in typed]
    if inside := [pattern for pattern in patterns if pattern[0] != "/"]:
        yield f"is_at(null, p.folder, p.name, {value(json.dumps(inside))})"
    if whole := [pattern for pattern in patterns if pattern[0] == "/"]:
        listed = value(json.dumps(whole))
        for root in store.catalog.roots():
            for top in _spellings(root):
                is_below = f"is_at({value(os.fsencode(top))}, p.folder, p.name, {listed})"
                yield f"(p.root_id = {value(root.id)} and {is_below})"


def _glob(typed: str) -> str:
    """The pattern for a path: a name may lie anywhere, and what ends in a slash or in ** means all that is below."""
    pattern = os.path.expanduser(typed) if typed.startswith("~/") else typed
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or pattern.startswith("!") or re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        takes = "a shell pattern for a name, or with a slash for a path, without .., ! and {,}; several may be given"
        raise _refused("--glob", typed, takes, "'IMG_*.jpg', '2024/**/*.png' or '/photos/**'")
    if pattern.endswith("/"):
        parts.append("**")
    if parts[-1] == "**":
        parts.append("*")
    if "/" not in pattern:
        parts.insert(0, "**")
    return "/" * pattern.startswith("/") + "/".join(parts)


def _is_at(top: bytes | None, folder: object, name: object, patterns: str) -> bool:
    """Whether the path in its root, or after `top` the whole, is one that any of the patterns means."""
    if not isinstance(folder, bytes) or not isinstance(name, bytes) or len(folder) + len(name) > MAX_NAME_BYTES:
        return False
    likes = _wanted_in(top, folder, patterns)
    if not likes:
        return False
    shown = _composed(name)
    return any(like.match(shown) for like in likes)


@lru_cache(maxsize=1_024)
def _wanted_in(top: bytes | None, folder: bytes, patterns: str) -> tuple[re.Pattern[str], ...]:
    """What a name in that folder has to be like: the end of each pattern whose beginning leads there. Hundreds of
    photos that follow each other lie in one folder."""
    path = [_composed(part) for part in (top or b"").split(b"/") + folder.split(b"/") if part]
    return tuple(like for *folders, like in _paths(patterns) if like is not None and _leads_to(folders, path))


def _composed(name: bytes) -> str:
    text = os.fsdecode(name)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


_NOTHING = re.compile(r"(?!)")
_Pattern = tuple[re.Pattern[str] | None, ...]
"""One for each name of a path; None for any number of folders."""


@lru_cache(maxsize=64)
def _paths(listed: str) -> tuple[_Pattern, ...]:
    return tuple(
        tuple(
            None if part == "**" else _like(unicodedata.normalize("NFC", part)) for part in pattern.split("/") if part
        )
        for pattern in json.loads(listed)
    )


def _leads_to(pattern: Sequence[re.Pattern[str] | None], path: Sequence[str]) -> bool:
    """Only the last None is ever tried again: what an earlier one can swallow, the later one can as well."""
    at = part = 0
    retry: tuple[int, int] | None = None
    while at < len(path):
        like = pattern[part] if part < len(pattern) else _NOTHING
        if like is None:
            part += 1
            retry = at, part
        elif like.match(path[at]):
            at, part = at + 1, part + 1
        elif retry:
            retry = retry[0] + 1, retry[1]
            at, part = retry
        else:
            return False
    return all(like is None for like in pattern[part:])


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "has_keywords": _has_keywords,
    "is_at": _is_at,
    "is_called": _is_called,
    "km_between": _km_between,
}
"""What SQL cannot tell by itself, by the name it calls it."""
