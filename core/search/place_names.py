"""--place: names as typed, compared with those that the photos of an index have."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from imgsearch.core.errors import QueryError
from imgsearch.core.photos import gazetteer
from imgsearch.core.store.folding import fold
from imgsearch.core.store.place_names import NamedPlace, centre_of
from imgsearch.core.store.schema import PLACE_COLUMNS
from imgsearch.core.store.store import Store
from imgsearch.core.types import PlaceName

from .filter_sql import MAX_NAME_BYTES, Parameters, refused

SUGGESTIONS = 3
_ALSO_CALLED = {"uk": "gb", "usa": "us"}


@dataclass(frozen=True, slots=True)
class PlacesFound:
    """The places of an index that a name means."""

    places: tuple[NamedPlace, ...]
    """Those with most photos first; at least one."""
    latitude: float
    """The centre of their photos."""
    longitude: float


def places_called(typed: str, store: Store) -> Iterator[PlaceName]:
    """The places of the index that `--place` finds by that name, some of them twice. Needs no extra."""
    places = store.catalog.place_names.by_name()
    for reading in _readings(typed):
        yield from (place for place in places.get(reading[0], ()) if _is_called(place.names, [reading]))


def places_named(typed: str, store: Store) -> PlacesFound | None:
    """The same with their centre; None if there is none."""
    if next(places_called(typed, store), None) is None:
        return None
    readings = _readings(typed)
    found = [place for place in store.catalog.place_names.all() if _is_called(place.name.names, readings)]
    return PlacesFound(tuple(found), *centre_of(found)) if found else None


def near_spellings(typed: Sequence[str], store: Store) -> list[str]:
    """Names of the index that are spelled like those typed, without those that it has as typed."""
    known = {
        fold(name): name for place in store.catalog.place_names.all() for name in place.name.names if len(name) > 2
    }
    found: dict[str, None] = {}
    for name in dict.fromkeys(fold(part) for each in typed for part in (each, *each.split(","))):
        if name not in known:
            found |= dict.fromkeys(known[close] for close in difflib.get_close_matches(name, known, SUGGESTIONS, 0.7))
    return list(found)[:SUGGESTIONS]


def in_places(typed: Sequence[str], store: Store, value: Parameters) -> str:
    """The photos at any of these places, as SQL. Raises UsageError for an empty name, QueryError if the index has no
    place names although it has coordinates."""
    for each in typed:
        if not all(map(fold, each.split(","))):
            raise refused("--place", each, "a town, region or country", "Porto, or 'Porto, Portugal'")
    _require_names(store)
    store.catalog.define_function("is_in_place", _is_in_place)
    wanted = value(json.dumps([reading for each in typed for reading in _readings(each)]))
    names = ", ".join(f"case typeof(p.{name}) when 'text' then cast(p.{name} as blob) end" for name in PLACE_COLUMNS)
    return f"typeof(p.country) = 'text' and is_in_place({wanted}, {names})"


@lru_cache(maxsize=4_096)
def _is_in_place(wanted: str, *names: bytes | None) -> bool:
    """Whether a photo's names match one of the readings, which are JSON."""
    stated = [name.decode("utf-8", "replace") for name in names if name and len(name) <= MAX_NAME_BYTES]
    return _is_called(stated, json.loads(wanted))


def _readings(typed: str) -> list[list[str]]:
    """What is typed may be one name, or several with commas, all of which must match."""
    parts = [fold(part) for part in typed.split(",")]
    return [[fold(typed)], [_ALSO_CALLED.get(part, part) for part in parts]]


def _is_called(names: Iterable[str], readings: list[list[str]]) -> bool:
    """A name that is typed twice must be there twice: `Porto, Porto` is the town in the region of that name."""
    own = Counter(map(fold, names))
    return any(Counter(reading) <= own for reading in readings)


def _require_names(store: Store) -> None:
    names = store.catalog.place_names
    if not names.lacking(1) or names.exist():
        return
    hint = "add them with: imgsearch index"
    if gazetteer.version() is None:
        hint = f"install the extra [places]: {gazetteer.INSTALL}; then run: imgsearch index"
    raise QueryError("--place: the photos of this index have no place names yet", hint=hint)
