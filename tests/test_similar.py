"""`imgsearch similar`: the answer of `query FILE`, for one picture or many, whatever their names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from conftest import ALBUM


def names(outcome) -> list[str]:
    return [os.path.basename(record["path"]) for record in outcome.records]


def test_it_answers_as_query_does(imgsearch, photos):
    imgsearch("index", photos)
    for picture in (photos / "lemon.jpg", ALBUM / "lime.jpg"):
        assert imgsearch("similar", picture, "--json").out == imgsearch("query", picture, "--json").out != b""
    assert imgsearch("similar", ALBUM / "lime.jpg").out == imgsearch("query", ALBUM / "lime.jpg").out


def test_copies_are_shown_and_the_picture_itself_is_not(imgsearch, photos):
    shutil.copy(photos / "lemon.jpg", photos / "copy.jpg")
    imgsearch("index", photos)
    assert names(imgsearch("similar", photos / "lemon.jpg", "-n", "1", "--json")) == ["copy.jpg"]
    with_itself = imgsearch("similar", photos / "lemon.jpg", "-n", "2", "--json", "--include-reference")
    assert sorted(names(with_itself)) == ["copy.jpg", "lemon.jpg"]
    grouped = imgsearch("similar", ALBUM / "lemon.jpg", "--group", "duplicates", "--json").records
    assert len(grouped[0]["members"]) == 1


def test_several_pictures_have_an_answer_each(imgsearch, photos):
    imgsearch("index", photos)
    files = [photos / "lemon.jpg", photos / "carrots.jpg", ALBUM / "melon.jpg"]
    outcome = imgsearch("similar", *files, "-n", "1", "--json")
    assert outcome.code == 2 and "melon.jpg" in outcome.err and "--image" not in outcome.err
    assert [record["query"] for record in outcome.records] == [str(files[0]), str(files[1])]
    piped = imgsearch("similar", "-", "-n", "1", "--json", stdin=b"\n".join(os.fsencode(f) for f in files[:2]))
    assert (piped.code, piped.out) == (0, outcome.out)
    plain = imgsearch("similar", *files[:2], "-n", "1").out.splitlines()
    assert [line.split(b"\t")[0] for line in plain] == [os.fsencode(f) for f in files[:2]]


def test_names_are_never_read_as_words(imgsearch, photos, tmp_path):
    imgsearch("index", photos)
    odd = [b"a red car like lemon.jpg", b"-beach.jpg", b"caf\xe9.jpg", b" two  spaces ", b'say "x" \'.png']
    for name in odd:
        shutil.copy(ALBUM / "lime.jpg", tmp_path / os.fsdecode(name))
    lines = imgsearch("similar", "-", "-n", "1", "-0", stdin=b"\n".join(odd)).out.split(b"\0")
    assert len(lines) == len(odd) + 1 and lines.pop() == b""
    assert set(lines) == {os.fsencode(imgsearch("similar", ALBUM / "lime.jpg", "-l").lines[0])}
    first, second = (imgsearch("similar", f"./{os.fsdecode(name)}", "-l").lines for name in odd[:2])
    assert first == second != []


def test_what_is_no_picture_is_said(imgsearch, photos, tmp_path):
    imgsearch("index", photos)
    Path("words.txt").write_text("words")
    for name in ("words.txt", "nowhere.jpg", ""):
        outcome = imgsearch("similar", name)
        assert outcome.code == 2 and outcome.err.startswith("imgsearch: ") and "Traceback" not in outcome.err


def test_nothing_found_is_1(imgsearch, photos):
    imgsearch("index", photos)
    assert imgsearch("similar", photos / "lemon.jpg", "--min-score", "0.99999").code == 1
    assert imgsearch("similar", "-", stdin=b"").code == 1
    assert imgsearch("similar", "-", "x.jpg").code == 2
    assert imgsearch("similar", "x.jpg", "-l", "-0").code == 2


def test_only_below_a_folder(imgsearch, tmp_path):
    for folder in ("in", "out"):
        (tmp_path / "all" / folder).mkdir(parents=True)
        shutil.copy(ALBUM / "lemon.jpg", tmp_path / "all" / folder)
    imgsearch("index", tmp_path / "all")
    outcome = imgsearch("similar", ALBUM / "lime.jpg", "--under", tmp_path / "all" / "in", "-l")
    assert outcome.lines == [str(tmp_path / "all" / "in" / "lemon.jpg")]
