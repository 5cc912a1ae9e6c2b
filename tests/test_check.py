"""`imgsearch check` finds damage, and `--repair` fixes it without making anything up."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.cli import loading
from imgsearch.core.store.catalog import Catalog
from imgsearch.core.store.lock import write_lock
from imgsearch.core.store.store import Store

from chosen import Remembering
from conftest import ALBUM, PATIENCE_SECONDS, downgrade
from test_indexing import present
from test_lock import refused_twice


class Scene:
    """An index of real photos, with the places where one can do harm to it."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder = folder
        self.photos = photos
        with Store.open(str(folder)) as store:
            self.space = store.active_space()
        self.space_folder = folder / "spaces" / self.space.id
        self.vectors = self.space_folder / "vectors.0.f32"
        self.slots = self.space_folder / "slots.u8"
        self.graph = self.space_folder / "hnsw.image.0"
        self.catalog = folder / "catalog.sqlite3"

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.catalog, isolation_level=None)) as connection:
            connection.execute("pragma ignore_check_constraints = on")
            connection.execute(statement, values)
            connection.execute("pragma wal_checkpoint(truncate)")

    def rows(self) -> np.memmap:
        return np.memmap(self.vectors, np.float32, "r+", shape=(self.space.slots, self.space.identity.dim))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory, model):
    """An index and its photos, made once; captions and a broken file among them."""
    from test_indexing import index

    top = tmp_path_factory.mktemp("pristine")
    photos = top / "photos"
    (photos / "more").mkdir(parents=True)
    for path in sorted(ALBUM.glob("*.jpg"))[:24:2]:
        with Image.open(path) as image:  # small: it is read hundreds of times
            image.resize((96, 96)).save((photos if path.name < "b" else photos / "more") / path.name)
    for path in sorted(photos.glob("*.jpg"))[:4]:
        path.with_suffix(".txt").write_text(f"a picture of {path.stem}")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    index(str(top / "index"), model, photos)
    return top


@pytest.fixture(scope="module")
def remembering(model):
    return Remembering(model)


@pytest.fixture
def scene(pristine, tmp_path, imgsearch, remembering, monkeypatch) -> Scene:
    shutil.copytree(pristine / "index", tmp_path / "index")
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: remembering)
    return Scene(tmp_path / "index", pristine / "photos")


def flip(path: Path, at: int | None = None) -> None:
    """Change one bit, in the middle of the file unless told where: how long a graph is, is drawn by lot."""
    at = path.stat().st_size // 2 if at is None else at
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))


def swap_vectors(scene: Scene) -> None:
    rows = scene.rows()
    rows[[3, 7]] = rows[[7, 3]]
    rows.flush()


def put(row: int, value: object):
    def plant(scene: Scene) -> None:
        rows = scene.rows()
        rows[row] = value
        rows.flush()

    return plant


def swap_contents(scene: Scene) -> None:
    """Two photos change places in the catalogue: every row is sound, and each says the other's."""
    with closing(sqlite3.connect(scene.catalog, isolation_level=None)) as connection:
        (a, first), (b, second) = connection.execute("select id, content_hash from photos order by id limit 2")
        connection.execute("update photos set content_hash = ? where id = ?", (second, a))
        connection.execute("update photos set content_hash = ? where id = ?", (first, b))


def swap_slots(scene: Scene) -> None:
    """Two contents change their slots, checksums and all."""
    with closing(sqlite3.connect(scene.catalog, isolation_level=None)) as connection:
        rows = connection.execute(
            "select space_id, slot, key, crc from vectors where modality = 'image' order by slot limit 2"
        ).fetchall()
        (space, a, key_a, crc_a), (_, b, key_b, crc_b) = rows
        connection.execute("update vectors set key = x'aa' where space_id = ? and slot = ?", (space, a))
        connection.execute("update vectors set key = ?, crc = ? where slot = ?", (key_a, crc_b, b))
        connection.execute("update vectors set key = ?, crc = ? where slot = ?", (key_b, crc_a, a))


def overwrite(path: str, start: int, length: int):
    def plant(scene: Scene) -> None:
        with open(getattr(scene, path), "r+b") as file:
            file.seek(start)
            file.write(b"\xa5" * length)

    return plant


def point_graph_elsewhere(scene: Scene) -> None:
    """A link list that leads out of the graph, with a checksum that anyone can make."""
    import hashlib
    import json

    data = bytearray(scene.graph.read_bytes())
    data[200:204] = struct.pack("<I", 0x7FFFFFFF)
    scene.graph.write_bytes(data)
    note = json.loads((scene.space_folder / "hnsw.image.0.json").read_text())
    note["seal"] = hashlib.sha256(data).hexdigest()
    note["mtime_ns"] = os.stat(scene.graph).st_mtime_ns
    (scene.space_folder / "hnsw.image.0.json").write_text(json.dumps(note))


# What is done to the index, the part that is to be named, and whether only --deep can see it.
CORRUPTIONS = {
    "a vector file cut short": (lambda s: os.truncate(s.vectors, 1000), "vectors", False),
    "a vector file that is gone": (lambda s: s.vectors.unlink(), "vectors", False),
    "one bit of a vector": (lambda s: flip(s.vectors, 5_000), "vectors", False),
    "a vector of zeros": (put(4, 0), "vectors", False),
    "a vector that is no number": (put(4, np.nan), "vectors", False),
    "a vector of another length": (lambda s: put(4, s.rows()[4] * 2)(s), "vectors", False),
    "two vectors swapped": (swap_vectors, "vectors", False),
    "two slots swapped in the catalogue": (swap_slots, "vectors", True),
    "a slot beyond the file": (lambda s: s.sql("update vectors set slot = 99999 where slot = 3"), "vectors", False),
    "a slot below none": (lambda s: s.sql("update vectors set slot = -1 where slot = 3"), "vectors", False),
    "a photo without a vector": (lambda s: s.sql("delete from vectors where slot = 3"), "vectors", False),
    "one bit of a graph": (lambda s: flip(s.graph), "graph", False),
    "a graph cut short": (lambda s: os.truncate(s.graph, 1_000), "graph", False),
    "a graph that is gone": (lambda s: s.graph.unlink(), "graph", False),
    "a forged graph": (point_graph_elsewhere, "graph", False),
    "one byte of the slot map": (lambda s: flip(s.slots, 3), "slots", False),
    "a slot map that is gone": (lambda s: s.slots.unlink(), "slots", False),
    "a page of the catalogue": (overwrite("catalog", 4096 * 3, 4096), "catalogue", False),
    "the header of the catalogue": (overwrite("catalog", 0, 100), "catalogue", False),
    "a catalogue cut short": (lambda s: os.truncate(s.catalog, 3 * 4096), "catalogue", False),
    "an empty catalogue": (lambda s: os.truncate(s.catalog, 0), "catalogue", False),
    "two photos swapped in the catalogue": (swap_contents, "photos", True),
    "facts of another photo": (lambda s: s.sql("update photos set width = 17 where id = 2"), "photos", True),
    "a text that was not embedded": (lambda s: s.sql("update texts set text = text || '!'"), "texts", False),
    "a caption of a photo that lost it": (lambda s: s.sql("delete from photo_texts"), "photos", False),
    "a name that leads out": (lambda s: s.sql("update photos set folder = x'2e2e' where id = 1"), "photos", False),
    "a photo of no root": (lambda s: s.sql("update photos set root_id = 77 where id = 1"), "catalogue", False),
    "search sent to no space": (
        lambda s: s.sql("update info set value = '0123456789abcdef' where key = 'active_space'"), "catalogue", False
    ),
    "no edition": (lambda s: s.sql("delete from info where key = 'edition'"), "catalogue", False),
    "a calibration that is none": (
        lambda s: s.sql("update calibrations set image_mean = x'00'"), "catalogue", False
    ),
    "a stray file": (lambda s: (s.space_folder / "vectors.9.f32").write_bytes(b"x" * 999), "files", False),
    "a folder of no space": (lambda s: (s.folder / "spaces" / "ffffffffffffffff").mkdir(), "files", False),
    "a file that others may read": (lambda s: os.chmod(s.vectors, 0o644), "files", False),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_planted_corruption_is_found_and_repaired(scene, imgsearch, name):
    plant, part, needs_deep = CORRUPTIONS[name]
    right = present(str(scene.folder))
    plant(scene)
    plain = imgsearch("check", "--json")
    deep = imgsearch("check", "--deep", "--json")
    assert "Traceback" not in plain.err + deep.err
    assert (plain.code, deep.code) == (0 if needs_deep else 6, 6), (plain, deep)
    assert part in {record.get("part") for record in deep.records}
    repaired = imgsearch("check", "--deep", "--repair")
    assert "Traceback" not in repaired.err
    if name in (
        "an empty catalogue",
        "the header of the catalogue",
        "a catalogue cut short",
        "a page of the catalogue",
    ):
        imgsearch("index", scene.photos, "--model", "builtin")  # what could not be saved is found on the disk
    else:
        assert repaired.code == 0, (repaired.lines, repaired.err)
    assert imgsearch("check", "--deep").code == 0
    after = present(str(scene.folder))
    assert after.keys() == right.keys()
    for path, vector in right.items():
        assert np.allclose(after[path], vector, atol=1e-5), path


def test_a_check_of_a_sound_index_finds_nothing(scene, imgsearch):
    done = imgsearch("check")
    assert (done.code, done.out) == (0, b"")
    assert done.err == "imgsearch: no problems found: 12 photos, 16 vectors\n"
    assert imgsearch("check", "--deep").code == 0  # as all scenes are before they are damaged
    done = imgsearch("check", "--deep", "--sample", "5")
    assert (done.code, done.err) == (0, "imgsearch: no problems found: 12 photos, 16 vectors, 5 photos read again\n")


def test_leftovers_of_an_interrupted_run_are_no_damage_and_the_next_run_removes_them(scene, imgsearch):
    (scene.space_folder / "hnsw.image.0.new").write_bytes(b"half")
    with open(scene.vectors, "ab") as file:
        file.write(b"an uncommitted tail")
    done = imgsearch("check")
    assert done.code == 0 and "an interrupted run left 1 file;" in done.err
    done = imgsearch("index")
    assert done.code == 0 and "removed 1 leftover file" in done.err
    assert not (scene.space_folder / "hnsw.image.0.new").exists()
    assert "interrupted" not in imgsearch("check").err


def test_a_run_killed_between_the_two_files_of_a_graph_leaves_a_valid_graph(scene, imgsearch):
    note = scene.space_folder / "hnsw.image.0.json"
    os.rename(note, f"{note}.new")
    assert imgsearch("check").code == 0
    assert imgsearch("query", scene.photos / "more" / sorted(os.listdir(scene.photos / "more"))[0], "--ann").code == 0
    imgsearch("index")
    assert note.exists() and not Path(f"{note}.new").exists()
    assert imgsearch("check").code == 0


def test_lost_vectors_are_embedded_again_by_the_next_run_which_says_so(scene, imgsearch):
    right = present(str(scene.folder))
    os.truncate(scene.vectors, 10 * 4 * scene.space.identity.dim + 7)
    asked = imgsearch("query", "apple")
    assert asked.code == 4 and "`imgsearch index` embeds the lost ones again" in asked.err
    done = imgsearch("index")
    assert done.code == 0
    assert "6 of 16 vectors are lost; `imgsearch index` embeds them again" in done.err
    after = present(str(scene.folder))
    assert all(np.allclose(after[path], right[path], atol=1e-5) for path in right)
    assert imgsearch("check", "--deep").code == 0


def test_a_damaged_vector_is_never_used(scene, imgsearch):
    put(2, np.nan)(scene)
    done = imgsearch("query", "apple", "-n", "3")
    assert done.code == 4 and "a vector is damaged" in done.err and "check --repair" in done.err
    put(2, 10)(scene)  # would come first
    done = imgsearch("query", "apple", "-n", "3")
    assert done.code == 4 and "a vector is damaged" in done.err


def test_graphs_of_an_earlier_version_are_no_damage_and_the_next_run_removes_them(scene, imgsearch):
    earlier = [scene.space_folder / name for name in ("hnsw.image", "hnsw.image.json")]
    for path in earlier:
        path.write_bytes(b"one graph of everything")
        path.chmod(0o600)
    done = imgsearch("check")
    assert done.code == 0 and "2 files of HNSW graphs that are no longer used" in done.err
    assert imgsearch("query", "apple", "--ann").code == 0
    assert imgsearch("index").code == 0
    assert not any(path.exists() for path in earlier)


def test_a_damaged_graph_is_made_again_by_the_next_run(scene, imgsearch):
    flip(scene.graph)
    picture = sorted(scene.photos.glob("*.jpg"))[1]
    assert imgsearch("query", picture, "--ann").lines == imgsearch("query", picture, "--exact").lines
    imgsearch("index")
    assert imgsearch("check").code == 0


def test_unknown_files_are_put_aside_not_deleted(scene, imgsearch):
    (scene.folder / "holiday.jpg").write_bytes(b"not ours")
    assert imgsearch("check").code == 6
    assert imgsearch("check", "--repair").code == 0
    assert (scene.folder / "lost+found" / "holiday.jpg").read_bytes() == b"not ours"
    assert imgsearch("check").code == 0


def test_a_damaged_catalogue_is_kept_and_what_can_be_read_of_it_is_saved(scene, imgsearch):
    with closing(sqlite3.connect(scene.catalog)) as connection:
        page_size = connection.execute("pragma page_size").fetchone()[0]
        root = connection.execute("select rootpage from sqlite_master where name = 'failures'").fetchone()[0]
    overwrite("catalog", (root - 1) * page_size, page_size)(scene)
    done = imgsearch("check", "--repair")
    assert "saved 12 photos and 16 vectors from the damaged catalogue" in done.err
    assert (scene.folder / "catalog.sqlite3.damaged").exists()
    assert len(present(str(scene.folder))) == 12
    assert len(imgsearch("failures").lines) == 1, "the failure that was lost was found again"
    assert imgsearch("check", "--deep").code == 0


def test_a_lost_header_loses_nothing_else(scene, imgsearch):
    overwrite("catalog", 0, 100)(scene)
    assert imgsearch("query", "apple").code == 4
    done = imgsearch("check", "--repair")
    assert "saved 12 photos and 16 vectors" in done.err
    assert imgsearch("query", "apple").code == 0


def test_a_photo_whose_bytes_changed_but_not_its_time_is_found(scene, imgsearch, tmp_path):
    photos = tmp_path / "own"
    photos.mkdir()
    path = photos / "a.bmp"
    Image.new("RGB", (64, 64), "red").save(path)
    imgsearch("index", photos)
    info = os.stat(path)
    flip(path, 5_000)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert imgsearch("check").code == 0
    done = imgsearch("check", "--deep")
    assert done.code == 6
    assert f"photos: {path}: its bytes have changed since it was indexed" in done.lines[0]


def test_check_works_beside_a_writer(scene, imgsearch):
    with Store.writing(str(scene.folder)):
        assert imgsearch("check", "--deep").code == 0
        assert imgsearch("check", "--repair").code == 0, "nothing to repair, nothing to lock"
        flip(scene.graph)
        assert imgsearch("check", "--repair").code == 5


def test_check_without_an_index_is_an_error(imgsearch):
    assert imgsearch("check").code == 4


def test_opening_an_older_catalogue_upgrades_it(scene, imgsearch):
    downgrade(scene.folder, 1)
    done = imgsearch("query", "apple")
    assert done.code == 0
    assert imgsearch("check", "--deep").code == 0
    with Store.open(str(scene.folder)) as store:
        assert store.catalog.value("select count(*) from vectors where crc is null") == 16, "a reader adds nothing"
    assert imgsearch("index").code == 0
    with Store.open(str(scene.folder)) as store:
        assert store.catalog.value("select count(*) from vectors where crc is null") == 0
    assert imgsearch("check", "--deep").code == 0


def test_changes_of_a_writer_during_a_check_are_not_reported_as_damage(scene, imgsearch, monkeypatch):
    """A prune ends between two looks: vectors have other numbers and lie in another file."""
    from imgsearch.core.store import check as checking
    from imgsearch.core.store.prune import prune

    gone = sorted(scene.photos.glob("*.jpg"))[0]
    look = checking._Checks.without_vectors
    moved = []

    def pruned_meanwhile(self):
        if not moved:
            moved.append(gone)
            with Store.writing(str(scene.folder)) as store:
                with store.catalog.transaction():
                    store.catalog.rows("update photos set state = 'excluded' where id = 1")
                prune(store)
        return look(self)

    monkeypatch.setattr(checking._Checks, "without_vectors", pruned_meanwhile)
    done = imgsearch("check", "--repair")
    assert moved and done.code == 0, done.lines
    assert len(present(str(scene.folder))) == 11
    assert imgsearch("check", "--deep").code == 0


def test_a_salvage_killed_before_its_last_rename_continues(scene, imgsearch, monkeypatch):
    overwrite("catalog", 0, 100)(scene)
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("catalog.sqlite3"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    assert imgsearch("check", "--repair").code == 130
    monkeypatch.setattr(os, "replace", replace)
    done = imgsearch("check", "--repair")
    assert done.code == 0 and "saved 12 photos and 16 vectors" in done.err
    assert len(present(str(scene.folder))) == 12


def test_a_catalogue_that_lost_everything_is_reported(scene, imgsearch):
    scene.catalog.write_bytes(os.urandom(20_000))
    done = imgsearch("check", "--repair")
    assert done.code == 6
    assert "nothing could be saved of the catalogue; the damaged one is kept" in done.err
    assert imgsearch("index", scene.photos, "--model", "builtin").code == 3
    assert imgsearch("check", "--deep").code == 0


def test_vectors_saved_without_a_photo_are_reported(scene, imgsearch):
    scene.sql("delete from photos")  # as where there are only imported vectors
    with closing(sqlite3.connect(scene.catalog)) as database:
        (page,) = database.execute("select rootpage from sqlite_master where name = 'roots'").fetchone()
        (size,) = database.execute("pragma page_size").fetchone()
    with open(scene.catalog, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    done = imgsearch("check", "--repair")
    assert done.code == 6
    assert "saved 0 photos and 16 vectors from the damaged catalogue" in done.err and "Name your folders" in done.err


@pytest.mark.parametrize("what", ["spaces", "space_folder", "vectors", "slots", "graph"])
@pytest.mark.parametrize("instead", ["nothing", "a folder", "a file", "a pipe"])
def test_anything_in_place_of_its_files_is_repaired(scene, imgsearch, what, instead):
    right = present(str(scene.folder))
    path = scene.folder / "spaces" if what == "spaces" else getattr(scene, what)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if instead == "a folder":
        path.mkdir()
    elif instead == "a file":
        path.write_bytes(b"something else")
    elif instead == "a pipe":
        os.mkfifo(path)
    assert imgsearch("check").code == 6
    done = imgsearch("check", "--repair")
    assert done.code == 0, done
    after = present(str(scene.folder))
    assert all(np.allclose(after[each], right[each], atol=1e-5) for each in right)
    assert imgsearch("check", "--deep").code == 0


def test_two_readers_can_open_an_older_catalogue_at_once(scene, monkeypatch):
    monkeypatch.setattr(sys.modules[Store.__module__], "UPDATE_SECONDS", PATIENCE_SECONDS)
    waits = threading.Event()
    downgrade(scene.folder, 3)
    with write_lock(str(scene.folder)), refused_twice(waits.set), ThreadPoolExecutor(1) as pool:
        second = pool.submit(lambda: Store.open(str(scene.folder)).close())
        assert waits.wait(PATIENCE_SECONDS) and not second.done()
        Catalog(str(scene.catalog), write=True).close()  # what the first of them does
        assert second.result(PATIENCE_SECONDS) is None, "it waits for the catalogue, and not for the lock"


def test_an_older_catalogue_that_is_being_written_says_when_it_can_be_read(scene, imgsearch, monkeypatch):
    monkeypatch.setattr("imgsearch.core.store.store.UPDATE_SECONDS", 0.2)
    downgrade(scene.folder, 3)
    with write_lock(str(scene.folder)):
        said = imgsearch("query", "apple", "--no-server")
    assert said.code == 5
    assert "made by an older version" in said.err and "once that process has ended" in said.err
