"""Words that are dates and file names: which phrases are, which only look like it, and what a query makes of them."""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
from typing import get_args

import pytest
from natural_phrases import TODAY, dated, only_words
from PIL import Image

from imgsearch.core.errors import QueryError
from imgsearch.core.photos import gazetteer
from imgsearch.core.search import natural
from imgsearch.core.search.choices import GroupBy
from imgsearch.core.search.grammar import Query, parse
from imgsearch.core.search.place_words import with_places
from imgsearch.core.search.query_arguments import QueryArguments
from imgsearch.core.store.store import Store

from conftest import ALBUM, cpu_seconds
from pictures import exif_block

TAKEN = {
    "banana": "2023:07:14 12:00:00",
    "avocado": "2023:07:02 09:30:00",
    "aubergine": "2023:07:31 23:59:59",
    "lemon": "2022:07:14 10:00:00",
    "carrots": "2019:12:25 18:00:00",
    "asparagus": "2023:08:01 00:00:00",
    "cabbage": None,
}


def options_of(phrases) -> str:
    return " ".join(f"{name} {value}" for phrase in phrases for name, values in phrase.options() for value in values)


@pytest.mark.parametrize(("typed", "words", "filters"), dated(), ids=lambda text: text)
def test_a_phrase_that_is_a_date_or_a_name_becomes_filters(typed, words, filters):
    reading = natural.read(typed, today=TODAY)
    assert (reading.words, options_of(reading.phrases)) == (words, filters)


@pytest.mark.parametrize("typed", only_words())
def test_what_only_looks_like_a_date_is_words(typed):
    assert natural.read(typed, today=TODAY) == (typed.replace('"', ""), ())


def test_the_tables_have_150_phrases_of_each_kind():
    assert min(len(set(dated())), len(set(only_words()))) >= 150


def test_no_caption_of_a_photo_is_read_as_a_date(shared):
    captions = [
        caption
        for part in ("flickr8k-dev", "flickr8k-train")
        for line in (shared / part / "captions.jsonl").read_text().splitlines()
        for caption in json.loads(line)["captions"]
    ]
    assert len(captions) > 30_000
    assert [caption for caption in captions if natural.read(caption, today=TODAY).phrases] == []


def test_long_and_hostile_texts_are_read_in_time():
    with cpu_seconds(2):
        for piece in (
            "july ",
            "1 ",
            "2019 to ",
            "in ",
            "the last ",
            "19",
            "(",
            '"',
            "from between 3 may ",
            "IMG_1",
            "ſ",
        ):
            for length in (natural.MAX_CHARACTERS, 1_000_000):
                natural.read((piece * length)[:length], today=TODAY)
    assert natural.read("beach july 2023 " + "x" * natural.MAX_CHARACTERS).phrases == ()


# ---- in the query language


@pytest.mark.parametrize(
    ("typed", "text", "negatives", "filters"),
    [
        ("beach july 2023 -people", "beach", ("people",), "--month 2023-07"),
        ('beach -"july 2023"', "beach", ("july 2023",), ""),
        ("beach -2019", "beach -2019", (), ""),
        ("a beach without people in july 2023", "a beach", ("people",), "--month 2023-07"),
        ("a beach without people, july 2023", "a beach", ("people",), "--month 2023-07"),
        ("a beach not in july 2023", "a beach", ("in july 2023",), ""),
        ("july 2023", None, (), "--month 2023-07"),
        ("2*july 2023", None, (), "--month 2023-07"),
        ('"july 2023" poster', "july 2023 poster", (), ""),
        ('a "stop" sign at christmas 2019', 'a "stop" sign', (), "--after 2019-12-24 --before 2019-12-26"),
    ],
)
def test_operators_keep_their_meaning(typed, text, negatives, filters):
    query = parse(typed, natural=True)
    assert (query.text, query.negatives, options_of(query.phrases)) == (text, negatives, filters)


def test_the_words_beside_a_picture_are_read_too(tmp_path):
    for name in ("a.jpg", "july 2023.jpg"):
        (tmp_path / name).write_bytes(b"")
    query = parse("red in july 2023 like a.jpg", natural=True, directory=str(tmp_path))
    assert (query.text, query.images) == ("red", (str(tmp_path / "a.jpg"),))
    assert options_of(query.phrases) == "--month 2023-07"
    query = parse("july 2023 like a.jpg", natural=True, directory=str(tmp_path))
    assert (query.text, query.images) == (None, (str(tmp_path / "a.jpg"),))
    existing = parse("july 2023.jpg", natural=True, directory=str(tmp_path))
    assert (existing.images, existing.phrases) == ((str(tmp_path / "july 2023.jpg"),), ())


def test_sums_and_literal_words_are_not_read():
    for query in (
        parse("2*beach july 2023 + harbour", natural=True),
        parse("beach july 2023", natural=True, verbatim=True),
        parse("beach july 2023"),
    ):
        assert query.phrases == ()


def test_a_name_of_a_file_that_is_not_here_is_a_filter_only_by_itself(tmp_path):
    query = parse("holiday [1].jpg", natural=True, directory=str(tmp_path))
    assert (query.text, options_of(query.phrases)) == (None, "--name holiday [[]1].jpg")
    for typed in ("red like missing.jpg", "./missing.jpg", "2*missing.jpg + harbour"):
        with pytest.raises(QueryError, match="missing.jpg"):
            parse(typed, natural=True, directory=str(tmp_path))
    with pytest.raises(QueryError, match="no such picture"):
        parse("missing.jpg", directory=str(tmp_path))


def test_a_date_is_nothing_to_exclude_from():
    with pytest.raises(QueryError, match="the query only excludes"):
        parse("july 2023 -people", natural=True)


def test_a_query_of_words_alone_is_what_it_was():
    assert parse("a beach", natural=True) == Query("a beach", text="a beach")


# ---- over an album with dates


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dated") / "photos"
    folder.mkdir()
    for name, taken in TAKEN.items():
        exif = Image.Exif()
        if taken:
            exif.get_ifd(0x8769)[0x9003] = taken
        Image.open(ALBUM / f"{name}.jpg").save(folder / f"{name}.jpg", exif=exif)
    return folder


@pytest.fixture
def indexed(imgsearch, album):
    assert imgsearch("index", album, "--model", "builtin", "--quiet").code == 0
    return imgsearch


def names(found) -> list[str]:
    return [hit["path"].rpartition("/")[2].removesuffix(".jpg") for hit in found.records]


def test_a_date_in_a_query_picks_photos_and_the_rest_ranks_them(indexed):
    found = indexed("query", "a banana july 2023", "--natural", "--json")
    assert names(found)[0] == "banana"
    assert sorted(names(found)) == ["aubergine", "avocado", "banana"]
    same = indexed("query", "a banana", "--month", "2023-07", "--json")
    assert [hit["score"] for hit in found.records] == [hit["score"] for hit in same.records]
    assert len(indexed("query", "a banana july 2023", "--json").records) == 7
    narrower = indexed("query", "a banana july 2023", "--natural", "--before", "2023-07-10", "--json")
    assert names(narrower) == ["avocado"]
    for group in ((), *(("--group", by) for by in get_args(GroupBy))):
        for words in ("a banana july 2021", "july 2021"):
            nothing = indexed("query", words, "--natural", *group)
            assert (nothing.code, nothing.out) == (1, b""), group

    lines = indexed("query", "a banana july 2023", "--natural", "--explain").err.splitlines()
    assert lines[:3] == [
        "read as: --text 'a banana' --month 2023-07",
        "  words: a banana",
        "  filter: july 2023 (--month 2023-07)",
    ]
    explained = indexed("query", "a banana july 2023", "--natural", "--explain", "--json").err
    assert json.loads(explained)["explain"]["phrases"] == [
        {"words": "july 2023", "read_as": "--month 2023-07", "filters": {"month": ["2023-07"]}}
    ]


def test_without_words_the_photos_of_a_date_are_listed_by_time(indexed, monkeypatch):
    asked = ("query", "my photos from july 2023", "--natural")
    found = indexed(*asked, "--json")
    assert names(found) == ["avocado", "banana", "aubergine"]
    assert [hit["rank"] for hit in found.records] == [1, 2, 3]
    assert {(hit["method"], hit["score"], hit["cosine"], hit["z"]) for hit in found.records} == {
        ("date", None, None, None)
    }
    assert names(indexed(*asked, "--json", "-r", "-n", "1")) == ["aubergine"]
    assert names(indexed(*asked, "--json", "--sort", "path")) == ["aubergine", "avocado", "banana"]
    assert (
        names(indexed("query", "july", "2022", "to", "july", "2023", "--natural", "--json", "--group", "day"))[0]
        == "lemon"
    )
    assert [line.split("\t")[0] for line in indexed(*asked).lines] == [
        "2023-07-02T09:30:00",
        "2023-07-14T12:00:00",
        "2023-07-31T23:59:59",
    ]
    explained = indexed(*asked, "--explain").err.splitlines()
    assert explained[0] == "read as: --month 2023-07"
    again = indexed("query", *shlex.split(explained[0].removeprefix("read as: ")), "--json")
    assert names(again) == names(found)


def test_filters_without_a_query_list_photos(indexed):
    assert names(indexed("query", "--month", "july", "--json")) == ["lemon", "avocado", "banana", "aubergine"]
    assert names(indexed("query", "--name", "C*", "--json")) == ["carrots", "cabbage"], "undated photos last"
    assert names(indexed("query", "LEMON.jpg", "--natural", "--json")) == ["lemon"]
    assert names(indexed("query", "--on", "12-25", "--json")) == ["carrots"]
    refused = indexed("query", "--month", "july", "--not", "people")
    assert (refused.code, "only excludes" in refused.err) == (2, True)


def test_each_line_of_many_queries_has_filters_of_its_own(indexed):
    lines = b"a banana july 2023\na banana\njuly 2022\nasparagus in august 2023\nfruit july 2023\n"
    found = indexed("query", "-", "--natural", "--json", stdin=lines).records
    by_query: dict[str, list[str]] = {}
    for hit in found:
        by_query.setdefault(hit["query"], []).append(hit["path"].rpartition("/")[2].removesuffix(".jpg"))
    assert {query: len(hits) for query, hits in by_query.items()} == {
        "a banana july 2023": 3, "a banana": 7, "july 2022": 1, "asparagus in august 2023": 1, "fruit july 2023": 3
    }  # fmt: skip
    assert by_query["july 2022"] == ["lemon"]


# ---- places, of an album whose photos have some


@pytest.fixture
def travels(imgsearch, tmp_path):
    places = {"banana": (41.1496, 8.6110), "lemon": (38.7131, 9.1278), "lime": (48.8566, None), "carrots": None}
    (tmp_path / "photos").mkdir()
    for name, place in places.items():
        gps = {}
        if place:
            north, west = place
            gps = {1: "N", 2: (north, 0.0, 0.0), 3: "W" if west else "E", 4: (west or 2.3522, 0.0, 0.0)}
        Image.open(ALBUM / f"{name}.jpg").save(tmp_path / "photos" / f"{name}.jpg", exif=exif_block(gps=gps))
    assert imgsearch("index", "photos", "--model", "builtin", "--quiet").code == 0
    return imgsearch


@pytest.mark.skipif(gazetteer.version() is None, reason="the extra [places] is not installed")
def test_a_place_of_the_index_in_a_query_is_a_filter(travels):
    def found(typed):
        asked = travels("query", typed, "--natural", "--json", "--explain")
        explained = json.loads(asked.err.splitlines()[0])["explain"]
        assert asked.code == 0
        return sorted(names(asked)), explained["read_as"]

    every = ["banana", "carrots", "lemon", "lime"]
    assert found("a fruit in Porto") == (["banana"], "--text 'a fruit' --place Porto")
    assert found("photos in porto.") == (["banana"], "--place porto")
    assert found("fruit in Lisbon, Portugal on a table") == (
        ["lemon"],
        "--text 'fruit on a table' --place 'Lisbon, Portugal'",
    )
    assert found("in Portugal") == (["banana", "lemon"], "--place Portugal")
    assert found("yellow in Porto and in Paris") == (["banana", "lime"], "--text yellow --place Porto --place Paris")
    assert found("fruit near Lisbon") == (["lemon"], "--text fruit --near 38.7131,-9.1278,25km")
    assert found("fruit near Lisbon near Porto")[1] == "--text 'fruit near Porto' --near 38.7131,-9.1278,25km"
    assert found("fruit in Berlin") == (every, "--text 'fruit in Berlin'")
    assert found("Paris Hilton")[0] == found("a paris dress")[0] == found("fruit in paris style")[0] == every
    assert found('a poster "in Paris"')[0] == found("dog in it")[0] == found("near Portugal")[0] == every
    nothing = travels("query", "fruit in Porto july 2019", "--natural")
    assert (nothing.code, nothing.out) == (1, b"")
    lines = b"fruit in Porto\nin Lisbon -red\nfruit near Paris\n"
    hits = travels("query", "-", "--natural", "--json", stdin=lines).records
    assert [(hit["query"], hit["path"].rpartition("/")[2]) for hit in hits if "Lisbon" not in hit["query"]] == [
        ("fruit in Porto", "banana.jpg"),
        ("fruit near Paris", "lime.jpg"),
    ]


@pytest.mark.skipif(gazetteer.version() is None, reason="the extra [places] is not installed")
def test_many_places_in_a_query_are_looked_up_in_time(travels, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as database, database:
        columns = [row[1] for row in database.execute("pragma table_info(photos)") if row[1] not in ("id", "name")]
        listed = ", ".join(columns)
        database.execute(
            f"""
            with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 20000)
            insert into photos (name, {listed})
            select cast(number || '.jpg' as blob), {listed} from numbers, (select * from photos where place = 'Porto')
            """
        )
    with Store.open(str(tmp_path / "index")) as store, cpu_seconds(1.5):
        for how in ("in Porton, ", "near Portugal, ", "near Porto, ", "in Porto, "):
            typed = (how * natural.MAX_CHARACTERS)[: natural.MAX_CHARACTERS]
            with_places(QueryArguments(words=(typed,), natural=True).query(), store)
