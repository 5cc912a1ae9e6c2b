"""Filters by date, place, camera, rating, file and folder: typed values become one SQL condition.

A photo must pass all filters. It passes a filter if it matches any of its values; `keyword` and `has` need all.

A catalogue may come from another user: a value of the wrong type matches nothing and raises nothing. Functions in
Python do only what SQL cannot; they get bytes, and never raise.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import lru_cache

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import MAX_INTEGER
from imgsearch.core.store.place_names import IS_LOCATED
from imgsearch.core.store.region_table import IS_VIDEO
from imgsearch.core.store.store import Store

from .filter_dates import IS_DATED, in_months, on_days, taken_between
from .filter_paths import in_folders, in_roots, is_at, is_named, matches_glob, matches_name
from .filter_sql import MAX_NAME_BYTES, Condition, Parameters, any_of, name_pattern, refused, shown
from .filters import EARTH_RADIUS_KM, Filters

BOX_MARGIN_DEGREES = 1e-6
"""A tenth of a metre: the box that SQL tests must contain the whole circle."""
MIN_RATING, MAX_RATING = -1, 5


def condition(*filters: Filters, store: Store, today: date | None = None) -> Condition:
    """All of the filters as SQL. Raises UsageError for an invalid value, QueryError if nothing is indexed in a folder
    of `under` or `root`."""
    value = Parameters()
    tests = [test for each in filters for test in _tests(each, store, value, today or date.today())]
    for name, function in _FUNCTIONS.items():
        store.catalog.define_function(name, function)
    return Condition(" and ".join(f"({test})" for test in tests) or "true", value.by_name)


def _tests(filters: Filters, store: Store, value: Parameters, today: date) -> Iterator[str]:
    """The conditions, the cheapest and most selective first."""
    if filters.root:
        yield in_roots(filters.root, store, value)
    if filters.under:
        yield in_folders(filters.under, store, value)
    if filters.after is not None or filters.before is not None:
        yield taken_between(filters.after, filters.before, today, value)
    if filters.on:
        yield on_days(filters.on, today, value)
    if filters.month:
        yield in_months(filters.month, value)
    if filters.rating is not None:
        yield _rated(filters.rating, value)
    if filters.min_size is not None:
        yield _of_size(filters.min_size, value)
    if filters.orientation:
        yield any_of(_ORIENTATIONS[each] for each in _words("--orientation", filters.orientation, _ORIENTATIONS))
    if filters.ext:
        yield _ending_in(filters.ext, value)
    if filters.near is not None:
        yield _near(filters.near, value)
    if filters.has:
        yield " and ".join(_HAS[each] for each in _words("--has", filters.has, _HAS))
    if filters.text_contains:
        from .matched_lines import containing

        yield containing(filters.text_contains, store, value)
    if filters.place:
        from .place_names import in_places

        yield in_places(filters.place, store, value)
    if filters.camera:
        names = value(_listed("--camera", filters.camera, "part of a camera's name", "'canon eos'"))
        yield f"is_called({_bytes_of('p.camera_make')}, {_bytes_of('p.camera')}, {names})"
    if filters.lens:
        names = value(_listed("--lens", filters.lens, "part of a lens's name", "'50mm'"))
        yield f"is_called(null, {_bytes_of('p.lens')}, {names})"
    if filters.keyword:
        words = value(_listed("--keyword", filters.keyword, "a keyword, or a pattern of one", "'beach*'"))
        yield f"p.keywords <> '[]' and has_keywords({_bytes_of('p.keywords')}, {words})"
    if filters.name:
        yield matches_name(filters.name, value)
    if filters.glob:
        yield any_of(matches_glob(filters.glob, store, value))


def _bytes_of(column: str) -> str:
    """A text as bytes for a function in Python: a text that is not UTF-8 would raise."""
    return f"case typeof({column}) when 'text' then cast({column} as blob) end"


def _words(option: str, typed: Sequence[str], known: dict[str, str]) -> list[str]:
    words = [each.strip().lower() for each in typed]
    for each, word in zip(typed, words, strict=True):
        if word not in known:
            *others, last = known
            raise refused(option, each, f"{', '.join(others)} or {last}", last)
    return list(dict.fromkeys(words))


def _listed(option: str, typed: Sequence[str], takes: str, example: str) -> str:
    """The names as one JSON parameter, which can hold names that are not UTF-8."""
    for each in typed:
        if not each.strip():
            raise refused(option, each, takes, example)
    return json.dumps([_folded(each) for each in typed])


# ---- Place

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}"
_DEGREES = re.compile(rf"[+-]?(?:{_NUMBER})")
_RADIUS = re.compile(rf"({_NUMBER})\s*(km|mi|m|)", re.IGNORECASE)
_KM = {"km": 1.0, "": 1.0, "m": 0.001, "mi": 1.609344}


def _near(typed: str, value: Parameters) -> str:
    """A bounding box, then the circle: most photos need no trigonometry."""
    latitude, longitude, km = _circle(typed)
    north = math.degrees(km / EARTH_RADIUS_KM) + BOX_MARGIN_DEGREES
    tests = [IS_LOCATED, f"p.latitude between {value(latitude - north)} and {value(latitude + north)}"]
    if abs(latitude) + north < 90:  # else the circle contains a pole, and every meridian
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
        raise refused("--near", typed, takes, example)
    latitude, longitude = float(parts[0]), float(parts[1])
    if abs(latitude) > 90:
        raise refused("--near", typed, f"{takes}, the latitude from -90 to 90", example)
    if not -180 <= longitude <= 360:
        raise refused("--near", typed, f"{takes}, the longitude from -180 to 180", example)
    km = float(radius[1]) * _KM[radius[2].lower()]
    if km <= 0:
        raise refused("--near", typed, f"{takes}, the radius more than 0", example)
    return latitude, longitude - 360 if longitude > 180 else longitude, km


def _between_meridians(west: float, east: float, value: Parameters) -> str:
    if west < -180:
        return f"(p.longitude >= {value(west + 360)} or p.longitude <= {value(east)})"
    if east > 180:
        return f"(p.longitude >= {value(west)} or p.longitude <= {value(east - 360)})"
    return f"p.longitude between {value(west)} and {value(east)}"


def _km_between(latitude: object, longitude: object, to_latitude: float, to_longitude: float) -> float | None:
    """By the haversine formula; None if a coordinate is not a number."""
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float):
        return None
    here, there = math.radians(latitude), math.radians(to_latitude)
    east = math.radians(to_longitude - longitude)
    a = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, a)))


# ---- Rating, caption, camera, keywords

_RATING = re.compile(r"(<=|>=|<|>|=|)(-?[0-9])(\+?)")
_RATINGS = re.compile(r"(-?[0-9])-(-?[0-9])")


def _rated(typed: str, value: Parameters) -> str:
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
            "<=": (MIN_RATING, number),
            "<": (MIN_RATING, number - 1),
            ">": (number + 1, MAX_RATING),
        }.get(found[1], (number, MAX_RATING))
    else:
        stated, low, high = [], 0, 0
    if not stated or not all(MIN_RATING <= number <= MAX_RATING for number in stated):
        takes = "0 to 5 stars, -1 for rejected: a minimum, or with = < <= > >=, or a range"
        raise refused("--rating", typed, takes, "4, or '=3', '<=2', 3-5")
    if low > high or low > MAX_RATING:
        raise UsageError(f"--rating {shown(typed)}: nothing can match", hint="for example: --rating 3-5")
    return low, high


_IS_CAPTIONED = """
    exists (
        select 1 from photo_texts caption
        where caption.photo_id = p.id and typeof(caption.source) = 'text'
            and caption.source not in ('xmp:dc:subject', 'iptc:keywords', 'exif:XPKeywords', 'ocr')
            and caption.source not glob 'sidecar:*:dc:subject'
    )
"""
"""The keywords are also stored as one searchable text, which is not a caption."""

_HAS = {
    "gps": IS_LOCATED,
    "caption": _IS_CAPTIONED,
    "date": IS_DATED,
    "damage": "p.is_damaged = 1",
    "video": IS_VIDEO,
}


def _is_called(make: object, model: object, names: str) -> bool:
    """Whether any of the names is part of the camera's: `nikon d70` matches `NIKON CORPORATION` and `D70` too."""
    maker, own = _text(make), _text(model)
    full = f"{maker} {own}\n{maker.partition(' ')[0]} {own}"
    return any(name in full for name in _needles(names))


def _has_keywords(keywords: object, wanted: str) -> bool:
    """Whether every wanted keyword or pattern matches one of the photo's keywords, a JSON list."""
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
    """Without differences in case, white space and the encoding of accents."""
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
    return tuple(name_pattern(word.replace("[", "[[]")) if set("*?") & set(word) else None for word in _needles(listed))


# ---- The file

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


def _of_size(typed: str, value: Parameters) -> str:
    text = typed.strip().lower()
    if found := _SIDES.fullmatch(text):
        short, long = sorted((int(found[1]), int(found[2])))
        return f"{_IS_SIZED} and max(p.width, p.height) >= {value(long)} and min(p.width, p.height) >= {value(short)}"
    found = _AMOUNT.fullmatch(text)
    if not found:
        takes = "WIDTHxHEIGHT, megapixels, or a file size"
        raise refused("--min-size", typed, takes, "1600x1200, 12MP, 500kB or 1.5GiB")
    least = value(min(MAX_INTEGER, math.ceil(round(float(found[1]) * _UNITS[found[2]], 3))))
    if found[2] == "mp":
        return f"{_IS_SIZED} and p.width * p.height >= {least}"
    return f"typeof(p.size) = 'integer' and p.size >= {least}"


def _ending_in(typed: Sequence[str], value: Parameters) -> str:
    endings: dict[str, None] = {}
    for each in typed:
        for part in each.split(","):
            found = _ENDING.fullmatch(part.strip().lower())
            if not found:
                raise refused("--ext", each, "file extensions (for patterns use --glob)", "jpg or jpg,png")
            same = next((group for group in _SAME_ENDINGS if found[1] in group), (found[1],))
            endings |= dict.fromkeys(same)
    by_length: dict[int, list[str]] = {}
    for ending in endings:
        by_length.setdefault(len(ending) + 1, []).append(f".{ending}")
    tests = []
    for length, some in by_length.items():
        listed = f"json_each({value(json.dumps(some))})"  # one parameter: SQLite limits their number
        ending = f"lower(substr(p.name, {value(-length)}))"
        tests.append(f"(length(p.name) > {value(length)} and {ending} in (select value from {listed}))")  # noqa: S608
    return f"typeof(p.name) = 'blob' and {any_of(tests)}"


_FUNCTIONS: dict[str, Callable[..., bool | float | None]] = {
    "has_keywords": _has_keywords,
    "is_at": is_at,
    "is_called": _is_called,
    "is_named": is_named,
    "km_between": _km_between,
}
"""The functions in Python, by their names in SQL."""
