"""Google Takeout: every photo gets the date, place and description of its own JSON file, and of no other."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgsearch.core.photos import gazetteer, takeout, timezones
from imgsearch.core.photos.header import MAX_TAKEOUT_BYTES
from imgsearch.core.photos.takeout_names import pair

from conftest import ALBUM, IS_LONG, cpu_seconds, downgrade, from_album

NEW = ".supplemental-metadata"
LONG = "Backyard_ceremony_wedding_photography_xxxxxxx_"  # 46 characters
EMOJI = "😀😃😄😁😆😅😂🤣🥲☺️😊😇🙂🙃😉😌😍🥰😘😗😙😚😋"  # 46 UTF-16 units

# Folder -> file -> its JSON file, or None. A name with `=` before the JSON file gives the title in it.
REPORTED: dict[str, dict[str, str | None]] = {
    # GooglePhotosTakeoutHelper 59, 175, 188: all three have the title IMG_1005.JPG
    "numbers": {
        "IMG_1005.JPG": "IMG_1005.JPG.json",
        "IMG_1005(1).JPG": "IMG_1005.JPG(1).json",
        "IMG_1005(2).JPG": "IMG_1005.JPG(2).json",
    },
    "number without a file": {"DSC_0104.JPG": "DSC_0104.JPG.json", "DSC_0104(1).JPG": None},
    "number without a photo": {"DSC_0103.JPG": None, "DSC_0102(1).JPG": None, "-": "DSC_0103.JPG(1).json"},
    "case": {"IMG_4081(1).jpg": "IMG_4081.JPG(1).json", "197_197.jpg": "197_197.JPG.json"},
    "both cases": {"a.jpg": "a.jpg.json", "a.JPG": "a.JPG.json"},
    # immich 30319, GooglePhotosTakeoutHelper 375
    "new numbers": {
        "2025-04-28.jpg": f"2025-04-28.jpg{NEW}.json",
        "2025-04-28(3516).jpg": f"2025-04-28.jpg{NEW}(3516).json",
        "Screenshot_20231027_123303_Facebook.jpg": "Screenshot_20231027_123303_Facebook.jpg.supple.json",
        "Screenshot_20231027_123303_Facebook(1).jpg": "Screenshot_20231027_123303_Facebook.jpg.supple(1).json",
    },
    # ente 4956, immich-go 613
    "cuts": {
        "PXL_20241231_151646544.MP.jpg": "PXL_20241231_151646544.MP.jpg.supplemental-met.json",
        "PXL_20240827_094331806.PORTRAIT(1).jpg": "PXL_20240827_094331806.PORTRAIT.jpg.supplement(1).json",
        "PXL_20240506_142610305.LONG_EXPOSURE-01.COVER.jpg": "PXL_20240506_142610305.LONG_EXPOSURE-01.COVER..json",
        "PXL_20211120_223243932.MOTION-02.ORIGINAL.jpg": "PXL_20211120_223243932.MOTION-02.ORIGINAL.jpg..json",
        "21345678901234567890123456789012345678901234567.jpg": "2134567890123456789012345678901234567890123456.json",
        "13039_327707840323_537645323_9470255_27214_n(1).jpg": "13039_327707840323_537645323_9470255_27214_n.j(1).json",
        "Ürlaub ïn Knaufspesch ïn dér Schnéifel (38).JPG": "Ürlaub ïn Knaufspesch ïn dér Schnéifel (38).JP.json",
        f"{EMOJI}😛.jpg": f"{EMOJI}.json",
        "skytree (2).jpg": f"skytree (2).jpg{NEW}.json",
    },
    # TakeoutExtractor 23: names that are equal up to the cut
    "same cut": {
        f"{LONG}m(494).jpg": f"{LONG}mother.jpg={LONG}(494).json",
        f"{LONG}m(185).jpg": f"{LONG}much.jpg={LONG}(185).json",
        f"{LONG}m.jpg": f"{LONG}mine.jpg={LONG}.json",
        f"{LONG}n.jpg": None,
        f"{LONG}m(500).jpg": None,
    },
    # GooglePhotosTakeoutHelper 369, immich-go 674, 756: uploaded without an extension
    "no extension": {
        "2013-12-23(1).jpg": f"2013-12-23{NEW}(1).json",
        "Peanut Butter Balls.jpg": f"Peanut Butter Balls{NEW}.json",
        "2234089303984509579.jpg": f"2234089303984509579{NEW}.json",
        "2234089303984509579-edited.jpg": f"2234089303984509579{NEW}.json",
        "2013-08-22.jpg": "2013-08-22.json",
    },
    "no extension, two photos": {"a.jpg": None, "a.jpeg": None, "-": "a.json"},
    # immich-go 698, 1419, GooglePhotosTakeoutHelper 217, 243
    "edited": {
        "IMG-20230325-WA0122~2.jpg": "IMG-20230325-WA0122~2.jpg.supplemental-metadat.json",
        "IMG-20230325-WA0122~2-edited.jpg": "IMG-20230325-WA0122~2.jpg.supplemental-metadat.json",
        "Negative0-36-35(1).jpg": f"Negative0-36-35(1).jpg{NEW}.json",
        "Negative0-36-35(1)-editat.jpg": f"Negative0-36-35(1).jpg{NEW}.json",
        "Negative0-36-35(1)(1).jpg": f"Negative0-36-35(1).jpg{NEW}(1).json",
        "Negative0-36-35(1)-editat(1).jpg": f"Negative0-36-35(1).jpg{NEW}(1).json",
        "08-21-07_1547-modifié.jpg": "08-21-07_1547.jpg.json",
        "2021-05-22 23.19.26-ha editado.jpeg": "2021-05-22 23.19.26.jpeg.json",
        "20220322_205147-edited(1).jpg": f"20220322_205147.jpg{NEW}(1).json",
        "image(3)-edited.jpg": "image.jpg(3).json",
        "own-edited.jpg": "own-edited.jpg.json",
        "own.jpg": "own.jpg.json",
    },
    "edited at the limit": {
        "holiday photo with a rather long name in it.jpg": "holiday photo with a rather long name in it.jp.json",
        "holiday photo with a rather long name in it-edi.jpg": "holiday photo with a rather long name in it.jp.json",
    },
    "edited in another format": {
        "-": "IMG_4269.HEIC.json",
        "IMG_4269.HEIC": "IMG_4269.HEIC.json",
        "IMG_4269-edited.jpg": "IMG_4269.HEIC.json",
    },
    "not edited": {"garden.jpg": "garden.jpg.json", "garden-party.jpg": None, "garden-2.jpg": None, "gard.jpg": None},
    "lost characters": {"what_s up_.jpg": f"what's up?.jpg=what's up_.jpg{NEW}.json", "a&b.jpg": "a_b.jpg.json"},
    "album": {"metadata.jpg": None, "--": "metadata.json", "-": "metadata(1).json"},
    "films": {"IMG_5.jpg": None, "IMG_5.MP4": "IMG_5.MP4.json", "IMG_6.jpg": "IMG_6.jpg.json", "IMG_6.MP4": None},
    "two exports": {"a.jpg": f"a.jpg{NEW}.json", "-": "a.jpg.json"},
}


def exported(timestamp: object = "1533998721", **more: object) -> str:
    nowhere = {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0, "latitudeSpan": 0.0, "longitudeSpan": 0.0}
    record = {
        "title": "a.jpg",
        "description": "",
        "photoTakenTime": {"timestamp": timestamp, "formatted": ""},
        "geoData": nowhere,
        "geoDataExif": nowhere,
    }
    return json.dumps(record | more)


def facts(imgsearch, folder: Path) -> dict[str, dict]:
    """What the index says of the photos of a folder, by path."""
    records = [each for each in imgsearch("export", "-").records if each["record"] == "photo"]
    return {os.path.relpath(each["path"], folder): each for each in records}


def test_the_cases_have_the_date_place_and_description_that_their_list_says(imgsearch, shared, tmp_path):
    cases = shutil.copytree(shared / "cases" / "takeout", tmp_path / "takeout", copy_function=shutil.copyfile)
    cases.chmod(0o755)
    for folder in cases.glob("*/"):
        folder.chmod(0o755)
    with Image.open(cases / "exif" / "kept.jpg") as image:
        if not image.getexif():  # the list says that it has a date
            exif = Image.Exif()
            exif.get_ifd(0x8769).update({0x9003: "2015:06:01 08:00:00", 0x9011: "+00:00"})
            image.save(cases / "exif" / "kept.jpg", exif=exif)
    done = imgsearch("index", cases)
    assert done.code == 0
    assert [line.split("takeout/")[1] for line in done.err.splitlines() if "without it" in line] == [
        "bad/broken.jpg.json: not valid JSON; the photo is indexed without it",
        "bad/types.jpg.json: no valid photoTakenTime, geoData, description; the photo is indexed without it",
    ]
    found = facts(imgsearch, cases)
    wanted = {case["file"]: case for case in map(json.loads, (cases / "cases.jsonl").read_text().splitlines())}
    assert found.keys() == wanted.keys()
    for name, case in wanted.items():
        photo = found[name]
        moment = photo["taken_at"] and datetime.fromisoformat(f"{photo['taken_at']}{photo['taken_offset']}")
        assert moment == (case["taken_at_utc"] and datetime.fromisoformat(case["taken_at_utc"])), name
        assert (photo["latitude"], photo["longitude"]) == (case["latitude"], case["longitude"]), name
        assert [text["text"] for text in photo["texts"]] == ([case["description"]] if case["description"] else []), name
        assert photo["date_from"] == (moment and ("exif" if name.startswith("exif") else "takeout")), name
    again = imgsearch("index")
    assert "indexed 0 photos, 16 unchanged" in again.err and "without it" not in again.err


def test_the_pairings_of_public_reports(imgsearch, tmp_path):
    with Image.open(ALBUM / "lemon.jpg") as image:
        image.resize((64, 64)).save(tmp_path / "small.jpg")
    wanted: dict[str, str | None] = {}
    stamps: dict[Path, int] = {}
    for folder, files in REPORTED.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for name, file in files.items():
            *title, file = file.rsplit("=", 1) if file else (None,)
            path = tmp_path / "photos" / folder / str(file)
            if file and path not in stamps:
                stamps[path] = 1_000_000_000 + len(stamps) * 86_400
                path.write_text(exported(stamps[path], title=title[0] if title else name.replace("-edi.", ".")))
            if name.endswith(("jpg", "JPG", "jpeg", "HEIC")):
                shutil.copy(tmp_path / "small.jpg", tmp_path / "photos" / folder / name)
                wanted[f"{folder}/{name}"] = file and datetime.fromtimestamp(stamps[path], UTC).isoformat()[:19]
            elif not name.startswith("-"):
                (tmp_path / "photos" / folder / name).write_bytes(b"a film")
    assert imgsearch("index", tmp_path / "photos").code == 0
    found = facts(imgsearch, tmp_path / "photos")
    assert {name: each["taken_at"] for name, each in found.items()} == wanted


def test_the_json_file_of_a_photo_is_a_part_of_it(imgsearch, tmp_path):
    photos = from_album(tmp_path / "photos", "lemon", "banana")
    imgsearch("index", photos)
    (photos / "lemon.jpg.json").write_text(exported(description="Picked in Sorrento"))
    assert "0 new files, 1 changed" in imgsearch("index", "--dry-run").err
    assert "indexed 1 photo" in imgsearch("index").err
    hit = imgsearch("query", "lemons from Sorrento", "--modality", "text", "--json").records[0]
    assert (hit["taken_at"], hit["date_from"]) == ("2018-08-11T14:45:21+00:00", "takeout")
    assert (hit["text"], hit["text_source"]) == ("Picked in Sorrento", "sidecar:lemon.jpg.json:description")
    assert imgsearch("query", "fruit", "--after", "2018-08-11", "--before", "2018-08-11", "-l").lines == [hit["path"]]

    (photos / "lemon.jpg.json").write_text(exported("-86400", description="Picked in Capri"))
    assert "indexed 1 photo" in imgsearch("index").err
    assert facts(imgsearch, photos)["lemon.jpg"]["taken_at"] == "1969-12-31T00:00:00"
    for name in ("lemon.jpg", "lemon.jpg.json"):
        (photos / name).rename(photos / f"my {name}")
    assert imgsearch("index", "--json").records[-1]["reused"] == 1
    assert facts(imgsearch, photos)["my lemon.jpg"]["date_from"] == "takeout"
    assert imgsearch("check", "--deep").code == 0

    (photos / "my lemon.jpg.json").unlink()
    assert "indexed 1 photo" in imgsearch("index").err
    assert facts(imgsearch, photos)["my lemon.jpg"]["taken_at"] is None
    assert "indexed 0 photos, 2 unchanged" in imgsearch("index").err


needs_zones = pytest.mark.skipif(
    gazetteer.version() is None or not timezones.available(), reason="the extra [places] is not installed"
)


@needs_zones
def test_a_date_in_utc_becomes_the_local_time_of_the_place(imgsearch, tmp_path, monkeypatch):
    photos = from_album(tmp_path / "photos", "lemon", "banana")
    new_york = {"latitude": 40.7128, "longitude": -74.006, "altitude": 0.0}
    (photos / "lemon.jpg.json").write_text(exported("1533956400", geoData=new_york))  # 03:00 in UTC
    (photos / "banana.jpg.json").write_text(exported("1533956400"))

    def taken() -> list[str]:
        found = facts(imgsearch, photos)
        return [f"{found[name]['taken_at']}{found[name]['taken_offset']}" for name in ("lemon.jpg", "banana.jpg")]

    with monkeypatch.context() as patch:
        patch.setattr(timezones, "available", lambda: False)
        imgsearch("index", photos)
        assert taken() == ["2018-08-11T03:00:00+00:00"] * 2
    assert imgsearch("index", "--json").records[-1]["named_places"] == 1
    assert taken() == ["2018-08-10T23:00:00-04:00", "2018-08-11T03:00:00+00:00"]
    (photos / "lemon.jpg.json").write_text(exported("1533956400", geoData=new_york, description="Late"))
    assert "indexed 1 photo" in imgsearch("index").err  # read again
    assert taken()[0] == "2018-08-10T23:00:00-04:00"
    assert imgsearch("query", "fruit", "--on", "2018-08-10", "-l").lines == [str(photos / "lemon.jpg")]
    assert "indexed 0 photos, 2 unchanged" in imgsearch("index").err and imgsearch("check", "--deep").code == 0


@needs_zones
@pytest.mark.parametrize(
    ("instant", "where", "local"),
    [
        ("2024-03-31T00:59:59", (48.86, 2.29), ("2024-03-31T01:59:59", "+01:00")),
        ("2024-03-31T01:00:00", (48.86, 2.29), ("2024-03-31T03:00:00", "+02:00")),
        ("2020-01-01T00:00:00", (27.7, 85.3), ("2020-01-01T05:45:00", "+05:45")),
        ("2020-01-01T00:00:00", (13.45, 144.8), ("2020-01-01T10:00:00", "+10:00")),
        ("2020-01-01T00:00:00", (0.0, -30.0), ("2019-12-31T22:00:00", "-02:00")),  # at sea
        ("1850-01-01T00:00:00", (48.86, 2.29), None),  # before there were time zones
        ("0001-01-01T00:00:00", (40.71, -74.0), None),
        ("not a date", (48.86, 2.29), None),
        ("2020-01-01T00:00:00", (float("nan"), 500.0), None),
    ],
)
def test_local_time(instant, where, local):
    assert timezones.local_time(instant, *where) == local


def test_a_photo_keeps_what_it_says_itself(imgsearch, tmp_path):
    photos = from_album(tmp_path / "photos")
    exif = Image.Exif()
    exif[0x010E] = "Taken from the pier"
    exif.get_ifd(0x8769)[0x9003] = "2015:06:01 10:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (41.0, 8.0, 58.56), 3: "W", 4: (8.0, 36.0, 39.6)})
    with Image.open(ALBUM / "lemon.jpg") as image:
        image.save(photos / "pier.jpg", exif=exif)
    here = {"latitude": 48.8584, "longitude": 2.2945, "altitude": 35.5}
    (photos / "pier.jpg.json").write_text(exported(geoData=here, description="Seen by Google"))
    shutil.copy(ALBUM / "banana.jpg", photos / "plain.jpg")
    (photos / "plain.jpg.json").write_text(exported(geoDataExif=here))
    shutil.copy(ALBUM / "carrots.jpg", photos / "unknown.jpg")
    (photos / "unknown.jpg.json").write_text(exported("0"))
    assert "without it" not in imgsearch("index", photos).err
    found = facts(imgsearch, photos)
    pier = found["pier.jpg"]
    assert (pier["taken_at"], pier["taken_offset"], pier["date_from"]) == ("2015-06-01T10:00:00", None, "exif")
    assert (round(pier["latitude"], 3), round(pier["longitude"], 3)) == (41.150, -8.611)
    assert {text["text"] for text in pier["texts"]} == {"Taken from the pier", "Seen by Google"}
    assert [found["plain.jpg"][key] for key in ("latitude", "longitude", "altitude_m")] == list(here.values())
    assert found["unknown.jpg"]["taken_at"] is None


def test_an_index_of_an_older_version_gets_the_dates(imgsearch, tmp_path):
    photos = from_album(tmp_path / "photos", "lemon", "banana")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2015:06:01 10:00:00"
    with Image.open(ALBUM / "carrots.jpg") as image:
        image.save(photos / "carrots.jpg", exif=exif)
    imgsearch("index", photos)
    downgrade(tmp_path / "index", 7)
    assert imgsearch("check", "--deep").code == 0
    (photos / "lemon.jpg.json").write_text(exported())
    assert "indexed 1 photo (1 changed), 2 unchanged" in imgsearch("index").err
    found = facts(imgsearch, photos)
    assert {name: each["date_from"] for name, each in found.items()} == {
        "banana.jpg": None,
        "carrots.jpg": None,
        "lemon.jpg": "takeout",
    }
    assert imgsearch("check", "--deep").code == 0


HOSTILE: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", "not valid JSON"),
    "deep": (b'{"photoTakenTime":' + b"[" * 100_000, "not valid JSON"),
    "deep and valid": (b'{"photoTakenTime":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not valid JSON"),
    "huge": (b'{"photoTakenTime": "' + b"x" * (1 << 20) + b'"}', "larger than 256 KiB"),
    "binary": (bytes(range(256)), "not valid JSON"),
    "digits": (exported(1).replace('"timestamp": 1', '"timestamp": ' + "9" * 5000).encode(), "not valid JSON"),
    "big number": (exported(1, geoData={"latitude": 10**400, "longitude": 1}).encode(), "no valid geoData"),
    "far future": (exported("9" * 12).encode(), "no valid photoTakenTime"),
    "milliseconds": (exported("1533998721000").encode(), "no valid photoTakenTime"),
    "out of range": (exported("1", geoData={"latitude": 91, "longitude": 0}).encode(), "no valid geoData"),
    "infinite": (exported("1", geoData={"latitude": float("inf"), "longitude": 0}).encode(), "no valid geoData"),
    "true": (exported(True, geoDataExif=[1]).encode(), "no valid photoTakenTime, geoDataExif"),  # noqa: FBT003
    "nothing": (json.dumps({"photoTakenTime": None}).encode(), "no valid photoTakenTime"),
    "another program's": (b'{"labels": ["cat"], "description": "a cat"}', None),
    "list": (b"[]", None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_problem_and_nothing_else(name):
    data, problem = HOSTILE[name]
    found = takeout.parse(data[: MAX_TAKEOUT_BYTES + 1], "a.jpg.json", "a.jpg")
    assert found.problem == problem
    assert found.description == ""


def test_hostile_files_do_not_harm_the_photos_beside_them(imgsearch, tmp_path):
    photos = from_album(tmp_path / "photos")
    for name, (data, _) in HOSTILE.items():
        shutil.copy(ALBUM / "lemon.jpg", photos / f"{name}.jpg")
        (photos / f"{name}.jpg.json").write_bytes(data)
    shutil.copy(ALBUM / "lemon.jpg", photos / "pipe.jpg")
    os.mkfifo(photos / "pipe.jpg.json")
    shutil.copy(ALBUM / "lemon.jpg", photos / "turned.jpg")
    (photos / "turned.jpg.json").write_text(exported(description="\u202eevil\x1b[31m\ud800 words\u2066 of a lemon"))
    done = imgsearch("index", photos)
    assert done.code == 0 and f"indexed {len(HOSTILE) + 2} photos" in done.err
    said = {line.split("photos/")[1].split(";")[0] for line in done.err.splitlines() if "without it" in line}
    assert said == {f"{name}.jpg.json: {problem}" for name, (_, problem) in HOSTILE.items() if problem}
    shown = imgsearch("query", "evil words of a lemon", "--modality", "text", "-n1", "--json")
    assert b"\x1b" not in shown.out and shown.records[0]["text"].endswith("of a lemon")
    assert imgsearch("failures").lines == []


def test_a_large_json_file_of_another_program_is_no_problem():
    assert takeout.parse(b"{" + b" " * MAX_TAKEOUT_BYTES, "a.json", "a.jpg").problem is None
    assert takeout.parse(b"half a label", "a.json", "a.jpg").problem is None


MANY = 20_000 if IS_LONG else 8_000
CROWDED = {
    "pairs": ([f"{n}.jpg" for n in range(MANY)], [f"{n}.jpg.json" for n in range(MANY)]),
    "no pairs": ([f"{n}.jpg" for n in range(MANY)], [f"x{n}.json" for n in range(MANY)]),
    "one stem": ([f"a.{n}" for n in range(MANY)] + [f"a-edited.x{n}" for n in range(MANY)], ["a.1.json", "a.2.json"]),
    "one cut": ([f"{LONG}{n}.jpg" for n in range(MANY)], [f"{LONG}({n}).json" for n in range(MANY)] + [f"{LONG}.json"]),
    "copies": ([f"a-edited({n}).jpg" for n in range(MANY)], [f"a.jpg({n}).json" for n in range(MANY)]),
    "hyphens": (["-" * 100 + f"{n}-edited.jpg" for n in range(MANY)], [f"({n}).json" for n in range(MANY)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CROWDED)
def test_a_crowded_folder_takes_time_in_proportion(name):
    """A comparison of every file with every JSON file would take minutes."""
    with cpu_seconds(15 if IS_LONG else 6):
        pair(*CROWDED[name])


NAMES = st.text("ab(1)-._ edited", max_size=12).map(lambda stem: f"{stem}.jpg") | st.sampled_from(
    ["a.jpg", "a(1).jpg", "a-edited.jpg", f"{LONG}m.jpg", f"{LONG}n.jpg", "A.JPG"]
)


@given(st.sets(NAMES, max_size=8), st.sets(NAMES.map(lambda name: f"{name}.json") | st.sampled_from(
    ["a.json", f"a.jpg{NEW}.json", f"a.jpg{NEW}(1).json", f"{LONG}.json", "a.jpg(1).json"]), max_size=8))  # fmt: skip
def test_no_file_belongs_to_two_originals_and_the_order_of_the_folder_makes_no_difference(files, json_files):
    found = pair(sorted(files), sorted(json_files))
    assert found == pair(sorted(files, reverse=True), sorted(json_files, reverse=True))
    assert found.keys() <= files and set(found.values()) <= json_files
    originals = [file for photo, file in found.items() if "edited" not in photo and not photo.startswith(LONG)]
    assert len(originals) == len(set(originals))
