from __future__ import annotations

import os

import pytest

from imgsearch.core.errors import QueryError
from imgsearch.core.grammar import Query, explicit, parse


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("this.jpg", "looks like rain.jpg", "été à Nîmes.JPG", "plain"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "IMG 1").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def meaning(typed: str) -> tuple[str | None, list[str]]:
    query = parse(typed)
    assert query.typed == typed
    return query.text, [os.path.relpath(path) for path in query.images]


@pytest.mark.parametrize(
    ("typed", "text", "images"),
    [
        ("sunset over the sea", "sunset over the sea", []),
        ("this.jpg", None, ["this.jpg"]),
        ("./this.jpg", None, ["this.jpg"]),
        ("~/this.jpg", None, ["this.jpg"]),
        ("red dress like this.jpg", "red dress", ["this.jpg"]),
        ("red dress LIKE  this.jpg ", "red dress", ["this.jpg"]),
        ("like this.jpg", None, ["this.jpg"]),
        ("at night like ~/this.jpg", "at night", ["this.jpg"]),
        ("dress like looks like rain.jpg", "dress", ["looks like rain.jpg"]),
        ("looks like rain", "looks like rain", []),
        ("something like this like this.jpg", "something like this", ["this.jpg"]),
        ("in winter like été à Nîmes.JPG", "in winter", ["été à Nîmes.JPG"]),
        ("brighter like sub/IMG 1", "brighter", ["sub/IMG 1"]),
        ("plain", "plain", []),
        ("./plain", None, ["plain"]),
        ("black/white cat", "black/white cat", []),
        ("a 1/2 pint like a 1/2 litre", "a 1/2 pint like a 1/2 litre", []),
        ("C++ code, a T-shirt", "C++ code, a T-shirt", []),
    ],
)
def test_what_a_query_means(folder, typed, text, images):
    assert meaning(typed) == (text, images)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("red dress like that.jpg", "that.jpg: no such picture"),
        ("beach.jpg", "beach.jpg: no such picture"),
        ("red like sub/nothing", "sub/nothing: no such picture"),
        ("./sub", "./sub: is a folder, not a picture"),
    ],
)
def test_a_picture_that_is_plainly_meant_but_missing_is_an_error_that_says_how_to_search_the_words(
    folder, typed, message
):
    with pytest.raises(QueryError) as caught:
        parse(typed)
    assert str(caught.value) == message
    assert caught.value.hint is not None and "--text" in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_empty_query_is_an_error(folder):
    with pytest.raises(QueryError, match="empty query"):
        parse("  ")


def test_explicit_words_and_pictures_are_never_parsed(folder):
    assert explicit("red like this.jpg", ()) == Query("red like this.jpg", text="red like this.jpg")
    both = explicit("red", ("this.jpg", "plain"))
    assert (both.text, [os.path.basename(path) for path in both.images]) == ("red", ["this.jpg", "plain"])


def test_an_explicit_picture_must_exist(folder):
    with pytest.raises(QueryError, match=r"gone\.jpg: no such picture"):
        explicit(None, ("gone.jpg",))
