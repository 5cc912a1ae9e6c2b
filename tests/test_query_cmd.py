"""`imgsearch query` and `calibrate` as they are typed, with the real model over a few real photos."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from imgsearch.cli.output import render
from imgsearch.core.indexing import indexer
from imgsearch.core.models import registry
from imgsearch.core.store.store import Store

from conftest import ALBUM


@pytest.fixture(scope="module")
def library(tmp_path_factory, model):
    """Six real photos and their index, made once."""
    top = tmp_path_factory.mktemp("library")
    (top / "photos").mkdir()
    for name in ("banana", "lemon", "red-delicious", "carrots", "oatly-oat-milk", "watermelon"):
        shutil.copy(ALBUM / f"{name}.jpg", top / "photos")
    with Store.writing(str(top / "index"), create=True) as store:
        spec = registry.parse("builtin").to_json()
        indexer.run(store, lambda: (model, spec), indexer.IndexPlan((str(top / "photos"),)))
    return top


@pytest.fixture
def photos(library):
    return library / "photos"


@pytest.fixture
def indexed(imgsearch, library, tmp_path):
    """The command, with an index of its own."""
    shutil.copytree(library / "index", tmp_path / "index")
    return imgsearch


def names(outcome) -> list[str]:
    return [line.rpartition("/")[2] for line in outcome.lines]


# what the options add up to


def test_a_negative_is_the_same_inside_and_outside_the_query(indexed):
    inside = indexed("query", "fruit -yellow", "--json")
    assert inside.code == 0
    options = indexed("query", "fruit", "--not", "yellow", "--json")
    assert [(hit["path"], hit["score"]) for hit in inside.records] == [
        (hit["path"], hit["score"]) for hit in options.records
    ]
    plain = indexed("query", "fruit", "--json")
    assert [hit["score"] for hit in plain.records] != [hit["score"] for hit in inside.records]


@pytest.mark.parametrize("word", ["-night", "-people", "-lion", "-été", "-nn"])
def test_an_unquoted_minus_is_refused_with_what_was_meant(indexed, word):
    outcome = indexed("query", "fruit", word)
    assert (outcome.code, outcome.out) == (2, b"")
    assert f"no such option: {word}" in outcome.err and f"--not {word[1:]}" in outcome.err


def test_words_that_only_resemble_options_are_accepted(indexed):
    assert len(indexed("query", "-n1", "fruit").lines) == 1
    assert len(indexed("query", "-ln2", "fruit").lines) == 2
    assert len(indexed("query", "fruit", "-lrn", "2").lines) == 2
    assert indexed("query", "-lr", "fruit").code == 0
    assert indexed("query", "fruit", "--not", "-night").code == 0
    assert indexed("query", "fruit", "--keyword", "-wedding").code == 1
    assert len(indexed("query", "-n1", "--", "-yellow fruit").lines) == 1


def test_a_query_of_negatives_alone_says_what_is_missing(indexed):
    outcome = indexed("query", "--", "-night")
    assert outcome.code == 2 and "add what to look for" in outcome.err


def test_each_kind_of_query_is_answered(indexed, photos):
    for arguments, method in (
        (["2*lemon + carton"], "text"),
        ([f"like {photos}/lemon.jpg and like {photos}/banana.jpg"], "image"),
        (["--from", "yellow fruit", "--to", "red fruit", "--image", photos / "lemon.jpg"], "pdv"),
        (["fruit", "--more-like", photos / "lemon.jpg", "--less-like", photos / "carrots.jpg"], "text"),
        (["--any", "lemon", "--any", photos / "carrots.jpg"], "any"),
        (["--all", "lemon", "--all", "yellow"], "all"),
        (["red", "--image", photos / "lemon.jpg", "--compose", "basic"], "basic"),
        (["red", "--image", photos / "lemon.jpg", "--compose", "basic-style"], "basic-style"),
        (["a banana not a lemon", "--natural"], "text"),
        ([f"red like {photos}/lemon.jpg", "--verbatim"], "text"),
    ):
        outcome = indexed("query", *arguments, "--json")
        assert outcome.code == 0, (arguments, outcome.err)
        assert {hit["method"] for hit in outcome.records} == {method}


def test_lines_share_what_narrows_them_and_nothing_else(indexed):
    lines = b"fruit\nvegetable -orange\n"
    shared = indexed("query", "-", "--not", "yellow", "-n1", "--json", stdin=lines)
    alone = indexed("query", "fruit", "--not", "yellow", "-n1", "--json")
    assert shared.records[0]["score"] == alone.records[0]["score"]
    assert [hit["query"] for hit in shared.records] == ["fruit", "vegetable -orange"]
    for refused in (["--image", "x.jpg"], ["--from", "a", "--to", "b"], ["--any", "cat"]):
        assert indexed("query", "-", *refused, stdin=lines).code == 2


# what is shown


def test_nothing_that_fits_is_exit_1_and_no_output(indexed):
    outcome = indexed("query", "an aircraft carrier at sea", "--min-score", "0.9")
    assert (outcome.code, outcome.out) == (1, b"")
    assert indexed("query", "fruit", "--min-z", "50").code == 1
    every = len(indexed("query", "a yellow lemon").lines)
    assert len(indexed("query", "a yellow lemon", "--auto-cut").lines) < every


def test_fields_are_columns_in_the_order_asked_for(indexed, photos):
    outcome = indexed("query", "lemon", "-n1", "--fields", "path,rank,taken_at,format")
    assert outcome.lines == [f"{photos}/lemon.jpg\t1\t\tJPEG"]
    (record,) = indexed("query", "lemon", "-n1", "--fields", "path,rank,taken_at,format", "--json").records
    assert list(record.items()) == [
        ("path", f"{photos}/lemon.jpg"),
        ("rank", 1),
        ("taken_at", None),
        ("format", "JPEG"),
    ]
    outcome = indexed("query", "lemon", "--fields", "path,colour")
    assert outcome.code == 2 and "no field 'colour'" in outcome.err and "taken_at" in outcome.err
    assert indexed("query", "lemon", "--fields", "path", "-0").code == 2


def test_nothing_in_a_column_steers_a_terminal(indexed, photos, tmp_path, monkeypatch):
    name = tmp_path / "a\x1b[31mRED\x07.jpg"
    shutil.copy(photos / "lemon.jpg", name)
    assert indexed("index", name).code == 0
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    for extra in (["--fields", "path,format"], ["--metadata"], ["-l"]):
        outcome = indexed("query", "a yellow lemon", "-n2", *extra)
        assert outcome.code == 0 and b"\x07" not in outcome.out and b"\x1b[31m" not in outcome.out, extra


def test_what_depends_on_one_line_stops_no_other(indexed, photos):
    lines = f"lemon\nred like {photos}/lemon.jpg\nbanana\n".encode()
    outcome = indexed("query", "-", "--compose", "pdv", "-n1", "--json", stdin=lines)
    assert outcome.code == 2 and "pdv needs --from and --to" in outcome.err
    assert [hit["query"] for hit in outcome.records] == ["lemon", "banana"]


def test_every_field_that_json_has_can_be_named(indexed):
    (record,) = indexed("query", "lemon", "-n1", "--json", "--metadata").records
    outcome = indexed("query", "lemon", "-n1", "--json", "--fields", ",".join(record))
    assert outcome.records == [record]


def test_metadata_is_added_to_what_is_shown(indexed, photos):
    plain, more = (indexed("query", "lemon", "-n1", *extra).lines[0] for extra in ([], ["--metadata"]))
    assert more.startswith(plain + "\t")
    size = (photos / "lemon.jpg").stat().st_size
    assert f"\tsize={size}\t" in more and "\tformat=JPEG" in more


def test_members_of_a_group_are_in_the_json(indexed, photos, tmp_path):
    shutil.copy(photos / "lemon.jpg", tmp_path / "again.jpg")
    assert indexed("index", tmp_path / "again.jpg").code == 0
    first, *_ = indexed("query", "a yellow lemon", "--group", "duplicates", "--json").records
    both = [first["path"], *(member["path"] for member in first["members"])]
    assert both == sorted([str(tmp_path / "again.jpg"), f"{photos}/lemon.jpg"])
    assert first["members"][0]["score"] == first["score"]


def test_sorted_by_path_they_are_the_same_photos(indexed):
    best = indexed("query", "fruit", "-n3", "-l").lines
    assert indexed("query", "fruit", "-n3", "-l", "--sort", "path").lines == sorted(best)
    assert indexed("query", "fruit", "-n3", "-l", "--sort", "path", "-r").lines == sorted(best, reverse=True)


def test_a_filter_that_means_nothing_names_itself(indexed):
    for option, value in (("--after", "soonish"), ("--near", "here"), ("--rating", "many"), ("--min-size", "large")):
        outcome = indexed("query", "fruit", option, value)
        assert outcome.code == 2 and option in outcome.err and outcome.out == b""
    assert indexed("query", "fruit", "--ext", "png").code == 1
    assert indexed("query", "fruit", "--ext", "jpeg").code == 0
    assert indexed("query", "fruit", "--orientation", "square", "--has", "gps").code == 1


# how it was read


def test_explain_says_on_stderr_how_a_query_was_read(indexed, photos):
    outcome = indexed(
        "query", f"make it red like {photos}/lemon.jpg", "--not", "carton", "--explain", "-n1", "--auto-cut"
    )
    assert outcome.code in (0, 1)
    for part in (
        f"read as: --text red --image {photos}/lemon.jpg --not carton",
        "words cleaned up: 'make it red'",
        "words: red, weight 0.55",
        f"picture: {photos}/lemon.jpg, weight 0.45",
        "not: carton",
        "method: scaled",
        "plan: every vector scanned",
        "calibration: version 1, 6 pictures, 310 phrases",
        "background: 6 images, mean",
        "auto-cut: ",
        "seconds: embed",
    ):
        assert part in outcome.err, part


def test_explain_is_one_line_of_json_beside_json(indexed):
    outcome = indexed("query", "2*lemon + carton", "--explain", "--json", "-n1")
    (line,) = outcome.err.splitlines()
    explained = json.loads(line)["explain"]
    assert explained["parts"] == [
        {"role": "term", "what": "lemon", "weight": 2.0},
        {"role": "term", "what": "carton", "weight": 1.0},
    ]
    assert explained["plan"]["allowed"] == {"image": 6}
    assert len(outcome.records) == 1


# measuring anew


def test_calibrate_recomputes_and_switches_the_correction(indexed):
    (record,) = indexed("calibrate", "--json").records
    assert (record["pictures"], record["phrases"], record["hubness"]) == (6, 310, False)
    plain = indexed("query", "fruit", "--json").records
    outcome = indexed("calibrate", "--hubness")
    assert outcome.code == 0 and "hubness correction on" in outcome.err
    corrected = indexed("query", "fruit", "--json").records
    assert all(hit["score"] < max(other["score"] for other in plain) for hit in corrected)
    assert "corrected for hubness" in indexed("query", "fruit", "--explain").err
    assert "hubness correction on" in indexed("calibrate").err
    assert indexed("calibrate", "--no-hubness").code == 0
    assert indexed("query", "fruit", "--json").records == plain
    assert indexed("check").code == 0


def test_an_invalid_calibration_is_recomputed(indexed, tmp_path):
    good = indexed("query", "lemon", "--json", "--auto-cut").records
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as connection, connection:
        connection.execute("update calibrations set phrases = zeroblob(length(phrases)), image_mean = x'00'")
    outcome = indexed("query", "lemon", "--auto-cut")
    assert outcome.code == 4 and "calibration" in outcome.err
    assert indexed("calibrate").code == 0
    assert indexed("query", "lemon", "--json", "--auto-cut").records == good


def test_an_index_without_photos_cannot_be_measured(imgsearch, tmp_path):
    assert imgsearch("calibrate").code == 4


def test_every_fact_of_the_catalogue_is_shown_with_metadata_or_always():
    from imgsearch.cli.output import hits
    from imgsearch.core.store.schema import FACT_COLUMNS, PLACE_COLUMNS

    left_out = {"orientation", "taken_offset"}  # of the file: what is shown is upright, in the camera's time
    always = set(hits.FIELDS) - set(hits.FACTS)
    assert set(hits.FACTS) == {*FACT_COLUMNS, *PLACE_COLUMNS} - always - left_out
    assert left_out < set(FACT_COLUMNS)


def test_a_query_says_how_far_an_index_run_is(imgsearch, photos, folder):
    from imgsearch.core.store.store import Batch, RunProgress, Store

    assert imgsearch("index", photos, "--model", "builtin").code == 0
    with Store.writing(folder) as store:
        store.commit(store.active_space(), Batch(), codecs="", progress=RunProgress(1_200, 5_000))
        answer = imgsearch("query", "lemon")
        assert (answer.code, answer.err) == (0, "imgsearch: still indexing: 1,200 of 5,000 photos done\n")
        assert imgsearch("query", "lemon", "--quiet").err == ""
    assert imgsearch("query", "lemon").err == ""  # that run was killed, or stopped
    shutil.copy(photos / "lemon.jpg", photos / "another.jpg")
    assert imgsearch("index").code == 0
    with Store.writing(folder) as store:
        assert store.progress() is None  # it had nothing left


# what it imports

NOT_NEEDED = {
    "typer", "sqlite_utils", "hnswlib", "PIL", "torch", "platformdirs", "shutil", "html", "calendar",
    "imgsearch.cli.output.progress", "imgsearch.cli.output.verbose",
    "imgsearch.core.models.hub", "imgsearch.core.models.loading", "imgsearch.core.models.onnx_embedder",
    "imgsearch.core.search.filter_conditions", "imgsearch.core.search.listing",
    "imgsearch.core.search.matched_lines", "imgsearch.core.search.natural", "imgsearch.core.search.place_words",
    "imgsearch.core.store.check", "imgsearch.core.store.recovery", "imgsearch.core.store.status",
}  # fmt: skip
LOADED = """
import sys
from imgsearch.cli import app
try:
    app.main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "runs_a_model"), [("something that nobody asked", True), ("banana", False), ("{album}/lemon.jpg", False)]
)
def test_a_query_imports_only_what_it_needs(library, words, runs_a_model):
    arguments = ["query", words.format(album=library / "photos"), "--index", str(library / "index"), "-n", "1"]
    if words == "banana":
        subprocess.run([sys.executable, "-P", "-c", LOADED, *arguments], capture_output=True, timeout=60)
    done = subprocess.run([sys.executable, "-P", "-c", LOADED, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "imgsearch.core.search.searcher" in loaded and loaded & NOT_NEEDED == set()
    assert "onnxruntime" not in loaded
    assert ("imgsearch.core.models.weights_file" in loaded) is runs_a_model
