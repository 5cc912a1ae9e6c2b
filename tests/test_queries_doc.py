"""Tests that docs/queries.md matches the program: its examples run, and its statements hold."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from imgsearch.core.search.grammar import INSTRUCTIONS, combine, parse

from conftest import ALBUM

PAGE = (Path(__file__).parents[1] / "docs" / "queries.md").read_text()
EXAMPLES = re.findall(
    r"^(?:\$ )?imgsearch (query .*)$", "\n".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)), re.MULTILINE
)
PICTURES = ("this.jpg", "a.jpg", "b.jpg", "liked.jpg", "other.jpg", "salt + pepper.jpg")
NOTHING_FOUND = "# nothing"


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Six photos with the names that the page uses."""
    for name, photo in zip(PICTURES, sorted(ALBUM.glob("*.jpg")), strict=False):
        shutil.copy(photo, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_examples_run(pictures, imgsearch):
    assert len(EXAMPLES) > 20
    assert imgsearch("index", pictures, "--model", "builtin").code == 0
    for example in EXAMPLES:
        outcome = imgsearch(*shlex.split(example, comments=True))
        assert outcome.code == (1 if NOTHING_FOUND in example else 0), (example, outcome.err)
        assert "Traceback" not in outcome.err, example
        assert outcome.lines or NOTHING_FOUND in example, example


def rows(heading: str) -> list[list[str]]:
    """The code spans in each cell of the first column of the first table below a heading."""
    table = re.findall(r"^\|.*$", PAGE.split(f"\n{heading}\n")[1].split("\n\n#")[0], re.MULTILINE)
    return [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in table[2:]]


def test_text_that_is_not_an_operator_is_words(pictures):
    typed = [each for row in rows("### What is not an operator") for each in row]
    assert len(typed) > 20
    for each in typed:
        assert parse(each) == replace(parse(each, verbatim=True), typed=each), each


def test_the_table_lists_exactly_the_options_that_exist(imgsearch):
    known = set(re.findall(r"--[a-z][a-z-]+", imgsearch("query", "--help").out.decode()))
    table = {option for row in rows("## Options") for each in row for option in re.findall(r"--[a-z-]+", each)}
    assert table <= known
    names = "image text not from to more-like less-like any all natural verbatim explain"
    assert table == {f"--{name}" for name in names.split()}


def test_the_listed_instructions_are_removed(pictures):
    listed = {each for row in rows("## Instructions") for each in row}
    assert listed == {phrase.replace("IT", "it") for phrase in INSTRUCTIONS}
    for phrase in listed:
        assert parse(f"{phrase} red like this.jpg").text == "red", phrase


@pytest.mark.parametrize(
    ("read", "equal"),
    [
        (parse, "beach -people -umbrella"),
        (lambda _: combine(parse("beach"), negatives=("people", "umbrella")), "beach -people -umbrella"),
        (lambda _: parse("a beach without people, at dawn", natural=True), "a beach at dawn -people"),
        (lambda _: parse("a dog not on a leash", natural=True), 'a dog -"on a leash"'),
        (lambda _: parse("same, but make it red like this.jpg"), "red like this.jpg"),
        (lambda _: combine(parse("make it red"), images=("this.jpg",)), "red like this.jpg"),
    ],
)
def test_equivalent_queries_parse_the_same(pictures, read, equal):
    assert equal in PAGE
    assert replace(read(equal), typed="", as_written=None) == replace(parse(equal), typed="", as_written=None)
