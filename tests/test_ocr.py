"""Text in pictures: what is read, when, and how it is found."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from PIL import Image

from imgsearch.core.errors import UsageError
from imgsearch.core.indexing import reading
from imgsearch.core.search.matched_lines import patterns_of
from imgsearch.core.store.text_index import FILE, TextPattern, matching_of

from conftest import ALBUM, IS_LONG, wait_until
from pictures import page

pytest.importorskip("rapidocr")

PROGRAM = (sys.executable, "-P", "-m", "imgsearch")


@pytest.fixture(scope="module", autouse=True)
def unrigged(tmp_path_factory):
    """One reader, which loads its models once, and which the other tests do not keep waiting for minutes: it has the
    lowest priority otherwise. Yields a PYTHONPATH that says so to other processes."""
    plug_ins = tmp_path_factory.mktemp("plug-ins")
    (plug_ins / "sitecustomize.py").write_text("import os\nos.nice = lambda increment: 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(plug_ins), prepend=os.pathsep)
        patch.setattr(reading, "processor_cores", lambda: 1)
        yield os.environ["PYTHONPATH"]


def draw_papers(folder):
    """Three pages, and a photo without text."""
    folder.mkdir()
    page(folder / "invoice.jpg", "Invoice INV-2039", "Total due 48.20", "Thank you for")
    page(folder / "recipe.jpg", "Pancakes for four", "flour, eggs and milk")
    page(folder / "ticket.jpg", "Boarding pass", "Gate 22, seat 14C")
    shutil.copy(ALBUM / "orange.jpg", folder)
    return folder


@pytest.fixture
def papers(tmp_path):
    return draw_papers(tmp_path / "papers")


@pytest.fixture(scope="module")
def _read_papers(tmp_path_factory):
    folder = draw_papers(tmp_path_factory.mktemp("read") / "papers")
    command = [*PROGRAM, "index", folder, "--ocr", "--workers", "1", "--model", "builtin"]
    command += ["--index", folder / ".imgsearch"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "read the text in 3 photos (3 with text), 1 left out: unlikely to contain text" in done.stderr
    return folder


@pytest.fixture
def read_papers(_read_papers, tmp_path, monkeypatch):
    """A portable index of them, with what `index --ocr` read."""
    folder = shutil.copytree(_read_papers, tmp_path / "papers")
    monkeypatch.setenv("IMGSEARCH_INDEX", str(folder / ".imgsearch"))
    return folder


def readings(index):
    """State and text by content hash."""
    with contextlib.closing(sqlite3.connect(f"file:{index}/catalog.sqlite3?mode=ro", uri=True)) as database:
        return {row[0]: row[1:] for row in database.execute("select content_hash, state, text, read_at from readings")}


def names(outcome):
    return [os.path.basename(line.split("\t")[1]) for line in outcome.lines]


def read_paths(outcome):
    """The names of the photos that a run with --json read."""
    return sorted(os.path.basename(record["path"]) for record in outcome.records if record["event"] == "read")


def test_text_is_found_exactly_and_by_meaning_and_the_hit_names_the_line(imgsearch, read_papers):
    (hit,) = imgsearch("query", "--text-contains", "inv-2039", "--json").records
    assert os.path.basename(hit["path"]) == "invoice.jpg"
    assert (hit["line"], hit["line_source"]) == ("Invoice INV-2039", "ocr")
    x, y, width, height = hit["line_region"]
    assert x < 0.1 and y < 0.25 and 0.3 < width < 0.8 and 0.05 < height < 0.3
    assert names(imgsearch("query", "--text-contains", "INV-20*")) == ["invoice.jpg"]
    assert names(imgsearch("query", "--text-contains", "due 48.20", "--text-contains", "thank*")) == ["invoice.jpg"]
    (hit,) = imgsearch("query", "paper", "--text-contains", "pass gate", "--json").records
    assert hit["line"] == "Boarding pass Gate 22, seat 14C"
    for words in ("INV-20", "total invoice", "due OR pancakes", 'x" OR text:"gate', "text:gate", "NEAR(total due)"):
        assert imgsearch("query", "--text-contains", words).code == 1
    refused = imgsearch("query", "--text-contains", "-*")
    assert refused.code == 2 and "--text-contains -*: takes words" in refused.err

    best = imgsearch("query", "flour and milk for pancakes", "--modality", "any", "--json", "-n", "1").records[0]
    assert (best["text_source"], best["line"]) == ("ocr", "flour, eggs and milk")
    assert imgsearch("query", "paper", "--has", "caption").code == 1
    status = imgsearch("status", "--json").records[0]["ocr"]
    assert status == {"read": 3, "with_text": 3, "failed": 0, "unlikely": 1}
    assert imgsearch("check").code == 0


def test_a_caption_and_a_note_are_found_by_their_words_too(imgsearch, read_papers):
    imgsearch("notes", "add", read_papers / "orange.jpg", "from the crate of 2039")
    (hit,) = imgsearch("query", "--text-contains", "crate of", "--json").records
    assert (hit["line"], hit["line_source"]) == ("from the crate of 2039", "note")
    assert "line_region" not in hit


def test_what_was_read_belongs_to_the_content(imgsearch, read_papers):
    papers, index = read_papers, read_papers / ".imgsearch"
    shutil.copy(papers / "ticket.jpg", papers / "copy.jpg")
    os.rename(papers / "recipe.jpg", papers / "pancakes.jpg")
    page(papers / "invoice.jpg", "Reminder INV-2040")
    again = imgsearch("index", papers, "--json")
    assert read_paths(again) == ["invoice.jpg"]
    assert sorted(names(imgsearch("query", "--text-contains", "boarding pass"))) == ["copy.jpg", "ticket.jpg"]
    assert names(imgsearch("query", "--text-contains", "pancakes")) == ["pancakes.jpg"]
    assert imgsearch("query", "--text-contains", "INV-2039").code == 1
    assert names(imgsearch("query", "--text-contains", "INV-2040")) == ["invoice.jpg"]

    kept = len(readings(index))
    os.remove(papers / "pancakes.jpg")
    imgsearch("index")
    imgsearch("prune")
    assert len(readings(index)) == kept - 2  # it, and the invoice before it was edited
    assert imgsearch("query", "--text-contains", "pancakes").code == 1
    assert imgsearch("check").code == 0


def test_reading_is_remembered_for_a_root_until_it_is_turned_off(imgsearch, read_papers, tmp_path):
    papers, other = read_papers, tmp_path / "other"
    other.mkdir()
    page(other / "menu.jpg", "Soup of the day")
    assert read_paths(imgsearch("index", other, "--json")) == []
    page(papers / "new.jpg", "A letter from home")
    assert read_paths(imgsearch("index", "--json")) == ["new.jpg"]
    page(papers / "later.jpg", "Another letter")
    assert not any("ocr" in record["event"] for record in imgsearch("index", papers, "--no-ocr", "--json").records)
    assert read_paths(imgsearch("index", "--json")) == []

    assert read_paths(imgsearch("ocr", other, "--json")) == ["menu.jpg"]
    assert read_paths(imgsearch("ocr", papers / "orange.jpg", "--json")) == []
    assert read_paths(imgsearch("ocr", "--all", "--json")) == ["later.jpg", "orange.jpg"]
    assert "no photos with text left to read" in imgsearch("ocr", "--all").err
    outside = imgsearch("ocr", tmp_path / "nowhere")
    assert outside.code == 2 and "not in the index" in outside.err


def test_another_model_embeds_what_was_read_without_reading_it_again(imgsearch, read_papers, other):
    again = imgsearch("index", read_papers, "--model", other, "--json")
    assert read_paths(again) == []
    best = imgsearch("query", "flour, eggs and milk", "--modality", "text", "--json").records[0]
    assert best["text_source"] == "ocr" and best["model"] == other
    assert imgsearch("check").code == 0


def test_the_index_of_words_may_be_lost(imgsearch, read_papers):
    file = read_papers / ".imgsearch" / FILE

    def cut():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    def overwrite():
        file.write_bytes(file.read_bytes()[:4096] + b"x" * (file.stat().st_size - 4096))

    def replace_by_another():
        file.unlink()
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("create view words as select 1")
        file.chmod(0o600)

    def replace_by_a_folder():
        file.unlink()
        file.mkdir(mode=0o700)

    for damage in (cut, overwrite, replace_by_another, replace_by_a_folder, file.unlink):
        damage()
        assert names(imgsearch("query", "--text-contains", "INV-2039")) == ["invoice.jpg"], damage
        assert imgsearch("check").code == (6 if os.path.lexists(file) else 0), damage
        imgsearch("check", "--repair")
        assert imgsearch("check").code == 0, damage
        assert file.is_file() or damage == file.unlink
        assert names(imgsearch("query", "--text-contains", "INV-2039")) == ["invoice.jpg"], damage
    imgsearch("notes", "add", read_papers / "orange.jpg", "squeezed")
    shutil.copy(ALBUM / "lemon.jpg", read_papers)
    imgsearch("index", "--no-ocr")
    assert file.is_file() and names(imgsearch("query", "--text-contains", "squeezed")) == ["orange.jpg"]


def test_a_decoder_that_crashes_costs_its_file_and_is_not_tried_again(
    imgsearch, papers, rigged, unrigged, monkeypatch, tmp_path
):
    plug_ins = os.environ["PYTHONPATH"]
    page(tmp_path / "letter.jpg", "A letter from home")
    crashing = rigged(papers / "crash.jpg", "crash", tmp_path / "letter.jpg")
    monkeypatch.setenv("PYTHONPATH", unrigged)
    assert imgsearch("index", papers, "--model", "builtin").code == 0
    monkeypatch.setenv("PYTHONPATH", plug_ins)
    done = imgsearch("ocr", "--all")
    assert done.code == 3
    assert f"{crashing}: its decoder crashed (SIGSEGV)" in done.err
    assert "read the text in 4 photos (3 with text), 1 skipped" in done.err
    assert sorted(state for state, _, _ in readings(tmp_path / "index").values()) == ["failed", *["read"] * 4]
    assert "no photos with text left to read" in imgsearch("ocr", "--all").err
    assert imgsearch("status", "--json").records[0]["ocr"]["failed"] == 1
    (failure,) = imgsearch("failures", "--json").records
    assert (failure["path"], failure["stage"]) == (str(crashing), "ocr")


def test_a_reader_that_is_killed_is_tried_again_by_the_next_run(
    imgsearch, papers, rigged, unrigged, monkeypatch, tmp_path
):
    """As by a system that runs out of memory."""
    plug_ins = os.environ["PYTHONPATH"]
    page(tmp_path / "letter.jpg", "A letter from home")
    rigged(papers / "large.jpg", "kill", tmp_path / "letter.jpg")
    monkeypatch.setenv("PYTHONPATH", unrigged)
    assert imgsearch("index", papers, "--model", "builtin").code == 0
    monkeypatch.setenv("PYTHONPATH", plug_ins)
    killed = imgsearch("ocr", "--all", "--json")
    assert killed.code == 3 and killed.records[-1]["skipped"] == 1
    monkeypatch.setenv("PYTHONPATH", unrigged)
    assert read_paths(imgsearch("ocr", "--all", "--json")) == ["large.jpg"]


def test_without_a_folder_the_option_is_for_every_root(imgsearch, papers):
    assert imgsearch("index", papers, "--model", "builtin").code == 0
    assert "invoice.jpg" in read_paths(imgsearch("index", "--ocr", "--json"))
    page(papers / "new.jpg", "A letter from home")
    assert read_paths(imgsearch("index", "--json")) == ["new.jpg"]
    page(papers / "later.jpg", "Another letter")
    assert read_paths(imgsearch("index", "--no-ocr", "--json")) == []
    assert read_paths(imgsearch("index", "--json")) == []


def test_export_and_import_carry_what_was_read(imgsearch, read_papers, tmp_path, monkeypatch):
    assert imgsearch("export", tmp_path / "all.jsonl").code == 0
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "second"))
    assert imgsearch("import", tmp_path / "all.jsonl").code == 0
    assert read_paths(imgsearch("index", read_papers, "--ocr", "--json")) == []
    (hit,) = imgsearch("query", "--text-contains", "INV-2039", "--json").records
    assert (hit["line"], hit["line_source"]) == ("Invoice INV-2039", "ocr")
    assert imgsearch("check").code == 0


def test_a_run_killed_at_any_moment_loses_nothing_and_reads_nothing_twice(imgsearch, tmp_path):
    """Real processes, killed with SIGKILL while they index or read."""
    folder, index = tmp_path / "many", tmp_path / "index"
    folder.mkdir()
    numbers = range(1000, 1200 if IS_LONG else 1014)
    for number in numbers:
        page(folder / f"{number}.jpg", f"Letter {number}", size=24)
    command = [
        sys.executable,
        "-P",
        "-m",
        "imgsearch",
        "index",
        folder,
        "--ocr",
        "--model",
        "builtin",
        "--workers",
        "1",
    ]
    chance = random.Random(1)
    kills = 0
    while kills < (40 if IS_LONG else 2):
        before = readings(index) if (index / "catalog.sqlite3").exists() else {}
        process = subprocess.Popen([*map(str, command), "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seen = iter(process.stdout)
        enough = chance.randint(1, 4)
        for line in seen:
            enough -= json.loads(line)["event"] == "read"
            if not enough:
                break
        time.sleep(chance.random())
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.stdout.close()
        kills += process.wait() == -signal.SIGKILL
        assert before.items() <= readings(index).items()
        assert imgsearch("check").code == 0
        if len(readings(index)) == len(numbers):
            break
    assert kills
    before = readings(index)
    last = imgsearch(*command[len(PROGRAM) :], "--json")
    assert last.code == 0 and len(read_paths(last)) == len(numbers) - len(before)
    assert before.items() <= readings(index).items()
    for number in numbers:
        assert names(imgsearch("query", "--text-contains", f"letter {number}")) == [f"{number}.jpg"]


def test_a_stopped_run_keeps_what_it_has_read(imgsearch, papers, tmp_path):
    for number in range(6):
        page(papers / f"{number}.jpg", f"Letter {1000 + number}")
    imgsearch("index", papers, "--model", "builtin")
    command = [*PROGRAM, "ocr", "--workers", "1", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in process.stdout:
        if json.loads(line)["event"] == "read":
            process.send_signal(signal.SIGINT)
            break
    last = json.loads(process.communicate()[0].splitlines()[-1])
    assert process.returncode == 130
    assert last["event"] == "ocr_stopped"
    assert sum(state == "read" for state, _, _ in readings(tmp_path / "index").values()) == last["read"] >= 1


def test_reading_leaves_the_index_to_other_programs(imgsearch, papers, tmp_path):
    imgsearch("index", papers, "--model", "builtin")
    command = [*PROGRAM, "ocr", "--workers", "1", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: b'"reading"' in process.stdout.readline(), "the reading to begin")
        assert imgsearch("notes", "add", papers / "orange.jpg", "a note").code == 0
    finally:
        process.communicate()
    assert process.returncode == 0


def test_a_picture_is_read_upright(imgsearch, tmp_path):
    (tmp_path / "papers").mkdir()
    page(tmp_path / "plain.jpg", "Turned by the camera")
    with Image.open(tmp_path / "plain.jpg") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "papers" / "turned.jpg", exif=exif)
    imgsearch("index", tmp_path / "papers", "--ocr", "--model", "builtin")
    (hit,) = imgsearch("query", "--text-contains", "turned by the camera", "--json").records
    assert hit["line_region"][2] > hit["line_region"][3]


def test_the_library_opens_no_connection_and_prints_nothing(papers):
    script = """
import sys
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg")
sys.addaudithook(lambda event, arguments: event in NETWORK and sys.exit(f"{event} {arguments}"))
from PIL import Image
from imgsearch.core.photos.ocr import Reader
with Image.open(sys.argv[1]) as image:
    assert len(Reader().lines(image.convert("RGB"))) == 3
"""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-P", "-c", script, papers / "invoice.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("inv-2039", True), ("INV 2039", True), ("2039", True), ("inv-20*", True), ("inv-20", False), ("203", False),
        ("cafe", True), ("CAFÉ", True), ("café 12*", True), ("発票", True), ("発*", True), ("票発", False),
        ('"2039', True), ("(2039)", True), ("2039 AND cafe", False), ("*2039", True), ("a\0b", False),
    ],
)  # fmt: skip
def test_a_pattern_is_words_in_their_order_and_nothing_in_it_is_syntax(typed, found):
    texts = [(b"1", "Invoice INV-2039, Café 12.50\n増値税発票")]
    assert matching_of(texts, TextPattern(typed)) == ([b"1"] if found else [])


@pytest.mark.parametrize("typed", ["", " ", "*", "--", "💡", "\udcff", "x" * 1_001])
def test_a_pattern_without_a_word_is_refused(typed):
    with pytest.raises(UsageError, match="takes words"):
        patterns_of([typed])
