"""Folders that are as they were are told by a digest; everything else is looked at file by file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from imgsearch.core.store.photo_table import PhotoTable
from imgsearch.core.store.store import Store

from conftest import Counting
from test_imports import HEAVY, RUN
from test_indexing import index

pytestmark = pytest.mark.usefixtures("kept_workers")

# In the order of their bytes, which is not that of their characters.
NAMES = [b"a.jpg", b"b\n.jpg", "\u00e9.jpg".encode(), "\uffee.jpg".encode(), "\U0001f4f7.jpg".encode(), b"\xff.jpg"]
FOLDERS = ["", "a", "a b", "a/b", "a-b"]


@pytest.fixture
def library(photos: Path) -> Path:
    """The six photos under awkward names in five folders."""
    for folder in FOLDERS:
        (photos / folder).mkdir(exist_ok=True)
        for name, source in zip(NAMES, sorted(photos.glob("[a-z]*.jpg"))[:6], strict=True):
            if folder:
                shutil.copy(source, os.fsencode(photos / folder) + b"/" + name)
    for name, source in zip(NAMES, sorted(photos.glob("[a-z]*.jpg")), strict=True):
        source.rename(os.fsdecode(os.fsencode(photos) + b"/" + name))
    return photos


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The folders of which the catalogue was asked for every file, in the runs that follow."""
    folders: list[bytes] = []
    real = PhotoTable.in_folder

    def in_folder(self: PhotoTable, root_id: int, folder: bytes, space_id: str | None) -> object:
        folders.append(folder)
        return real(self, root_id, folder, space_id)

    monkeypatch.setattr(PhotoTable, "in_folder", in_folder)
    return folders


def test_unchanged_folders_are_not_read_file_by_file(folder, library, tmp_path, model, looked_at):
    other = tmp_path / "other"
    shutil.copytree(library / "a", other)
    index(folder, model, library, other)
    looked_at.clear()

    assert index(folder, model).unchanged == 42
    assert index(folder, model, library / "a", other).unchanged == 24
    assert looked_at == []


def touch(photo: Path) -> None:
    os.utime(photo, ns=(0, 1))


def replace_alike(photo: Path) -> None:
    """Another file, of the same size and time."""
    info, other = photo.stat(), photo.with_name("other.part")
    other.write_bytes(photo.read_bytes()[:-1] + b"\0")
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    other.replace(photo)


CHANGES = {
    "touched": touch,
    "grown": lambda photo: photo.write_bytes(photo.read_bytes() + b"\0"),
    "replaced": replace_alike,
    "deleted": Path.unlink,
    "added": lambda photo: shutil.copy(photo, photo.with_name("new.jpg")),
    "renamed": lambda photo: photo.rename(photo.with_name("new.jpg")),
    "described": lambda photo: photo.with_suffix(".txt").write_text("a fruit on a table"),
    "joined by what is no picture": lambda photo: photo.with_name("film.mp4").write_text("no picture"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_of_a_changed_folder_is_checked(folder, library, model, looked_at, change):
    index(folder, model, library)
    CHANGES[change](library / "a" / "b" / "a.jpg")
    looked_at.clear()

    index(folder, model, library)

    assert looked_at == [b"a/b"]


@pytest.mark.parametrize("change", ["deleted", "touched", "joined by what is no picture"])
def test_after_a_change_was_taken_up_the_folder_is_as_it_was_again(folder, library, model, looked_at, change):
    index(folder, model, library)
    CHANGES[change](library / "a" / "b" / "a.jpg")
    index(folder, model, library)
    looked_at.clear()

    index(folder, model, library)

    assert looked_at == []


def test_known_failures_are_counted_and_told_from_new_ones(folder, library, model, looked_at):
    (library / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (library / "a" / "film.mp4").write_text("no picture")
    index(folder, model, library)
    looked_at.clear()

    summary = index(folder, model, library)
    counted = (summary.found, summary.unchanged, summary.known_failures, summary.not_pictures)
    assert (counted, looked_at) == ((32, 30, 1, 1), [])

    (library / "a" / "film.mp4").unlink()
    summary = index(folder, model, library)
    assert (summary.found, summary.not_pictures, looked_at) == (31, 0, [b"a"])
    looked_at.clear()
    assert (index(folder, model, library).known_failures, looked_at) == (1, [])

    shutil.copy(library / "a.jpg", library / "a" / "broken.jpg")
    assert index(folder, model, library).indexed == 1


def test_a_folder_that_vanished_is_met(folder, library, model):
    index(folder, model, library)
    shutil.rmtree(library / "a b")

    assert index(folder, model, library).gone == 6


def test_photos_whose_vectors_were_lost_are_embedded_again(folder, library, model):
    index(folder, model, library)
    with Store.writing(folder) as store:
        space = store.active_space()
        store.forget(space, [2])
    counting = Counting(model)

    summary = index(folder, counting, library)

    assert counting.pictures
    assert (summary.indexed, summary.unchanged) == (5, 25)  # in each of the five folders there is one with these bytes


def test_a_run_that_finds_nothing_new_loads_nothing_heavy(folder, library, model):
    index(folder, model, library)
    command = [sys.executable, "-P", "-c", RUN, "index", str(library), "--index", folder]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert "30 unchanged" in done.stderr
    loaded = {name.partition(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert "sqlite3" in loaded
    assert loaded & HEAVY == set()
