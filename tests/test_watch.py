"""`imgsearch watch`: whatever happens to the files, the index ends up as if it had been made afterwards."""

from __future__ import annotations

import io
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.indexing.changes import OF_LIVE_PHOTO
from imgsearch.core.indexing.indexer import IndexPlan
from imgsearch.core.indexing.watch import Check, CheckResult, Schedule, Watcher
from imgsearch.core.indexing.watch import _changes as really_changes
from imgsearch.core.store.records import join
from imgsearch.core.store.schema import FACT_COLUMNS
from imgsearch.core.store.store import Store

from conftest import ALBUM, IS_LONG, PATIENCE_SECONDS, wait_until
from pictures import noise
from test_lock import writer

PROGRAM = [sys.executable, "-P", "-m", "imgsearch"]
HAS_VIDEOS = find_spec("av") is not None
VIDEO = ["--video"] * HAS_VIDEOS


# ------------------------------------------------------------------------------------------------- when to look


DONE = CheckResult()


def times_of_looks(heard: list[float], until: float, looked: CheckResult = DONE, **options) -> list[float]:
    """The times of the checks, given the times of the changes, if each check takes no time."""
    schedule, looks, coming = Schedule(0.0, 60.0), [], sorted(heard)
    while min([schedule.due, *coming[:1]]) <= until:
        if coming and coming[0] < schedule.due:
            schedule.note_change(coming.pop(0))
            continue
        looks.append(schedule.due)
        schedule.begin(schedule.due)
        schedule.ended(looks[-1], looked, **{"misses_changes": False, **options})
    return looks


def test_the_first_check_is_immediate_and_another_follows_when_quiet():
    assert times_of_looks([], 100) == [0, 30]


def test_a_change_is_checked_when_the_files_are_at_rest_and_once_more_later():
    assert times_of_looks([100.0], 200) == [0, 30, 102, 132]


def test_a_burst_of_events_is_one_check():
    assert times_of_looks([100 + each / 1000 for each in range(5000)], 150) == [0, 30, 106.999, 136.999]


def test_changes_without_end_delay_a_check_by_ten_seconds_at_most():
    looks = times_of_looks([100.0 + each for each in range(100)], 200)
    assert looks[:4] == [0, 30, 110, 120] and len(looks) < 14


def test_files_still_being_written_are_checked_again_soon():
    assert times_of_looks([], 5, CheckResult(being_written=True)) == [0, 2, 4]


def test_a_failed_check_is_tried_again_later():
    assert times_of_looks([], 40, CheckResult(is_done=False)) == [0, 15, 30]


def test_folders_without_events_are_polled():
    assert times_of_looks([], 200, misses_changes=True) == [0, 30, 90, 150]


def test_checks_take_at_most_a_fifth_of_the_time():
    assert times_of_looks([1.0, 2.0, 3.0], 100, CheckResult(seconds=10)) == [0, 40, 80]


def test_every_hour_all_files_are_checked_even_those_still_being_written():
    schedule = Schedule(0.0)
    assert schedule.begin(0.0) == Check()
    assert schedule.begin(30.0) == Check(rewatch=True)
    assert schedule.due == 3600
    assert schedule.begin(3600.0) == Check(rewatch=True, min_age_seconds=0)
    assert schedule.due == 7200


# ------------------------------------------------------------------------------------------ what is heard of


class Listening:
    """A watcher for one folder, and the index that it asks for roots and rules."""

    def __init__(self, watcher: Watcher, folder: Path, **plan: object) -> None:
        self.watcher, self.folder = watcher, folder
        self.plan = IndexPlan((str(folder),), **plan)
        self.index = folder / ".imgsearch"

    def watch_folders(self) -> IndexPlan | None:
        with Store.writing(str(self.index), create=True) as store:
            return self.watcher.watch_folders(store, self.plan)

    def hears(self, top: Path | None = None) -> bool:
        """Whether any of the changes so far matters. They are reported in order, and last a file that does not.

        `top` is where the folder lies now.
        """
        mark = (top or self.folder) / f".mark-{len(Recording.names)}"
        mark.touch()
        never, is_heard = threading.Event(), False

        def is_reported() -> bool:
            nonlocal is_heard
            is_heard |= self.watcher.wait(0.1, never)
            return mark.name in Recording.names or Recording.has_failed

        wait_until(is_reported, "a report of the last change")
        return is_heard


class Recording:
    """The names of all changes that watchfiles reports."""

    names: ClassVar[set[str]] = set()
    has_failed: ClassVar[bool] = False

    @staticmethod
    def changes(folders: list[str], tops: list[str]) -> Iterator[set[tuple[object, str]]]:
        Recording.has_failed = False
        with closing(really_changes(folders, tops)) as reported:
            try:
                for found in reported:
                    Recording.names.update(os.path.basename(path) for _, path in found)
                    yield found
            except RuntimeError:
                Recording.has_failed = True
                raise


@pytest.fixture
def listening(photos, monkeypatch):
    monkeypatch.setattr("imgsearch.core.indexing.watch._changes", Recording.changes)
    with closing(Watcher()) as watcher:
        made = Listening(watcher, photos, exclude=("Exports/",))
        for name in ("2024/may", "Exports", "node_modules", ".private"):
            (photos / name).mkdir(parents=True)
        made.watch_folders()
        yield made


def test_every_kind_of_change_is_heard(listening):
    top = listening.folder
    for change in (
        lambda: shutil.copy(top / "lemon.jpg", top / "2024" / "may" / "new.jpg"),
        lambda: (top / "lemon.jpg").write_bytes(picture(1)),
        lambda: (top / "lemon.jpg").rename(top / "2024" / "lemon.jpg"),
        lambda: (top / "2024" / "lemon.txt").write_text("a caption"),
        lambda: (top / "2024" / "lemon.jpg").unlink(),
        lambda: (top / "2024" / ".imgsearchignore").write_text("*.png"),
        lambda: (top / "2024" / "may").rename(top / "2024" / "june"),
        lambda: os.utime(top / "carrots.jpg", (1, 1)),
        lambda: shutil.rmtree(top / "2024"),
        lambda: (top / "a" / "b" / "c").mkdir(parents=True),
    ):
        change()
        assert listening.hears(), change
        assert not listening.hears(), "once is enough"
    listening.watch_folders()
    (top / "a" / "b" / "c" / "deep.jpg").write_bytes(picture(2))
    assert listening.hears()


def test_events_of_excluded_files_and_of_the_index_are_ignored(listening):
    top = listening.folder
    (top / "Exports" / "x.jpg").write_bytes(picture(1))
    (top / "node_modules" / "x.jpg").write_bytes(picture(1))
    (top / ".private" / "x.jpg").write_bytes(picture(1))
    (top / ".x.jpg.Xy3z9Q").write_bytes(picture(1))
    (top / "x.jpg.crdownload").write_bytes(picture(1))
    (top / "Thumbs.db").write_bytes(b"x")
    (top / "lemon.jpg").read_bytes()
    list(top.rglob("*"))
    with Store.writing(str(listening.index)) as store, store.catalog.transaction():
        store.catalog.set_info("a", "b")
    assert not listening.hears()


def test_a_folder_that_goes_and_one_that_comes_in_its_place_are_noticed(listening):
    top, away = listening.folder, listening.folder.with_name("away")
    top.rename(away)
    assert listening.hears(away)
    assert not listening.hears(away), "once is enough"
    away.rename(top)
    assert listening.hears()
    assert listening.watch_folders() is not None
    (top / "2024" / "new.jpg").write_bytes(picture(1))
    assert listening.hears()


def test_a_folder_in_the_place_of_another_one_is_listened_to(listening):
    top = listening.folder
    for change in (
        lambda: (shutil.rmtree(top / "2024"), (top / "2024" / "may").mkdir(parents=True)),
        lambda: ((top / "2024").rename(top / ".old"), (top / "2024" / "may").mkdir(parents=True)),
    ):
        change()
        assert listening.hears()
        listening.watch_folders()
        (top / "2024" / "may" / "new.jpg").write_bytes(picture(1))
        assert listening.hears()


def test_a_name_that_is_not_utf_8_does_not_deafen(listening):
    odd = os.path.join(os.fsencode(listening.folder), b"caf\xe9.jpg")
    with open(odd, "wb") as file:
        file.write(picture(1))
    assert listening.hears()
    listening.watch_folders()
    (listening.folder / "new.jpg").write_bytes(picture(2))
    assert listening.hears()
    assert listening.watcher.problem is None


def test_folders_that_cannot_be_watched_are_named(listening):
    os.mkdir(os.path.join(os.fsencode(listening.folder), b"caf\xe9"))
    listening.watch_folders()
    assert listening.watcher.problem.endswith("caf\\xe9: changes in a folder whose name is not UTF-8 cannot be watched")
    (listening.folder / "new.jpg").write_bytes(picture(2))
    assert listening.hears()


LIMITED = """
import sys
from imgsearch.core.indexing.indexer import IndexPlan
from imgsearch.core.store.store import Store
from imgsearch.core.indexing.watch import Watcher
with Store.writing(sys.argv[1], create=True) as store:
    watcher = Watcher()
    for _ in range(2):
        assert watcher.watch_folders(store, IndexPlan((sys.argv[2],))) is not None
        print(watcher.problem)
        open("/proc/sys/user/max_inotify_watches", "w").write("1000")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of inotify")
def test_the_system_limit_on_watches_is_reported_with_the_fix_and_retried(photos, tmp_path):
    for number in range(40):
        (photos / str(number)).mkdir()
    script = 'echo 20 > /proc/sys/user/max_inotify_watches || exit 77; exec "$@"'
    program = [sys.executable, "-P", "-c", LIMITED, str(tmp_path / "index"), str(photos)]
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("limits cannot be set here")
    first, second = done.stdout.splitlines()
    assert first == (
        "the system cannot watch enough folders (41 are needed); run as root: sysctl fs.inotify.max_user_watches=524288"
    )
    assert second == "None"


# --------------------------------------------------------------------------------------------- the real thing


@pytest.fixture
def photos(photos: Path) -> Path:
    """Not written just now: those may be incomplete, and are left to a later check."""
    for photo in photos.iterdir():
        os.utime(photo, (time.time() - 60,) * 2)
    return photos


class Watching:
    """The real program, and what it tells."""

    def __init__(self, process: subprocess.Popen, index: Path) -> None:
        self.process, self.index = process, index
        self.told: list[dict] = []
        self._lines: queue.Queue = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def kill(self) -> None:
        self.process.kill()
        self._reader.join(PATIENCE_SECONDS)  # before what it reads is closed

    def next(self, event: str) -> dict:
        """The next thing of this kind that it tells."""
        while True:
            try:
                record = self._lines.get(timeout=PATIENCE_SECONDS)
            except queue.Empty:
                raise AssertionError(f"no {event} came: {self.told[-5:]}") from None
            assert record is not None, f"it ended ({self.process.wait()}) before {event}: {self.told[-5:]}"
            self.told.append(record)
            if record["event"] == event:
                return record

    def until(self, holds) -> None:
        """Wait until this is so, of an index that is written meanwhile."""

        def is_so() -> bool:
            assert self.process.poll() is None, "it ended"
            return holds()

        wait_until(is_so)

    def has(self, *names: str) -> bool:
        return sorted(present(self.index)) == sorted(names)


@contextmanager
def watch(index: Path, *arguments: object, stderr=None):
    command = [*PROGRAM, "watch", *map(str, arguments), "--model", "builtin", "--json", "--index", str(index)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        watched = Watching(process, index)
        try:
            watched.next("watching")
            yield watched
        finally:
            watched.kill()


def present(index: Path) -> dict[str, bytes]:
    """Content hashes by relpath of what search can find."""
    with Store.open(str(index)) as store:
        rows = store.catalog.rows(
            """
            select p.folder, p.name, p.content_hash from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online'
            """
        )
        return {join(folder, name): content for folder, name, content in rows}


def everything(index: Path) -> tuple[dict, dict[tuple[str, float | None], np.ndarray]]:
    """All that an index knows, but for when and in which order it came to know it; and the pictures' vectors."""
    columns = ", ".join(f"p.{column}" for column in FACT_COLUMNS)
    with Store.open(str(index)) as store:
        view = store.view()
        photos = {
            join(row[1], row[2]): (
                row[3:],
                sorted(
                    store.catalog.rows(
                        "select t.text, pt.source from photo_texts pt join texts t using (key) where pt.photo_id = :id",
                        id=row[0],
                    )
                ),
            )
            for row in store.catalog.rows(
                f"select p.id, p.folder, p.name, p.size, p.mtime_ns, p.inode, p.sidecars, p.pair, p.content_hash, "
                f"{columns} from photos p where p.state = 'present'"
            )
        }
        failures = store.catalog.rows("select folder, name, size, mtime_ns, stage, reason from failures")
        roots = store.catalog.rows("select path, state, note from roots")
        live = {row[1] for row in store.catalog.vectors.live_slots(view.space.id)}
        places = store.catalog.places.of_slots(
            view.space.id, np.flatnonzero(view.slots.mask("image")).tolist(), include_offline=False
        )
        vectors = {(place.relpath, place.at): np.array(view.rows[place.slot]) for place in places}
    return {"photos": photos, "failures": sorted(failures), "roots": roots, "live": live}, vectors


def is_like_new(index: Path, photos: Path, fresh: Path) -> None:
    """Hold an index against one that is made now."""
    if not fresh.exists():
        command = [*PROGRAM, "index", str(photos), *VIDEO, "--model", "builtin", "-q", "--index", str(fresh)]
        assert subprocess.run(command, timeout=600).returncode in (0, 3)
    (known, vectors), (right, right_vectors) = everything(index), everything(fresh)
    for part in right:
        assert known[part] == right[part], part
    assert vectors.keys() == right_vectors.keys() and {path for path, _ in vectors} == right["photos"].keys()
    for path, vector in vectors.items():
        assert float(vector @ right_vectors[path]) > 0.9999, path


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise(8, 6, seed).resize((96, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def clip(path: Path) -> bytes:
    """A short video; nothing without the library for them."""
    if not HAS_VIDEOS:
        return b""
    from videos import video

    return video(path, [("banana", 2.4), ("leek", 2.4)]).read_bytes()


class Hands:
    """Changes of all kinds to a folder."""

    def __init__(self, top: Path, elsewhere: Path, seed: int) -> None:
        self.top, self.elsewhere, self.chance = top, elsewhere, random.Random(seed)
        self.made = self.taken = 0
        self.clip = clip(elsewhere.parent / "clip.mp4")
        for folder in (top, elsewhere):
            folder.mkdir(exist_ok=True)

    def files(self) -> list[Path]:
        return sorted(path for path in self.top.rglob("*.jpg") if path.is_file())

    def folders(self) -> list[Path]:
        return sorted(path for path in self.top.rglob("*") if path.is_dir())

    def a_file(self) -> Path:
        return self.chance.choice(self.files())

    def somewhere(self) -> Path:
        return self.chance.choice([self.top, *self.folders()])

    def a_name(self) -> str:
        self.made += 1
        kind = self.chance.choice(["photo", "über", "x y", "z\nz", "IMG"])
        return f"{kind} {self.made}.jpg"

    def create(self) -> None:
        (self.somewhere() / self.a_name()).write_bytes(picture(self.made))

    def create_as_rsync_does(self) -> None:
        name, folder = self.a_name(), self.somewhere()
        part = folder / f".{name}.Xy3z9Q"
        part.write_bytes(picture(self.made))
        part.rename(folder / name)

    def create_half(self) -> None:
        (self.somewhere() / self.a_name()).write_bytes(picture(self.made)[:600])

    def overwrite(self) -> None:
        self.made += 1
        self.a_file().write_bytes(picture(self.made))

    def rename(self) -> None:
        self.a_file().rename(self.somewhere() / self.a_name())

    def replace(self) -> None:
        self.a_file().replace(self.a_file())
        self.taken += 1

    def copy(self) -> None:
        shutil.copy2(self.a_file(), self.somewhere() / self.a_name())

    def delete(self) -> None:
        self.a_file().unlink()
        self.taken += 1

    def carry_out(self) -> None:
        self.a_file().rename(self.elsewhere / self.a_name())
        self.taken += 1

    def carry_in(self) -> None:
        outside = sorted(self.elsewhere.iterdir())
        if outside:
            self.chance.choice(outside).rename(self.somewhere() / self.a_name())

    def make_folder(self) -> None:
        self.made += 1
        folder = self.somewhere() / f"day {self.made}"
        if len(folder.relative_to(self.top).parts) < 5:
            (folder / "raw").mkdir(parents=True)
            (folder / "raw" / self.a_name()).write_bytes(picture(self.made))

    def rename_folder(self) -> None:
        folders = self.folders()
        if folders:
            self.made += 1
            self.chance.choice(folders).rename(self.top / f"trip {self.made}")

    def delete_folder(self) -> None:
        small = {folder: found for folder in self.folders() if len(found := list(folder.rglob("*.jpg"))) <= 6}
        if small:
            folder = self.chance.choice(list(small))
            shutil.rmtree(folder)
            self.taken += len(small[folder])

    def caption(self) -> None:
        self.made += 1
        self.a_file().with_suffix(".txt").write_text(f"a caption, number {self.made}")

    def lose_caption(self) -> None:
        captions = sorted(self.top.rglob("*.txt"))
        if captions:
            self.chance.choice(captions).unlink()

    def film(self) -> None:
        """A video, or with the name of a photo one of a Live Photo."""
        self.made += 1
        where = self.chance.choice([self.somewhere() / f"film {self.made}", self.a_file().with_suffix("")])
        if self.clip:
            where.with_name(f"{where.name}.mp4").write_bytes(self.clip + b"\0\0\0\x0cfree%04d" % self.made)

    def rename_film(self) -> None:
        if films := sorted(self.top.rglob("*.mp4")):
            self.made += 1
            self.chance.choice(films).rename(self.somewhere() / f"film {self.made}.mp4")

    def delete_film(self) -> None:
        if films := sorted(self.top.rglob("*.mp4")):
            self.chance.choice(films).unlink()
            self.taken += 1

    def litter(self) -> None:
        self.made += 1
        (self.somewhere() / f"notes {self.made}.doc").write_bytes(b"nothing to see")

    OFTEN = (create, create_as_rsync_does, rename, rename, overwrite, copy)
    RARELY = (create_half, replace, delete, delete, carry_out, carry_in, make_folder, rename_folder, delete_folder,
              caption, lose_caption, film, film, rename_film, delete_film, litter)  # fmt: skip

    def do_something(self) -> None:
        self.chance.choice(self.OFTEN if self.chance.random() < 0.7 else self.RARELY)(self)


MAX_TAKEN = 18
"""Between two checks. A folder that loses more than 50 photos at once counts as unmounted."""


def let_hands_work(hands: Hands, watched: Watching, count: int) -> None:
    taken = hands.taken
    for _ in range(count):
        hands.do_something()
        if hands.taken - taken >= MAX_TAKEN:
            watched.next("done")
            taken = hands.taken
        time.sleep(hands.chance.random() * 0.02)


CHANGES = 5_000 if IS_LONG else 200


def test_after_hundreds_of_changes_the_index_equals_a_fresh_one(tmp_path):
    hands = Hands(tmp_path / "photos", tmp_path / "elsewhere", seed=6)
    for _ in range(60):
        hands.create()
    with watch(tmp_path / "index", hands.top, *VIDEO) as watched:
        let_hands_work(hands, watched, CHANGES)
        fresh = tmp_path / "fresh"

        def is_it() -> bool:
            try:
                is_like_new(tmp_path / "index", hands.top, fresh)
            except AssertionError:
                return False
            return True

        watched.until(is_it)
    is_like_new(tmp_path / "index", hands.top, fresh)
    right, _ = everything(fresh)
    assert len(right["photos"]) > CHANGES / 4
    assert {failure[5] == OF_LIVE_PHOTO for failure in right["failures"]} == ({True, False} if HAS_VIDEOS else {False})
    assert any(path.endswith(".mp4") for path in right["photos"]) == HAS_VIDEOS
    looks = sum(record["event"] == "done" for record in watched.told)
    assert 2 <= looks < CHANGES / 4  # not one for every change


def test_files_still_being_written_do_not_hold_up_others(photos, tmp_path):
    whole = (ALBUM / "leek.jpg").read_bytes()
    with watch(tmp_path / "index", photos) as watched:
        arrived = threading.Event()

        def download() -> None:
            with open(photos / "slow.jpg", "wb") as file:
                for at in range(0, len(whole), 8):
                    file.write(whole[at : at + 8])
                    file.flush()
                    if arrived.wait(0.05):
                        file.write(whole[at + 8 :])
                        return

        writer = threading.Thread(target=download)
        writer.start()
        shutil.copy(ALBUM / "watermelon.jpg", photos / "other.jpg")
        assert watched.next("photo")["path"] == str(photos / "other.jpg")
        watched.next("done")
        assert (photos / "slow.jpg").stat().st_size < len(whole), "the picture is too small for this test"
        assert not watched.has(*os.listdir(photos))
        arrived.set()
        assert watched.next("photo")["path"] == str(photos / "slow.jpg")
        watched.next("done")
        assert watched.has(*os.listdir(photos))
        writer.join()
    assert [record for record in watched.told if record["event"] == "skipped"] == []


def test_a_broken_file_is_checked_again_when_fixed(photos, tmp_path, imgsearch):
    whole = (ALBUM / "leek.jpg").read_bytes()
    with watch(tmp_path / "index", photos) as watched:
        (photos / "half.jpg").write_bytes(whole[:5000])
        assert watched.next("skipped")["path"] == str(photos / "half.jpg")
        watched.next("done")
        (photos / "half.jpg").write_bytes(whole)
        assert watched.next("photo")["path"] == str(photos / "half.jpg")
        watched.next("done")
        assert imgsearch("failures", "--json").records == []
    (space,) = imgsearch("status", "--json").records[0]["spaces"]
    assert (space["vectors"], space["hnsw_vectors"]) == (7, 6), "a graph grows at most every ten minutes"


def test_a_root_that_goes_away_is_offline_and_watched_again_when_it_is_back(photos, tmp_path):
    names = os.listdir(photos)
    with watch(tmp_path / "index", photos) as watched:
        photos.rename(tmp_path / "away")
        assert "not there; marked offline" in watched.next("notice")["reason"]
        watched.until(lambda: watched.has())
        (tmp_path / "away").rename(photos)
        assert watched.next("notice")["reason"] == f"{photos} is back online"
        watched.until(lambda: watched.has(*names))
        (photos / "later").mkdir()
        shutil.copy(ALBUM / "leek.jpg", photos / "later")
        assert watched.next("photo")["path"] == str(photos / "later" / "leek.jpg")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_disk_that_holds_photos_and_index_may_be_unmounted_and_mounted_again(photos, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    image = tmp_path / "image"
    subprocess.run(["truncate", "-s", "24M", image], check=True)
    if subprocess.run(["mkfs.ext4", "-q", image], capture_output=True).returncode:
        pytest.skip("no ext4 here")

    def mount() -> int:
        return subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True).returncode

    def unmount() -> bool:
        return subprocess.run(["umount", disk], capture_output=True).returncode == 0

    if mount():
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(photos, disk / "photos")
        index = disk / "photos" / ".imgsearch"
        with watch(index, disk / "photos", stderr=subprocess.PIPE) as watched:
            watched.until(unmount)  # it is busy while it is looked at
            assert f"no index at {index}" in next(line for line in watched.process.stderr if "no index" in line)
            assert mount() == 0
            shutil.copy(ALBUM / "leek.jpg", disk / "photos")
            assert watched.next("photo")["path"] == str(disk / "photos" / "leek.jpg")
            watched.next("done")
            watched.until(lambda: watched.has(*(path.name for path in (disk / "photos").glob("*.jpg"))))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_between_runs_others_may_write_and_their_end_is_waited_for(imgsearch, photos, tmp_path):
    with watch(tmp_path / "index", photos, stderr=subprocess.PIPE) as watched:
        assert imgsearch("index").code == 0
        assert imgsearch("prune").code == 0
        with writer(tmp_path / "index") as other:
            shutil.copy(ALBUM / "leek.jpg", photos)
            waiting = next(line for line in watched.process.stderr if "waiting" in line)
            assert waiting == f"imgsearch: waiting for process {other.pid}\n"
        assert watched.next("photo")["path"] == str(photos / "leek.jpg")


def test_two_may_watch_for_the_same_index(photos, tmp_path):
    others = tmp_path / "others"
    others.mkdir()
    with watch(tmp_path / "index", photos) as one, watch(tmp_path / "index", others) as two:
        shutil.copy(ALBUM / "leek.jpg", photos)
        shutil.copy(ALBUM / "ginger.jpg", others)
        assert one.next("photo")["path"] == str(photos / "leek.jpg")
        assert two.next("photo")["path"] == str(others / "ginger.jpg")
        one.until(lambda: one.has(*os.listdir(photos), "ginger.jpg"))


def test_watch_polls_folders_without_events(photos, tmp_path):
    odd = os.path.join(os.fsencode(photos), b"caf\xe9")
    os.mkdir(odd)
    with watch(tmp_path / "index", photos, "--poll", "1") as watched:
        told = [record["reason"] for record in watched.told if record["event"] == "notice"]
        assert [reason.endswith("cannot be watched; checked every 1 s instead") for reason in told] == [True]
        shutil.copy(ALBUM / "leek.jpg", os.path.join(odd, b"leek.jpg"))
        assert watched.next("photo")["path"].endswith("/leek.jpg")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_in_order(photos, tmp_path, number, code):
    with watch(tmp_path / "index", photos, stderr=subprocess.PIPE) as watched:
        watched.process.send_signal(number)
        assert watched.process.wait(PATIENCE_SECONDS) == code
        assert "Traceback" not in watched.process.stderr.read()
    assert watched.has(*os.listdir(photos))


def test_it_is_killed_in_the_middle_and_the_next_one_goes_on(photos, tmp_path):
    index = tmp_path / "index"
    with watch(index, photos) as watched:
        for number in range(60):
            (photos / f"{number}.jpg").write_bytes(picture(number))
        watched.next("photo")
        watched.kill()
    with watch(index, photos):
        pass
    is_like_new(index, photos, tmp_path / "fresh")


def test_an_end_of_its_reader_ends_it(photos, tmp_path):
    command = [*PROGRAM, "watch", str(photos), "--model", "builtin", "--json", "--index", str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert any('"watching"' in line for line in process.stdout)
        process.stdout.close()
        shutil.copy(ALBUM / "leek.jpg", photos)
        assert process.wait(PATIENCE_SECONDS) == 0 and process.stderr.read() == ""


def test_what_cannot_be_watched_is_refused(imgsearch, photos, tmp_path):
    for arguments, message in (
        ([tmp_path / "nowhere"], "no such folder"),
        ([photos / "lemon.jpg"], "not a folder"),
        ([""], "empty folder name"),
        ([], "nothing to watch yet"),
    ):
        outcome = imgsearch("watch", *arguments)
        assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_each_burst_prints_its_result_and_nothing_else(photos, tmp_path):
    command = [*PROGRAM, "watch", str(photos), "--model", "builtin", "--index", str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [next(process.stderr) for _ in range(3)]
            assert lines[0] == "imgsearch: indexed 6 photos\n"
            assert lines[2] == "imgsearch: watching 1 folder; ^C ends it\n"
            process.send_signal(signal.SIGSTOP)  # so that all of this is one burst
            (photos / "node_modules").mkdir()
            (photos / "lemon.jpg").rename(photos / "citron.jpg")
            (photos / "banana.jpg").unlink()
            shutil.copy(ALBUM / "leek.jpg", photos)
            process.send_signal(signal.SIGCONT)
            assert next(process.stderr) == (
                "imgsearch: indexed 2 photos (1 new, 1 moved or copied), 4 unchanged, 2 gone\n"
            )
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
            assert (process.returncode, out, err) == (130, "", "")
        finally:
            process.kill()
