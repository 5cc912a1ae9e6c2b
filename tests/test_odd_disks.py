"""Disks, clocks and names that are not as one would wish: a clear line, and the rest of the work is done."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from conftest import ALBUM, IS_LONG
from test_indexing import index, one_vector, present

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(params=["NFC", "NFD"])
def spelled(request, tmp_path) -> tuple[Path, str]:
    """A photo in a folder, both with accents in one of the two Unicode forms; and the other form of its path."""
    other = {"NFC": "NFD", "NFD": "NFC"}[request.param]
    there = unicodedata.normalize(request.param, "Ferien in Málaga/Café.jpg")
    path = tmp_path / "photos" / there
    path.parent.mkdir(parents=True)
    shutil.copy(ALBUM / "lemon.jpg", path)
    shutil.copy(ALBUM / "banana.jpg", tmp_path / "photos")
    return path, str(tmp_path / "photos" / unicodedata.normalize(other, "Ferien in Málaga/Café.jpg"))


def test_a_name_typed_in_another_unicode_form_is_found(spelled, imgsearch, tmp_path):
    path, typed = spelled
    assert not os.path.exists(typed)
    assert imgsearch("index", tmp_path / "photos", "--model", "builtin").code == 0
    for arguments in ((typed,), ("--image", typed), (f"yellow like {typed}",)):
        done = imgsearch("query", *arguments, "-l", "--include-reference")
        assert str(path) in done.lines, arguments
    assert imgsearch("query", "lemon", "--under", os.path.dirname(typed), "-l").lines == [str(path)]
    assert imgsearch("index", os.path.dirname(typed)).code == 0
    assert [r["path"] for r in imgsearch("roots", "list", "--json").records] == [str(tmp_path / "photos")]


def test_names_in_both_unicode_forms_are_two_photos(folder, tmp_path, model):
    photos = tmp_path / "photos"
    photos.mkdir()
    for form, source in (("NFC", "lemon"), ("NFD", "banana")):
        shutil.copy(ALBUM / f"{source}.jpg", photos / unicodedata.normalize(form, "Café.jpg"))
    if len(os.listdir(photos)) < 2:
        pytest.skip("this disk takes both names for one")
    index(folder, model, photos)
    vectors = present(folder)
    assert len(vectors) == 2
    for path, vector in vectors.items():
        assert float(vector @ one_vector(model, Path(path))) > 0.9999


@pytest.mark.parametrize("years", [-60, -10, 40, 374])
def test_a_changed_clock_hides_no_change(folder, photos, counting, years):
    lemon = photos / "lemon.jpg"
    moment = (2026 - 1970 + years) * 365 * 24 * 3600 * 10**9
    os.utime(lemon, ns=(moment, moment))
    index(folder, counting, photos)
    shutil.copyfile(photos / "carrots.jpg", lemon)
    with Image.open(lemon) as image:
        image.rotate(90).save(lemon)
    os.utime(lemon, ns=(moment - 10**9, moment - 10**9))
    assert index(folder, counting, photos).changed == 1
    assert float(present(folder)[str(lemon)] @ one_vector(counting, lemon)) > 0.9999
    assert index(folder, counting, photos).unchanged == 6


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "nothing"])
def test_a_photo_that_becomes_something_else_before_it_is_read(folder, photos, model, kind):
    """Between the walk and the read: as soon as the walk is over."""
    lemon = photos / "lemon.jpg"

    def on_event(event) -> None:
        if event.kind == "planned":
            lemon.unlink()
            if kind == "pipe":
                os.mkfifo(lemon)
            elif kind == "folder":
                lemon.mkdir()
            elif kind == "link to a device":
                lemon.symlink_to("/dev/zero")

    summary = index(folder, model, photos, on_event=on_event)
    assert (summary.new, summary.skipped) == (5, 1)
    assert len(present(folder)) == 5


def test_a_folder_that_vanishes_during_a_run_costs_only_its_own_photos(folder, photos, model):
    (photos / "trip").mkdir()
    for n in range(5):
        Image.new("RGB", (40, 40), (40 * n, 90, 90)).save(photos / "trip" / f"{n}.png")

    def on_event(event) -> None:
        if event.kind == "planned":
            shutil.rmtree(photos / "trip")

    summary = index(folder, model, photos, on_event=on_event)
    assert (summary.new, summary.skipped) == (6, 5)
    assert len(present(folder)) == 6
    assert index(folder, model, photos).skipped == 0


def test_many_files_in_one_folder(folder, tmp_path, model):
    """bench/memory.py --flat has 100,000 and more."""
    count = 20_000 if IS_LONG else 1_200
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(ALBUM / "lemon.jpg", photos / "0.jpg")
    for n in range(1, count):
        os.link(photos / "0.jpg", photos / f"{n}.jpg")
    summary = index(folder, model, photos)
    assert (summary.found, summary.indexed) == (count, count)
    assert index(folder, model, photos).unchanged == count
