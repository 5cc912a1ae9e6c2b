"""Filters: 5,000 photos in a real catalogue, each filter held against a list comprehension; what can be typed; and
what a catalogue of another user may hold."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import random
import re
import sqlite3
import unicodedata
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from importlib import resources

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.search.filter_conditions import condition
from imgsearch.core.search.filter_sql import Condition
from imgsearch.core.search.filters import Filters
from imgsearch.core.store.records import NewPhoto, text_key
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import CarriedText, Facts, Photo, PlaceName, SpaceIdentity

from conftest import IS_LONG, cpu_seconds

PHOTOS = 5_000 if IS_LONG else 1_000
TODAY = date(2024, 5, 31)
EXAMPLES = int(os.environ.get("IMGSEARCH_PROPERTY_EXAMPLES", "0"))

# ----------------------------------------------------------------------------------------------- the photos


@dataclass(frozen=True)
class Shot:
    """A photo of the generated library, as the tests know it without asking the catalogue."""

    top: str
    relpath: str
    size: int
    facts: Facts
    named: PlaceName | None = None

    @property
    def path(self) -> str:
        return f"{self.top}/{self.relpath}"

    @property
    def moment(self) -> datetime | None:
        return None if self.facts.taken_at is None else datetime.fromisoformat(self.facts.taken_at)

    @property
    def place(self) -> tuple[float, float] | None:
        facts = self.facts
        return None if facts.latitude is None or facts.longitude is None else (facts.latitude, facts.longitude)


FOLDERS = ("", "2024", "2024/07 July", "2024/07 July/raw", "2024/07", "2024x", "caf\udce9", "été/a[b]c", "new\nline")
STEMS = ("IMG_{}", "{} beach", "été {}", "[{}]", "{}\udcff", "DSC{}", "a*b {}", "img_{}")
ENDINGS = (".jpg", ".JPG", ".jpeg", ".png", ".NEF", ".tif", ".tiff", ".heic", ".HIF", ".webp", "", ".jpg.png")
CAMERAS = (
    ("Canon", "EOS 6D"), ("NIKON CORPORATION", "D70"), ("SONY", "ILCE-7M3"), ("Apple", "iPhone 12"), (None, "X100"),
    ("FUJIFILM", None), (None, None), ("Großmann", "Straße 5"), ("Samsung", "İstanbul ÀÉ"),
)  # fmt: skip
LENSES = (None, "EF 50mm f/1.8 II", "AF-S NIKKOR 50mm", "iPhone 12 back camera 4.2mm", "Zeiss Ébène")
KEYWORDS = ("beach", "Beach house", "STRASSE", "straße", "sea*", "a[b]c", "été", "dog", "hot dog", "dogs", "x?y")
CENTRES = ((48.8566, 2.3522), (-17.8, 179.999), (-17.8, -179.999), (90.0, 0.0), (-90.0, 77.0), (0.01, -0.01), (60, 180))
PLACES = (
    None, PlaceName("Porto", None, "Porto", "Portugal", "PT"),
    PlaceName("Lisbon", "Alfama", "Lisbon", "Portugal", "PT"),
    PlaceName("São Paulo", "Sé", "São Paulo", "Brazil", "BR"), PlaceName("Łódź", None, None, "Poland", "PL"),
    PlaceName("Saint-Denis", None, "Réunion", "Réunion", "RE"), PlaceName(None, None, None, "Portugal", "PT"),
    PlaceName("Washington, D.C.", None, None, "United States", "US"),
)  # fmt: skip


def some_moment(chance: random.Random) -> str | None:
    """Local time somewhere on Earth, in summer or winter: often about midnight, a month's end or a change of clocks."""
    if chance.random() < 0.15:
        return None
    known = chance.choice(
        (
            datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 10, 27, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC),
            datetime(2024, 5, 31, 12, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC),
        )
    )  # fmt: skip
    if chance.random() < 0.5:
        moment = known + timedelta(seconds=chance.choice((0, 0, -1, 1, 59, 60, 3_600, -3_600, 86_400)))
    else:
        moment = known + timedelta(seconds=chance.randint(-40_000_000, 40_000_000))
    is_summer = datetime(2024, 3, 31, 1, tzinfo=UTC) <= moment < datetime(2024, 10, 27, 1, tzinfo=UTC)
    hours = chance.choice((-11, -9.5, -5 + is_summer, 0, 0, 0, 1 + is_summer, 5.75, 12, 14))
    text = (moment + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + chance.choice(("", "", "", ".5", ".999999"))


def some_place(chance: random.Random) -> tuple[float | None, float | None]:
    kind = chance.random()
    if kind < 0.25:
        return None, None
    if kind < 0.3:
        return chance.choice(((12.5, None), (None, 12.5)))
    if kind < 0.4:
        return chance.choice((90.0, -90.0)), chance.uniform(-180, 180)
    if kind < 0.6:
        return round(chance.uniform(-90, 90), 7), round(chance.uniform(-180, 180), 7)
    if kind < 0.65:
        return chance.uniform(-80, 80), chance.choice((180.0, -180.0, 0.0))
    latitude, longitude = chance.choice(CENTRES)
    spread = chance.choice((0.0, 0.001, 0.05, 2.0))
    latitude += chance.uniform(-spread, spread)
    longitude += chance.uniform(-spread, spread)
    return max(-90.0, min(90.0, latitude)), (longitude + 180) % 360 - 180


def some_texts(chance: random.Random, keywords: tuple[str, ...]) -> tuple[CarriedText, ...]:
    texts = []
    if chance.random() < 0.2:
        source = chance.choice(("exif:ImageDescription", "xmp:dc:title", "sidecar:a.txt", "sidecar:a.xmp:dc:title"))
        texts.append(CarriedText(f"caption {chance.randint(0, 300)}", source))
    if keywords:
        source = chance.choice(("xmp:dc:subject", "iptc:keywords", "exif:XPKeywords", "sidecar:b.xmp:dc:subject"))
        texts.append(CarriedText(", ".join(keywords), source))
    return tuple(texts)


def some_shot(chance: random.Random, top: str, number: int) -> Shot:
    folder = chance.choice(FOLDERS)
    name = chance.choice(STEMS).format(number) + chance.choice(ENDINGS)
    make, model = chance.choice(CAMERAS)
    latitude, longitude = some_place(chance)
    keywords = tuple(chance.sample(KEYWORDS, chance.choice((0, 0, 1, 2, 4))))
    facts = Facts(
        format="JPEG",
        width=chance.choice((640, 1200, 1600, 3000, 4000)),
        height=chance.choice((640, 1200, 1600, 3000, 4000)),
        taken_at=some_moment(chance),
        taken_offset=chance.choice((None, "+02:00", "-11:00")),
        camera_make=make,
        camera=model,
        lens=chance.choice(LENSES),
        latitude=latitude,
        longitude=longitude,
        rating=chance.choice((None, None, -1, 0, 1, 2, 3, 4, 5)),
        keywords=keywords,
        texts=some_texts(chance, keywords),
    )
    size = chance.choice((0, 999, 1_000, 499_999, 500_000, 2_000_000, 1_610_612_736))
    named = None if latitude is None or longitude is None else PLACES[number % len(PLACES)]
    return Shot(top, f"{folder}/{name}" if folder else name, size, facts, named)


class Library:
    """The photos, the open store that holds them, and which of them a condition picks."""

    def __init__(self, store: Store, shots: list[Shot]) -> None:
        self.store = store
        self.shots = shots
        space = store.active_space()
        assert space is not None
        self.space = space
        self._keys = {vector.slot: (vector.modality, vector.key) for vector in store.catalog.vectors.all(space.id)}

    def keys(self, asked: Condition) -> set[tuple[str, bytes]]:
        slots = self.store.catalog.places.slots_where(self.space.id, asked.sql, **asked.parameters)
        return {self._keys[slot] for slot in slots}

    def numbers(self, asked: Condition) -> list[int]:
        return sorted(int.from_bytes(key, "big") for modality, key in self.keys(asked) if modality == "image")

    def paths(self, **asked: object) -> list[str]:
        """What filters pick, as paths in the index."""
        made = condition(Filters(**asked), store=self.store, today=TODAY)
        return sorted(self.shots[number].relpath for number in self.numbers(made))

    def expected(self, is_wanted: Callable[[Shot], bool]) -> set[tuple[str, bytes]]:
        wanted = [number for number, shot in enumerate(self.shots) if is_wanted(shot)]
        return {("image", number.to_bytes(32, "big")) for number in wanted} | {
            ("text", text_key(text.text)) for number in wanted for text in self.shots[number].facts.texts
        }


def write(folder: str, shots: list[Shot], kinds: dict[str, str]) -> None:
    with Store.writing(folder, create=True) as store:
        space = store.space_for(SpaceIdentity("a" * 64, "m", "m", None, 4), "{}")
        with store.catalog.transaction():
            roots = {top: store.catalog.roots.add(top, kind, None) for top, kind in kinds.items()}
        batch = Batch()
        rows = np.random.default_rng(0).normal(size=(2 * len(shots) + 400, 4)).astype(np.float32)
        vectors = iter(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        for number, shot in enumerate(shots):
            key = number.to_bytes(32, "big")
            photo = Photo(shot.top, shot.relpath, shot.size, 1, number)
            texts = tuple((text_key(text.text), text) for text in shot.facts.texts)
            batch.photos.append((roots[shot.top], NewPhoto(photo, key, shot.size, 1, shot.facts), texts))
            batch.images[key] = next(vectors)
            for text, _ in texts:
                if text not in batch.texts:
                    batch.texts[text] = next(vectors)
        store.complete(store.commit(space, batch, codecs=""))
        numbers = {content: photo_id for photo_id, content in store.catalog.rows("select id, content_hash from photos")}
        with store.catalog.transaction():
            names = {numbers[number.to_bytes(32, "big")]: shot.named for number, shot in enumerate(shots) if shot.place}
            store.catalog.place_names.save("a", names)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    top = tmp_path_factory.mktemp("library")
    tops = [str(top / name) for name in ("pictures", "pictures/inner", "archive")]
    (top / "link").symlink_to(top / "archive")
    os.makedirs(tops[1])
    os.makedirs(tops[2])
    chance = random.Random(20240531)
    shots = [some_shot(chance, chance.choice(tops), number) for number in range(PHOTOS)]
    write(str(top / "index"), shots, {tops[0]: "folder", tops[1]: "files", tops[2]: "folder"})
    with Store.open(str(top / "index")) as store:
        yield Library(store, shots)


# --------------------------------------------------------------------- what is typed, and what it means, one by one
#
# Each strategy draws what a person types for one filter together with a plain predicate of what that means.

Asked = tuple[object, Callable[[Shot], bool]]


def stamp(shot: Shot) -> tuple[int, ...] | None:
    moment = shot.moment
    return None if moment is None else tuple(moment.timetuple()[:6])


def months_before(day: date, months: int) -> date:
    year, month, last = day.year, day.month, day.day
    for _ in range(months):
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    while True:
        with contextlib.suppress(ValueError):
            return date(year, month, last)
        last -= 1


@st.composite
def typed_date(draw) -> tuple[str, tuple[int, ...]]:
    """As typed, and the year, month, day, hour, minute, second that it gives, as far as it does."""
    kind = draw(st.sampled_from(["part", "part", "ago", "word"]))
    if kind == "word":
        return draw(st.sampled_from([("today", (2024, 5, 31)), (" Yesterday", (2024, 5, 30))]))
    if kind == "ago":
        count, unit = draw(st.integers(0, 25)), draw(st.sampled_from("dwmyDM"))
        if unit in "dwD":
            day = TODAY - timedelta(days=count * (7 if unit == "w" else 1))
        else:
            day = months_before(TODAY, count * (12 if unit == "y" else 1))
        return f"{count}{unit}", (day.year, day.month, day.day)
    moment = draw(st.datetimes(datetime(2022, 12, 1), datetime(2025, 7, 1)))
    moment = draw(st.sampled_from([moment, datetime(2024, 2, 29, 23, 59, 59), datetime(2023, 12, 31, 23, 59, 59)]))
    given = draw(st.sampled_from([1, 2, 3, 5, 6]))
    text = moment.strftime(draw(st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])))
    return text[: {1: 4, 2: 7, 3: 10, 5: 16, 6: 19}[given]], tuple(moment.timetuple()[:given])


@st.composite
def after(draw) -> Asked:
    typed, given = draw(typed_date())
    return typed, lambda shot: (at := stamp(shot)) is not None and at[: len(given)] >= given


@st.composite
def before(draw) -> Asked:
    typed, given = draw(typed_date())
    return typed, lambda shot: (at := stamp(shot)) is not None and at[: len(given)] <= given


MONTH_NAMES = "January February March April May June July August September October November December".split()


@st.composite
def month(draw) -> Asked:
    typed, wanted = [], set()
    for _ in range(draw(st.integers(1, 2))):
        year, number = draw(st.sampled_from([None, 2023, 2024])), draw(st.integers(1, 12))
        name = MONTH_NAMES[number - 1]
        spellings = [name, name.lower(), name[:3].upper(), f" {number}", f"{number:02}"]
        typed.append(draw(st.sampled_from(spellings)) if year is None else f"{year}-{number:02}")
        wanted.add((year, number))
    return tuple(typed), lambda shot: (at := stamp(shot)) is not None and bool(wanted & {at[:2], (None, at[1])})


@st.composite
def on(draw) -> Asked:
    typed, wanted = [], set()
    for _ in range(draw(st.integers(1, 2))):
        day = draw(st.dates(date(2023, 12, 25), date(2024, 4, 5)))
        year = draw(st.sampled_from([None, day.year]))
        typed.append(f"{day.month}-{day.day}" if year is None else day.isoformat())
        wanted.add((year, day.month, day.day))
    if draw(st.booleans()):
        typed.append("Yesterday")
        wanted.add((2024, 5, 30))
    return tuple(typed), lambda shot: (at := stamp(shot)) is not None and bool(wanted & {at[:3], (None, *at[1:3])})


NAME_PATTERNS = ("img_*", "IMG_1??", "* beach", "*.JPG", "e\u0301te\u0301 *", "*\udcff", "DSC12*", "*", "dsc*.nef", "a")


@st.composite
def name(draw) -> Asked:
    asked = tuple(draw(st.lists(st.sampled_from(NAME_PATTERNS), min_size=1, max_size=2)))

    def is_wanted(shot: Shot) -> bool:
        own = os.path.basename(shot.relpath).casefold()
        spellings = (own, os.path.splitext(own)[0])
        return any(is_like(each.casefold().replace("e\u0301", "é"), one) for each in asked for one in spellings)

    return asked, is_wanted


@functools.cache
def point(place: tuple[float, float]) -> tuple[float, float, float]:
    north, east = math.radians(place[0]), math.radians(place[1])
    return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)


def arc_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """By vectors, where the code goes by the haversine."""

    (ax, ay, az), (bx, by, bz) = point(one), point(other)
    cross = math.hypot(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    return 6_371.0088 * math.atan2(cross, ax * bx + ay * by + az * bz)


@st.composite
def near(draw) -> Asked:
    centre = draw(
        st.sampled_from(CENTRES)
        | st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(lambda at: (round(at[0], 5), round(at[1], 5)))
    )
    km, unit = draw(st.sampled_from([("km", 1.0), ("", 1.0), ("m", 0.001), ("mi", 1.609344), (" KM", 1.0)]))[::-1]
    radius = round(10 ** draw(st.floats(-2.5, 4.35)) / km, 4) or 1.0
    east = centre[1] + (360 if centre[1] < 0 and draw(st.booleans()) else 0)
    comma = draw(st.sampled_from([",", ", ", " , "]))
    typed = f"{centre[0]:f}{comma}{east:f}{comma}{radius:f}{unit}"
    return typed, lambda shot: shot.place is not None and arc_km(shot.place, centre) <= radius * km


PLACES_TYPED = {
    "porto": {"Porto"}, " PORTO ": {"Porto"}, "Porto, portugal": {"Porto", "Portugal"}, "Porto,PL": {"Porto", "PL"},
    "Port": {"Port"}, "lisbon, lisbon": {"Lisbon"}, "Sao Paulo, Sao Paulo, BR": {"São Paulo"}, "USA": {"US"},
    "pt": {"PT"}, "PORTUGAL": {"Portugal"}, "alfama": {"Alfama"}, "Alfama, Lisbon, PT": {"Alfama"},
    "sao paulo": {"São Paulo"}, "Sa\u0303o Paulo": {"São Paulo"}, "SE": {"Sé"}, "lodz": {"Łódź"}, "Łódź, pl": {"Łódź"},
    "saint denis": {"Saint-Denis"}, "Reunion": {"Réunion"}, "Reunion, Reunion, RE": {"Réunion"},
    "washington, d.c.": {"Washington, D.C."}, "washington dc": {"no"},
    "Porto, Porto, Porto": {"no"}, "Se, Sé": {"no"},
}  # fmt: skip
"""What is typed, and the names that a photo must have."""


@st.composite
def place(draw) -> Asked:
    asked = draw(st.lists(st.sampled_from(sorted(PLACES_TYPED)), min_size=1, max_size=3))

    def is_wanted(shot: Shot) -> bool:
        own = set(astuple(shot.named)) if shot.named else set()
        return any(PLACES_TYPED[each] <= own for each in asked)

    return tuple(asked), is_wanted


def parts_of(names: list[str], draw) -> tuple[str, ...]:
    """One or two pieces of names, in another case."""
    pieces = []
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names))
        start = draw(st.integers(0, len(name) - 1))
        piece = name[start : start + draw(st.integers(1, 12))].strip() or name
        pieces.append(draw(st.sampled_from([str, str.upper, str.casefold]))(piece))
    return tuple(pieces)


@st.composite
def camera(draw) -> Asked:
    names = ["Canon", "canon eos", "EOS 6D", "Nikon D70", "corporation d70", "iPhone 12", "X100", "strasse 5", "absent"]
    asked = parts_of(names, draw)

    def is_wanted(shot: Shot) -> bool:
        make, model = shot.facts.camera_make or "", shot.facts.camera or ""
        names = (f"{make} {model}".strip().casefold(), f"{make.split(' ')[0]} {model}".strip().casefold())
        return any(piece.casefold() in name for piece in asked for name in names)

    return asked, is_wanted


@st.composite
def lens(draw) -> Asked:
    asked = parts_of([name for name in LENSES if name], draw)
    return asked, lambda shot: any(piece.casefold() in (shot.facts.lens or "").casefold() for piece in asked)


def is_like(pattern: str, text: str) -> bool:
    """Of one name: * and ?, letter by letter."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(is_like(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and is_like(pattern[1:], text[1:])


@st.composite
def keyword(draw) -> Asked:
    words = "BEACH|beach*|strasse|Straße|*dog|dog?|?og|SEA*|a[b]c|a[*|ÉTÉ|hot  DOG|no".split("|")
    asked = tuple(draw(st.lists(st.sampled_from(words), min_size=1, max_size=2)))

    def is_meant(word: str, own: str) -> bool:
        return is_like(word, own) if "*" in word or "?" in word else word == own

    def is_wanted(shot: Shot) -> bool:
        own = [word.casefold() for word in shot.facts.keywords]
        return all(any(is_meant(word.casefold().replace("  ", " "), each) for each in own) for word in asked)

    return asked, is_wanted


@st.composite
def rating(draw) -> Asked:
    number = draw(st.integers(-1, 5))
    meanings: dict[str, Callable[[int], bool]] = {
        f"{number}": lambda own: own >= number,
        f">={number}": lambda own: own >= number,
        f"= {number}": lambda own: own == number,
        f"<={number}": lambda own: own <= number,
    }
    if number < 5:
        meanings |= {f">{number}": lambda own: own > number, f"{number}-5": lambda own: number <= own <= 5}
    if number > -1:
        meanings |= {f"<{number}": lambda own: own < number, f"-1-{number}": lambda own: -1 <= own <= number}
    typed = draw(st.sampled_from(sorted(meanings)))
    return typed, lambda shot: meanings[typed](shot.facts.rating or 0)


PATTERNS = (
    "IMG_*", "*.jpg", "*", "**", "?SC*", "[A-M]*", "*[[]*", "a[*]b *", "2024/*", "2024/**", "2024/", "**/raw/*",
    "**/raw/*.NEF", "*/*", "2024/**/*.jpg", "**/07*/**/*1*", "caf\udce9/*", "*\udcff", "été*", "e\u0301te\u0301/**",
    "new\nline/*", "2024", "./2024//*", "été/a[[]b]c/*", "**/**/*", "{archive}/**", "{archive}/*.png",
    "{top}/**/raw/*",
    "{top}/*/2024/*", "/**/IMG_1*", "/nowhere/**", "[z-a]*", "[",
)  # fmt: skip


@functools.cache
def component_is_like(pattern: str, name: str) -> bool:
    for typed, character in (("[[]", "\x01"), ("[*]", "\x02")):
        pattern = pattern.replace(typed, character)
    name = name.replace("[", "\x01")
    if "[A-M]" in pattern:
        return "A" <= name[:1] <= "M" and is_like(pattern.replace("[A-M]", ""), name[1:])
    if "[z-a]" in pattern or pattern == "[":
        return False
    return is_like(pattern, name.replace("*", "\x02"))


def path_is_like(pattern: list[str], path: list[str]) -> bool:
    if not pattern or not path:
        return not path and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return path_is_like(pattern[1:], path) or path_is_like(pattern, path[1:])
    return component_is_like(pattern[0], path[0]) and path_is_like(pattern[1:], path[1:])


def glob_of(library: Library) -> st.SearchStrategy[Asked]:
    archive = next(shot.top for shot in library.shots if shot.top.endswith("archive"))
    places = {"{archive}": archive, "{top}": os.path.dirname(archive)}

    def meaning(chosen: list[str]) -> Asked:
        asked = []
        for pattern in chosen:
            for name, path in places.items():
                pattern = pattern.replace(name, path)
            asked.append(pattern)

        def is_wanted(shot: Shot) -> bool:
            for pattern in asked:
                plain = pattern.replace("e\u0301", "é").removeprefix("./").replace("//", "/")
                plain = plain + "**/*" if plain.endswith("/") else plain + "/*" if plain.endswith("/**") else plain
                if "/" not in plain:
                    path = [os.path.basename(shot.relpath)]
                else:
                    path = (shot.path if plain.startswith("/") else shot.relpath).strip("/").split("/")
                if path_is_like(plain.strip("/").split("/"), path):
                    return True
            return False

        return tuple(asked), is_wanted

    return st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(meaning)


def under_of(library: Library) -> st.SearchStrategy[Asked]:
    top = os.path.dirname(next(shot.top for shot in library.shots if shot.top.endswith("archive")))
    archive = f"{top}/archive"
    folders = [top, f"{top}/pictures", f"{top}/pictures/inner", archive, f"{archive}/", f"{top}/link"]
    folders += [f"{archive}/{name}" for name in ("2024", "2024/07 July", "caf\udce9", "été", "new\nline")]

    def meaning(chosen: list[str]) -> Asked:
        real = [each.rstrip("/").replace("/link", "/archive") + "/" for each in chosen]
        return tuple(chosen), lambda shot: shot.path.startswith(tuple(real))

    return st.lists(st.sampled_from(folders), min_size=1, max_size=2).map(meaning)


def root_of(library: Library) -> st.SearchStrategy[Asked]:
    top = os.path.dirname(next(shot.top for shot in library.shots if shot.top.endswith("archive")))
    meant = {"pictures": "pictures", "inner": "pictures/inner", f"{top}/archive/": "archive", f"{top}/link": "archive"}
    chosen = st.lists(st.sampled_from(sorted(meant)), min_size=1, max_size=2)
    return chosen.map(lambda names: (tuple(names), lambda shot: shot.top in [f"{top}/{meant[name]}" for name in names]))


@st.composite
def ext(draw) -> Asked:
    typed = draw(st.sampled_from(["jpg", ".JPG", "jpeg,png", "tif", "TIFF, heic", "heif", "nef", "webp", "gif", "g"]))
    same = {"jpeg": "jpg", "tiff": "tif", "heif": "heic", "hif": "heic"}

    def plain(ending: str) -> str:
        ending = ending.strip(" .").lower()
        return same.get(ending, ending)

    asked = {plain(part) for part in typed.split(",")}
    return (typed,), lambda shot: plain(os.path.splitext(shot.relpath)[1]) in asked


@st.composite
def min_size(draw) -> Asked:
    wide, high = draw(st.sampled_from([640, 1200, 1201, 1600, 4000])), draw(st.sampled_from([1, 640, 1200, 3000, 3001]))
    least = draw(st.sampled_from([0.4, 1.44, 1.92, 4.8, 12.0, 12.000001, 16]))
    count, unit = draw(
        st.sampled_from(
            [("999", 999), ("1kB", 1_000), ("1 KiB", 1_024), ("0.5MB", 500_000), ("500 kb", 500_000), ("0", 0),
             ("1.5GiB", 1_610_612_736), ("1.6GB", 1_600_000_000), ("1TB", 10**12), ("2mb", 2_000_000), ("500b", 500)]
        )
    )  # fmt: skip
    sides = sorted((wide, high))
    return draw(
        st.sampled_from(
            [
                (f"{wide}x{high}", lambda shot: all(a >= b for a, b in zip(sorted(sizes(shot)), sides, strict=True))),
                (f"{least}MP", lambda shot: math.prod(sizes(shot)) >= round(least * 1e6)),
                (count, lambda shot: shot.size >= unit),
            ]
        )
    )


def sizes(shot: Shot) -> tuple[int, int]:
    return shot.facts.width, shot.facts.height


@st.composite
def orientation(draw) -> Asked:
    asked = draw(st.lists(st.sampled_from(["landscape", "Portrait", "square"]), min_size=1, max_size=2))

    def is_wanted(shot: Shot) -> bool:
        width, height = sizes(shot)
        own = "square" if width == height else "landscape" if width > height else "portrait"
        return own in [each.lower() for each in asked]

    return tuple(asked), is_wanted


@st.composite
def has(draw) -> Asked:
    asked = draw(st.lists(st.sampled_from(["gps", "caption", "DATE"]), min_size=1, max_size=3))

    def is_wanted(shot: Shot) -> bool:
        facts = {
            "gps": shot.place is not None,
            "date": shot.facts.taken_at is not None,
            "caption": any(text.text.startswith("caption") for text in shot.facts.texts),
        }
        return all(facts[each.lower()] for each in asked)

    return tuple(asked), is_wanted


def text_contains() -> st.SearchStrategy[Asked]:
    typed = (
        "caption",
        "CAPTION 7",
        "caption 1*",
        "ete",
        "Été",
        "hot dog",
        "dog*",
        "dog hot",
        "beach, house",
        "y",
        "strass*",
    )

    def words_of(text: str) -> list[str]:
        plain = unicodedata.normalize("NFD", text.lower())
        return re.findall(r"[^\W_]+", "".join(each for each in plain if not unicodedata.combining(each)))

    def is_in(pattern: str, text: str) -> bool:
        *first, last = words_of(pattern)
        words = words_of(text)
        starts = [at for at in range(len(words) - len(first)) if words[at : at + len(first)] == first]
        ends = [words[at + len(first)] for at in starts]
        return any(end.startswith(last) if pattern.endswith("*") else end == last for end in ends)

    def meaning(chosen: list[str]) -> Asked:
        return tuple(chosen), lambda shot: all(
            any(is_in(pattern, each.text) for each in shot.facts.texts) for pattern in chosen
        )

    return st.lists(st.sampled_from(typed), min_size=1, max_size=2).map(meaning)


def strategies(library: Library) -> dict[str, st.SearchStrategy[Asked]]:
    return {
        "after": after(), "before": before(), "near": near(), "place": place(), "camera": camera(), "lens": lens(),
        "keyword": keyword(), "rating": rating(), "glob": glob_of(library), "under": under_of(library),
        "month": month(), "on": on(), "name": name(), "text_contains": text_contains(),
        "root": root_of(library), "ext": ext(), "min_size": min_size(), "orientation": orientation(), "has": has(),
    }  # fmt: skip


SETTINGS = settings(
    deadline=None, database=None, derandomize=not EXAMPLES, suppress_health_check=list(HealthCheck), print_blob=False
)


def check(library: Library, asked: dict[str, Asked]) -> None:
    filters = Filters(**{name: typed for name, (typed, _) in asked.items()})
    assert bool(filters) == bool(asked)
    if "after" in asked and "before" in asked and is_backward(asked["after"][0], asked["before"][0]):
        with pytest.raises(UsageError, match="nothing can match"):
            condition(filters, store=library.store, today=TODAY)
        return
    made = condition(filters, store=library.store, today=TODAY)
    assert library.keys(made) == library.expected(lambda shot: all(meaning(shot) for _, meaning in asked.values()))


def is_backward(after: object, before: object) -> bool:
    """Whether the one begins when the other is over: as far as both say, it is later."""
    low, high = numbers_of(str(after)), numbers_of(str(before))
    shorter = min(len(low), len(high))
    return low[:shorter] > high[:shorter]


def numbers_of(typed: str) -> tuple[int, ...]:
    text = typed.strip().lower()
    if text in ("today", "yesterday"):
        text = "0d" if text == "today" else "1d"
    if text[-1] in "dw":
        day = TODAY - timedelta(days=int(text[:-1]) * (7 if text[-1] == "w" else 1))
        return day.year, day.month, day.day
    if text[-1] in "my":
        day = months_before(TODAY, int(text[:-1]) * (12 if text[-1] == "y" else 1))
        return day.year, day.month, day.day
    return tuple(int(part) for part in text.replace("t", "-").replace(" ", "-").replace(":", "-").split("-"))


def test_every_filter_has_a_meaning_here(library):
    assert sorted(strategies(library)) == sorted(field.name for field in fields(Filters))


@pytest.mark.parametrize("name", [field.name for field in fields(Filters)])
def test_each_filter_picks_what_a_list_comprehension_picks(library, name):
    meanings = strategies(library)

    @settings(SETTINGS, max_examples=EXAMPLES or 25)
    @given(asked=meanings[name])
    def holds(asked: Asked) -> None:
        check(library, {name: asked})

    holds()


def test_filters_together_pick_what_all_of_them_pick(library):
    @settings(SETTINGS, max_examples=EXAMPLES or 60)
    @given(asked=st.fixed_dictionaries({}, optional=strategies(library)))
    def holds(asked: dict[str, Asked]) -> None:
        few = dict(random.Random(len(asked)).sample(sorted(asked.items()), min(3, len(asked))))
        check(library, few)

    holds()


def test_what_is_shown_is_what_was_searched(library):
    made = condition(Filters(camera=("nikon d70",), has=("caption",), glob=("*.jpg",)), store=library.store)
    places = library.store.catalog.places.of_slots(
        library.space.id, range(library.space.slots), include_offline=False, where=made.sql, **made.parameters
    )
    numbers = library.numbers(made)
    assert numbers and {place.path for place in places} == {library.shots[number].path for number in numbers}


def test_no_filter_asks_for_nothing_and_an_empty_one_is_an_error(library):
    assert not Filters()
    assert condition(Filters(), store=library.store) == Condition("true", {})
    assert Filters(after="")
    with pytest.raises(UsageError, match="--after '': takes a date"):
        condition(Filters(after=""), store=library.store)


# -------------------------------------------------------------------------------------------- a few by hand


@pytest.fixture
def shelf(tmp_path):
    """Makes a small library of photos that differ in what is given, in one root."""
    with contextlib.ExitStack() as stack:

        def make(*facts: dict[str, object], **roots: str) -> Library:
            top = str(tmp_path / "photos")
            shots = []
            for number, given in enumerate(facts):
                own: dict = {"relpath": f"{number}.jpg", "size": 1, "top": top} | given
                place, named = (own.pop("top"), own.pop("relpath"), own.pop("size")), own.pop("named", None)
                shots.append(Shot(*place, Facts(**{"format": "JPEG", "width": 4, "height": 3} | own), named))
            write(str(tmp_path / "index"), shots, {top: "folder"} | roots)
            return Library(stack.enter_context(Store.open(str(tmp_path / "index"))), shots)

        yield make


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"after": "2024-07"}, [1, 2, 3, 4, 5, 6]),
        ({"before": "2024-07"}, [0, 1, 2, 3, 4]),
        ({"after": "2024-07", "before": "2024-07"}, [1, 2, 3, 4]),
        ({"after": "2024-07-03", "before": "2024-07-03"}, [2, 3]),
        ({"before": "2024-07-03T12:30"}, [0, 1, 2]),
        ({"before": "2024-07-03T12:29"}, [0, 1]),
        ({"after": "2024-07-03 12:30:30"}, [2, 3, 4, 5, 6]),
        ({"after": "2024-07-03T12:30:31"}, [3, 4, 5, 6]),
        ({"before": "2024"}, [0, 1, 2, 3, 4, 5]),
        ({"after": "2025"}, [6]),
        ({"before": "9999"}, [0, 1, 2, 3, 4, 5, 6]),
        ({"after": "1"}, None),
        ({"after": "2024-7-3", "before": "2024-07-31"}, [2, 3, 4]),
    ],
)
def test_dates_are_whole_ones_of_the_photos_own_clock(shelf, asked, expected):
    moments = [
        "2024-06-30T23:59:59.999", "2024-07-01T00:00:00", "2024-07-03T12:30:30", "2024-07-03T23:59:59.5",
        "2024-07-31T23:59:59.999", "2024-12-31T23:59:59", "2025-01-01T00:00:00", None,
    ]  # fmt: skip
    library = shelf(*({"taken_at": moment, "taken_offset": "+14:00"} for moment in moments))
    if expected is None:
        with pytest.raises(UsageError, match="takes a date"):
            library.paths(**asked)
    else:
        assert library.paths(**asked) == [f"{number}.jpg" for number in expected]


@pytest.mark.parametrize(
    ("typed", "day"),
    [("0d", "2024-05-31"), ("30d", "2024-05-01"), ("6w", "2024-04-19"), ("3m", "2024-02-29"), ("15m", "2023-02-28"),
     ("1y", "2023-05-31"), ("yesterday", "2024-05-30"), ("TODAY", "2024-05-31"), ("5 m", "2023-12-31")],
)  # fmt: skip
def test_so_long_ago_is_a_day_of_the_calendar(shelf, typed, day):
    before = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    library = shelf(
        {"taken_at": f"{before}T23:59:59"}, {"taken_at": f"{day}T00:00:00"}, {"taken_at": f"{day}T23:59:59.9"},
        {"taken_at": f"{after}T00:00:00"},
    )  # fmt: skip
    assert library.paths(after=typed) == ["1.jpg", "2.jpg", "3.jpg"]
    assert library.paths(before=typed) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_circle_reaches_across_the_date_line_and_the_poles(shelf):
    library = shelf(
        {"latitude": -17.8, "longitude": 179.999},
        {"latitude": -17.8, "longitude": -179.999},
        {"latitude": -17.8, "longitude": 180.0},
        {"latitude": -17.8, "longitude": -180.0},
        {"latitude": 89.9999, "longitude": 10.0},
        {"latitude": 89.9999, "longitude": -170.0},
        {"latitude": -17.8, "longitude": 179.0},
    )
    around = ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    for east in ("180", "-180", "179.9995", "-179.9995", "180.0005"):
        assert library.paths(near=f"-17.8,{east},1km") == around
    assert library.paths(near="-17.8,179.999,105.9m") == ["0.jpg", "2.jpg", "3.jpg"]
    assert library.paths(near="90,0,20m") == library.paths(near="89.9999,10,25m") == ["4.jpg", "5.jpg"]
    assert len(library.paths(near="0,0,21000")) == 7


def test_a_degree_of_the_meridian_is_as_long_as_it_is(shelf):
    library = shelf({"latitude": 49.0, "longitude": 2.0})
    assert library.paths(near="48,2,111.2km") == library.paths(near="48,2,111200m") == ["0.jpg"]
    assert library.paths(near="48,2,111.19km") == library.paths(near="48,2,69.09mi") == []
    assert library.paths(near="48,2,69.1 mi") == ["0.jpg"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("4", [4, 5]), ("0", [None, 0, 3, 4, 5]), ("=0", [None, 0]), ("=3", [3]), ("3-4", [3, 4]), (">3", [4, 5]),
        ("<=0", [None, -1, 0]), ("=-1", [-1]), ("<3", [None, -1, 0]), ("-1", [None, -1, 0, 3, 4, 5]), ("4+", [4, 5]),
    ],
)  # fmt: skip
def test_no_rating_is_none_of_the_stars_and_rejected_is_less(shelf, typed, expected):
    ratings = [None, -1, 0, 3, 4, 5]
    library = shelf(*({"rating": rating} for rating in ratings))
    assert library.paths(rating=typed) == [f"{ratings.index(rating)}.jpg" for rating in expected]


def test_keywords_strung_together_are_no_caption(shelf):
    def says(source: str) -> dict[str, object]:
        return {"texts": (CarriedText(source, source),)}

    library = shelf(
        says("xmp:dc:subject"), says("iptc:keywords"), says("exif:XPKeywords"), says("sidecar:a.xmp:dc:subject"),
        says("sidecar:a.txt"), says("xmp:dc:title"), says("sidecar:a.xmp:dc:description"), {},
    )  # fmt: skip
    assert library.paths(has=("caption",)) == ["4.jpg", "5.jpg", "6.jpg"]


def test_a_name_in_another_spelling_of_its_accents_is_found(shelf):
    library = shelf(
        {"relpath": "e\u0301te\u0301/x.jpg"}, {"relpath": "été.jpg", "camera": "e\u0301a", "keywords": ("Été",)}
    )
    assert library.paths(glob=("été/*",)) == ["e\u0301te\u0301/x.jpg"]
    assert library.paths(glob=("e\u0301t?.jpg",)) == library.paths(camera=("éa",)) == ["été.jpg"]
    assert library.paths(keyword=("e\u0301T*",)) == ["été.jpg"]


def test_a_keyword_is_meant_whole_and_a_bracket_is_a_bracket(shelf):
    keywords = ["dog", "hot dog", "dogs", "Hot  Dogs", "a[b]c", "abc", "beach, north"]
    library = shelf(*({"keywords": (word,)} for word in keywords), {"keywords": ("dog", "abc")})

    def found(*asked: str) -> list[str]:
        own = [*keywords, "both"]
        return [own[int(path[:-4])] for path in library.paths(keyword=asked)]

    assert found("dog") == ["dog", "both"] and found("d?g") == ["dog", "both"] and found("dog?") == ["dogs"]
    assert found("*dog") == ["dog", "hot dog", "both"] and found("hot *") == ["hot dog", "Hot  Dogs"]
    assert found("HOT DOGS") == ["Hot  Dogs"]
    assert found("a[b]*") == found("a[b]c") == ["a[b]c"] and found("[a]*") == found("north") == []
    assert found("dog", "a*") == ["both"] and found("dog", "*") == ["dog", "both"]


def test_an_ending_needs_a_name_before_it(shelf):
    library = shelf(
        *({"relpath": name} for name in ("a/.jpg", "a/x.jpg", "x.JPEG", "jpg", "xjpg", "x.jpg.", "x.jpg.png"))
    )
    assert library.paths(ext=("jpg",)) == ["a/x.jpg", "x.JPEG"]
    assert library.paths(ext=(".PNG, jpe",)) == ["a/x.jpg", "x.JPEG", "x.jpg.png"]


def test_tens_of_thousands_of_endings_are_no_more_than_one(shelf):
    library = shelf({"relpath": "a.jpg"}, {"relpath": "b.zzzz"}, {"relpath": "c.png"})
    many = tuple("".join(letters) for letters in itertools.islice(itertools.product("abcdefgh", repeat=6), 40_000))
    limit = library.store.catalog._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 100)  # as some are built
    assert limit > 100
    assert library.paths(ext=(*many, "jpg", "zzzz")) == ["a.jpg", "b.zzzz"]


def test_a_star_stays_in_its_folder_and_two_do_not(shelf):
    names = ["x.jpg", "a/x.jpg", "a/b/x.jpg", "a/b/c/x.jpg", "X.JPG", "a/b/.hidden.jpg", "2024"]
    library = shelf(*({"relpath": name} for name in names))
    assert library.paths(glob=("x.jpg",)) == ["a/b/c/x.jpg", "a/b/x.jpg", "a/x.jpg", "x.jpg"]
    assert library.paths(glob=("a/*",)) == ["a/x.jpg"]
    assert library.paths(glob=("a/*/*",)) == ["a/b/.hidden.jpg", "a/b/x.jpg"]
    assert library.paths(glob=("a/**",)) == library.paths(glob=("a/",)) == sorted(n for n in names if n[:2] == "a/")
    assert library.paths(glob=("a/**/x.jpg",)) == ["a/b/c/x.jpg", "a/b/x.jpg", "a/x.jpg"]
    assert library.paths(glob=("**/b/**/x.jpg",)) == ["a/b/c/x.jpg", "a/b/x.jpg"]
    assert library.paths(glob=("b/x.jpg",)) == library.paths(glob=("*.png",)) == []
    top = library.shots[0].top
    assert library.paths(glob=(f"{top}/*",)) == ["2024", "X.JPG", "x.jpg"]
    assert library.paths(glob=(f"{os.path.dirname(top)}/*/a/x.jpg",)) == ["a/x.jpg"]
    assert library.paths(glob=("*.png", "X*")) == ["X.JPG"]
    assert library.paths(glob=("2024",)) == ["2024"] and library.paths(glob=("2024/**", "2024/")) == []


def test_a_pattern_full_of_stars_takes_no_time(shelf):
    library = shelf({"relpath": "/".join(["a" * 200] * 15) + ".jpg", "keywords": ("a" * 100,)})
    with cpu_seconds(2):
        assert library.paths(glob=("*a" * 30 + "*b.jpg", "**/*a*/" * 8 + "b")) == []
        assert library.paths(keyword=("*a" * 30 + "*b",)) == []


def test_a_root_by_its_name_has_to_be_the_only_one_of_it(shelf, tmp_path):
    library = shelf({}, **{str(tmp_path / "a" / "same"): "folder", str(tmp_path / "b" / "same"): "folder"})
    assert library.paths(root=("photos",)) == library.paths(root=(library.shots[0].top,)) == ["0.jpg"]
    assert library.paths(root=(str(tmp_path / "a" / "same"),)) == []
    with pytest.raises(UsageError, match="--root same: 2 roots have this name") as caught:
        library.paths(root=("same",))
    assert caught.value.hint == f"give the path: {tmp_path}/a/same or {tmp_path}/b/same"
    with pytest.raises(QueryError, match="not a root of this index"):
        library.paths(root=("other",))


def test_nothing_under_a_folder_is_said(shelf, tmp_path):
    library = shelf({"relpath": "a/x.jpg"})
    for folder in (str(tmp_path / "photos" / "b"), "/nowhere", str(tmp_path / "photos" / "a" / "x.jpg")):
        with pytest.raises(QueryError, match="nothing indexed under this folder") as caught:
            library.paths(under=(str(tmp_path), folder))
        assert caught.value.hint == "`imgsearch status` lists what is indexed"
    with pytest.raises(UsageError, match="empty folder name"):
        library.paths(under=("",))


def test_a_root_that_only_begins_alike_is_not_under_a_folder(shelf, tmp_path):
    other = str(tmp_path / "photos2" / "inner")
    library = shelf({"relpath": "a/x.jpg"}, {"relpath": "a2/x.jpg"}, {"top": other}, **{other: "folder"})
    assert library.paths(under=(library.shots[0].top,)) == ["a/x.jpg", "a2/x.jpg"]
    assert library.paths(under=(f"{library.shots[0].top}/a",)) == ["a/x.jpg"]
    assert library.paths(under=(str(tmp_path / "photos2"),)) == ["2.jpg"]
    assert library.paths(under=(str(tmp_path),)) == ["2.jpg", "a/x.jpg", "a2/x.jpg"]


def test_hundreds_of_values_are_no_trouble(shelf):
    library = shelf(*({"relpath": f"{number}/x.e{number}"} for number in range(1_200)))
    top = library.shots[0].top
    assert len(library.paths(under=tuple(f"{top}/{number}" for number in range(1_200)))) == 1_200
    assert len(library.paths(ext=tuple(f"e{number}" for number in range(1_200)))) == 1_200
    count = 1_100 if IS_LONG else 200
    some = tuple(f"{top}/{number}" for number in range(count))
    assert len(library.paths(under=some, glob=tuple(f"*.e{number}" for number in range(1_100)))) == count


@pytest.mark.parametrize(
    "asked",
    [
        *({option: typed} for option in ("after", "before") for typed in (
            "soon", "24", "2024-13", "2024-02-30", "2024-07-03T25:00", "2024-07-03T12", "12:30", "2024-07-03T12:30Z",
            "0000", "2024-07-03T12:30:60", "-3d", "99999y", "999999w", "3h", "2024-", "٢٠٢٤", "2024\n07", "x" * 10_000,
            " ")),
        *({"near": typed} for typed in (
            "", "48.85,2.35", "48,85,2,35,5km", "91,0,5km", "0,361,5km", "0,-181,5km", "0,0,0", "0,0,-5", "nan,0,5km",
            "0,inf,5km", "0,0,5ft", "0,0,1e3", "48.85 2.35 5km", "paris,5km", ",,", "0,0,km", "0,0,9" + "9" * 400)),
        *({"rating": typed} for typed in (
            "", "6", "-2", "good", "3..5", "=", "<=>3", "=6", "3-6", "5-3", "<-1", ">5", "4.5", "44", "=4+", "4 *")),
        *({"min_size": typed} for typed in (
            "", "big", "5M", "1600x", "x1200", "-5MB", "1e3", "12 megapixels", "1600x1200x3", "nanMP", "inf", "1,5MB")),
        *({"ext": (typed,)} for typed in ("", "jpg,", "*.jpg", "a/b", ".", "..", "j pg", "jpg;png")),
        *({"orientation": (typed,)} for typed in ("", "sideways", "landscape,portrait")),
        *({"has": (typed,)} for typed in ("", "rating", "gps,date")),
        *({option: ("fine", typed)} for option in ("camera", "lens", "keyword") for typed in ("", " \n")),
        *({"month": (typed,)} for typed in (
            "", "0", "13", "julember", "2024-13", "2024-0", "0000-05", "24-07", "2024-07-01", "july 2023", "٧")),
        *({"on": (typed,)} for typed in (
            "", "12", "13-01", "02-30", "2023-02-29", "0000-01-01", "2024-07", "25.12", "tomorrow",
             "december", "٧-٧")),
        *({"name": (typed,)} for typed in ("", " ", "a/b", "/")),
        *({"place": ("Porto", typed)} for typed in ("", " ", ",", "Porto,", "Porto, , Portugal", "-")),
        *({"glob": (typed,)} for typed in ("", "/", "./", "../x", "a/../b", "/..")),
        *({option: (typed,)} for option in ("under", "root") for typed in ("", "a\0b", "a\ud800b")),
        {"after": "2024", "before": "2023"}, {"after": "2024-07-03", "before": "2024-07-02T23:59:59"},
    ],
    ids=lambda asked: " ".join(f"{name} {str(typed)[:20]!a}" for name, typed in asked.items()),
)  # fmt: skip
def test_what_means_nothing_is_a_usage_error_that_names_the_option_and_gives_an_example(library, asked):
    with pytest.raises(UsageError) as caught:
        library.paths(**asked)
    message, hint = str(caught.value), caught.value.hint
    assert "\n" not in message and len(message) < 260
    name = "--" + next(iter(asked)).replace("_", "-")
    if name not in ("--under", "--root"):
        assert message.startswith(name) and hint is not None
        assert name in hint or name in ("--before",)


def test_examples_in_hints_are_understood(library):
    for asked in (
        {"after": "2023-05", "before": "2024"}, {"after": "2024-07-03T12:30"}, {"near": "48.85,2.35,5km"},
        {"near": "48.85,2.35,500m"}, {"rating": "<=2"}, {"min_size": "1.5GiB"}, {"glob": ("/photos/**",)},
        {"month": ("july", "7", "2023-07")}, {"on": ("12-25", "2019-12-25", "02-29")},
        {"name": ("IMG_3551", "*beach*")},
        {"place": ("Porto", "Porto, Portugal")},
    ):  # fmt: skip
        library.paths(**asked)


# ---- a catalogue of another user

HOSTILE = (
    b"\xff\xfe", "cast(x'ff80' as text)", "cast(x'32303234ff' as text)", "'2024-07-03T12:30:00' || char(0) || 'x'",
    "''", "'99999'", "9e999", "-9e999", "1e308", "-9223372036854775808", "9223372036854775807", "x''",
    "zeroblob(100000)",
    "'[' || replace(hex(zeroblob(30000)), '0', '[')", "'{\"a\": 1}'", "'[1, null, [\"beach\"]]'", "'null'", "'nan'",
    "cast('2024-07-03T12:30:00' as blob)", "cast('[\"beach\"]' as blob)", "cast('6D' as blob)", "'2024-7-3'",
    "'0000-99-99'",
)  # fmt: skip
COLUMNS = (
    "taken_at", "camera_make", "camera", "lens", "latitude", "longitude", "rating", "keywords", "width", "height",
    "size", "place", "country",
)  # fmt: skip
EVERYTHING = (
    {"after": "1900"}, {"before": "2100"}, {"after": "2024-07-03", "before": "2024-07-03"}, {"camera": ("eos", "6d")},
    {"lens": ("50",)}, {"near": "0,0,30000km"}, {"near": "89,0,11000km"}, {"rating": "4"}, {"keyword": ("beach",)},
    {"month": ("july",)}, {"on": ("07-03", "2024-07-03")}, {"name": ("*",)},
    {"keyword": ("*",)}, {"glob": ("*",)}, {"glob": ("/**",)}, {"ext": ("jpg",)}, {"min_size": "1x1"},
    {"min_size": "1MP"}, {"min_size": "1"}, {"orientation": ("landscape", "portrait", "square")},
    {"has": ("gps",)}, {"has": ("caption",)},
    {"has": ("date",)}, {"place": ("porto",)},
)  # fmt: skip


DECIDES = {
    "after": ("taken_at",), "before": ("taken_at",), "month": ("taken_at",), "on": ("taken_at",),
    "camera": ("camera",), "lens": ("lens",), "rating": ("rating",),
    "near": ("latitude", "longitude"), "place": ("place",), "keyword": ("keywords",),
    "orientation": ("width", "height"),
}  # fmt: skip


def test_values_of_the_wrong_kind_match_nothing_and_stop_nothing(shelf):
    good = {
        "taken_at": "2024-07-03T12:30:00", "camera_make": "Canon", "camera": "EOS 6D", "lens": "50mm", "latitude": 1.0,
        "longitude": 1.0, "rating": 5, "keywords": ("beach",), "width": 4000, "height": 3000, "size": 10,
        "texts": (CarriedText("a caption", "xmp:dc:title"),),
        "named": PlaceName("Porto", None, "Norte", "Portugal", "PT"),
    }  # fmt: skip
    values = [value if isinstance(value, str) else f"x'{value.hex()}'" for value in HOSTILE]
    cells = [(column, value) for column in COLUMNS for value in values]
    library = shelf(*(good for _ in range(len(cells) + 1)))
    with contextlib.closing(sqlite3.connect(library.store.catalog.path, isolation_level=None)) as outside:
        for number, (column, value) in enumerate(cells):
            outside.execute(
                f"update or ignore photos set {column} = {value} where name = ?", (f"{number}.jpg".encode(),)
            )
    intact = f"{len(cells)}.jpg"
    for asked in EVERYTHING:
        found = library.paths(**asked)
        assert intact in found, asked
    taken_for_good = {
        cells[int(name[:-4])]
        for asked in EVERYTHING
        for name in library.paths(**asked)
        if name != intact and cells[int(name[:-4])][0] in DECIDES.get(next(iter(asked)), ())
    }
    # A number is a number, however it is written; and what goes on after the seconds is no part of a date.
    numbers = {(column, value) for column in ("width", "height") for value in ("'99999'", "9223372036854775807")}
    assert taken_for_good == numbers | {("taken_at", "'2024-07-03T12:30:00' || char(0) || 'x'")}


def test_names_and_sources_of_the_wrong_kind_match_nothing(shelf):
    library = shelf({}, {}, {"texts": (CarriedText("a caption", "xmp:dc:title"),)})
    with contextlib.closing(sqlite3.connect(library.store.catalog.path, isolation_level=None)) as outside:
        outside.execute("update photos set name = '0.jpg' where name = x'302e6a7067'")
        outside.execute("update photos set folder = 5 where name = x'312e6a7067'")
        outside.execute("update photo_texts set source = x'ff'")
    assert library.paths(glob=("*",)) == ["2.jpg"]
    assert library.paths(ext=("jpg",)) == ["1.jpg", "2.jpg"]
    assert library.paths(has=("caption",)) == []


def test_what_is_typed_never_becomes_sql(library):
    nasty = "') or 1=1 --"
    made = condition(Filters(camera=(nasty,), lens=(nasty,), keyword=(nasty,), glob=(nasty,)), store=library.store)
    assert nasty not in made.sql and "1=1" not in made.sql
    assert library.numbers(made) == []
    assert library.paths(camera=("\ud800",)) == library.paths(keyword=("\udcff*",)) == []
    assert not {"space", "slots"} & set(made.parameters)


# ------------------------------------------------------------------------------------------------ word lists


def test_word_lists_are_plain_lists_without_repeats():
    lists = {}
    for name in ("subjects", "styles"):
        text = (resources.files("imgsearch.core.models") / f"{name}.txt").read_text(encoding="ascii")
        assert text.endswith("\n") and not text.endswith("\n\n")
        words = text.split("\n")[:-1]
        assert all(word == " ".join(word.lower().split()) and word for word in words)
        assert [word for word in words if words.count(word) > 1] == []
        lists[name] = words
    assert 550 <= len(lists["subjects"]) <= 700 and 180 <= len(lists["styles"]) <= 260
    assert set(lists["subjects"]) & set(lists["styles"]) == set()
