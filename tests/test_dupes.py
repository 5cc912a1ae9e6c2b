"""`imgsearch dupes`: the same bytes, the same picture in other files, and what only looks like it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from imgsearch.core.photos import perceptual_hash
from imgsearch.core.search import duplicates

from conftest import ALBUM
from pictures import noise

NAMES = ("banana", "lemon", "carrots", "watermelon", "oatly-oat-milk", "pineapple", "garlic", "kiwi")


@pytest.fixture(autouse=True)
def _own_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows what another one has read."""
    monkeypatch.setattr(perceptual_hash, "cache_folder", lambda: str(tmp_path / "cache"))


def original(name: str) -> Image.Image:
    return Image.open(ALBUM / f"{name}.jpg").convert("RGB")


def cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = int(share * image.width), int(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Eight photos, and copies of three of them by every usual way."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(ALBUM / f"{name}.jpg", folder)
    image = original("banana")
    image.save(folder / "banana-small.jpg", quality=80)
    image.resize((image.width // 2, image.height // 2)).save(folder / "banana-half.png")
    ImageEnhance.Brightness(image).enhance(1.2).save(folder / "banana-bright.jpg", quality=85)
    cropped(image, 0.02).save(folder / "banana-cropped.jpg", quality=90)
    shutil.copy(ALBUM / "lemon.jpg", folder / "lemon-copy.jpg")
    original("carrots").rotate(180).save(folder / "carrots-turned.jpg", quality=85)
    for name in NAMES:
        os.utime(folder / f"{name}.jpg", (1_000_000_000, 1_000_000_000))
    return folder


def groups(outcome) -> list[list[str]]:
    """Of each group: the name of the one that is kept, and those of the others."""
    return sorted(
        [os.path.basename(record["kept"]["path"]), *sorted(os.path.basename(o["path"]) for o in record["others"])]
        for record in outcome.records
    )


ALL = [
    ["banana.jpg", "banana-bright.jpg", "banana-cropped.jpg", "banana-half.png", "banana-small.jpg"],
    ["carrots.jpg", "carrots-turned.jpg"],
    ["lemon.jpg", "lemon-copy.jpg"],
]


def test_copies_are_found_and_photos_that_are_merely_alike_are_not(imgsearch, album):
    imgsearch("index", album)
    outcome = imgsearch("dupes", "--json", "--keep", "oldest")
    assert (outcome.code, groups(outcome)) == (0, ALL)
    by_name = {os.path.basename(other["path"]): other for record in outcome.records for other in record["others"]}
    assert by_name["lemon-copy.jpg"]["kind"] == "exact" and "bits" not in by_name["lemon-copy.jpg"]
    assert by_name["carrots-turned.jpg"]["turned"] == 180
    small = by_name["banana-small.jpg"]
    assert (small["kind"], small["turned"], small["bits"]) == ("near", 0, 0)
    assert small["cosine"] > 0.9 and small["compared"] > 90


def test_quickly_only_what_has_a_near_vector_is_read(imgsearch, album, monkeypatch):
    from imgsearch.core.photos.decode_pool import DecodePool

    read, names = DecodePool.read, []
    monkeypatch.setattr(
        DecodePool, "read", lambda self, photo, *a, **b: names.append(photo.relpath) or read(self, photo, *a, **b)
    )
    imgsearch("index", album)
    names.clear()
    quick = groups(imgsearch("dupes", "--json", "--keep", "oldest", "--quick"))
    assert ["lemon.jpg", "lemon-copy.jpg"] in quick and len(names) < len(NAMES) + 5
    assert next(group for group in quick if group[0] == "banana.jpg")[-1] == "banana-small.jpg"
    assert groups(imgsearch("dupes", "--json", "--keep", "oldest")) == ALL


def test_exact_copies_need_no_reading(imgsearch, album, monkeypatch):
    imgsearch("index", album)
    monkeypatch.setattr(
        "imgsearch.core.photos.decode_pool.DecodePool.read", lambda *a, **b: pytest.fail("a photo was read")
    )
    assert groups(imgsearch("dupes", "--exact", "--json")) == [["lemon.jpg", "lemon-copy.jpg"]]


def test_what_was_read_is_remembered_and_an_index_that_is_read_only_will_do(imgsearch, album, tmp_path, monkeypatch):
    imgsearch("index", album)
    first = imgsearch("dupes", "--json").out
    monkeypatch.setattr(
        "imgsearch.core.photos.decode_pool.DecodePool.read", lambda *a, **b: pytest.fail("a photo was read")
    )
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "index").rglob("*.sqlite3"))
    (tmp_path / "index").chmod(0o500)
    try:
        assert imgsearch("dupes", "--json").out == first != b""
    finally:
        (tmp_path / "index").chmod(0o700)
    assert sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "index").rglob("*.sqlite3")) == before


def test_a_damaged_cache_is_made_again(imgsearch, album):
    imgsearch("index", album)
    first = imgsearch("dupes", "--json").out
    path = Path(perceptual_hash.PerceptualHashes().path)
    path.write_bytes(b"no database" * 1000)
    assert imgsearch("dupes", "--json").out == first
    assert imgsearch("dupes", "--json").out == first
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*) from looks").fetchone()[0] > 0


def test_frames_of_one_colour_match_only_by_their_bytes(imgsearch, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, colour in enumerate(("black", "black", "#010101", "white", "#fefefe", "#fdfdff", "navy")):
        Image.new("RGB", (320 + number, 240), colour).save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "copy.png")
    for number in range(2):  # white sketches: two strokes each, in different places
        image = Image.new("RGB", (400, 300), "white")
        draw = ImageDraw.Draw(image)
        draw.line((20, 40 + 150 * number, 380, 60 + 150 * number), fill="black", width=3)
        image.save(folder / f"sketch-{number}.png")
    imgsearch("index", folder)
    assert groups(imgsearch("dupes", "--json")) == [["0.png", "copy.png"]]


def written(text: str, seed: int) -> Image.Image:
    """A page: the same layout, and other letters for each seed."""
    page = Image.new("RGB", (800, 1_100), "white")
    draw, letters = ImageDraw.Draw(page), np.array(list(text))
    generator = np.random.default_rng(seed)
    for line in range(30):
        words = "".join(generator.choice(letters, generator.integers(30, 62)))
        draw.text((80, 80 + 32 * line), words, "black", ImageFont.load_default(20))
    return page


def test_pages_of_one_layout_and_gradients_are_told_from_copies(imgsearch, tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for seed in range(8):
        written("abcdefghijklmnopqrstuvwxyz      ", seed).save(folder / f"page-{seed}.jpg", quality=90)
        form = Image.new("RGB", (800, 1_100), "white")
        for row in range(12):
            ImageDraw.Draw(form).rectangle((60, 100 + 70 * row, 740, 150 + 70 * row), outline="black", width=2)
            number = str(np.random.default_rng([seed, row]).integers(10**9))
            ImageDraw.Draw(form).text((250, 112 + 70 * row), number, "black", ImageFont.load_default(20))
        form.save(folder / f"form-{seed}.jpg", quality=90)
        slope = np.add.outer(np.linspace(0, 20 * seed, 256), np.linspace(0, 250 - 20 * seed, 256)).astype(np.uint8)
        Image.fromarray(slope).save(folder / f"slope-{seed}.png")
    written("abcdefghijklmnopqrstuvwxyz      ", 3).save(folder / "page-3-again.jpg", quality=60)
    imgsearch("index", folder)
    assert groups(imgsearch("dupes", "--json")) == [["page-3.jpg", "page-3-again.jpg"]]


def test_the_one_that_stays_is_the_largest_or_the_oldest(imgsearch, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    image = original("pineapple")
    image.resize((image.width * 2, image.height * 2)).save(folder / "new-and-large.jpg", quality=90)
    image.save(folder / "old-and-small.jpg", quality=90)
    os.utime(folder / "old-and-small.jpg", (1_000_000_000, 1_000_000_000))
    imgsearch("index", folder)
    assert groups(imgsearch("dupes", "--json")) == [["new-and-large.jpg", "old-and-small.jpg"]]
    assert groups(imgsearch("dupes", "--json", "--keep", "oldest")) == [["old-and-small.jpg", "new-and-large.jpg"]]
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "1999:05:06 07:08:09"
    image.resize((image.width * 2, image.height * 2)).save(folder / "new-and-large.jpg", quality=90, exif=exif)
    imgsearch("index", folder)  # a date that the camera wrote counts for more than the file's
    assert groups(imgsearch("dupes", "--json", "--keep", "oldest")) == [["new-and-large.jpg", "old-and-small.jpg"]]


def test_output_as_paths_for_people_and_for_pipes(imgsearch, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"a\nb.jpg", b"caf\xe9.jpg", "<script>‮.jpg".encode(), b"plain.jpg"]
    for name, source in zip(names, ("lemon", "lemon", "kiwi", "kiwi"), strict=True):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes((ALBUM / f"{source}.jpg").read_bytes())
    imgsearch("index", folder)
    top = os.fsencode(folder) + b"/"
    plain = imgsearch("dupes", "--exact").out
    assert len(plain.split(b"\n\n")) == 2
    kept = {os.fsencode(Path(r["kept"]["path"])) for r in imgsearch("dupes", "--exact", "--json").records}
    others = imgsearch("dupes", "--exact", "-0").out.split(b"\0")
    assert others[-1] == b"" and len(others) == 3
    assert set(others[:2]) < {top + name for name in names} and not kept & set(others)
    assert imgsearch("dupes", "--exact", "-l").out == imgsearch("dupes", "--exact", "--others").out
    assert b"\n\n" not in imgsearch("dupes", "--exact", "-l").out
    with_bytes = [r for r in imgsearch("dupes", "--exact", "--json").records if "path_b64" in str(r)]
    assert len(with_bytes) == 1


def test_photos_that_changed_or_vanished_are_never_said_to_be_copies(imgsearch, tmp_path):
    folder = tmp_path / "three"
    folder.mkdir()
    for name in ("one", "two", "three"):
        shutil.copy(ALBUM / "lemon.jpg", folder / f"{name}.jpg")
    imgsearch("index", folder)
    shutil.copy(ALBUM / "kiwi.jpg", folder / "one.jpg")
    (folder / "two.jpg").unlink()
    outcome = imgsearch("dupes")
    assert (outcome.code, outcome.out) == (1, b"")
    assert "no duplicates among 1 photo" in outcome.err and "2 photos left out" in outcome.err


def test_several_names_of_one_file_are_one_photo(imgsearch, tmp_path):
    folder = tmp_path / "links"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(ALBUM / "lemon.jpg", folder / "z.jpg")
    os.link(folder / "z.jpg", folder / "hard-link.jpg")
    (folder / "a.jpg").symlink_to("z.jpg")
    imgsearch("index", folder)
    outcome = imgsearch("dupes", "--exact")
    assert (outcome.code, outcome.out) == (1, b"")
    assert "no duplicates among 1 photo" in outcome.err and "2 photos left out: links" in outcome.err
    shutil.copy(folder / "z.jpg", folder / "sub" / "copy.jpg")
    os.link(folder / "sub" / "copy.jpg", folder / "sub" / "copy-too.jpg")
    (folder / "sub" / "a.jpg").symlink_to("copy.jpg")
    original("lemon").save(folder / "near.jpg", quality=80)
    imgsearch("index", folder)
    outcome = imgsearch("dupes", "--keep", "oldest", "-0")
    listed = [Path(os.fsdecode(path)) for path in outcome.out.split(b"\0") if path]
    files = [path.stat().st_ino for path in listed]
    assert len(files) == len(set(files)) == 2 and not any(path.is_symlink() for path in listed)
    for path in listed:  # what one does with such a list
        path.unlink()
    assert (folder / "a.jpg").read_bytes() == (ALBUM / "lemon.jpg").read_bytes()


@pytest.mark.parametrize("keep", ["largest", "oldest"])
def test_no_file_has_to_go_for_a_link_to_another_one(imgsearch, tmp_path, keep):
    folder, disk = tmp_path / "album", tmp_path / "disk"
    folder.mkdir()
    disk.mkdir()
    shutil.copy(ALBUM / "lemon.jpg", disk / "lemon.jpg")
    os.utime(disk / "lemon.jpg", (1_000_000_000, 1_000_000_000))
    (folder / "a.jpg").symlink_to(disk / "lemon.jpg")
    shutil.copy(ALBUM / "lemon.jpg", folder / "lemon.jpg")
    imgsearch("index", folder)
    assert imgsearch("dupes", "--keep", keep, "-l").lines == [str(folder / "a.jpg")]


def test_a_photo_that_changes_while_others_are_read_is_in_no_group(imgsearch, tmp_path, monkeypatch):
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("lemon", "kiwi", "banana"):
        shutil.copy(ALBUM / f"{name}.jpg", folder)
        shutil.copy(ALBUM / f"{name}.jpg", folder / f"{name}-copy.jpg")
        original(name).save(folder / f"{name}-near.jpg", quality=70)
    imgsearch("index", folder)
    whole = groups(imgsearch("dupes", "--json"))
    read_hashes = duplicates.read_hashes
    Path(perceptual_hash.PerceptualHashes().path).unlink()

    def meanwhile(*arguments, **options):
        yield from read_hashes(*arguments, **options)
        shutil.copy(ALBUM / "leek.jpg", folder / whole[0][0])  # one that was to stay
        (folder / whole[1][1]).unlink()

    monkeypatch.setattr(duplicates, "read_hashes", meanwhile)
    outcome = imgsearch("dupes", "--json")
    assert groups(outcome) == [whole[0][1:], [whole[1][0], whole[1][2]], whole[2]]
    assert json.loads(outcome.err)["notice"].startswith("2 photos left out: gone, or changed since they were indexed")


def test_a_file_that_took_another_one_s_name_size_and_time_is_read_once_more(imgsearch, tmp_path):
    """Two frames of one burst, uncompressed, whose names were exchanged; a copy of the first lies elsewhere."""
    folder = tmp_path / "burst"
    folder.mkdir()
    for name, source in (("1.bmp", "lemon"), ("2.bmp", "kiwi")):
        original(source).resize((300, 300)).save(folder / name)
    shutil.copy(folder / "1.bmp", folder / "copy.bmp")
    for path in folder.iterdir():
        os.utime(path, (1_500_000_000, 1_500_000_000))
    imgsearch("index", folder)
    assert groups(imgsearch("dupes", "--json", "--exact")) == [["1.bmp", "copy.bmp"]]
    (folder / "1.bmp").rename(folder / "3")
    (folder / "2.bmp").rename(folder / "1.bmp")
    (folder / "3").rename(folder / "2.bmp")
    outcome = imgsearch("dupes", "--exact")
    assert (outcome.code, outcome.out) == (1, b"")
    assert "1 photo left out: gone, or changed since they were indexed" in outcome.err
    imgsearch("index")
    assert groups(imgsearch("dupes", "--json", "--exact")) == [["2.bmp", "copy.bmp"]]


@pytest.mark.parametrize("keep", ["largest", "oldest"])
def test_of_equals_the_shorter_path_stays(imgsearch, tmp_path, keep):
    folder = tmp_path / "equals"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "sub/a.jpg"):
        shutil.copy(ALBUM / "lemon.jpg", folder / name)
        os.utime(folder / name, (1_000_000_000, 1_000_000_000))
    imgsearch("index", folder)
    (record,) = imgsearch("dupes", "--exact", "--json", "--keep", keep).records
    shown = [os.path.relpath(each["path"], folder) for each in (record["kept"], *record["others"])]
    assert shown == ["a.jpg", "b.jpg", "sub/a.jpg"]


def test_a_photo_that_can_no_longer_be_decoded_is_named_and_the_rest_goes_on(imgsearch, album):
    imgsearch("index", album)
    path = album / "banana-small.jpg"
    before = path.stat()
    path.write_bytes(os.urandom(before.st_size))  # as a failing disk would have it: nothing tells but the bytes
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = imgsearch("dupes", "--json", "--keep", "oldest")
    assert outcome.code == 3 and "banana-small.jpg" in outcome.err and "Traceback" not in outcome.err
    expected = [[name for name in group if name != "banana-small.jpg"] for group in ALL]
    assert groups(outcome) == expected


def test_a_raw_file_and_the_jpeg_of_the_same_shot_are_no_duplicates(imgsearch, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    original("kiwi").save(folder / "IMG_1.jpg", quality=90)
    original("kiwi").save(folder / "IMG_1.dng", format="TIFF")
    original("lemon").save(folder / "IMG_2.dng", format="TIFF")
    imgsearch("index", folder)
    assert imgsearch("dupes").code == 1


def test_only_below_a_folder(imgsearch, tmp_path):
    for folder in ("in", "out"):
        (tmp_path / "all" / folder).mkdir(parents=True)
        shutil.copy(ALBUM / "lemon.jpg", tmp_path / "all" / folder)
    imgsearch("index", tmp_path / "all")
    assert imgsearch("dupes", "--exact").code == 0
    assert imgsearch("dupes", "--exact", "--under", tmp_path / "all" / "in").code == 1
    assert imgsearch("dupes", "--under", tmp_path / "nowhere").code == 2


def test_options_that_do_not_go_together(imgsearch, photos):
    imgsearch("index", photos)
    assert imgsearch("dupes", "--json", "-0").code == 2
    assert imgsearch("dupes", "--exact", "--quick").code == 2


def test_no_index_says_how_to_make_one(imgsearch):
    outcome = imgsearch("dupes")
    assert outcome.code == 4 and "imgsearch index" in outcome.err


def test_a_rotated_hash_is_the_hash_of_the_rotated_picture():
    for seed in range(20):
        square = np.asarray(noise(perceptual_hash.SIDE, perceptual_hash.SIDE, seed))
        upright = perceptual_hash.codes([perceptual_hash.hash_of(square)])
        for quarters in range(4):
            expected = perceptual_hash.codes(
                [perceptual_hash.hash_of(np.ascontiguousarray(np.rot90(square, quarters)))]
            )
            differ, both, either = perceptual_hash.differing(perceptual_hash.turned(upright, quarters), expected)
            assert (differ[0], both[0]) == (0, either[0])
            seen = perceptual_hash.hash_of(np.ascontiguousarray(np.rot90(square, quarters)))
            turned = perceptual_hash.details([perceptual_hash.hash_of(square)], quarters)
            assert perceptual_hash.agreement(turned, perceptual_hash.details([seen]))[0] > 0.99


def test_no_group_is_a_chain(imgsearch, tmp_path, monkeypatch):
    """Crops of crops: each is a near copy of the one before, and the last of the first no more."""
    folder = tmp_path / "chain"
    folder.mkdir()
    image = original("watermelon")
    for step in range(8):
        image.save(folder / f"{step}.png")
        image = cropped(image, 0.02)
    imgsearch("index", folder)
    records = imgsearch("dupes", "--json").records
    assert len(records) > 1
    for record in records:
        for other in record["others"]:
            assert other["bits"] / other["compared"] <= 20 / 128 and other["cosine"] >= 0.7
