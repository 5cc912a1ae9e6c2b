"""Facts: what a header and its sidecars say, and that nothing in them can do harm."""

from __future__ import annotations

import io
import math
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from imgsearch.core.photos.decode import read_picture
from imgsearch.core.photos.exif import read_tags, tags_in
from imgsearch.core.photos.facts import facts_of
from imgsearch.core.photos.header import Header, SidecarContent
from imgsearch.core.photos.texts import clean, is_boilerplate
from imgsearch.core.types import CarriedText, Facts, Sidecar

from pictures import corners, exif_block, jpeg_with_iptc, save, xmp, xmp_list


def facts_in(path, **options) -> Facts:
    return read_picture(str(path), **options).facts


def beside(*names: str) -> tuple[Sidecar, ...]:
    return tuple(Sidecar(name, 0, 0) for name in names)


# Exposure, camera, time, place


def test_the_header_of_a_camera_becomes_facts(tmp_path):
    block = exif_block(
        {0x010F: "NIKON CORPORATION\x00", 0x0110: "NIKON D70\x00\x00", 0x0112: 6, 0x4746: 4, 0x010E: "Harbour at dusk"},
        {
            0x9003: "2024:07:01 18:03:11",
            0x9011: "+02:00",
            0x829A: IFDRational(1, 250),
            0x829D: IFDRational(28, 10),
            0x8827: 400,
            0x920A: IFDRational(50, 1),
            0xA405: 75,
            0xA434: "50mm f/1.8",
        },
        {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0), 5: b"\x00", 6: IFDRational(125, 10)},
    )
    assert facts_in(save(tmp_path / "a.jpg", exif=block)) == Facts(
        format="JPEG",
        width=64,
        height=96,
        orientation=6,
        taken_at="2024-07-01T18:03:11",
        taken_offset="+02:00",
        date_from="exif",
        camera_make="NIKON CORPORATION",
        camera="D70",
        lens="50mm f/1.8",
        exposure_seconds=0.004,
        f_number=2.8,
        iso=400,
        focal_length_mm=50.0,
        focal_length_35mm=75.0,
        latitude=-33.8583333,
        longitude=151.21,
        altitude_m=12.5,
        rating=4,
        texts=(CarriedText("Harbour at dusk", "exif:ImageDescription"),),
    )


def test_a_picture_without_a_header_has_only_its_shape(tmp_path):
    assert facts_in(save(tmp_path / "a.png")) == Facts(format="PNG", width=96, height=64)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_every_container_of_exif_is_read(tmp_path, suffix):
    block = exif_block({0x010F: "Canon", 0x0110: "Canon EOS 6D"}, {0x9003: "2019:06:06 07:29:51"})
    facts = facts_in(save(tmp_path / f"a.{suffix}", exif=block))
    assert (facts.camera_make, facts.camera, facts.taken_at) == ("Canon", "EOS 6D", "2019-06-06T07:29:51")


@pytest.mark.parametrize(
    "written, taken",
    [
        ("2024:07:01 18:03:11", "2024-07-01T18:03:11"),
        ("2024-07-01T18:03:11.25", "2024-07-01T18:03:11"),
        ("2024:07:01", "2024-07-01T00:00:00"),
        ("0000:00:00 00:00:00", None),
        ("2024:13:01 18:03:11", None),
        ("2024:02:30 18:03:11", None),
        ("2024:07:01 25:03:11", None),
        ("    :  :     :  :  ", None),
        ("1234:01:01 00:00:00", None),
        ("yesterday", None),
    ],
)
def test_a_date_is_a_date_or_nothing(tmp_path, written, taken):
    assert facts_in(save(tmp_path / "a.jpg", exif=exif_block(exif={0x9003: written}))).taken_at == taken


def test_the_date_of_the_shot_is_preferred_to_the_date_of_the_file(tmp_path):
    both = exif_block({0x0132: "2024:01:01 00:00:00"}, {0x9004: "2001:02:03 04:05:06", 0x9012: "-05:00"})
    facts = facts_in(save(tmp_path / "both.jpg", exif=both))
    assert (facts.taken_at, facts.taken_offset) == ("2001-02-03T04:05:06", "-05:00")
    packet = xmp("<photoshop:DateCreated>1999-12-31T23:59:58Z</photoshop:DateCreated>")
    facts = facts_in(save(tmp_path / "x.jpg", exif=exif_block({0x0132: "2024:01:01 00:00:00"}), xmp=packet))
    assert (facts.taken_at, facts.taken_offset) == ("1999-12-31T23:59:58", "+00:00")
    assert (
        facts_in(save(tmp_path / "f.jpg", exif=exif_block({0x0132: "2024:01:01 00:00:00"}))).taken_at
        == "2024-01-01T00:00:00"
    )


@pytest.mark.parametrize("offset", ["+25:00", "02:00", "+2", "\x00", "      "])
def test_a_malformed_offset_is_dropped_and_the_time_kept(tmp_path, offset):
    facts = facts_in(save(tmp_path / "a.jpg", exif=exif_block(exif={0x9003: "2024:07:01 18:03:11", 0x9011: offset})))
    assert (facts.taken_at, facts.taken_offset) == ("2024-07-01T18:03:11", None)


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (10.0, 0.0, 0.0), 3: "E", 4: (181.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (IFDRational(1, 0), 0.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (10.0, 99.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (10.0, 0.0, 0.0)},
    ],
)
def test_an_impossible_place_is_no_place(tmp_path, gps):
    facts = facts_in(save(tmp_path / "a.jpg", exif=exif_block(gps=gps)))
    assert (facts.latitude, facts.longitude, facts.altitude_m) == (None, None, None)


def test_west_is_negative_and_below_the_sea_too(tmp_path):
    gps = {1: "N", 2: (31.0, 30.0, 0.0), 3: "W", 4: (35.0, 15.0, 0.0), 5: b"\x01", 6: 430.0}
    facts = facts_in(save(tmp_path / "a.jpg", exif=exif_block(gps=gps)))
    assert (facts.latitude, facts.longitude, facts.altitude_m) == (31.5, -35.25, -430.0)


def test_zero_denominators_are_nothing(tmp_path):
    zero = IFDRational(1, 0)
    facts = facts_in(save(tmp_path / "a.jpg", exif=exif_block(exif={0x829A: zero, 0x829D: zero, 0x920A: zero})))
    assert (facts.exposure_seconds, facts.f_number, facts.focal_length_mm) == (None, None, None)


@pytest.mark.parametrize(
    "make, model, camera",
    [
        ("Canon", "Canon EOS 6D", "EOS 6D"),
        ("NIKON CORPORATION", "NIKON D70", "D70"),
        ("SONY", "ILCE-7M3", "ILCE-7M3"),
        ("Canon", "Canon", "Canon"),
        ("  FUJIFILM ", "X-T3\x00junk", "X-T3"),
    ],
)
def test_the_make_is_not_repeated_in_the_model(tmp_path, make, model, camera):
    assert facts_in(save(tmp_path / "a.jpg", exif=exif_block({0x010F: make, 0x0110: model}))).camera == camera


# Texts and keywords


def test_texts_of_all_kinds_are_found_once_each(tmp_path):
    block = exif_block(
        {
            0x010E: "Two dogs on a beach",
            0x9C9B: "Dogs".encode("utf-16-le"),
            0x9C9C: "They ran all day".encode("utf-16-le"),
            0x9C9E: "dog;beach;Dog".encode("utf-16-le"),
        },
        {0x9286: b"UNICODE\x00" + "Übermut am Meer".encode("utf-16-le")},
    )
    packet = xmp(xmp_list("dc:description", "two dogs on a  beach") + xmp_list("dc:title", "At the sea"))
    facts = facts_in(save(tmp_path / "a.jpg", exif=block, xmp=packet))
    assert facts.keywords == ("dog", "beach")
    assert facts.texts == (
        CarriedText("At the sea", "xmp:dc:title"),
        CarriedText("two dogs on a beach", "xmp:dc:description"),
        CarriedText("Dogs", "exif:XPTitle"),
        CarriedText("They ran all day", "exif:XPComment"),
        CarriedText("Übermut am Meer", "exif:UserComment"),
        CarriedText("dog, beach", "exif:XPKeywords"),
    )


def test_iptc_is_read(tmp_path):
    path = jpeg_with_iptc(
        tmp_path / "a.jpg",
        (5, b"Regatta"),
        (105, "Segel über Kiel".encode()),
        (120, b"Boats in the caf\xe9 harbour"),
        (25, b"boat"),
        (25, b"sea"),
        (55, b"20190607"),
        (60, b"112233+0200"),
    )
    facts = facts_in(path)
    assert facts.texts == (
        CarriedText("Regatta", "iptc:object-name"),
        CarriedText("Segel über Kiel", "iptc:headline"),
        CarriedText("Boats in the café harbour", "iptc:caption"),
        CarriedText("boat, sea", "iptc:keywords"),
    )
    assert (facts.keywords, facts.taken_at, facts.taken_offset) == (("boat", "sea"), "2019-06-07T11:22:33", "+02:00")


@pytest.mark.parametrize(
    "raw, read",
    [
        ("Zürich im Regen".encode(), "Zürich im Regen"),
        ("Zürich im Regen".encode("latin-1"), "Zürich im Regen"),
        ("“Quoted” evening".encode("cp1252"), "“Quoted” evening"),
        (b"A cat\x00\x00\x00garbage after it", "A cat"),
    ],
)
def test_a_description_is_read_in_the_encoding_it_was_written_in(tmp_path, raw, read):
    block = exif_block({0x010E: "~" * len(raw)}).replace(b"~" * len(raw), raw)
    assert [each.text for each in facts_in(save(tmp_path / "a.jpg", exif=block)).texts] == [read]


@pytest.mark.parametrize(
    "raw, read",
    [
        (b"ASCII\x00\x00\x00A quiet lane", "A quiet lane"),
        (b"UNICODE\x00" + "A quiet lane".encode("utf-16-be"), "A quiet lane"),
        (b"UNICODE\x00" + "海辺の夕日".encode("utf-16-le"), "海辺の夕日"),
        (b"UNICODE\x00" + "海辺の夕日".encode("utf-16-be"), "海辺の夕日"),
        (b"UNICODE\x00" + "Закат над морем".encode("utf-16-be"), "Закат над морем"),
        (b"JIS\x00\x00\x00\x00\x00" + "猫".encode("iso2022_jp"), "猫"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00A quiet lane", "A quiet lane"),
        (b"no prefix at all here", "no prefix at all here"),
    ],
)
def test_a_user_comment_is_read_in_its_character_set(tmp_path, raw, read):
    assert [each.text for each in facts_in(save(tmp_path / "a.jpg", exif=exif_block(exif={0x9286: raw}))).texts] == [
        read
    ]


def test_the_texts_of_a_png_are_read(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Title", "A drawn harbour")
    info.add_itxt("Description", "Ein Hafen für Boote")
    info.add_text("Comment", "Created with GIMP")
    info.add_text("Author", "someone")
    assert facts_in(save(tmp_path / "a.png", pnginfo=info)).texts == (
        CarriedText("A drawn harbour", "png:Title"),
        CarriedText("Ein Hafen für Boote", "png:Description"),
    )


@pytest.mark.parametrize(
    "words",
    """OLYMPUS DIGITAL CAMERA|SONY DSC|DCIM\\100MEDIA\\DJI_0001.JPG|Exif_JPEG_PICTURE|SAMSUNG CAMERA PICTURES
    MINOLTA DIGITAL CAMERA|KONICA MINOLTA DIGITAL CAMERA|Asus|Adobe Photoshop CS5 Windows|Created with GIMP|default
    untitled|IMG_1234|IMG_20240701_180311.jpg|DSC00123|P1010101|20240701|12:33 - 14.5|...|-|null|Picasa 3.0
    DC0003M|hdrpl|Processed with VSCO with c1 preset|{"filter":0,"sdk":1}|ACD Systems Digital Imaging|{}
    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08|charset=Ascii|ImageMagick 6.9.1|(null)""".replace(
        "\n    ", "|"
    ).split("|"),
)
def test_a_machines_own_words_are_not_taken_for_a_caption(tmp_path, words):
    assert facts_in(save(tmp_path / "a.jpg", exif=exif_block({0x010E: words}))).texts == ()


@pytest.mark.parametrize(
    "words",
    """cat|A dog|Microsoft campus at dusk|Created by my daughter at school|Shot on the beach at dawn|猫|夕日
    Untitled, oil on canvas|Photo of 3 boats|Hotel California 1977|Paint drying|Samsung building, Seoul|dog, cat, sea
    Olympus mountain from the sea|Room 101|Default city|My office in Berlin""".replace("\n    ", "|").split("|"),
)
def test_a_persons_words_are_kept(words):
    assert not is_boilerplate(clean(words))


def test_the_name_of_the_camera_or_program_is_no_caption(tmp_path):
    block = exif_block(
        {
            0x010E: "FinePix X Special",
            0x0110: "FinePix X Special",
            0x9C9C: "Own Editor".encode("utf-16-le"),
            0x0131: "Own Editor",
        }
    )
    assert facts_in(save(tmp_path / "a.jpg", exif=block)).texts == ()


def test_texts_are_bounded_and_free_of_control_characters(tmp_path):
    packet = xmp(
        xmp_list("dc:description", "long words " * 1_000)
        + xmp_list("dc:subject", *(f"keyword {number} " + "very long " * 30 for number in range(500)))
    )
    facts = facts_in(save(tmp_path / "a.png", pnginfo=_with_xmp(packet)))
    assert [len(each.text) <= 2_000 for each in facts.texts] == [True, True]
    assert len(facts.keywords) == 64
    assert 90 < max(map(len, facts.keywords)) <= 100
    assert clean("a\x00b\x1b[31m\u202e \t\n\ud800c\u0085d") == "ab[31m\u202e c d"


def _with_xmp(packet: bytes):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    return info


# XMP and sidecars


def test_xmp_gives_rating_keywords_title_and_place(tmp_path):
    packet = xmp(
        xmp_list("dc:subject", "tower", "night")
        + xmp_list("dc:title", "The tower")
        + xmp_list("dc:description", "Lit from below"),
        'xmp:Rating="3" exif:GPSLatitude="48,51.5N" exif:GPSLongitude="2,17.67W" exif:GPSAltitude="33/1"',
    )
    facts = facts_in(save(tmp_path / "a.webp", xmp=packet))
    assert (facts.rating, facts.keywords) == (3, ("tower", "night"))
    assert (round(facts.latitude, 4), round(facts.longitude, 4), facts.altitude_m) == (48.8583, -2.2945, 33.0)
    assert [each.source for each in facts.texts] == ["xmp:dc:title", "xmp:dc:description", "xmp:dc:subject"]


@pytest.mark.parametrize(
    "stated, rating", [("-1", -1), ("5", 5), ("4.0", 4), ("6", None), ("-2", None), ("nan", None), ("many", None)]
)
def test_a_rating_is_between_rejected_and_five(tmp_path, stated, rating):
    assert facts_in(save(tmp_path / "a.jpg", xmp=xmp(attributes=f'xmp:Rating="{stated}"'))).rating == rating


def test_a_sidecar_is_right_where_it_disagrees(tmp_path):
    block = exif_block({0x010E: "old words", 0x4746: 1}, {0x9003: "2001:01:01 01:01:01", 0x9011: "+01:00"})
    embedded = xmp(xmp_list("dc:title", "Old title") + xmp_list("dc:subject", "old"))
    path = save(tmp_path / "a.jpg", exif=block, xmp=embedded)
    fresh = xmp(
        xmp_list("dc:title", "New title")
        + xmp_list("dc:subject", "new", "better")
        + xmp_list("dc:description", "New words"),
        'xmp:Rating="5" exif:DateTimeOriginal="2002-02-02T02:02:02+02:00"',
    )
    (tmp_path / "a.jpg.xmp").write_bytes(fresh)
    (tmp_path / "a.txt").write_text("\ufeffTold at length beside it\n", encoding="utf-8")
    facts = facts_in(path, sidecars=beside("a.jpg.xmp", "a.txt"))
    assert (facts.rating, facts.keywords) == (5, ("new", "better"))
    assert (facts.taken_at, facts.taken_offset) == ("2002-02-02T02:02:02", "+02:00")
    assert facts.texts == (
        CarriedText("New title", "sidecar:a.jpg.xmp:dc:title"),
        CarriedText("New words", "sidecar:a.jpg.xmp:dc:description"),
        CarriedText("Told at length beside it", "sidecar:a.txt"),
        CarriedText("new, better", "sidecar:a.jpg.xmp:dc:subject"),
    )


def test_a_sidecar_that_says_nothing_of_something_leaves_it(tmp_path):
    path = save(tmp_path / "a.jpg", exif=exif_block({0x010E: "embedded words", 0x4746: 2}))
    (tmp_path / "a.xmp").write_bytes(xmp(xmp_list("dc:title", "Only a title")))
    facts = facts_in(path, sidecars=beside("a.xmp"))
    assert facts.rating == 2
    assert [each.text for each in facts.texts] == ["Only a title", "embedded words"]


def test_a_sidecars_undecodable_name_makes_a_clean_source(tmp_path):
    path = save(tmp_path / "a.jpg")
    name = b"a\xff.txt"
    (tmp_path / name.decode("utf-8", "surrogateescape")).write_text("a word or two")
    (text,) = facts_in(path, sidecars=beside(name.decode("utf-8", "surrogateescape"))).texts
    assert text == CarriedText("a word or two", "sidecar:a\\xff.txt")
    text.source.encode("utf-8")


def test_missing_and_invalid_sidecars_are_ignored(tmp_path):
    import os

    path = save(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    assert facts_in(path, sidecars=beside("gone.txt", "pipe.txt", "folder.txt")).texts == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_a_text_beside_a_photo_is_read_in_its_encoding(tmp_path, encoding):
    path = save(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_bytes("Füchse im Schnee".encode(encoding))
    assert [each.text for each in facts_in(path, sidecars=beside("a.txt")).texts] == ["Füchse im Schnee"]


# Hostile data


def test_entities_in_xmp_are_neither_expanded_nor_fetched(tmp_path):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    packet = (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]>'.encode()
        + xmp(xmp_list("dc:title", "&l9;"))[50:]
    )
    facts = facts_in(save(tmp_path / "a.jpg"), sidecars=())
    header = Header("JPEG", 1, 1, 1, tags_in(b""), packet)
    assert facts_of(header).texts == facts.texts == ()


def test_a_directory_that_claims_the_file_a_thousand_times_over_costs_nothing():
    rows = b"".join(struct.pack("<HHLL", tag, 7, 0xFFFFFFFF, 8) for tag in range(60_000))
    block = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 60_000) + rows + b"\x00" * 4
    tags = tags_in(block)
    assert len(tags.main.data(0x0100) or b"") <= 64 * 1024
    assert facts_of(Header("PNG", 1, 1, 1, tags)).texts == ()


def test_directories_that_point_at_themselves_end():
    rows = struct.pack("<HHLL", 0x014A, 4, 1, 8) + struct.pack("<HHLL", 0x8769, 4, 1, 8)
    tags = tags_in(b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 2) + rows + b"\x00" * 4)
    assert not tags.holds_sensor_data
    assert tags.orientation == 1


def test_bigtiff_and_both_byte_orders_are_read():
    for order, mark in (("<", b"II"), (">", b"MM")):
        small = mark + struct.pack(order + "HLH", 42, 8, 1) + struct.pack(order + "HHLHH", 0x0112, 3, 1, 6, 0)
        big = (
            mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, 1) + struct.pack(order + "HHQHHL", 0x0112, 3, 1, 8, 0, 0)
        )
        assert (tags_in(small).orientation, tags_in(big).orientation) == (6, 8)


def test_a_fraction_over_zero_is_not_a_number():
    row = struct.pack("<HHLL", 0x829A, 5, 1, 26)
    tags = tags_in(b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + row + b"\x00" * 4 + struct.pack("<LL", 1, 0))
    assert math.isnan(tags.main.numbers(0x829A)[0])
    assert tags.main.number(0x829A) is None


_slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_rows = st.lists(
    st.tuples(
        st.sampled_from([0x010E, 0x010F, 0x0110, 0x0112, 0x0132, 0x014A, 0x4746, 0x8769, 0x8825, 0x829A, 0x829D, 0x8827,
                         0x9003, 0x9011, 0x9201, 0x9286, 0x9C9B, 0x9C9E, 0xA434, 0x02BC, 1, 2, 3, 4, 5, 6]),
        st.integers(0, 20),
        st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1)),
        st.one_of(st.integers(0, 400), st.integers(0, 2**32 - 1)),
    ),
    max_size=24,
)  # fmt: skip


@_slow
@given(_rows, st.binary(max_size=300), st.sampled_from("<>"))
def test_no_directory_of_tags_raises(rows, tail, order):
    table = b"".join(struct.pack(order + "HHLL", *row) for row in rows)
    mark = b"II" if order == "<" else b"MM"
    block = mark + struct.pack(order + "HLH", 42, 8, len(rows)) + table + tail
    _assert_facts_are_sane(facts_of(Header("JPEG", 1, 1, 1, read_tags(io.BytesIO(block)))))


@_slow
@given(st.binary(max_size=500))
def test_no_block_of_bytes_raises(block):
    _assert_facts_are_sane(facts_of(Header("JPEG", 1, 1, 1, tags_in(block), block), [SidecarContent("a.xmp", block)]))


_names = st.sampled_from(["dc:title", "dc:subject", "xmp:Rating", "exif:GPSLatitude", "photoshop:DateCreated"])
_some_bytes = st.one_of(st.none(), st.binary(max_size=80))
_datasets = st.sampled_from([(2, 5), (2, 25), (2, 55), (2, 60), (2, 105), (2, 120)])


@_slow
@given(st.lists(st.tuples(_names, st.text(st.characters(exclude_categories=["Cs"]), max_size=60)), max_size=8))
def test_no_packet_raises(properties):
    from xml.sax.saxutils import escape

    body = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in properties)
    packet = xmp(body.encode("utf-8", "replace").decode())
    _assert_facts_are_sane(facts_of(Header("JPEG", 1, 1, 1, tags_in(b""), packet), [SidecarContent("b.xmp", packet)]))


@_slow
@given(st.dictionaries(_datasets, st.one_of(_some_bytes, st.lists(_some_bytes))))
def test_no_iptc_raises(iptc):
    _assert_facts_are_sane(facts_of(Header("JPEG", 1, 1, 1, tags_in(b""), None, iptc)))


@_slow
@given(st.binary(min_size=1, max_size=2_000), st.integers(0, 1_000))
def test_no_damage_inside_a_jpeg_raises_anything_but_a_reason(tmp_path_factory, junk, place):
    from imgsearch.core.types import NotAPicture, SkipPhoto

    buffer = io.BytesIO()
    corners().save(buffer, "JPEG", exif=exif_block({0x010E: "A text"}, {0x9003: "2024:07:01 18:03:11"}), xmp=xmp())
    data = bytearray(buffer.getvalue())
    data[place : place + len(junk)] = junk
    path = tmp_path_factory.mktemp("damaged") / "a.jpg"
    path.write_bytes(data)
    try:
        _assert_facts_are_sane(read_picture(str(path)).facts)
    except (SkipPhoto, NotAPicture) as refusal:
        assert "\n" not in str(refusal)


def _assert_facts_are_sane(facts: Facts) -> None:
    for each in facts.texts:
        each.text.encode("utf-8")
        assert 0 < len(each.text) <= 2_000
        assert each.text.isprintable() or "\u200d" in each.text or any(ord(c) > 0x7F for c in each.text)
    assert len(facts.texts) <= 16
    assert len(facts.keywords) <= 64
    for number in (facts.latitude, facts.longitude, facts.altitude_m, facts.exposure_seconds, facts.f_number):
        assert number is None or math.isfinite(number)
    assert facts.rating is None or -1 <= facts.rating <= 5
    assert facts.iso is None or facts.iso > 0


def test_header_facts_need_no_pixels(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", exif=exif_block({0x010F: "Canon"}))
    digest = read_picture(path).content_hash
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    again = read_picture(path, known={digest})
    assert (again.image, again.facts.camera_make) == (None, "Canon")
