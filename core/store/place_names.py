"""The names of the places where photos were taken: which photos lack them, and which ones the index has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.types import PlaceName

from .database import Database
from .folding import fold
from .schema import PLACE_COLUMNS

DATA = "place_data"
"""The key of the data that names places, in the catalogue."""
IS_LOCATED = "p.latitude between -90 and 90 and p.longitude between -180 and 180"
"""Whether a photo `p` has valid coordinates. In SQLite any text or blob is greater than any number."""


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """A place that photos of the index have."""

    name: PlaceName
    photos: int
    latitude: float
    """The mean of its photos."""
    longitude: float

    @property
    def filter(self) -> str:
        """What finds exactly the photos of this town with --place; without a town, all of the country."""
        stated = [name for name in (self.name.place, self.name.place_region, self.name.country) if name]
        return next((name for name in stated if "," in name), ", ".join(stated))


class PlaceNameTable:
    """The place names of photos. They are made from the coordinates, and can be made again."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._by_name: tuple[int, dict[str, list[PlaceName]]] = (-1, {})
        """With the edition of the catalogue that it is of."""

    def start(self, data: str) -> None:
        """Call before `lacking`. If the names in the catalogue come from other data, all of them are made again."""
        if self._db.get_info(DATA) == data:
            return
        with self._db.transaction():
            self._db.execute("update photos set place_data = null where place_data is not null")
            self._db.set_info(DATA, data)

    def lacking(self, limit: int) -> list[tuple[int, float, float]]:
        """(id, latitude, longitude) of photos whose place has not been looked up yet."""
        return self._db.rows(
            f"select id, latitude, longitude from photos p where place_data is null and {IS_LOCATED} limit :limit",  # noqa: S608
            limit=limit,
        )

    def in_utc(self, ids: Iterable[int]) -> dict[int, str]:
        """`taken_at` of those of these photos whose date is known in UTC only, by their ids."""
        return dict(
            self._db.rows(
                """
                select id, taken_at from photos where id in (select value from json_each(:ids))
                and date_from in ('takeout', 'video') and taken_offset = '+00:00' and typeof(taken_at) = 'text'
                """,
                ids=json.dumps(list(ids)),
            )
        )

    def save_local_times(self, times: Mapping[int, tuple[str, str]]) -> None:
        """Write local times and their offsets, by the id of the photo."""
        self._db.executemany(
            "update photos set taken_at = ?, taken_offset = ? where id = ?",
            [(*time, photo_id) for photo_id, time in times.items()],
        )

    def save(self, data: str, names: Mapping[int, PlaceName | None]) -> None:
        """Write the names by the id of the photo; None where the data has no name."""
        nameless = (None,) * len(PLACE_COLUMNS)
        columns = ", ".join(f"{column} = ?" for column in PLACE_COLUMNS)
        self._db.executemany(
            f"update photos set {columns}, place_data = ? where id = ?",  # noqa: S608 - column names of ours
            [(*(astuple(name) if name else nameless), data, photo_id) for photo_id, name in names.items()],
        )

    def exist(self) -> bool:
        return self._db.value("select 1 from photos where typeof(country) = 'text'") is not None

    def count(self) -> tuple[int, int]:
        """The number of present photos with coordinates, and of those of which the country at least has a name."""
        row: tuple[int, int] = self._db.row(
            f"""
            select count(*), count(case when typeof(country) = 'text' then 1 end)
            from photos p where state = 'present' and {IS_LOCATED}
            """  # noqa: S608 - a condition of ours
        )
        return row

    def by_name(self) -> Mapping[str, Sequence[PlaceName]]:
        """The places of the present photos of online roots, by each of their names as `fold` makes it."""
        edition = self._db.edition()
        if self._by_name[0] != edition:
            found: dict[str, list[PlaceName]] = {}
            for row in self._db.rows(f"select distinct {_NAMES} {_VISIBLE}"):
                place = _decoded(row)
                for name in set(map(fold, place.names)):
                    found.setdefault(name, []).append(place)
            self._by_name = edition, found
        return self._by_name[1]

    def all(self, where: str = "true", **parameters: Any) -> list[NamedPlace]:
        """The places of the present photos of online roots that match an SQL condition on `p` and `r`, those with most
        photos first."""
        rows = self._db.rows(
            f"""
            select {_NAMES}, count(*), avg(latitude),
                avg(longitude), avg(case when longitude < 0 then longitude + 360 else longitude end),
                max(longitude) - min(longitude) > 180
            {_VISIBLE} and ({where})
            group by 1, 2, 3, 4, 5
            """,
            **parameters,
        )
        found = []
        for *names, photos, latitude, longitude, from_0_to_360, is_split in rows:
            east = (from_0_to_360 + 180) % 360 - 180 if is_split else longitude
            found.append(NamedPlace(_decoded(names), photos, latitude, east))
        return sorted(found, key=_most_photos_first)


def by_town(places: Sequence[NamedPlace]) -> list[NamedPlace]:
    """The same with the districts of each town as one."""
    towns: dict[PlaceName, list[NamedPlace]] = {}
    for each in places:
        towns.setdefault(replace(each.name, place_district=None), []).append(each)
    found = []
    for town, parts in towns.items():
        found.append(NamedPlace(town, sum(part.photos for part in parts), *centre_of(parts)))
    return sorted(found, key=_most_photos_first)


def centre_of(places: Sequence[NamedPlace]) -> tuple[float, float]:
    """The mean latitude and longitude of the photos of places, at least one: on the sphere, so that places on both
    sides of 180 degrees have theirs between them."""
    if len(places) == 1:
        return places[0].latitude, places[0].longitude
    x = y = z = 0.0
    for each in places:
        north, east = math.radians(each.latitude), math.radians(each.longitude)
        x += each.photos * math.cos(north) * math.cos(east)
        y += each.photos * math.cos(north) * math.sin(east)
        z += each.photos * math.sin(north)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def _most_photos_first(place: NamedPlace) -> tuple[object, ...]:
    return -place.photos, place.name.place or "", place.name.place_district or "", place.name.country


def _text(column: str) -> str:
    """A text as bytes, or null. The catalogue may come from another person, and SQLite does not check UTF-8."""
    return f"case when typeof(p.{column}) = 'text' then cast(p.{column} as blob) end"


_NAMES = ", ".join(map(_text, PLACE_COLUMNS))
_VISIBLE = f"""
    from photos p join roots r on r.id = p.root_id
    where p.state = 'present' and r.state = 'online' and {IS_LOCATED} and typeof(p.country) = 'text'
"""


def _decoded(columns: Sequence[bytes | None]) -> PlaceName:
    place, district, region, country, code = (
        None if each is None else each.decode("utf-8", "replace") for each in columns
    )
    return PlaceName(place, district, region, country or "", code or "")
