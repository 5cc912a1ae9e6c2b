"""Thumbnails: whole, upright, without metadata, made by other processes and kept in a cache of the user's own."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
from pathlib import Path

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from imgsearch.core.photos.decode_pool import PoolClosed
from imgsearch.core.photos.thumbnails import Thumbnails
from imgsearch.core.types import SkipPhoto

from conftest import ALBUM, wait_until
from pictures import BLUE, GREEN, RED, YELLOW, corners, exif_block, laid_down

GOOD = ALBUM / "lemon.jpg"


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory):
    with Thumbnails(str(tmp_path_factory.mktemp("cache") / "thumbnails")) as made:
        yield made


def opened(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg), formats=["JPEG"])


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def kept(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def is_near(pixel, colour) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_thumbnail_is_upright_and_whole(thumbnails, tmp_path, orientation):
    path = tmp_path / "photo.jpg"
    laid_down(corners(960, 640), orientation).save(path, quality=95, exif=exif_block({0x0112: orientation}))
    image = opened(thumbnails.jpeg(str(path), None, 120))
    assert image.size == (120, 80)
    seen = [image.getpixel(place) for place in ((5, 5), (114, 5), (5, 74), (114, 74))]
    assert all(map(is_near, seen, (RED, GREEN, BLUE, YELLOW)))


def test_a_small_picture_is_not_enlarged_and_a_thin_one_keeps_a_pixel(thumbnails, tmp_path):
    corners(40, 20).save(tmp_path / "small.png")
    Image.new("RGB", (3000, 2), "teal").save(tmp_path / "thin.png")
    assert opened(thumbnails.jpeg(str(tmp_path / "small.png"), None, 320)).size == (40, 20)
    assert opened(thumbnails.jpeg(str(tmp_path / "thin.png"), None, 320)).size == (320, 1)


def test_nothing_of_the_metadata_is_left(thumbnails, tmp_path):
    path = tmp_path / "photo.jpg"
    block = exif_block({0x010F: "A Camera", 0x010E: "secret words"}, gps={1: "N", 2: (48.0, 51.0, 30.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    corners(900, 600).save(path, exif=block, comment=b"secret words", icc_profile=profile, xmp=b"<secret words/>")
    assert path.read_bytes().count(b"secret words") == 3
    jpeg = thumbnails.jpeg(str(path), None, 200)
    assert b"secret words" not in jpeg and b"ICC_PROFILE" not in jpeg and b"Exif" not in jpeg
    assert opened(jpeg).info.keys() <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "progressive",
        "progression",
    }


def test_transparent_pixels_are_white_and_any_format_is_read(thumbnails, tmp_path):
    Image.new("RGBA", (60, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png", pnginfo=PngImagePlugin.PngInfo())
    corners(60, 40).save(tmp_path / "picture.tiff")
    corners(60, 40).save(tmp_path / "picture.webp", lossless=True)
    assert opened(thumbnails.jpeg(str(tmp_path / "clear.png"), None, 60)).getpixel((30, 20)) == (255, 255, 255)
    for name in ("picture.tiff", "picture.webp"):
        assert is_near(opened(thumbnails.jpeg(str(tmp_path / name), None, 60)).getpixel((5, 5)), RED), name


@pytest.mark.parametrize(
    ("content", "stage", "said"),
    [
        (None, "read", "vanished before it was read"),
        (b"", "decode", "empty file"),
        (b"just words, and a few more of them", "decode", "not a picture: a text file"),
        (GOOD.read_bytes()[:3000], "decode", "truncated"),
        ("folder", "read", "not a regular file"),
        ("pipe", "read", "not a regular file"),
    ],
    ids=["gone", "empty", "text", "cut", "folder", "pipe"],
)
def test_what_cannot_be_shown_says_why(thumbnails, tmp_path, content, stage, said):
    path = tmp_path / 'bad "<script>" \n\udcff.jpg'
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SkipPhoto, match=said) as skipped:
        thumbnails.jpeg(str(path), None, 100)
    assert skipped.value.stage == stage


def test_a_known_content_comes_from_the_cache_even_when_the_file_is_gone(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(GOOD.read_bytes())
    with Thumbnails(str(tmp_path / "cache")) as first:
        made = first.jpeg(str(path), digest(path), 100)
    content_hash = digest(path)
    path.unlink()
    with Thumbnails(str(tmp_path / "cache")) as second:
        assert second.jpeg(str(path), content_hash, 100) == made
        assert second._workers is None, "no process was needed"
        with pytest.raises(SkipPhoto, match="vanished"):
            second.jpeg(str(path), content_hash, 99)


def test_a_file_that_is_another_by_now_is_kept_under_what_it_is(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(GOOD.read_bytes())
    before = digest(path)
    path.write_bytes((ALBUM / "banana.jpg").read_bytes())
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        thumbnails.jpeg(str(path), before, 64)
    assert [file.name for file in kept(tmp_path / "cache")] == [f"{digest(path).hex()}-64.jpg"]


def test_the_cache_is_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        with Thumbnails(str(tmp_path / "cache")) as thumbnails:
            thumbnails.jpeg(str(GOOD), None, 64)
    finally:
        os.umask(before)
    (file,) = kept(tmp_path / "cache")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "cache", file.parent, file)]
    assert modes == [0o700, 0o700, 0o600]


def test_a_damaged_file_in_the_cache_is_made_again(tmp_path):
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        made = thumbnails.jpeg(str(GOOD), digest(GOOD), 64)
        (file,) = kept(tmp_path / "cache")
        for damaged in (b"", made[:-40], b"<script>"):
            file.write_bytes(damaged)
            assert thumbnails.jpeg(str(GOOD), digest(GOOD), 64) == made
            assert file.read_bytes() == made


def test_the_cache_stays_within_its_bound_and_the_oldest_go(tmp_path):
    folder = tmp_path / "cache"
    with Thumbnails(str(folder), max_bytes=40_000) as thumbnails:
        thumbnails.jpeg(str(GOOD), None, 64)
        (first,) = kept(folder)
        os.utime(first, (1, 1))
        (folder / "ab").mkdir(exist_ok=True)
        (folder / "ab" / "not-ours.jpg").write_bytes(b"x" * 30_000)
        for side in range(100, 140):
            thumbnails.jpeg(str(GOOD), None, side)
    left = [file for file in kept(folder) if file.name != "not-ours.jpg"]
    assert 0 < sum(file.stat().st_size for file in left) <= 40_000
    assert first not in left and any(file.name.endswith("-139.jpg") for file in left)
    assert (folder / "ab" / "not-ours.jpg").exists(), "what another program left there is not touched"


def test_a_thumbnail_used_again_is_kept(tmp_path):
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        thumbnails.jpeg(str(GOOD), digest(GOOD), 64)
        (file,) = kept(tmp_path / "cache")
        os.utime(file, (1, 1))
        thumbnails.jpeg(str(GOOD), digest(GOOD), 64)
    assert file.stat().st_mtime > 1e9


@pytest.mark.parametrize("trouble", ["a file", "full"])
def test_without_a_place_for_the_cache_thumbnails_are_made_all_the_same(tmp_path, trouble):
    folder = tmp_path / "cache"
    if trouble == "a file":
        folder.write_text("in the way")
    elif os.path.exists("/dev/full"):
        folder.symlink_to("/dev/full")  # no folder can be made in it
    with Thumbnails(str(folder)) as thumbnails:
        assert opened(thumbnails.jpeg(str(GOOD), digest(GOOD), 64)).size[0] <= 64


def test_many_threads_may_ask_at_once(tmp_path):
    wanted = [ALBUM / f"{name}.jpg" for name in ("lemon", "banana", "carrots", "watermelon")] * 5
    shown: dict[int, bytes] = {}
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:

        def ask(number: int) -> None:
            shown[number] = thumbnails.jpeg(str(wanted[number]), digest(wanted[number]), 48)

        threads = [threading.Thread(target=ask, args=[number]) for number in range(len(wanted))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(shown) == len(wanted)
        assert all(shown[number] == shown[number % 4] for number in shown)
        assert len({shown[number] for number in range(4)}) == 4
    assert len(kept(tmp_path / "cache")) == 4


def test_many_come_in_the_order_they_were_asked_for(tmp_path, thumbnails):
    names = ["lemon", "missing", "banana", "carrots"]
    found = list(thumbnails.jpegs([(str(ALBUM / f"{name}.jpg"), None, None) for name in names], 48))
    alone = [thumbnails.jpeg(str(ALBUM / f"{name}.jpg"), None, 48) for name in names if name != "missing"]
    assert [found[0], *found[2:]] == alone
    assert isinstance(found[1], SkipPhoto) and found[1].reason == "vanished before it was read"


def test_a_caller_that_stops_early_leaves_nothing_running(tmp_path):
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        for _ in thumbnails.jpegs([(str(GOOD), None, None)] * 200, 300):
            break
    with pytest.raises(PoolClosed):
        thumbnails.jpeg(str(GOOD), None, 64)
    wait_until(lambda: not any(thread.name.startswith("thumbnails") for thread in threading.enumerate()))


@pytest.mark.parametrize("side", [0, -1, 4097])
def test_a_side_out_of_bounds_is_refused(thumbnails, side):
    with pytest.raises(ValueError, match=f"a thumbnail of {side} pixels"):
        thumbnails.jpeg(str(GOOD), None, side)
