"""Photos that lack their end: indexed from the lines that are there, if those are enough."""

import contextlib
import io
import json
import os
import sqlite3
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from imgsearch.core.photos import truncated
from imgsearch.core.photos.decode import Picture, read_picture
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.types import SkipPhoto

from conftest import ALBUM, downgrade
from pictures import exif_block

CASES = Path(os.environ.get("IMGSEARCH_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
CASES = CASES / "cases" / "truncated"
ROWS = [json.loads(line) for line in (CASES / "cases.jsonl").read_text().splitlines()] if CASES.exists() else []
SIZE = WIDTH, HEIGHT = (240, 160)


def encoded(format_name: str, image: Image.Image | None = None, **options) -> bytes:
    data = io.BytesIO()
    (image or photo()).save(data, format_name, **options)
    return data.getvalue()


def photo() -> Image.Image:
    with Image.open(ALBUM / "kiwi.jpg") as image:
        return image.convert("RGB").resize(SIZE)


def read(tmp_path: Path, data: bytes, **options) -> Picture | None:
    """The picture, or None for a failure."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    try:
        return read_picture(str(path), **options)
    except SkipPhoto as skipped:
        assert skipped.stage == "decode"
        assert skipped.reason.startswith(("truncated", "damaged or not supported"))
        return None


def interlaced() -> bytes:
    """Pillow cannot write one."""
    pixels, lines = np.asarray(photo()), b""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                                    (0, 1, 1, 2)):  # fmt: skip
        lines += b"".join(b"\0" + line.tobytes() for line in pixels[top::down, left::across])
    chunks = (b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


LINE_BY_LINE = {
    "baseline": lambda: encoded("JPEG", quality=85),
    "all colours": lambda: encoded("JPEG", quality=95, subsampling=0),
    "a restart in each line": lambda: encoded("JPEG", restart_marker_rows=1),
    "a restart in each block": lambda: encoded("JPEG", restart_marker_blocks=1),
    "grey": lambda: encoded("JPEG", photo().convert("L")),
    "cmyk": lambda: encoded("JPEG", photo().convert("CMYK")),
    "png": lambda: encoded("PNG"),
    "png with a palette": lambda: encoded("PNG", photo().quantize(60)),
    "png of 16 bits": lambda: encoded("PNG", Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)),
    "png with alpha": lambda: encoded("PNG", photo().convert("RGBA")),
    "webp": lambda: encoded("WEBP", quality=90),
    "webp with a profile and exif": lambda: encoded("WEBP", exif=exif_block({0x010E: "words"}), icc_profile=b"x" * 200),
    "lossless webp": lambda: encoded("WEBP", lossless=True),
}


@cache
def made(kind: str) -> bytes:
    return LINE_BY_LINE[kind]()


@pytest.mark.parametrize("kind", LINE_BY_LINE)
@pytest.mark.parametrize("share", [0.1, 0.6, 0.97])
def test_the_lines_that_are_there_are_those_of_the_whole_photo(tmp_path, kind, share):
    data = made(kind)
    whole = read(tmp_path, data)
    assert not whole.facts.is_damaged
    rest = read(tmp_path, data[: int(share * len(data))])
    if share < 0.25:
        assert rest is None
        return
    assert rest.facts.is_damaged and (rest.facts.width, rest.facts.height) == SIZE
    lines = rest.image.height
    assert 0.25 * HEIGHT <= lines < HEIGHT
    there, expected = (np.asarray(image).astype(int) for image in (rest.image, whole.image))
    assert np.abs(there - expected[:lines])[:-1].max() <= 2
    assert read(tmp_path, data[: int(share * len(data))], draft_side=64).facts == rest.facts


@pytest.mark.parametrize("kind", LINE_BY_LINE)
def test_more_bytes_are_never_fewer_lines_and_every_way_to_read_agrees(tmp_path, kind):
    data, before = made(kind), 0
    for end in range(len(data) // 16, len(data), len(data) // 16):
        rest = read(tmp_path, data[:end])
        fast = read(tmp_path, data[:end], draft_side=32)
        assert (rest is None) == (fast is None)
        lines = rest.image.height if rest else 0
        assert lines >= before
        before = lines
        if rest:
            known = read(tmp_path, data[:end], known=[rest.content_hash])
            assert known.facts == fast.facts == rest.facts


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_jpeg_without_its_end_mark_only_is_not_damaged(tmp_path, options):
    data = encoded("JPEG", **options)
    for missing in (1, 2):
        rest = read(tmp_path, data[:-missing])
        assert not rest.facts.is_damaged and rest.image.size == SIZE
    for filler in (bytes(5_000), b"\xff" * 5_000):
        rest = read(tmp_path, data[:-2] + filler)
        assert not rest.facts.is_damaged and rest.image.size == SIZE
        rest = read(tmp_path, data[: len(data) * 7 // 10] + filler)
        assert rest.facts.is_damaged


def test_a_photo_with_a_flat_grey_bottom_is_not_taken_for_a_damaged_one(tmp_path):
    image = photo()
    image.paste((128, 128, 128), (0, HEIGHT // 3, WIDTH, HEIGHT))
    data = encoded("JPEG", image, quality=90)
    assert not read(tmp_path, data[:-2]).facts.is_damaged
    rest = read(tmp_path, data[:-40])
    assert rest.facts.is_damaged and rest.image.height > 0.5 * HEIGHT


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_progressive_photo_has_all_lines_after_its_first_scan(tmp_path, share):
    data = encoded("JPEG", progressive=True)
    rest = read(tmp_path, data[: int(share * len(data))])
    assert rest.facts.is_damaged and rest.image.size == SIZE


def test_a_progressive_photo_that_ends_after_a_complete_scan_is_damaged(tmp_path):
    data = encoded("JPEG", progressive=True)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    for start in starts[1:]:
        end = data.rindex(b"\xff\xc4", 0, start) if b"\xff\xc4" in data[starts[0] : start] else start
        for cut in (end, start, start + 1, start + 5):
            rest = read(tmp_path, data[:cut])
            assert rest.facts.is_damaged and rest.image.size == SIZE


@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_an_interlaced_png_is_whole_but_coarse(tmp_path, share):
    data = interlaced()
    whole, rest = read(tmp_path, data), read(tmp_path, data[: int(share * len(data))])
    assert not whole.facts.is_damaged and whole.image.size == SIZE
    assert rest.facts.is_damaged and (rest.facts.width, rest.facts.height) == SIZE
    step = WIDTH // rest.image.width
    assert step in (2, 4, 8)
    assert np.array_equal(np.asarray(rest.image), np.asarray(whole.image)[::step, ::step])


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize("kind", ["baseline", "png", "webp"])
def test_zeros_in_place_of_the_end_count_as_missing(tmp_path, kind, share):
    data = made(kind)
    there = data[: int(share * len(data))]
    short, long = read(tmp_path, there), read(tmp_path, there + bytes(len(data) - len(there)))
    if share < 0.25:
        assert short is long is None
    else:
        assert long.facts.is_damaged and long.image.size == short.image.size


def test_zeros_after_the_end_and_holes_inside_are_harmless(tmp_path):
    for kind in ("baseline", "png", "webp"):
        data = made(kind)
        assert not read(tmp_path, data + bytes(4_096)).facts.is_damaged
        third = len(data) // 3
        read(tmp_path, data[:third] + bytes(third) + data[2 * third :])


def test_the_picture_inside_the_header_is_not_taken_for_the_photo(tmp_path):
    """A thumbnail in the EXIF block has an end mark of its own."""
    thumbnail = encoded("JPEG", photo().resize((80, 60)))
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    data = encoded("JPEG", exif=block)
    assert data.count(b"\xff\xd9") == 2
    assert read(tmp_path, data[: len(data) * 9 // 10]).facts.is_damaged
    for end in (10, 500, len(block) - 300, len(block) + 30):
        assert read(tmp_path, data[:end]) is None


def test_a_damaged_photo_is_cut_before_it_is_turned_upright(tmp_path):
    data = encoded("JPEG", exif=exif_block({0x0112: 6}))
    rest = read(tmp_path, data[: len(data) * 6 // 10])
    assert (rest.facts.width, rest.facts.height) == (HEIGHT, WIDTH)
    assert rest.image.height == WIDTH and rest.image.width < HEIGHT


@pytest.mark.parametrize("format_name", ["GIF", "TIFF", "BMP", "AVIF"])
def test_other_formats_stay_failures(tmp_path, format_name):
    data = encoded(format_name)
    assert read(tmp_path, data[: len(data) * 8 // 10]) is None


def test_a_multi_picture_file_is_judged_by_its_first_picture(tmp_path):
    data = encoded("MPO", save_all=True, append_images=[photo().rotate(90)])
    first = data.index(b"\xff\xd9\xff\xd8") + 2
    assert not read(tmp_path, data[:-500]).facts.is_damaged
    assert not read(tmp_path, data[: first + 100]).facts.is_damaged
    rest = read(tmp_path, data[: first * 7 // 10])
    assert rest.facts.is_damaged and rest.image.height < HEIGHT


def test_a_whole_photo_is_never_completed_and_no_option_of_pillow_changes(tmp_path, monkeypatch):
    cut = encoded("JPEG")[:-3000]
    assert read(tmp_path, cut).facts.is_damaged
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    monkeypatch.setattr(truncated, "completed", None)
    for kind in LINE_BY_LINE:
        picture = read(tmp_path, made(kind))
        read(tmp_path, made(kind), known=[picture.content_hash])


@pytest.mark.skipif(not ROWS, reason="no truncated files beside the repository")
@pytest.mark.parametrize("draft_side", [0, 64, 512])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_a_file_is_treated_as_its_case_says(row, draft_side):
    try:
        picture = read_picture(str(CASES / row["file"]), draft_side=draft_side)
    except SkipPhoto:
        assert not row["indexed"]
    else:
        assert row["indexed"]
        assert row["is_damaged"] in (None, picture.facts.is_damaged)


# The index


@pytest.fixture
def damaged(photos):
    """An album of six with one photo that is cut, one that is cut too early, and one without its end mark."""
    for name, end in (("lemon", 0.6), ("watermelon", 0.08)):
        data = (photos / f"{name}.jpg").read_bytes()
        (photos / f"{name}.jpg").write_bytes(data[: int(end * len(data))])
    (photos / "banana.jpg").write_bytes((photos / "banana.jpg").read_bytes()[:-2])
    return photos


def test_damaged_photos_are_indexed_counted_found_and_listed(imgsearch, damaged):
    done = imgsearch("index", damaged, "--model", "builtin")
    assert done.code == 3 and "indexed 5 photos, 1 of them damaged, 1 skipped" in done.err
    (hit,) = imgsearch("query", "fruit", "--has", "damage", "--json", "--metadata").records
    assert hit["path"] == str(damaged / "lemon.jpg") and hit["is_damaged"] is True
    stated = {
        record["path"]: record["is_damaged"] for record in imgsearch("query", "a", "--json", "--metadata").records
    }
    assert stated.pop(hit["path"]) and len(stated) == 4 and set(stated.values()) == {False}
    assert [len(imgsearch("failures", *more, "--json").records) for more in ((), ("--all",))] == [1, 2]
    listed = {Path(one["path"]).name: one for one in imgsearch("failures", "--all", "--json").records}
    assert {name: one["is_damaged"] for name, one in listed.items()} == {"watermelon.jpg": False, "lemon.jpg": True}
    assert imgsearch("failures", "--all").lines[0].startswith(f"{damaged}/lemon.jpg\tdecode\tdamaged: ")
    assert imgsearch("status", "--json").records[0]["damaged"] == 1
    assert imgsearch("check", "--deep").code == 0
    assert imgsearch("prune").code == 0
    assert imgsearch("dupes").code in (0, 1)


def test_a_damaged_photo_alone_is_no_failure_and_stays_damaged_when_it_moves(imgsearch, damaged):
    (damaged / "watermelon.jpg").unlink()
    done = imgsearch("index", damaged, "--model", "builtin", "--json")
    assert done.code == 0 and done.records[-1]["damaged"] == 1
    (damaged / "lemon.jpg").rename(damaged / "renamed.jpg")
    again = imgsearch("index", "--json").records[-1]
    assert (again["reused"], again["damaged"]) == (1, 1)
    assert imgsearch("query", "fruit", "--has", "damage", "-l").lines == [str(damaged / "renamed.jpg")]
    lines = imgsearch("export", "-").records
    stated = {Path(one["path"]).name: one["is_damaged"] for one in lines if one["record"] == "photo"}
    assert stated.pop("renamed.jpg") is True and set(stated.values()) == {False}


def test_a_failure_of_an_older_version_is_tried_again(imgsearch, damaged, tmp_path):
    (damaged / "watermelon.jpg").unlink()
    imgsearch("index", damaged, "--model", "builtin")
    with contextlib.closing(sqlite3.connect(tmp_path / "index" / "catalog.sqlite3")) as database, database:
        database.execute(
            """
            insert into failures
            select root_id, folder, name, size, mtime_ns, 'decode', 'truncated', 'imgsearch-decode/1', 0, indexed_at
            from photos where name = cast('lemon.jpg' as blob)
            """
        )
        database.execute("delete from photos where name = cast('lemon.jpg' as blob)")
    downgrade(tmp_path / "index", 4)
    done = imgsearch("index")
    assert done.code == 0 and "indexed 1 photo" in done.err and "1 of them damaged" in done.err
    assert imgsearch("failures").lines == []


def test_a_damaged_photo_has_a_thumbnail(damaged):
    with DecodePool(1) as pool:
        jpeg = pool.thumbnail(str(damaged / "lemon.jpg"), 96).jpeg
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.width == 96 and 0 < image.height < 96
