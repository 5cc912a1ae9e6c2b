"""The values of an index that shell completion offers."""

import os
import sqlite3

from imgsearch.core import places
from imgsearch.core.store.completion_values import completion_values

from conftest import ALBUM


def test_only_printable_values_are_offered(imgsearch, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes((ALBUM / "lemon.jpg").read_bytes() + bytes([number]))
    assert imgsearch("index", "photos", "--model", "builtin", "--quiet").code == 0
    names = ["Canon EOS 5D", "canon", "a\nb", "\x1b[31mred", "x" * 500, " "]
    with sqlite3.connect(tmp_path / "index" / "catalog.sqlite3") as connection:
        for number, name in enumerate(names):
            connection.execute("update photos set camera = ?, keywords = '[\"sea\", 3]' where name = ?",
                               (name, os.fsencode(f"{number}.jpg")))  # fmt: skip
    index = str(tmp_path / "index")
    assert completion_values("cameras", "", index) == ["canon", "Canon EOS 5D"]
    assert completion_values("cameras", "CANON E", index) == ["Canon EOS 5D"]
    assert completion_values("keywords", "s", index) == ["sea"]
    assert completion_values("roots", "", index) == [str(tmp_path / "photos")]
    assert completion_values("nonsense", "", index) == []
    assert imgsearch("--complete", "cameras", "c", index).out == b"canon\nCanon EOS 5D\n"


def test_values_come_from_the_configured_index(imgsearch, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    assert imgsearch("index", "photos", "--model", "builtin", "--index", "configured", "--quiet").code == 0
    monkeypatch.delenv("IMGSEARCH_INDEX")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("IMGSEARCH_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(f'index = "{tmp_path}/configured"\n')
    assert imgsearch("--complete", "roots").out.decode() == f"{tmp_path}/photos\n"
    assert imgsearch("--complete", "roots", "", str(tmp_path)).out == b""
    for odd in ("index = 5\n", "index = [\n"):
        (tmp_path / "config.toml").write_text(odd)
        assert imgsearch("--complete", "roots").err == ""


def test_errors_are_silent(imgsearch, tmp_path):
    (tmp_path / "index").mkdir()
    for content in (None, b"", b"no catalogue" * 1000):
        if content is not None:
            (tmp_path / "index" / places.CATALOG).write_bytes(content)
        outcome = imgsearch("--complete", "cameras")
        assert (outcome.out, outcome.err) == (b"", "")
    assert imgsearch("--complete").err == ""


def test_only_existing_indexes_are_offered(imgsearch, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "photos").mkdir()
    assert imgsearch("init", "photos").code == 0
    portable = tmp_path / "photos" / ".imgsearch"
    assert imgsearch("index", "photos", "--model", "builtin", "--index", "one", "--quiet").code == 0
    assert imgsearch("index", "photos", "--model", "builtin", "--index", "one", "--quiet").code == 0
    assert places.known_indexes() == [str(portable), str(tmp_path / "one")]
    assert imgsearch("--complete", "indexes", f"{tmp_path}/o").out.decode() == f"{tmp_path}/one\n"
    (portable / places.CATALOG).unlink()
    assert places.known_indexes() == [str(tmp_path / "one")]
