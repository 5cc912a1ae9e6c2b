"""An index from another user is data, and is refused where it is more than that."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from imgsearch.cli import loading
from imgsearch.core.store.store import Store

from test_check import Scene, pristine  # noqa: F401 - a fixture


@pytest.fixture
def scene(pristine, tmp_path, imgsearch, model, monkeypatch) -> Scene:  # noqa: F811
    shutil.copytree(pristine / "index", tmp_path / "index")
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: model)
    return Scene(tmp_path / "index", pristine / "photos")


def rebuilt(scene: Scene, table: str, change) -> None:
    """The table as its rows would be under other rules: without checks, types and keys."""
    with closing(sqlite3.connect(scene.catalog, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute("pragma legacy_alter_table = on")
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
        connection.execute(f"create table other ({', '.join(columns)})")
        connection.execute(f"insert into other select * from {table}")
        connection.execute(f"drop table {table}")
        connection.execute(f"alter table other rename to {table}")
        change(connection)
        connection.execute("pragma wal_checkpoint(truncate)")


def outside(name: bytes, folder: bytes = b""):
    return lambda scene: scene.sql("update photos set folder = ?, name = ? where id = 1", folder, name)


def space(**values):
    def plant(scene: Scene) -> None:
        columns = ", ".join(f"{key} = ?" for key in values)
        rebuilt(scene, "spaces", lambda c: c.execute(f"update spaces set {columns}", tuple(values.values())))

    return plant


HOSTILE = {
    "a photo above its root": outside(b"passwd", b"../../../../etc"),
    "a photo above its root, hidden in a name": outside(b"../../../../../../etc/passwd"),
    "a photo with an absolute name": outside(b"/etc/passwd"),
    "a photo with a name that ends early": outside(b"a\0b.jpg"),
    "a photo without a name": outside(b""),
    "a name that is no bytes": lambda s: rebuilt(s, "photos", lambda c: c.execute("update photos set name = 'a.jpg'")),
    "a root that is relative": lambda s: s.sql("update roots set path = ?", b"../etc"),
    "a negative slot": lambda s: s.sql("update vectors set slot = -1 where slot = 0"),
    "a slot beyond the file": lambda s: s.sql("update vectors set slot = 1 << 40 where slot = 0"),
    "a slot that is a word": lambda s: rebuilt(
        s, "vectors", lambda c: c.execute("update vectors set slot = 'zero' where slot = 0")
    ),
    "a dimension without end": space(dim=1 << 40),
    "no dimension": space(dim=0),
    "a negative dimension": space(dim=-192),
    "more vectors than there are": space(slots=1 << 20),
    "more vectors than there can be": space(slots=1 << 50),
    "fewer vectors than none": space(slots=-1),
    "a negative generation": space(generation=-1),
    "a space outside the index": space(id="../../../tmp/x"),
    "details that are none": space(details="[[[["),
    "a trigger": lambda s: s.sql("create trigger t after insert on photos begin delete from photos; end"),
    "a view in place of a table": lambda s: (
        s.sql("drop table texts"), s.sql("create view texts as select 1 as key, 2 as text")
    ),
    "a table of its own": lambda s: s.sql("create table more (x)"),
    "a link in place of the vectors": lambda s: (s.vectors.unlink(), s.vectors.symlink_to("/etc/passwd")),
    "a pipe in place of the vectors": lambda s: (s.vectors.unlink(), os.mkfifo(s.vectors)),
    "a link in place of the catalogue": lambda s: (
        shutil.move(s.catalog, f"{s.catalog}.other"), s.catalog.symlink_to(f"{s.catalog}.other")
    ),
    "a pipe in place of the catalogue": lambda s: (s.catalog.unlink(), os.mkfifo(s.catalog)),
    "a folder in place of the catalogue": lambda s: (s.catalog.unlink(), s.catalog.mkdir()),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_catalogue_is_refused(scene, imgsearch, name):
    HOSTILE[name](scene)
    scene.slots.unlink()
    asked = imgsearch("query", "apple", "-n", "100", "--json")
    assert asked.code == 4, (asked.lines[:2], asked.err)
    assert asked.out == b"" and "Traceback" not in asked.err
    for command in (("status",), ("failures",), ("check",), ("index",), ("prune",), ("check", "--repair")):
        done = imgsearch(*command)
        assert done.code != 70 and "Traceback" not in done.err, (command, done.err)
        assert b"/etc/passwd" not in done.out or command[0] == "check"


def test_pipes_and_links_in_place_of_derived_files_are_made_again(scene, imgsearch):
    right = imgsearch("query", "apple", "--json").out
    for path in (scene.slots, scene.graph, Path(f"{scene.graph}.json")):
        path.unlink()
        os.mkfifo(path)
    assert imgsearch("query", "apple", "--json").out == right
    assert imgsearch("query", "apple", "--ann", "--json").out == right
    assert imgsearch("index").code == 0
    assert imgsearch("check").code == 0


def test_a_graph_sealed_by_another_user_is_not_loaded(scene, imgsearch, tmp_path, monkeypatch):
    with Store.open(str(scene.folder)) as store:
        assert store.graphs.of(scene.space, "image")[0].load(0)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another-user"))
    with Store.open(str(scene.folder)) as store:
        assert not store.graphs.of(scene.space, "image")[0].load(0)
    assert imgsearch("query", "apple", "--ann").code == 0, "it is searched exactly"
    done = imgsearch("check")
    assert done.code == 0 and "made by another user or on another computer, so it is not used" in done.err
    assert imgsearch("index").code == 0
    with Store.open(str(scene.folder)) as store:
        assert store.graphs.of(scene.space, "image")[0].load(0)


def test_without_a_key_there_are_no_graphs_and_search_works(scene, imgsearch, tmp_path, monkeypatch):
    (tmp_path / "no-folder").write_text("a file where the data directory would be")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "no-folder"))
    assert imgsearch("query", "apple", "--ann").code == 0
    assert imgsearch("index").code == 0
    assert imgsearch("check").code == 0


def test_a_key_that_others_may_read_is_not_used(scene, tmp_path, monkeypatch):
    from imgsearch.core.store import seals
    from imgsearch.core.store.graphs import Graph

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    key = tmp_path / "data" / "imgsearch" / "seal.key"
    assert Graph.available() and not key.exists(), "to ask makes none"
    assert seals.ensure_key()
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    key.chmod(0o644)
    assert not Graph.available() and not seals.ensure_key()


def test_a_made_up_fingerprint_leads_nowhere(imgsearch, photos, folder, tmp_path):
    """Neither to another user's model, nor to files that look like one and are removed."""
    from imgsearch.core.models.towers import MANIFEST, SHIPPED
    from imgsearch.core.places import cache_folder

    assert imgsearch("index", photos, "--model", "builtin").code == 0
    lure = tmp_path / "pictures"
    lure.mkdir()
    (lure / "mine.jpg").write_bytes(b"mine")
    for fingerprint in (str(lure)[:16], os.path.relpath(lure, os.path.join(cache_folder(), "light"))):
        for name in ("text.safetensors", "image.onnx", "merges.txt"):
            (lure / name).write_bytes(b"no graph")
        with open(os.path.join(SHIPPED, MANIFEST)) as file:
            record = json.load(file)
        record |= {"fingerprint": fingerprint, "files": {"text.safetensors": 8, "image.onnx": 8, "merges.txt": 8}}
        (lure / MANIFEST).write_text(json.dumps(record))
        with closing(sqlite3.connect(os.path.join(folder, "catalog.sqlite3"))) as database, database:
            database.execute("update spaces set fingerprint = ?", [fingerprint])
        before = sorted(os.listdir(lure))
        assert imgsearch("query", "a lemon", "--no-history").code in (2, 4)
        assert sorted(os.listdir(lure)) == before
