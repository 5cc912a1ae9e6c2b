"""Videos: found by their moments, with `index --video`."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import SIZE, av, video

from imgsearch.core.indexing import indexer
from imgsearch.core.photos.decode import read_picture
from imgsearch.core.photos.regions import MAX_MOMENTS
from imgsearch.core.photos.thumbnails import Thumbnails
from imgsearch.core.types import NotAPicture, SkipPhoto

from conftest import ALBUM

SHOTS = {
    "fruit.mp4": [("banana", 3.4), ("watermelon", 2.8), ("carrots", 3.2)],
    "more.webm": [("kiwi", 3.4), ("lemon", 4.2)],
    "old.avi": [("leek", 2.8), ("pineapple", 3.0)],
}


@pytest.fixture
def clips(photos) -> Path:
    for name, shots in SHOTS.items():
        video(photos / name, shots)
    return photos


def moments(path: Path, **more):
    return read_picture(str(path), is_video=True, moments=True, draft_side=128, **more)


def shown_at(path: Path, photo: str) -> tuple[float, float]:
    """When a clip shows a photo."""
    start = 0.0
    for name, seconds in SHOTS[path.name]:
        if name == photo:
            return start, start + seconds
        start += seconds
    raise KeyError(photo)


def sql(index: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(index / "catalog.sqlite3")) as database, database:
        database.execute(statement)


# ---- The command


def test_a_video_is_one_hit_with_its_best_moment(imgsearch, clips, tmp_path):
    assert imgsearch("index", clips, "--model", "builtin").err.count("indexed 6 photos")
    assert "indexed 3 photos, 6 unchanged" in imgsearch("index", clips, "--video").err
    assert "indexed 0 photos, 9 unchanged" in imgsearch("index", clips).err  # it is remembered
    for name, shots in SHOTS.items():
        for photo, _ in shots:
            hits = imgsearch("query", "--image", ALBUM / f"{photo}.jpg", "--has", "video", "--json").records
            assert [Path(hit["path"]).name for hit in hits].count(name) == 1
            assert hits[0]["path"] == str(clips / name), photo
            start, end = shown_at(clips / name, photo)
            assert start - 0.1 <= hits[0]["at"] <= end, photo
    (first, *_) = imgsearch("query", "a watermelon", "--has", "video", "--json", "--metadata").records
    assert (first["duration_seconds"], first["format"], first["width"]) == (9.4, "MP4", 160)
    assert "at" not in imgsearch("query", "fruit", "--ext", "jpg", "--json").records[0]
    assert imgsearch("query", "--image", ALBUM / "leek.jpg", "-l", "-n", "1").lines == [str(clips / "old.avi")]
    assert float(imgsearch("query", "leek", "--fields", "at", "--ext", "avi").lines[0]) == 0.0
    assert imgsearch("check", "--deep").code == 0
    assert imgsearch("dupes").code == 1  # a frame that is equal to a photo makes no copy of it
    assert imgsearch("similar", clips / "more.webm", "-l", "-n", "1").code == 0
    assert imgsearch("query", "--image", tmp_path / "photos" / "old.avi", "-l").lines.count(str(clips / "old.avi")) == 0


def test_without_video_nothing_changes_and_its_videos_are_excluded(imgsearch, clips):
    imgsearch("index", clips, "--video", "--model", "builtin")
    done = imgsearch("index", clips, "--no-video", "--json").records[-1]
    assert (done["excluded"], done["unchanged"]) == (3, 6)
    assert imgsearch("query", "fruit", "--has", "video").code == 1
    assert imgsearch("index", "--json").records[-1]["unchanged"] == 6
    back = imgsearch("index", clips, "--video", "--json").records[-1]
    assert (back["unchanged"], back["new"], back["reused"]) == (9, 0, 0)
    assert len(imgsearch("query", "fruit", "--has", "video", "-l").lines) == 3


def test_without_a_folder_the_option_is_for_every_root(imgsearch, clips):
    imgsearch("index", clips, "--exclude", "old.avi", "--model", "builtin")
    assert imgsearch("index", "--video", "--json").records[-1]["new"] == 2
    assert imgsearch("index", "--json").records[-1]["unchanged"] == 8  # it is remembered, and so is the exclusion
    assert imgsearch("index", "--no-video", "--json").records[-1]["excluded"] == 2


def test_in_a_folder_of_a_root_the_option_leaves_the_exclusions_alone(imgsearch, clips):
    (clips / "day").mkdir()
    for name in SHOTS:
        (clips / name).rename(clips / "day" / name)
    imgsearch("index", clips, "--exclude", "old.avi", "--model", "builtin")
    assert imgsearch("index", clips / "day", "--video", "--json").records[-1]["new"] == 2


def test_a_video_given_by_name_is_indexed_and_kept(imgsearch, clips):
    assert "indexed 1 photo" in imgsearch("index", clips / "old.avi", "--model", "builtin").err
    imgsearch("index", clips)
    assert imgsearch("query", "fruit", "--has", "video", "-l").lines == [str(clips / "old.avi")]
    os.utime(clips / "old.avi", (1, 1))
    imgsearch("index")
    assert imgsearch("query", "fruit", "--has", "video", "-l").lines == [str(clips / "old.avi")]


def test_moments_survive_a_move_an_export_and_a_prune(imgsearch, clips, tmp_path, monkeypatch):
    imgsearch("index", clips, "--video", "--model", "builtin")
    found = ("query", "--image", ALBUM / "lemon.jpg", "--ext", "webm,mp4", "--json")
    before = imgsearch(*found).records[0]
    (clips / "more.webm").rename(clips / "renamed.webm")
    (clips / "fruit.mp4").unlink()
    assert imgsearch("index", "--json").records[-1]["reused"] == 1
    assert imgsearch("prune").code == 0
    after = imgsearch(*found).records[0]
    assert (after["at"], after["path"]) == (before["at"], str(clips / "renamed.webm"))
    names = [f"out.{ending}" for ending in ("jsonl", "npz", "parquet")]
    for name in names:
        assert imgsearch("export", tmp_path / name).code == 0
    for name in names:
        monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / f"{name}.index"))
        assert imgsearch("import", tmp_path / name).code == 0
        done = imgsearch("index", clips, "--video", "--json").records[-1]
        assert (done["new"], done["reused"]) == (0, 8), name
        assert imgsearch(*found).records[0]["at"] == before["at"]
        assert imgsearch("check").code == 0


def test_check_finds_impossible_moments_and_repairs_them(imgsearch, clips, tmp_path):
    imgsearch("index", clips, "--video", "--model", "builtin")
    for change in (
        "update regions set seconds = -1 where seconds > 0",
        "update regions set seconds = null",
        "update regions set seconds = seconds + 1 where seconds > 0",
        "update regions set width = 0.5",
        "delete from regions where key = content_hash",
        "update photos set duration_seconds = 'long'",
    ):
        sql(tmp_path / "index", change)
        imgsearch("query", "fruit", "--json")
        assert imgsearch("check").code == 6, change
        imgsearch("check", "--repair")
        assert imgsearch("index", clips, "--video").code == 0
        assert imgsearch("check", "--deep").code == 0, change
        assert len(imgsearch("query", "fruit", "--has", "video", "-l").lines) == 3


def test_the_film_of_a_live_photo_belongs_to_its_photo(imgsearch, photos):
    shutil.copy(ALBUM / "kiwi.jpg", photos / "IMG_1.JPG")
    shutil.copy(ALBUM / "leek.jpg", photos / "IMG_2.JPG")
    video(photos / "IMG_1.MOV".replace("MOV", "mov"), [("kiwi", 2.8)])
    video(photos / "IMG_2.mov", [("leek", 9)])
    assert imgsearch("index", photos, "--video", "--model", "builtin").code == 0
    (hit,) = imgsearch("query", "fruit", "--has", "video", "--json").records
    assert (Path(hit["path"]).name, Path(hit["pair"]).name) == ("IMG_2.mov", "IMG_2.JPG")
    assert imgsearch("failures").lines == []
    again = imgsearch("index", "--json").records[-1]
    assert (again["new"], again["changed"], again["reused"]) == (0, 0, 0)
    (photos / "IMG_1.JPG").unlink()
    imgsearch("index")
    names = [Path(line).name for line in imgsearch("query", "fruit", "--has", "video", "-l").lines]
    assert sorted(names) == ["IMG_1.mov", "IMG_2.mov"]
    shutil.copy(ALBUM / "kiwi.jpg", photos / "IMG_1.JPG")
    imgsearch("index")
    assert [Path(line).name for line in imgsearch("query", "fruit", "--has", "video", "-l").lines] == ["IMG_2.mov"]
    imgsearch("index", photos / "IMG_1.mov")
    os.utime(photos / "IMG_1.mov", (1, 1))
    imgsearch("index")
    names = [Path(line).name for line in imgsearch("query", "fruit", "--has", "video", "-l").lines]
    assert sorted(names) == ["IMG_1.mov", "IMG_2.mov"]  # it was given by name


def test_without_the_library_the_option_says_what_to_install(imgsearch, photos, monkeypatch):
    monkeypatch.setattr(indexer, "version_of", lambda name: "none")
    done = imgsearch("index", photos, "--video")
    assert done.code == 2 and "pip install 'imgsearch-cli[video]'" in done.err


# ---- What a video says


def test_facts_of_a_video(tmp_path):
    tags = {"creation_time": "2024-07-01T16:03:11Z", "location": "+38.7139-009.1394+010.000/", "make": "Google",
            "model": "Google Pixel 8"}  # fmt: skip
    facts = moments(video(tmp_path / "a.mp4", [("leek", 2)], tags=tags)).facts
    assert (facts.format, facts.width, facts.height, facts.duration_seconds) == ("MP4", *SIZE, 2.0)
    assert (facts.taken_at, facts.taken_offset, facts.date_from) == ("2024-07-01T16:03:11", "+00:00", "video")
    assert (facts.latitude, facts.longitude, facts.altitude_m) == (38.7139, -9.1394, 10.0)
    assert (facts.camera_make, facts.camera) == ("Google", "Pixel 8")
    tags = {"com.apple.quicktime.creationdate": "2024-07-01T18:03:11+0200", "creation_time": "1904-01-01T00:00:00Z",
            "com.apple.quicktime.location.ISO6709": "-33.8568+151.2153/"}  # fmt: skip
    facts = moments(video(tmp_path / "b.mp4", [("leek", 1)], tags=tags)).facts
    assert (facts.taken_at, facts.taken_offset) == ("2024-07-01T18:03:11", "+02:00")
    assert (facts.latitude, facts.longitude, facts.altitude_m) == (-33.8568, 151.2153, None)
    for wrong in ("+91.0-009.1/", "+38.7", "nonsense", "+00.0000+000.0000/"):
        made = video(tmp_path / "c.mp4", [("leek", 1)], tags={"location": wrong, "creation_time": "1970-01-01T00:00Z"})
        assert (moments(made).facts.latitude, moments(made).facts.taken_at) == (None, None)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_upright(tmp_path, rotation):
    corner = Image.new("RGB", SIZE, "black")
    corner.paste("red", (0, 0, 60, 60))
    read = moments(video(tmp_path / "a.mp4", [(corner, 1)], rotation=rotation))
    expected = np.asarray(corner.rotate(rotation, expand=True), float)
    assert (read.facts.width, read.facts.height) == read.image.size == expected.shape[1::-1]
    assert np.abs(np.asarray(read.image, float) - expected).mean() < 12


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    facts = moments(video(tmp_path / "a.mkv", [("leek", 1)], aspect=Fraction(4, 3))).facts
    assert (facts.width, facts.height) == (213, 120)


# ---- Moments


def test_equal_and_empty_frames_are_left_out(tmp_path):
    black = Image.new("RGB", SIZE)
    path = video(tmp_path / "a.mp4", [(black, 3), ("banana", 11), (black, 3), ("leek", 5)])
    seconds = sorted(moment.seconds for moment in moments(path).moments)
    assert len(seconds) == 2 and 3 <= seconds[0] < 5 and 17 <= seconds[1] < 19
    assert len(moments(video(tmp_path / "b.mp4", [(black, 3)])).moments) == 1


def test_a_film_of_twelve_hours_has_sixty_four_moments_and_takes_seconds(tmp_path):
    names = sorted(ALBUM.glob("*.jpg"))
    shots = [(names[number % len(names)].stem, 60 * 60) for number in range(24)]
    path = video(tmp_path / "long.mkv", [(name, seconds / 2) for name, seconds in shots], rate=Fraction(1, 10))
    read = moments(path)
    assert read.facts.duration_seconds == pytest.approx(12 * 3600, abs=20)
    seconds = sorted(moment.seconds for moment in read.moments)
    assert 20 <= len(seconds) <= MAX_MOMENTS
    assert np.diff(seconds).max() < 3600


@pytest.mark.parametrize("ending", ["webm", "mkv"])
def test_a_recording_without_duration_and_index_has_all_its_moments(tmp_path, ending):
    path = video(tmp_path / f"a.{ending}", [("banana", 3), ("leek", 3), ("kiwi", 3)], has_duration=False)
    read = moments(path)
    assert len(read.moments) == 3 and 8 <= read.facts.duration_seconds <= 9
    assert read_picture(str(path), is_video=True, moments=True, known={read.content_hash}).facts == read.facts


def test_a_thumbnail_is_the_frame_of_that_moment(clips, tmp_path):
    path = clips / "fruit.mp4"
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        for photo, at in (("banana", 1.0), ("watermelon", 4.0), ("carrots", 8.0), ("carrots", 99.0)):
            jpeg = thumbnails.jpeg(str(path), None, 160, at)
            found = np.asarray(Image.open(io.BytesIO(jpeg)), float)
            expected = np.asarray(Image.open(ALBUM / f"{photo}.jpg").convert("RGB").resize(SIZE), float)
            assert np.abs(found - expected).mean() < 12, photo
    content = moments(path).content_hash
    path.unlink()
    with Thumbnails(str(tmp_path / "cache")) as thumbnails:
        assert thumbnails.jpeg(str(path), content, 160, 4.0) != thumbnails.jpeg(str(path), content, 160, 8.0)
        with pytest.raises(SkipPhoto):
            thumbnails.jpeg(str(path), content, 160, 5.0)


def test_a_contact_sheet_shows_the_moment(imgsearch, clips, tmp_path):
    imgsearch("index", clips, "--video", "--model", "builtin")
    imgsearch("query", "--image", ALBUM / "lemon.jpg", "--ext", "webm", "--html", tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text()
    (hit,) = imgsearch("query", "--image", ALBUM / "lemon.jpg", "--ext", "webm", "--json").records
    assert f"more.webm#t={hit['at']:.3f}" in page
    assert f"0:0{int(hit['at'])} of 0:07" in page


# ---- Bad input


def hostile(folder: Path) -> None:
    """Files with the names of videos that are none, or damaged ones."""
    good = {ending: video(folder / f"good{ending}", [("banana", 3), ("leek", 3)]).read_bytes()
            for ending in (".mp4", ".mkv", ".avi", ".webm")}  # fmt: skip
    for ending, data in good.items():
        (folder / f"cut{ending}").write_bytes(data[: len(data) * 9 // 10])
        (folder / f"head{ending}").write_bytes(data[:40])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mov").write_text("not a video")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    (folder / "list.avi").write_text(f"ffconcat version 1.0\nfile {folder / 'good.mp4'}\n")
    with av.open(str(folder / "sound.mp4"), "w") as out:
        track = out.add_stream("aac", rate=8_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), "fltp", "mono")
        frame.sample_rate = 8_000
        out.mux(track.encode(frame))
        out.mux(track.encode())
    shutil.copy(ALBUM / "kiwi.jpg", folder / "photo.mp4")
    shutil.copy(folder / "good.mp4", folder / "film.jpg")


def test_damaged_and_mislabelled_videos_are_skipped_with_a_reason(imgsearch, photos):
    hostile(photos)
    assert imgsearch("index", photos, "--video", "--model", "builtin").code == 3
    failed = {Path(one["path"]).name: one["reason"] for one in imgsearch("failures", "--json").records}
    assert failed.keys() == {"cut.mp4", "head.mp4", "head.mkv", "head.avi", "head.webm", "empty.mp4", "text.mov",
                             "playlist.mp4", "list.avi", "sound.mp4", "film.jpg"}  # fmt: skip
    assert failed["sound.mp4"] == "a video without pictures"
    assert failed["playlist.mp4"] == failed["list.avi"] == "not a video, or of a format that is not supported"
    assert failed["film.jpg"] == "not a picture: a video"
    found = {Path(line).name for line in imgsearch("query", "fruit", "-l", "-n", "99").lines}
    assert {"photo.mp4", "cut.mkv", "cut.avi", "cut.webm", "good.mp4"} <= found
    again = imgsearch("index", "--json").records[-1]
    assert (again["skipped"], again["known_failures"]) == (0, len(failed))
    assert imgsearch("check", "--deep").code == 0


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".webm"])
def test_flipped_bytes_never_crash_the_reader(tmp_path, ending):
    data = video(tmp_path / f"good{ending}", [("banana", 1), ("leek", 1)]).read_bytes()
    chance = random.Random(ending)
    for number in range(40):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 5, 50))):
            damaged[chance.randrange(len(damaged) if number % 2 else 512)] = chance.randrange(256)
        path = tmp_path / f"damaged{ending}"
        path.write_bytes(damaged)
        with contextlib.suppress(SkipPhoto, NotAPicture):
            assert moments(path).moments


# ---- Crashes


@contextlib.contextmanager
def killed_while_it_decodes(path: Path, number: int) -> Iterator[list[int]]:
    """Processes of ours that have the file open are sent the signal, and listed."""
    killed: list[int] = []
    is_over = threading.Event()

    def strike() -> None:
        while not is_over.wait(0.01):
            for process in children() - set(killed):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    if path not in files_of(process):
                        continue
                    time.sleep(0.05)  # its bytes are hashed
                    os.kill(process, signal.SIGSTOP)
                    if path in files_of(process) and "libavcodec" in Path(f"/proc/{process}/maps").read_text():
                        killed.append(process)
                        os.kill(process, number)
                    os.kill(process, signal.SIGCONT)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def children() -> set[int]:
    listed = [file.read_text() for file in Path("/proc/self/task").glob("*/children")]
    return {int(process) for each in listed for process in each.split()}


def files_of(process: int) -> set[Path]:
    folder = f"/proc/{process}/fd"
    return {Path(os.readlink(f"{folder}/{name}")) for name in os.listdir(folder)}


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process in /proc")
def test_a_crash_in_the_middle_of_a_film_costs_the_film_alone(imgsearch, clips):
    film = video(clips / "long.mkv", [(photo.stem, 15) for photo in sorted(ALBUM.glob("*.jpg"))[:10]], rate=25)
    with killed_while_it_decodes(film, signal.SIGSEGV) as killed:
        done = imgsearch("index", clips, "--video", "--model", "builtin", "--json")
    assert (done.code, len(killed)) == (3, 2)  # it was tried twice
    assert (done.records[-1]["new"], done.records[-1]["skipped"]) == (9, 1)
    (failure,) = imgsearch("failures", "--json").records
    assert failure == {"path": str(film), "stage": "decode", "reason": "its decoder crashed (SIGSEGV)"}
    for name, shots in SHOTS.items():  # its neighbours have their own vectors
        (hit, *_) = imgsearch("query", "--image", ALBUM / f"{shots[0][0]}.jpg", "--has", "video", "--json").records
        assert Path(hit["path"]).name == name

    os.utime(film, (1, 1))
    with killed_while_it_decodes(film, signal.SIGKILL) as killed:
        assert imgsearch("index").code == 3
    assert len(killed) == 2
    (failure,) = imgsearch("failures", "--json").records
    assert (failure["path"], failure["stage"]) == (str(film), "memory")
    assert imgsearch("index", "--json").records[-1]["new"] == 1  # memory may have run out, so it is tried again
    assert imgsearch("failures").lines == []
    assert imgsearch("check", "--deep").code == 0
