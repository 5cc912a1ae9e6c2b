"""Decoding: whatever lies in the file comes out as upright sRGB pixels, or as a reason."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from imgsearch.core.photos import decode
from imgsearch.core.photos.codecs import codecs
from imgsearch.core.photos.decode import read_picture
from imgsearch.core.types import NotAPicture, SkipPhoto

from conftest import cpu_seconds
from pictures import BLUE, GREEN, RED, YELLOW, corners, display_p3, exif_block, laid_down, noise, png_header, save


def pixels(path, **options) -> np.ndarray:
    image = read_picture(str(path), **options).image
    assert image is not None
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def reason(path, **options) -> tuple[str, str]:
    with pytest.raises(SkipPhoto) as refusal:
        read_picture(str(path), **options)
    return refusal.value.stage, refusal.value.reason


def is_near(colour, wanted, tolerance=12) -> bool:
    return bool(np.abs(np.asarray(colour) - np.asarray(wanted)).max() <= tolerance)


def assert_upright(found: np.ndarray) -> None:
    assert found.shape == (64, 96, 3)
    for place, colour in (((12, 12), RED), ((12, 84), GREEN), ((52, 12), BLUE), ((52, 84), YELLOW)):
        assert is_near(found[place], colour, 24), place


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "heic"])
def test_every_orientation_comes_out_upright(tmp_path, suffix, orientation):
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    lying = laid_down(corners(), orientation)
    path = save(tmp_path / f"a.{suffix}", lying, exif=exif_block({0x0112: orientation}))
    picture = read_picture(path)
    assert_upright(np.asarray(picture.image).astype(int))
    assert (picture.facts.width, picture.facts.height) == (96, 64)
    if suffix != "heic":
        assert picture.facts.orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    picture = read_picture(save(tmp_path / "a.jpg", exif=exif_block({0x0112: orientation})))
    assert picture.facts.orientation == 1
    assert_upright(np.asarray(picture.image).astype(int))


def test_jpeg_xl_is_not_turned_twice(tmp_path):
    pytest.importorskip("pillow_jxl")
    # In JPEG XL the codestream says how the picture lies; its EXIF has no say.
    path = save(tmp_path / "a.jxl", lossless=True, exif=exif_block({0x0112: 6, 0x010F: "Canon"}))
    picture = read_picture(path)
    assert_upright(np.asarray(picture.image).astype(int))
    assert (picture.facts.width, picture.facts.height, picture.facts.camera_make) == (96, 64, "Canon")


def test_a_jpeg_inside_a_jpeg_xl_is_turned_once(tmp_path):
    pytest.importorskip("pillow_jxl")
    lying = save(tmp_path / "a.jpg", laid_down(corners(), 6), quality=95, exif=exif_block({0x0112: 6}))
    with Image.open(lying) as jpeg:
        jpeg.save(tmp_path / "a.jxl", lossless_jpeg=True)
    picture = read_picture(str(tmp_path / "a.jxl"))
    assert_upright(np.asarray(picture.image).astype(int))
    assert (picture.facts.width, picture.facts.height) == (96, 64)


# Colours


@pytest.mark.parametrize("suffix", ["png", "tif", "jp2", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65_535, 64 * 64).astype(np.uint16).reshape(64, 64)
    save(tmp_path / f"a.{suffix}", Image.fromarray(ramp))
    found = pixels(tmp_path / f"a.{suffix}")[..., 0]
    assert np.abs(found - ramp / 257).max() <= 1.5


def test_big_endian_sixteen_bits_are_not_swapped(tmp_path):
    ramp = np.linspace(0, 65_535, 64 * 64).astype(">u2").reshape(64, 64)
    head = struct.pack(">2sHLH", b"MM", 42, 8, 8)
    rows = [
        (256, 3, 64),
        (257, 3, 64),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8 + 2 + 8 * 12 + 4),
        (278, 3, 64),
        (279, 4, 8192),
    ]
    table = b"".join(
        struct.pack(">HHL", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">L", value))
        for tag, kind, value in rows
    )
    (tmp_path / "a.tif").write_bytes(head + table + b"\x00" * 4 + ramp.tobytes())
    found = pixels(tmp_path / "a.tif")[..., 0]
    assert np.abs(found - ramp.astype(float) / 257).max() <= 1.5


def test_twelve_bits_in_sixteen_are_not_black(tmp_path):
    ramp = np.linspace(0, 4_095, 64 * 64).astype(np.uint16).reshape(64, 64)
    assert pixels(save(tmp_path / "a.tif", Image.fromarray(ramp))).max() == 255


def test_floats_with_holes_are_scaled_by_what_they_hold(tmp_path):
    values = np.linspace(-3, 900, 64 * 64, dtype=np.float32).reshape(64, 64)
    values[0, 0], values[5, 5] = np.nan, np.inf
    found = pixels(save(tmp_path / "a.tif", Image.fromarray(values)))
    assert (found[63, 63, 0], found[0, 1, 0] <= 2) == (255, True)
    assert 120 < found[32, 0, 0] < 136


def test_transparency_is_laid_on_white(tmp_path):
    image = corners().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 48, 32))
    for suffix in ("png", "webp"):
        found = pixels(save(tmp_path / f"a.{suffix}", image))
        assert is_near(found[8, 8], (255, 255, 255))
        assert is_near(found[52, 84], YELLOW, 24)


def test_a_palettes_transparent_colour_is_laid_on_white(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((0, 0), 0)
    for options in ({"transparency": 0}, {"transparency": b"\x00\xff"}):
        found = pixels(save(tmp_path / "a.png", image, **options))
        assert (found[0, 0].tolist(), found[4, 4].tolist()) == ([255, 255, 255], [200, 0, 0])
    found = pixels(save(tmp_path / "a.gif", image, transparency=0))
    assert (found[0, 0].tolist(), found[4, 4].tolist()) == ([255, 255, 255], [200, 0, 0])


def test_a_colour_key_and_grey_with_alpha_are_laid_on_white(tmp_path):
    keyed = Image.new("RGB", (8, 8), (1, 2, 3))
    keyed.putpixel((3, 3), (9, 9, 9))
    found = pixels(save(tmp_path / "key.png", keyed, transparency=(1, 2, 3)))
    assert (found[0, 0].tolist(), found[3, 3].tolist()) == ([255] * 3, [9] * 3)
    grey = Image.new("LA", (8, 8), (100, 0))
    grey.putpixel((3, 3), (100, 255))
    found = pixels(save(tmp_path / "la.png", grey))
    assert (found[0, 0].tolist(), found[3, 3].tolist()) == ([255] * 3, [100] * 3)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_printing_inks_keep_their_colours(tmp_path, suffix):
    options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {}
    assert_upright(pixels(save(tmp_path / f"a.{suffix}", corners().convert("CMYK"), **options)))
    assert_upright(
        np.asarray(read_picture(str(tmp_path / f"a.{suffix}"), draft_side=16).image.resize((96, 64))).astype(int)
    )


def test_bits_lab_and_ycbcr_become_rgb(tmp_path):
    checks = Image.new("1", (16, 16), 1)
    checks.putpixel((2, 2), 0)
    found = pixels(save(tmp_path / "a.png", checks))
    assert (found[0, 0].tolist(), found[2, 2].tolist()) == ([255] * 3, [0] * 3)
    lab = ImageCms.profileToProfile(
        corners(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert_upright(pixels(save(tmp_path / "lab.tif", lab)))
    assert_upright(pixels(save(tmp_path / "ycc.tif", corners().convert("YCbCr"))))


def test_wide_gamut_is_converted_to_srgb(tmp_path):
    # The sRGB green primary, as Display P3 writes it, is sRGB's full green again.
    image = Image.new("RGB", (32, 32), (117, 251, 76))
    found = pixels(save(tmp_path / "a.png", image, icc_profile=display_p3()))
    assert is_near(found[0, 0], (0, 255, 0), 10)
    assert is_near(pixels(save(tmp_path / "b.png", image))[0, 0], (117, 251, 76), 0)


def test_an_srgb_profile_changes_no_pixel(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise(40, 30)
    assert np.array_equal(pixels(save(tmp_path / "a.png", image, icc_profile=profile)), np.asarray(image))


@pytest.mark.parametrize("profile", [b"junk", b"\x00" * 500, display_p3()[:300], display_p3()[:-200] + b"\xff" * 200])
def test_a_broken_profile_is_ignored(tmp_path, profile):
    assert_upright(pixels(save(tmp_path / "a.png", icc_profile=profile)))


def test_a_profile_for_other_colours_is_ignored(tmp_path):
    assert is_near(
        pixels(save(tmp_path / "a.png", Image.new("L", (8, 8), 77), icc_profile=display_p3()))[0, 0], (77, 77, 77), 0
    )


def test_a_profile_is_honoured_under_transparency(tmp_path):
    image = Image.new("RGBA", (8, 8), (117, 251, 76, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    found = pixels(save(tmp_path / "a.png", image, icc_profile=display_p3()))
    assert is_near(found[4, 4], (0, 255, 0), 10)
    assert found[0, 0].tolist() == [255] * 3


# Several frames


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "mpo"])
def test_the_first_frame_is_the_picture(tmp_path, suffix):
    later = Image.new("RGB", (96, 64), "black")
    save(tmp_path / f"a.{suffix}", save_all=True, append_images=[later, later])
    assert_upright(pixels(tmp_path / f"a.{suffix}"))


def test_an_icon_is_its_largest_picture(tmp_path):
    assert pixels(save(tmp_path / "a.ico", noise(64, 64), sizes=[(16, 16), (64, 64), (32, 32)])).shape == (64, 64, 3)


# Fast decoding


@pytest.mark.parametrize("size", [(1600, 900), (900, 1600), (449, 447), (448, 448), (3000, 460), (7000, 900)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_fast_decode_never_falls_below_its_side(tmp_path, size, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(*size))
    picture = read_picture(path, draft_side=448)
    assert min(picture.image.size) >= min(448, *size)
    assert min(picture.image.size) < 2 * 448
    assert (picture.facts.width, picture.facts.height) == size


def test_an_exact_decode_is_pillows_decode(tmp_path):
    path = save(tmp_path / "a.jpg", noise(900, 600), quality=80)
    with Image.open(path) as image:
        assert np.array_equal(pixels(path), np.asarray(image))


def test_a_fast_decode_is_the_same_picture(tmp_path):
    path = save(tmp_path / "a.jpg", corners(1920, 1280), exif=exif_block({0x0112: 1}))
    found = read_picture(path, draft_side=100).image
    assert_upright(np.asarray(found.resize((96, 64))).astype(int))


# What is a picture


def test_the_hash_is_over_all_bytes_and_the_stamp_is_the_files(tmp_path):
    path = save(tmp_path / "a.jpg")
    with open(path, "ab") as file:
        file.write(b"trailing bytes")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    picture = read_picture(path)
    assert picture.content_hash == hashlib.sha256(Path(path).read_bytes()).digest()
    assert (picture.size, picture.mtime_ns) == (os.stat(path).st_size, 1_234_567_890_123_456_789)


def test_a_known_photo_gives_facts_and_no_pixels(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg", exif=exif_block({0x010F: "Canon"}))
    first = read_picture(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    again = read_picture(path, known=frozenset([first.content_hash]))
    assert again.image is None
    assert (again.content_hash, again.facts) == (first.content_hash, first.facts)


@pytest.mark.parametrize("name", ["photo", "photo.txt", "photo.nef", "photo.png", "photo.tga", "photo.svg"])
def test_a_jpeg_is_a_jpeg_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(Path(save(tmp_path / "a.jpg", quality=95)).read_bytes())
    assert read_picture(str(tmp_path / name)).facts.format == "JPEG"
    assert_upright(pixels(tmp_path / name))


NO_PICTURES = {
    "text": b"Dear diary, today it rained.\n" * 9,
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "pdf": b"%PDF-1.7\n...",
    "zip": b"PK\x03\x04" + b"\x00" * 60,
    "video": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"\x00" * 64,
    "matroska": b"\x1aE\xdf\xa3" + b"\x00" * 60,
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\x00" * 60,
    "svg": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "starts-like-a-bitmap": b"BMW is a car maker from Munich, Bavaria.",
    "starts-like-a-pixmap": b"P1 is a plan\nP2 is another one\n",
    "starts-like-an-icon": b"\x00\x00\x01\x00" + b"\x00" * 60,
    "starts-like-jpeg-xl": b"\xff\x0a" + b"\x00" * 60,
    "noise": bytes(np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8)),
    "empty": b"",
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_a_file_without_the_name_or_content_of_a_picture_is_ignored(tmp_path, kind, monkeypatch):
    (tmp_path / kind).write_bytes(NO_PICTURES[kind])
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed what is no picture"))
    with pytest.raises(NotAPicture):
        read_picture(str(tmp_path / kind))


@pytest.mark.parametrize(
    "kind, said",
    [
        ("text", "not a picture: a text file"),
        ("html", "not a picture: a web page"),
        ("pdf", "not a picture: a PDF document"),
        ("zip", "not a picture: a zip archive"),
        ("video", "not a picture: a video"),
        ("svg", "vector drawing (SVG) is not supported"),
        ("postscript", "vector drawing (EPS) is not supported"),
        ("noise", "not a picture, or of a format that is not supported"),
        ("empty", "empty file"),
    ],
)
def test_what_calls_itself_a_picture_and_is_none_gets_a_reason(tmp_path, kind, said):
    (tmp_path / "a.jpg").write_bytes(NO_PICTURES[kind])
    assert reason(tmp_path / "a.jpg") == ("decode", said)
    (tmp_path / "b").write_bytes(NO_PICTURES[kind])
    assert reason(tmp_path / "b", named=True) == ("decode", said)


def test_formats_without_magic_are_believed_by_name(tmp_path):
    for suffix in ("tga", "pcx", "im"):
        assert_upright(pixels(save(tmp_path / f"a.{suffix}")))
        os.rename(tmp_path / f"a.{suffix}", tmp_path / suffix)
        with pytest.raises(NotAPicture):
            read_picture(str(tmp_path / suffix))
    (tmp_path / "a.tga").write_bytes(b"nothing of the kind")
    assert reason(tmp_path / "a.tga") == ("decode", "not a picture, or a damaged one")


@pytest.mark.parametrize("suffix", ["bmp", "dds", "icns", "jp2", "pcx", "ppm", "qoi", "sgi", "tga", "j2k"])
def test_less_common_formats_are_read(tmp_path, suffix):
    try:
        path = save(tmp_path / f"a.{suffix}")
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"this Pillow cannot write it: {error}")
    picture = read_picture(path)
    assert is_near(np.asarray(picture.image.resize((96, 64))).astype(int)[12, 12], RED, 24)


# What cannot be read


def test_a_truncated_photo_says_so(tmp_path):
    whole = Path(save(tmp_path / "a.jpg", noise(300, 200))).read_bytes()
    for name in ("b.jpg", "b"):
        (tmp_path / name).write_bytes(whole[: len(whole) // 8])
        stage, said = reason(tmp_path / name)
        assert stage == "decode"
        assert said.startswith("truncated: image file is truncated (")


def test_a_png_that_is_damaged_after_its_pixels_is_whole(tmp_path):
    data = Path(save(tmp_path / "a.png")).read_bytes()
    (tmp_path / "a.png").write_bytes(data[:-12] + struct.pack(">I", 500) + b"zTXt" + b"Comment")
    assert_upright(pixels(tmp_path / "a.png"))


def test_reasons_are_one_short_line_without_addresses(tmp_path):
    for name, data in {
        "a.jpg": b"\xff\xd8\xff" + b"\x00" * 50,
        "a.png": b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
        "a.webp": b"RIFF\x40\x00\x00\x00WEBPVP8 " + b"\x00" * 50,
        "a.tif": b"II*\x00\x08\x00\x00\x00" + b"\x00" * 50,
        "a.gif": b"GIF89a" + b"\x00" * 4,
        "a.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 50,
        "a.avif": b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif" + b"\x00" * 50,
        "a.jxl": b"\xff\x0a" + b"\x00" * 50,
        "a.psd": b"8BPS" + b"\x00" * 50,
        "a.jp2": b"\x00\x00\x00\x0cjP  \x0d\x0a\x87\x0a" + b"\x00" * 50,
        "a.cr2": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + b"\x00" * 50,
        "a.raf": b"FUJIFILMCCD-RAW " + b"\x00" * 50,
        "a.ico": b"\x00\x00\x01\x00\x01\x00" + b"\x00" * 50,
    }.items():
        (tmp_path / name).write_bytes(data)
        _, said = reason(tmp_path / name)
        assert said.isprintable(), name
        assert 4 < len(said) <= 260, name
        assert "0x" not in said, name
        assert " object at" not in said, name


@pytest.mark.parametrize("name", ["a.png", "a"])
def test_a_bomb_is_refused_by_its_header(tmp_path, name, monkeypatch):
    path = png_header(tmp_path / name, 20_000, 10_000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("its pixels were decoded"))
    assert reason(path) == ("decode", "200 megapixels, over the limit of 178")


def test_a_large_picture_under_the_limit_is_read_without_a_word(tmp_path, capfd):
    path = save(tmp_path / "a.png", Image.new("1", (12_000, 9_000)))
    assert read_picture(path, draft_side=500).facts.width == 12_000
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_xl_bomb_is_refused_before_it_is_decoded(tmp_path):
    # A bare codestream: large size header, 30-bit height and width of 2^20 each.
    bits, place = 0, 0
    for value, width in ((0, 1), (3, 2), ((1 << 20) - 1, 30), (0, 3), (3, 2), ((1 << 20) - 1, 30), (1, 1)):
        bits |= value << place
        place += width
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a" + bits.to_bytes(10, "little") + b"\x00" * 20)
    assert reason(tmp_path / "a.jxl") == ("decode", "1,099,512 megapixels, over the limit of 178")


def test_a_jpeg_xl_header_says_the_size(tmp_path):
    pytest.importorskip("pillow_jxl")
    for size in ((1, 1), (8, 16), (640, 480), (333, 77), (256, 256), (1024, 8)):
        path = save(tmp_path / "a.jxl", noise(*size))
        picture = read_picture(path)
        assert (picture.facts.width, picture.facts.height) == size == picture.image.size
        known = read_picture(path, known=[picture.content_hash])
        assert (known.facts, known.image) == (picture.facts, None)


def test_pipes_folders_and_sockets_are_no_regular_files(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # a socket's path has to be short
        listener.bind("socket.jpg")
        for name in ("pipe.jpg", "folder.jpg", "socket.jpg"):
            assert reason(tmp_path / name) == ("read", "not a regular file")
    assert reason("/dev/null", named=True) == ("read", "not a regular file")


def test_what_cannot_be_opened_is_explained_in_plain_words(tmp_path, monkeypatch):
    assert reason(tmp_path / "gone.jpg") == ("read", "vanished before it was read")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    assert reason(tmp_path / "loop.jpg") == ("read", "a symbolic link loop")
    with pytest.raises(NotAPicture):
        read_picture(str(tmp_path / "gone.txt"))

    def refuse(number, *_args, **_options):
        raise OSError(number, os.strerror(number))

    for number, said in ((errno.EACCES, "permission denied"), (errno.EIO, "cannot be read: input/output error")):
        monkeypatch.setattr(os, "open", functools.partial(refuse, number))
        assert reason(tmp_path / "a.jpg") == ("read", said)


def test_a_disk_error_while_reading_is_a_reading_failure(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(hashlib, "file_digest", fail)
    assert reason(path) == ("read", "cannot be read: input/output error")


def test_a_file_that_changes_under_our_eyes_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg", noise(64, 64))
    digest = hashlib.file_digest

    def slow_digest(file, name):
        found = digest(file, name)
        with open(path, "ab") as other:
            other.write(b"more")
        return found

    monkeypatch.setattr(hashlib, "file_digest", slow_digest)
    assert reason(path) == ("read", "changed while it was read")


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep"), KeyError("tile"), AssertionError()])
def test_whatever_a_decoder_raises_becomes_a_reason(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    path = save(tmp_path / "a.jpg")
    monkeypatch.setattr(decode, "to_rgb", fail)
    stage, said = reason(path)
    expected = ("memory", "not enough memory") if isinstance(error, MemoryError) else ("decode", "damaged or not")
    assert (stage, said.startswith(expected[1])) == (expected[0], True)


def test_missing_extras_say_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW " + b"\x00" * 50)
    assert reason(tmp_path / "a.raf") == ("decode", "RAW photos need: pip install 'imgsearch-cli[raw]'")
    (tmp_path / "a.jxl").write_bytes(b"\xff\x0a\x01\x08" + b"\x00" * 20)
    assert reason(tmp_path / "a.jxl") == ("decode", "JPEG XL needs: pip install 'imgsearch-cli[jxl]'")


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n'x'.jpg")
    save(tmp_path / "a.jpg")
    os.rename(tmp_path / "a.jpg", name)
    assert_upright(pixels(name))


def test_no_descriptor_is_left_open(tmp_path):
    good, bad = save(tmp_path / "a.jpg"), tmp_path / "b.jpg"
    bad.write_bytes(Path(good).read_bytes()[:400])
    read_picture(good)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        read_picture(good)
        reason(bad)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before


def test_many_threads_read_the_same_pixels(tmp_path):
    paths = [
        save(tmp_path / "a.png", noise(200, 150), icc_profile=display_p3()),
        save(tmp_path / "b.jpg", noise(200, 150), exif=exif_block({0x0112: 6})),
        save(tmp_path / "c.tif", noise(200, 150), compression="tiff_lzw"),
    ]
    wanted = [pixels(path) for path in paths]
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            for path, expected in zip(paths, wanted, strict=True):
                if not np.array_equal(pixels(path), expected):
                    wrong.append(path)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def damaged_tiff(path: Path) -> Path:
    data = bytearray(Path(save(path, noise(100, 100), compression="tiff_lzw")).read_bytes())
    data[200:2000] = b"\xff" * 1800
    path.write_bytes(data)
    return path


def test_damaged_files_leave_stderr_clean(tmp_path, capfd):
    reason(damaged_tiff(tmp_path / "a.tif"))
    assert capfd.readouterr() == ("", "")


def test_the_libtiff_in_this_pillow_is_found_and_silenced(tmp_path):
    """The contract with the layout of Pillow's wheel: without `libtiff.silence` it prints, with it it does not."""
    program = (
        "import contextlib, sys\n"
        "from PIL import Image\n"
        "from imgsearch.core.photos import libtiff\n"
        "if sys.argv[2] == 'silent': libtiff.silence()\n"
        "with contextlib.suppress(OSError), Image.open(sys.argv[1]) as image: image.load()\n"
    )
    path = damaged_tiff(tmp_path / "a.tif")
    loud, silent = (
        subprocess.run([sys.executable, "-c", program, str(path), mode], capture_output=True, text=True).stderr
        for mode in ("loud", "silent")
    )
    if not loud:
        pytest.skip("this Pillow's libtiff prints nothing")
    assert silent == ""


def test_the_installation_is_named_in_one_line():
    assert codecs() == codecs()
    assert codecs().startswith("imgsearch-decode/")
    assert " pillow/" in codecs()
    assert "\n" not in codecs()


# RAW


def test_a_plain_tiff_never_goes_to_the_raw_decoder(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "_read_raw", lambda task: pytest.fail("a TIFF was taken for RAW"))
    assert_upright(pixels(save(tmp_path / "a.tif")))


def test_a_plain_tiff_under_a_raws_name_is_still_read(tmp_path):
    pytest.importorskip("rawpy")
    path = save(tmp_path / "a.tif")
    os.rename(path, tmp_path / "a.nef")
    assert_upright(pixels(tmp_path / "a.nef"))


def a_camera(monkeypatch, *, flip: int, preview: Image.Image | None, developed: tuple[int, int] = (900, 600)):
    """A RAW decoder that finds this preview in every file; the sensor is 1200 x 800, lying."""
    import sys

    class LibRawError(Exception):
        pass

    def jpeg() -> bytes:
        if preview is None:
            raise LibRawError(b"No thumbnail in file")
        buffer = io.BytesIO()
        preview.save(buffer, "JPEG", quality=95, exif=preview.info.get("exif", b""))
        return buffer.getvalue()

    class RawPy:
        sizes = types.SimpleNamespace(width=1200, height=800, flip=flip)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def open_buffer(self, file):
            assert file.read(8) == b"FUJIFILM"

        def extract_thumb(self):
            return types.SimpleNamespace(format="jpeg", data=jpeg())

        def postprocess(self, **_):
            return np.asarray(corners(*developed))

    formats = types.SimpleNamespace(JPEG="jpeg", BITMAP="bitmap")
    fake = types.SimpleNamespace(RawPy=RawPy, LibRawError=LibRawError, ThumbFormat=formats)
    monkeypatch.setitem(sys.modules, "rawpy", fake)


@pytest.fixture
def raf(tmp_path) -> str:
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW " + b"\x00" * 200)
    return str(tmp_path / "a.raf")


@pytest.mark.parametrize("flip, orientation", [(0, 1), (3, 3), (5, 8), (6, 6)])
def test_a_preview_that_lies_as_the_sensor_saw_it_is_turned(raf, monkeypatch, flip, orientation):
    upright = corners(1200, 800) if flip in (0, 3) else corners(800, 1200)
    a_camera(monkeypatch, flip=flip, preview=laid_down(upright, orientation))
    picture = read_picture(raf)
    assert picture.image.size == upright.size == (picture.facts.width, picture.facts.height)
    assert picture.facts.orientation == orientation
    assert_upright(np.asarray(picture.image.resize((96, 64))).astype(int))


@pytest.mark.parametrize("flip", [5, 6])
def test_a_preview_that_is_upright_already_is_left_alone(raf, monkeypatch, flip):
    a_camera(monkeypatch, flip=flip, preview=corners(800, 1200))
    assert_upright(np.asarray(read_picture(raf).image.resize((96, 64))).astype(int))


def test_a_preview_that_says_how_it_lies_is_believed(raf, monkeypatch):
    lying = laid_down(corners(800, 1200), 6)
    lying.info["exif"] = exif_block({0x0112: 6, 0x010F: "FUJIFILM", 0x0110: "X-T3"})
    a_camera(monkeypatch, flip=6, preview=lying)
    picture = read_picture(raf)
    assert (picture.facts.format, picture.facts.camera) == ("RAF", "X-T3")
    assert_upright(np.asarray(picture.image.resize((96, 64))).astype(int))


@pytest.mark.parametrize("preview", [None, corners(160, 120)])
def test_a_raw_without_a_preview_worth_the_name_is_developed(raf, monkeypatch, preview):
    a_camera(monkeypatch, flip=0, preview=preview)
    assert read_picture(raf).image.size == (900, 600)


def test_the_facts_of_a_known_raw_need_no_development(raf, monkeypatch):
    a_camera(monkeypatch, flip=6, preview=None)
    first = read_picture(raf)
    again = read_picture(raf, known=[first.content_hash])
    assert (again.facts, again.image) == (first.facts, None)
    assert (again.facts.width, again.facts.height) == (800, 1200)


# Real files of many kinds

_DATA = Path(os.environ.get("IMGSEARCH_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
_MANIFEST = _DATA / "torture" / "manifest.jsonl"
_ROWS = [json.loads(line) for line in _MANIFEST.read_text("utf-8").splitlines()] if _MANIFEST.exists() else []
_DAMAGED = {"corrupt/truncated.jpg"}
"""The manifest says that these cannot be decoded, but more than a quarter of their lines can."""
needs_torture = pytest.mark.skipif(not _ROWS, reason="no torture files beside the repository")


@needs_torture
@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row["file"].encode("ascii", "replace").decode())
def test_a_torture_file_is_read_or_refused_as_its_manifest_says(row, capfd):
    path = str(_MANIFEST.parent / row["file"])
    if path.lower().endswith((".dng", ".kdc", ".nef")):
        pytest.importorskip("rawpy")
    if path.endswith(".jxl"):
        pytest.importorskip("pillow_jxl")
    with cpu_seconds(30):
        try:
            picture = read_picture(path)
        except SkipPhoto as refusal:
            assert not row["decodes"], refusal.reason
            assert refusal.reason.isprintable()
            assert "0x" not in refusal.reason
        except NotAPicture:
            assert not row["decodes"]
        else:
            assert picture.facts.is_damaged == (row["file"] in _DAMAGED)
            assert row["decodes"] or picture.facts.is_damaged
            if not picture.facts.is_damaged and not path.lower().endswith((".dng", ".kdc")):
                assert picture.image.size == (picture.facts.width, picture.facts.height)
            again = read_picture(path, known=[picture.content_hash])
            assert (again.facts, again.image) == (picture.facts, None)
            assert min(read_picture(path, draft_side=64).image.size) >= min(64, *picture.image.size)
    assert capfd.readouterr() == ("", "")


@needs_torture
@pytest.mark.parametrize("scene", ["Portrait", "Landscape"])
def test_real_photos_of_all_orientations_agree(scene):
    squares = [
        np.asarray(read_picture(str(path)).image.resize((32, 32), Image.Resampling.BOX)).astype(float)
        for path in sorted((_DATA / "torture" / "orientation").glob(f"{scene}_*.jpg"))
    ]
    assert len(squares) >= 4
    for other in squares[1:]:
        # The photos carry their number and the words left, right, top, bottom in their middle: small differences.
        assert np.corrcoef(squares[0].ravel(), other.ravel())[0, 1] > 0.97


@needs_torture
def test_avif_rotations_agree():
    upright, *turned = (
        np.asarray(
            read_picture(str(_DATA / "torture" / "avif_rot" / f"kimono.{name}.avif")).image.resize((32, 32))
        ).astype(float)
        for name in ("crop", "rotate90", "rotate270", "mirror-vertical.rotate270")
    )
    for other in turned:
        assert np.corrcoef(upright.ravel(), other.ravel())[0, 1] > 0.98


@needs_torture
def test_the_largest_preview_of_a_dng_is_taken():
    pytest.importorskip("rawpy")
    picture = read_picture(str(_DATA / "torture" / "raw" / "canon_eos_6d.dng"))
    assert picture.image.size == (1024, 683)
    assert (picture.facts.format, picture.facts.camera, picture.facts.width) == ("DNG", "EOS 6D", 1224)
