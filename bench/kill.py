"""Tests that `index` keeps its promises when it is killed at random moments, with queries in between.

python bench/kill.py [--photos DIR] [--kills 100] [--signal KILL|INT|TERM|HUP|mixed] [--seed 0] [--ocr]

An uninterrupted index of the same folder is the reference. After every kill the index must open and answer, have no
vector twice and none of another picture, and have lost at most one checkpoint; an orderly stop loses nothing. In the
end it must equal the reference, with --ocr also in the text in pictures. The first broken promise stops the test with
exit code 1, prints the seed, and keeps the folder.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from imgsearch.core.errors import IndexNotFound
from imgsearch.core.store.calibration import Calibration
from imgsearch.core.store.records import Space, join
from imgsearch.core.store.schema import FACT_COLUMNS
from imgsearch.core.store.store import Store
from imgsearch.core.types import MODALITIES

ALBUM = Path(__file__).parents[1] / "tests" / "album"
PROGRAM = (sys.executable, "-m", "imgsearch")
MARK = "IMGSEARCH_BENCH_RUN"
"""In the environment of a run and so of everything it starts: how what outlives it is found."""

# The promise: a checkpoint is 256 photos, and a batch of the model may come on top. Said here, not imported.
MAX_LOST = 256 + 32
MAX_LOST_TEXTS = 64
# How long a process that lost its parent may take to end, and an orderly stop to finish one batch, for which it may
# first have to load the model. Both are deadlines on a busy machine; the table has the seconds they really took.
STRAY_SECONDS = 30.0
STOP_SECONDS = 120.0
SIGNALS = {"KILL": signal.SIGKILL, "INT": signal.SIGINT, "TERM": signal.SIGTERM, "HUP": signal.SIGHUP}
RESULTS = ("photo", "skipped", "passed")
# Dealt like cards, so that a few kills already meet every kind.
MOMENTS = ("any time", "a photo", "a photo", "a commit", "a commit", "the end")
OCR_MOMENTS = ("a photo", "a commit", "the end", "a text", "a text", "a text")
MIXED = ("KILL", "KILL", "KILL", "INT", "TERM", "HUP")

WORDS = ("a red apple", "milk in a carton", "something green", "a slice of melon")
CAPTIONS = ("breakfast on the terrace", "the market in the rain", "what the neighbours brought", "left over")


class Broken(Exception):
    """A promise that was not kept."""


def require(holds: object, message: str) -> None:
    if not holds:
        raise Broken(message)


# A real folder


def plant(folder: Path, count: int, seed: int) -> None:
    """`count` different pictures made of the album, with copies, captions, broken files and names of all kinds."""
    generator = random.Random(seed)
    sources = sorted(ALBUM.glob("*.jpg"))
    for name in ("", "trips/day 1", "trips/day 2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    planted = []
    for number in range(count):
        where = folder / generator.choice(("", "", "trips/day 1", "trips/day 2"))
        path = where / f"{number:04}.{generator.choice(('jpg', 'jpg', 'jpg', 'png', 'webp'))}"
        _derive(sources[number % len(sources)], path, generator)
        planted.append(path)
    for number, path in enumerate(generator.sample(planted, max(4, count // 25))):
        shutil.copy(path, folder / f"copy {number}{path.suffix}")
    for path in generator.sample(planted, max(4, count // 25)):
        path.with_suffix(".txt").write_text(generator.choice(CAPTIONS))
    for number, path in enumerate(generator.sample(planted, max(3, count // 40))):
        (folder / f"broken{number}.jpg").write_bytes(path.read_bytes()[: (0, 30, 1500)[number % 3]])
    (folder / "notes.doc").write_text("no picture, and does not say so")
    (folder / "page.png").write_text("<html>no picture, though it says so</html>")
    shutil.copy(planted[0], folder / "d\u00e9j\u00e0 vu \U0001f4f7.jpg")
    if sys.platform == "linux":
        _derive(sources[0], Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff.jpg")), generator)


def _derive(source: Path, path: Path, generator: random.Random) -> None:
    """Another picture of the same thing: a part of it, turned, mirrored, in another size."""
    with Image.open(source) as opened:
        side = opened.width
        part = generator.randint(side // 2, side)
        left, top = generator.randint(0, side - part), generator.randint(0, side - part)
        image = opened.convert("RGB").crop((left, top, left + part, top + part))
    image = image.rotate(generator.choice((0, 90, 180, 270, generator.uniform(-20, 20))))
    image = ImageOps.mirror(image) if generator.random() < 0.5 else image
    image = image.resize((generator.randint(300, 800), generator.randint(300, 800)))
    exif = Image.Exif()
    exif[0x010F] = generator.choice(("Canon", "FUJIFILM", "Apple"))
    exif[0x0132] = f"2024:{generator.randint(1, 12):02}:{generator.randint(1, 28):02} 12:00:00"
    image.save(path, quality=88, compress_level=1, method=0, exif=exif)


def borrow(folder: Path, source: Path, count: int | None) -> None:
    """The files of another folder as hard links, or copies where the disk is another. None of them is ever written."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files[:count]:
        there = folder / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, there)
        except OSError:
            shutil.copy2(path, there)


def change(folder: Path, photos: list[str], generator: random.Random) -> set[str]:
    """Delete, rename, copy, replace and caption some of the photos; returns every relpath that is not as it was."""
    few = max(2, len(photos) // 25)
    deleted, renamed, copied, replaced, captioned = (
        [folder / name for name in part] for part in _parts(generator.sample(sorted(photos), 5 * few), few)
    )
    touched = {*deleted, *renamed, *replaced, *captioned}
    for path in deleted:
        path.unlink()
    for path, action in [*((path, shutil.move) for path in renamed), *((path, shutil.copy) for path in copied)]:
        there = folder / f"{uuid.UUID(int=generator.getrandbits(128))}{path.suffix}"
        action(path, there)
        touched.add(there)
    for path in replaced:  # a new file in its place, not other bytes in a file that may be a link
        made = path.with_suffix(f".new{path.suffix}")
        with Image.open(path) as image:
            ImageOps.flip(image.convert("RGB")).save(made)
        made.replace(path)
    for path in captioned:
        path.with_suffix(".txt").write_text(f"{generator.choice(CAPTIONS)}, day {generator.randint(2, 99)}")
    return {os.path.relpath(path, folder) for path in touched}


def _parts(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def contents(folder: Path) -> dict[str, bytes]:
    """sha256 by relpath of every file."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.file_digest(file, "sha256").digest()
    return found


# What an index says


@dataclass(frozen=True)
class Snapshot:
    """All that a catalogue and its vectors say, by what does not depend on the order of indexing."""

    photos: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Present ones by relpath: content hash, then stat, facts and texts."""
    gone: frozenset[str] = frozenset()
    failures: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """By relpath: stage, reason, whether it is silent."""
    vectors: dict[tuple[str, bytes], np.ndarray] = field(default_factory=dict)
    readings: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)
    """By content hash: whether the text in it was read, the text, and where its lines are."""
    tail: int = 0
    """Vectors on disk that no commit names."""
    unfinished: tuple[str, ...] = ("nothing is indexed",)
    """What a run that ends by itself would have left otherwise."""
    calibration: Calibration | None = None


def snapshot(index: Path) -> Snapshot:
    """Read an index from outside. Raises Broken for what can be seen to be wrong without a reference."""
    try:
        store = Store.open(str(index))
    except IndexNotFound:
        return Snapshot()
    with store:
        rows = store.catalog.rows
        require(rows("pragma integrity_check") == [("ok",)], "sqlite's integrity_check finds something")
        require(rows("pragma foreign_key_check") == [], "sqlite's foreign_key_check finds something")
        photos, gone = _photos(store)
        failures = {
            join(r[0], r[1]): r[2:] for r in rows("select folder, name, stage, reason, is_silent from failures")
        }
        spaces = store.catalog.spaces.all()
        require(len(spaces) <= 1, f"{len(spaces)} spaces of one model")
        if not spaces:
            require(not photos, "photos, but no space that their vectors could be in")
            return Snapshot(failures=failures)
        vectors, readings = _vectors(store, spaces[0]), _readings(store)
        present = {facts[0] for facts in photos.values()}
        read = {row[1] for content, row in readings.items() if row[1] and content in present}
        _check_pairing(store, spaces[0], photos, vectors, read)
        size = max((path.stat().st_size for path in index.glob("spaces/*/vectors.*")), default=0)
        return Snapshot(
            photos=photos,
            gone=gone,
            failures=failures,
            vectors=vectors,
            readings=readings,
            tail=size // (spaces[0].identity.dim * 4) - spaces[0].slots,
            unfinished=tuple(_unfinished(store, spaces[0], vectors)),
            calibration=store.calibration(spaces[0]),
        )


def _photos(store: Store) -> tuple[dict[str, tuple[Any, ...]], frozenset[str]]:
    columns = ", ".join(("size", "mtime_ns", "sidecars", "keywords", "pair", *FACT_COLUMNS))
    texts: dict[int, list[tuple[str, str]]] = {}
    for photo, text, source in store.catalog.rows(
        "select photo_id, text, source from photo_texts join texts using (key) where source != 'ocr'"
    ):
        texts.setdefault(photo, []).append((text, source))
    present, gone = {}, set()
    for photo, state, folder, name, *facts in store.catalog.rows(
        f"select id, state, folder, name, content_hash, {columns} from photos"
    ):
        if state == "present":
            present[join(folder, name)] = (*facts, tuple(sorted(texts.get(photo, ()))))
        else:
            gone.add(join(folder, name))
    return present, frozenset(gone)


def _readings(store: Store) -> dict[bytes, tuple[Any, ...]]:
    rows = store.catalog.rows
    of_photos = "select id, text from photos join photo_texts on photo_id = id join texts using (key)"
    kept = rows(f"{of_photos} where source = 'ocr' order by id")
    right = rows("select id, text from photos join readings using (content_hash) where text is not null order by id")
    require(kept == right, "photos with a text that was not read in them, or without one that was")
    return {row[0]: row[1:] for row in rows("select content_hash, state, text, places from readings")}


def _vectors(store: Store, space: Space) -> dict[tuple[str, bytes], np.ndarray]:
    named = store.catalog.rows("select slot, modality, key from vectors order by slot")
    require([row[0] for row in named] == list(range(space.slots)), "slots are missing, named twice or beyond the count")
    keys = [(row[1], row[2]) for row in named]
    require(len(set(keys)) == len(keys), "two vectors of one picture or text")
    matrix = np.array(store.view().rows)
    norms = np.linalg.norm(matrix, axis=1)
    require(np.allclose(norms, 1, atol=1e-4), "vectors that are not of unit length")
    return dict(zip(keys, matrix, strict=True))


def _check_pairing(
    store: Store,
    space: Space,
    photos: dict[str, tuple[Any, ...]],
    vectors: dict[tuple[str, bytes], np.ndarray],
    read: set[str],
) -> None:
    """Every photo and text has its vector, and what a scan takes for live is what the catalogue says is."""
    pictures = {("image", facts[0]) for facts in photos.values()}
    texts = {
        ("text", hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        for text in read.union(*([text for text, _ in facts[-1]] for facts in photos.values()))
    }
    require(not (pictures | texts) - vectors.keys(), "photos or texts without a vector")
    view = store.view()
    for modality, wanted in zip(MODALITIES, (pictures, texts), strict=True):
        live = [slot for slot, key in enumerate(vectors) if key in wanted]
        require(np.flatnonzero(view.slots.mask(modality)).tolist() == live, f"another set of live {modality} slots")


def _unfinished(store: Store, space: Space, vectors: dict[tuple[str, bytes], np.ndarray]) -> Iterator[str]:
    if not store.is_up_to_date(space):
        yield "the slot map is not up to date, or the space not complete"
    calibration = store.calibration(space)
    live = [row for row in store.catalog.vectors.live_slots(space.id) if row[1] == "image"]
    if live and (calibration is None or calibration.is_due(len(live))):
        yield "the calibration is missing or out of date"
    for modality in MODALITIES:
        for graph in store.graphs.of(space, modality):
            held = {slot for slot, key in enumerate(vectors) if key[0] == modality and graph.first <= slot < graph.upto}
            if not graph.load(space.generation):
                if store.graphs.is_due(space, modality, graph):
                    yield f"a {modality} graph is missing or damaged"
            elif graph.slots() != held:
                yield f"a {modality} graph holds {len(graph.slots())} of {len(held)} vectors"


class Reference:
    """What is right: an uninterrupted index of the folder, and what was right of the folders before a change."""

    def __init__(self) -> None:
        self.now = Snapshot()
        self.answers: dict[str, list[tuple[str, float]]] = {}
        self._rows: dict[str, set[tuple[Any, ...]]] = {}
        self._failures: dict[str, set[tuple[Any, ...]]] = {}
        self._vectors: dict[tuple[str, bytes], np.ndarray] = {}
        self._readings: dict[bytes, tuple[Any, ...]] = {}

    def learn(self, found: Snapshot) -> None:
        self.now = found
        self._vectors |= found.vectors
        self._readings |= found.readings
        for rows, new in ((self._rows, found.photos), (self._failures, found.failures)):
            for relpath, row in new.items():
                rows.setdefault(relpath, set()).add(row)

    def check(self, found: Snapshot, disk: dict[str, bytes], touched: set[str]) -> None:
        """All that is indexed is right, if not complete. `touched` is what may still be as it was before a change."""
        for relpath, row in found.photos.items():
            require(disk.get(relpath) == row[0] or relpath in touched, f"{relpath!r}: other bytes than on disk")
            require(row in self._rows.get(relpath, ()), f"{relpath!r}: facts or texts of another photo: {row}")
        for relpath, failure in found.failures.items():
            require(failure in self._failures.get(relpath, ()), f"{relpath!r}: a failure of its own: {failure}")
        for content, reading in found.readings.items():
            require(reading == self._readings.get(content), f"another reading of {content.hex()}: {reading}")
        self._check_vectors(found)

    def _check_vectors(self, found: Snapshot) -> None:
        for key, vector in found.vectors.items():
            require(key in self._vectors, f"a vector of a {key[0]} that was never there: {key[1].hex()}")
            apart = float(np.abs(vector - self._vectors[key]).max())
            require(apart <= 1e-5, f"a foreign vector for {key[0]} {key[1].hex()}: {apart:.2g} from the right one")

    def compare(self, found: Snapshot, *, is_fresh: bool) -> None:
        """A finished index is the reference's equal; one that lived through a change may also know what was before."""
        _require_same("photos", found.photos, self.now.photos)
        _require_same("failures", found.failures, self.now.failures)
        readings = {content: found.readings.get(content) for content in self.now.readings}
        _require_same("readings", readings, self.now.readings)
        require(not self.now.vectors.keys() - found.vectors.keys(), "vectors are missing")
        self._check_vectors(found)
        require(not found.unfinished, f"a run that ended by itself left this: {'; '.join(found.unfinished)}")
        if is_fresh:
            require(found.readings.keys() == self.now.readings.keys(), "more readings than the uninterrupted index has")
            require(not found.gone, f"gone, though nothing was deleted: {sorted(found.gone)[:3]}")
            require(found.vectors.keys() == self.now.vectors.keys(), "more vectors than the uninterrupted index has")
            require(_is_close(found.calibration, self.now.calibration), "another calibration")


def _require_same(what: str, found: dict[Any, Any], right: dict[Any, Any]) -> None:
    for name in sorted(found.keys() | right.keys()):
        same = found.get(name) == right.get(name)
        require(same, f"other {what}: {name!r} is {found.get(name)} where {right.get(name)} is right")


def _is_close(one: Calibration | None, other: Calibration | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.pictures == other.pictures and all(
        np.allclose(getattr(one, name), getattr(other, name), atol=1e-4)
        for name in ("image_mean", "text_mean", "low_image", "low_text", "phrases")
    )


# A run and when it is struck


@dataclass(frozen=True)
class Result:
    kind: str
    path: str
    at: float


class Run:
    """One `index` as a process of its own session, with what it has reported so far."""

    def __init__(self, photos: Path, index: Path, errors: Path, *, ocr: bool) -> None:
        self.index = index
        self.last_event = "ocr_done" if ocr else "done"
        self.errors = errors
        self.mark = uuid.uuid4().hex
        self.planned: int | None = None
        self.results: list[Result] = []
        self.saved = 0
        """Number of results before the last checkpoint that was reported."""
        self.texts: list[str] = []
        """Photos whose text was read."""
        self.saved_texts = 0
        self.checkpoints = 0
        self.last = ""
        """Kind of the last event."""
        self.seconds: dict[str, float] = {}
        """From the start to the first event of each kind, and to the last result."""
        self.started = time.time()
        with open(errors, "wb") as stderr:
            self.process = subprocess.Popen(
                [*PROGRAM, "index", str(photos), "--json", "--model", "builtin", "--index", str(index)]
                + ["--ocr"] * ocr,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env=os.environ | {MARK: self.mark},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # else cut off by a kill
                self._note(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        kind, now = event["event"], time.time()
        self.seconds.setdefault(kind, now - self.started)
        if kind == "planned":
            self.planned = event["count"]
        elif kind == "checkpoint":
            self.saved, self.saved_texts = len(self.results), len(self.texts)
            self.checkpoints += 1
        elif kind == "read":
            self.texts.append(path_of(event))
        elif kind in RESULTS and self.planned is not None:
            self.results.append(Result(kind, path_of(event), now))
            self.seconds["last result"] = now - self.started
        self.last = kind

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    @property
    def has_all(self) -> bool:
        return self.planned is not None and len(self.results) >= self.planned

    @property
    def has_ended(self) -> bool:
        return self.is_done or self.last in ("stopped", "ocr_stopped")

    @property
    def is_done(self) -> bool:
        return self.last == self.last_event

    def phase(self) -> str:
        """What it is at, as far as its events tell."""
        if self.has_ended:
            return "leaving"
        if not self.results and (self.planned is None or self.planned):
            return "starting"
        if "reading" in self.seconds:
            return "reading text"
        if self.has_all:
            return "last commit" if self.last in RESULTS else "finishing"
        return "after a checkpoint" if self.last == "checkpoint" else "indexing"

    def is_starting(self) -> bool:
        """Whether a signal still ends it as it ends any program: no handler is installed yet."""
        if self.last:
            return False
        with contextlib.suppress(OSError, StopIteration), open(f"/proc/{self.process.pid}/status") as status:
            caught = int(next(line for line in status if line.startswith("SigCgt:")).split()[1], 16)
            return not caught >> (signal.SIGTERM - 1) & 1
        return True

    def strike(self, number: signal.Signals, *, group: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self) -> None:
        """Leave nothing of it behind, whatever went wrong."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float | None = None) -> int:
        """Until it is over and all it said is read."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"still running {seconds:g} s after it was told to stop") from None
        self._reader.join(STRAY_SECONDS)
        return code

    def processes(self) -> list[int]:
        """Ids of what is alive of this run, itself included (Linux only)."""
        found = []
        for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
            with contextlib.suppress(OSError):
                if name.isdigit() and self.mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.append(int(name))
        return found

    def outliving(self) -> float:
        """Seconds until nothing of it was left. Raises Broken for what stays."""
        started = time.time()
        while strays := self.processes():
            if time.time() - started > STRAY_SECONDS:
                self.end()
                raise Broken(f"processes outlive the run by more than {STRAY_SECONDS:g} s: {strays}")
            time.sleep(0.02)
        return time.time() - started

    def complaints(self) -> str:
        return self.errors.read_text(errors="replace").strip()


def path_of(record: dict[str, Any]) -> str:
    if "path_b64" in record:
        return os.fsdecode(base64.b64decode(record["path_b64"]))
    path: str = record["path"]
    return path


@dataclass(frozen=True)
class Moment:
    """When to strike: so long after something is seen for the first time."""

    name: str
    is_due: Callable[[Run], bool]
    delay: float = 0.0

    def wait(self, run: Run) -> bool:
        """True when it has come, False if the run was over before."""
        while not run.is_over:
            if self.is_due(run):
                time.sleep(self.delay)
                return not run.is_over
            time.sleep(0.001 if run.last else 0.005)
        return False


def moment(kind: str, generator: random.Random, usual: dict[str, float]) -> Moment:
    """A random one of its kind. `usual` is how long an uninterrupted run took to its first event of each kind."""
    if kind == "any time":
        return Moment(kind, lambda run: True, generator.uniform(0, usual["done"]))
    if kind == "a photo":
        share = generator.uniform(0, 0.9)

        def has_come(run: Run) -> bool:
            return bool(run.texts) or (bool(run.results) and len(run.results) > share * (run.planned or 0))

        return Moment(kind, has_come)
    if kind == "a text":
        count = generator.randint(1, 30)
        return Moment(kind, lambda run: len(run.texts) >= count, generator.uniform(0, 1))
    if kind == "the end":
        if generator.random() < 0.5:
            written = _when_written("spaces/*/[hs]*", generator.randint(1, 4))  # graphs, slot map
            return Moment(kind, written, generator.uniform(0, 0.004))
        delay = generator.uniform(0, usual["done"] - usual["last result"])
        return Moment(kind, lambda run: run.has_all, delay)
    number = generator.choice((1, 2, 2, 3))
    if generator.random() < 0.3:
        return Moment(kind, lambda run: run.checkpoints >= number or run.has_all, generator.uniform(0, 0.03))
    written = _when_written(generator.choice(("spaces/*/vectors.*", "catalog.sqlite3-wal")), number)

    def is_due(run: Run) -> bool:
        return written(run) or (run.has_all and run.last == "checkpoint")

    return Moment(kind, is_due, generator.uniform(0, 0.008))


def _when_written(pattern: str, number: int) -> Callable[[Run], bool]:
    """Due when such files in the index were written N times since the walk ended."""
    stamps: list[dict[str, int]] = []

    def is_due(run: Run) -> bool:
        if run.planned is None:
            return False
        with contextlib.suppress(FileNotFoundError):  # renamed between our two looks
            stamp = {path.name: path.stat().st_mtime_ns for path in run.index.glob(pattern)}
            if not stamps or stamps[-1] != stamp:
                stamps.append(stamp)
        return len(stamps) > number

    return is_due


# The trial


@dataclass
class Tally:
    """What happened, for the table."""

    kills: Counter[str] = field(default_factory=Counter)
    """By phase."""
    signals: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    checkpoints: int = 0
    lost: list[int] = field(default_factory=list)
    """Photos, per kill without an orderly stop."""
    lost_texts: list[int] = field(default_factory=list)
    oldest: float = 0.0
    """Seconds before the kill that the oldest lost photo was reported."""
    stopped: list[float] = field(default_factory=list)
    """Seconds an orderly stop took."""
    torn: int = 0
    """Kills between the vectors and the commit that names them."""
    outlived: float = 0.0
    workers: int = 0

    @property
    def at_work(self) -> int:
        return sum(count for phase, count in self.kills.items() if phase not in ("starting", "leaving"))


class Trial:
    """A folder, what is right about it, and an index that is killed again and again."""

    def __init__(self, work: Path, arguments: argparse.Namespace) -> None:
        self.work = work
        self.photos = work / "photos"
        self.index = work / "index"
        self.random = random.Random(arguments.seed)
        self.wanted: int = arguments.kills
        self.wanted_at_work: int = arguments.at_work
        self.life: int = arguments.life
        self.signals = self.dealt(MIXED if arguments.signal == "mixed" else (arguments.signal,))
        self.has_ocr: bool = arguments.ocr
        self.moments = self.dealt(OCR_MOMENTS if self.has_ocr else MOMENTS)
        self.has_words: bool = not arguments.no_words
        self.tally = Tally()
        self.reference = Reference()
        self.usual: dict[str, float] = {}
        self.touched: set[str] = set()
        self.disk: dict[str, bytes] = {}
        self.known: list[str] = []
        """Relpaths that were committed when the index was last looked at."""
        self.known_readings: set[bytes] = set()
        # Ours too: what is read in this process is read as the program would.
        os.environ.pop("IMGSEARCH_INDEX", None)
        os.environ.update(
            {f"XDG_{kind}_HOME": str(work / kind.lower()) for kind in ("CACHE", "DATA", "STATE", "CONFIG")}
        )
        # On a busy machine more threads mostly wait for one another.
        os.environ.update({"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hub"), "OMP_NUM_THREADS": "1"})
        os.environ["IMGSEARCH_HNSW_SLOTS"] = "32"  # graphs in small indexes, and more of them than one
        self.can_check = self.imgsearch("check", "--help").returncode == 0

    def dealt(self, cards: tuple[str, ...]) -> Iterator[str]:
        while True:
            yield from self.random.sample(cards, len(cards))

    def imgsearch(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
        )

    def start(self, index: Path | None = None) -> Run:
        return Run(self.photos, index or self.index, self.work / "stderr", ocr=self.has_ocr)

    # the loop

    def run(self) -> None:
        self.learn()
        is_fresh = True
        while True:
            for _ in range(self.life):
                if self.is_enough or not self.kill():
                    break
            self.finish(is_fresh=is_fresh, is_last=self.is_enough)
            if self.is_enough:
                return
            self.known_readings = set()
            is_fresh = self.wanted - self.kills < self.life or self.random.random() < 0.7
            if is_fresh:
                shutil.rmtree(self.index)
                self.known = []
            else:
                self.touched = change(self.photos, list(self.reference.now.photos), self.random)
                self.learn()

    @property
    def kills(self) -> int:
        return self.tally.kills.total()

    @property
    def is_enough(self) -> bool:
        return self.kills >= self.wanted and self.tally.at_work >= self.wanted_at_work

    def learn(self) -> None:
        """Index the folder as it is now without interruption."""
        index = self.work / "reference"
        shutil.rmtree(index, ignore_errors=True)
        self.disk = contents(self.photos)
        run = self.start(index)
        code = run.wait()
        require(code in (0, 3) and run.is_done, f"uninterrupted: exit {code}, {run.complaints()[-400:]}")
        self.usual = run.seconds
        found = snapshot(index)
        require(found.photos and not found.unfinished, f"uninterrupted: {found.unfinished}")
        require(all(self.disk[name] == row[0] for name, row in found.photos.items()), "uninterrupted: wrong hashes")
        self.reference.learn(found)
        self.reference.answers = self.answers(index, self.has_words)
        print(
            f"reference: {len(found.photos)} photos, {len(found.vectors)} vectors, {len(found.failures)} failures, "
            f"{len(run.texts)} read, {run.checkpoints} checkpoints, {max(run.seconds.values()):.1f} s",
            flush=True,
        )

    def kill(self) -> bool:
        """One run, struck once, and all that must hold then. False if nothing is left to do for another."""
        name = next(self.signals)
        number, is_group = SIGNALS[name], self.random.random() < (0.7 if name in ("INT", "HUP") else 0.4)
        second = self.random.uniform(0.01, 0.3) if number != signal.SIGKILL and self.random.random() < 0.3 else None
        when = moment(next(self.moments), self.random, self.usual)
        run = self.start()
        try:
            with self.asking_meanwhile(run):
                if not when.wait(run):
                    self.check_ended(run)
                    return False
                self.strike(run, number, second, is_group=is_group)
        finally:
            run.end()
        found = self.inspect(run)
        lost = self.losses(run, found)
        is_orderly = number != signal.SIGKILL and second is None and run.has_ended
        if is_orderly:
            require(not lost, f"an orderly stop lost {len(lost)} photos, such as {lost[0].path if lost else ''!r}")
        else:
            self.tally.lost.append(len(lost))
        self.ask_afterwards(found)
        how = f"{name}{' twice' if second else ''}{' to the group' if is_group else ''}"
        print(
            f"{self.kills:4}  {how:20} {when.name:9} {self.phase:19} {len(run.results):5} of {run.planned or 0:5} "
            f"reported, {len(found.photos):5} kept, {len(lost):3} lost; "
            f"{len(run.texts):4} read, {len(found.readings):4} known, {self.tally.lost_texts[-1]:2} lost",
            flush=True,
        )
        now = self.reference.now
        is_partial = found.photos.keys() != now.photos.keys() or found.readings.keys() != now.readings.keys()
        return bool(found.unfinished) or is_partial

    def strike(self, run: Run, number: signal.Signals, second: float | None, *, is_group: bool) -> None:
        is_early = run.is_starting()
        is_working, self.phase = run.planned is not None, run.phase()
        self.tally.workers = max(self.tally.workers, len(run.processes()) - 1)
        struck = time.time()
        run.strike(number, group=is_group)
        if second is not None:
            time.sleep(second)
            run.strike(number, group=is_group)
        code = run.wait(STOP_SECONDS)
        self.tally.outlived = max(self.tally.outlived, run.outliving())
        self.tally.checkpoints += run.checkpoints
        self.tally.signals[number.name] += 1
        if number == signal.SIGKILL:
            require(code == -number or run.is_done, f"exit {code} after SIGKILL: {run.complaints()[-400:]}")
            self.phase = run.phase()
        else:
            self.check_stopped(run, number, code, is_early=is_early, is_working=is_working, is_sole=second is None)
            self.tally.stopped.append(time.time() - struck)
        if not is_early:
            require("Traceback" not in run.complaints(), f"a traceback after {number.name}: {run.complaints()[-1500:]}")
        late = [result.at for result in run.results[run.saved :] if result.kind == "photo"]
        if number == signal.SIGKILL and late:
            self.tally.oldest = max(self.tally.oldest, struck - late[0])

    def check_stopped(
        self, run: Run, number: signal.Signals, code: int, *, is_early: bool, is_working: bool, is_sole: bool
    ) -> None:
        """The contract of exit codes. A signal that finds Python starting or leaving ends it as any program."""
        allowed = {128 + number}
        if run.is_done:
            allowed |= {0, 3}
        if is_early or run.has_ended:
            allowed |= {-number}
        require(code in allowed, f"exit {code} after {number.name} ({self.phase}): {run.complaints()[-1500:]}")
        if is_working and is_sole:
            require(run.has_ended, f"{number.name} ({self.phase}): the last line is {run.last!r}, not the summary")

    def check_ended(self, run: Run) -> None:
        code = run.wait()
        require(code in (0, 3) and run.is_done, f"exit {code}, not interrupted: {run.complaints()[-1500:]}")
        require("Traceback" not in run.complaints(), f"not interrupted, and yet: {run.complaints()[-1500:]}")
        self.tally.outlived = max(self.tally.outlived, run.outliving())
        self.tally.checkpoints += run.checkpoints

    def inspect(self, run: Run) -> Snapshot:
        """What the kill left, seen by the program and from outside.

        Half of the time all looking is done at a copy, so that the next writer meets just what the kill left.
        """
        copy = self.work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        if self.index.exists():
            shutil.copytree(self.index, copy)
        found = snapshot(copy)
        looked_at = self.index if self.random.random() < 0.5 else copy
        may_be_empty = not found.photos and not run.checkpoints and not self.known
        require(found.photos or may_be_empty, "the index is empty, though a checkpoint was reported")
        for command in ("status", "check")[: 1 + self.can_check]:
            done = self.imgsearch(command, "--json", "--index", str(looked_at))
            if not (done.returncode == 4 and may_be_empty and _says_empty(done.stderr)):
                require(done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}{done.stdout[-400:]}")
            if command == "status" and done.returncode == 0:
                told = json.loads(done.stdout)["photos"]
                require(told == len(found.photos), f"status counts {told} photos of {len(found.photos)}")
            self.tally.checks[command] += 1
        self.reference.check(found, self.disk, self.touched)
        require(not [name for name in self.known if name not in found.photos and name in self.disk], "photos vanished")
        self.count_phase(run, found)
        self.known = sorted(found.photos)
        self.check_texts(run, found)
        return found

    def check_texts(self, run: Run, found: Snapshot) -> None:
        """Nothing is read twice, and what was read before the last checkpoint is kept."""
        contents = [self.disk.get(os.path.relpath(path, self.photos), b"") for path in run.texts]
        require(self.known_readings.isdisjoint(contents), "a text is read again")
        lost = [content for content in contents if content not in found.readings]
        is_kept = set(contents[: run.saved_texts]) <= found.readings.keys()
        require(is_kept, "texts before a reported checkpoint are lost")
        require(len(lost) <= MAX_LOST_TEXTS, f"{len(lost)} texts lost: more than a checkpoint")
        require(self.known_readings <= found.readings.keys(), "readings vanished")
        self.known_readings = set(found.readings)
        self.tally.lost_texts.append(len(lost))

    def count_phase(self, run: Run, found: Snapshot) -> None:
        written = max((path.stat().st_mtime for path in self.index.glob("spaces/*/vectors.*")), default=0.0)
        if found.tail and written > run.started and run.last != "checkpoint" and not run.has_ended:
            last = run.results[run.saved - 1].at if run.saved else run.started
            if written > last:
                self.phase = "committing"
                self.tally.torn += 1
        self.tally.kills[self.phase] += 1

    def losses(self, run: Run, found: Snapshot) -> list[Result]:
        """Photos that were reported and are not in the index. All before the last checkpoint must be."""

        def is_kept(result: Result) -> bool:
            relpath = os.path.relpath(result.path, self.photos)
            if result.kind == "photo":
                return relpath in found.photos and found.photos[relpath][0] == self.disk.get(relpath)
            return relpath in found.failures

        broken = [result for result in run.results[: run.saved] if not is_kept(result)]
        require(not broken, f"{len(broken)} results before a reported checkpoint are lost, such as {broken[:1]}")
        lost = [result for result in run.results[run.saved :] if not is_kept(result)]
        require(len(lost) <= MAX_LOST, f"{len(lost)} results lost: more than a checkpoint")
        return [result for result in lost if result.kind == "photo"]

    def finish(self, *, is_fresh: bool, is_last: bool) -> None:
        """Let a run end by itself and hold the index against the reference; a further run then has nothing to do."""
        run = self.start()
        with self.asking_meanwhile(run):
            self.check_ended(run)
        again = self.start()
        self.check_ended(again)
        require(again.planned == 0 and not (again.results or again.texts), "a further run reads files again")
        self.reference.compare(snapshot(self.index), is_fresh=is_fresh)
        self.compare_answers(self.answers(self.index, self.has_words and is_last))
        self.known, self.touched = sorted(self.reference.now.photos), set()
        print(f"      finished: equal to the reference, {len(self.known)} photos", flush=True)

    # queries

    def answers(self, index: Path, has_words: bool) -> dict[str, list[tuple[str, float]]]:
        """Paths and scores by query: pictures, words, a picture with words, and words in captions."""
        names = [name for name in sorted(self.reference.now.photos) if " " not in name and name.isascii()]
        pictures = [str(self.photos / name) for name in names[:: max(1, len(names) // 5)][:5]]
        typed = [*pictures, *WORDS, f"in a carton like {pictures[0]}"] if has_words else pictures
        found = self.answer(index, typed, "--include-reference")
        if has_words and (self.has_ocr or any(row[-1] for row in self.reference.now.photos.values())):
            captions = self.answer(index, [WORDS[0], CAPTIONS[0]], "--modality", "any")
            found |= {f"{query} (any)": hits for query, hits in captions.items()}
        self.tally.checks["queries compared"] += len(found)
        return found

    def answer(self, index: Path, typed: list[str], *options: str) -> dict[str, list[tuple[str, float]]]:
        asked = "".join(f"{line}\n" for line in typed)
        done = self.imgsearch("query", "-", "--json", "-n", "25", "--index", str(index), *options, stdin=asked)
        require(done.returncode == 0, f"query: exit {done.returncode}: {done.stderr}")
        found: dict[str, list[tuple[str, float]]] = {query: [] for query in typed}
        for line in done.stdout.splitlines():
            hit = json.loads(line)
            found[hit["query"]].append((path_of(hit), hit["score"]))
        return found

    def compare_answers(self, found: dict[str, list[tuple[str, float]]]) -> None:
        """The same paths in the same order; only what scores the same to five places may change places."""
        for query, hits in found.items():
            wanted = self.reference.answers[query]
            require(len(hits) == len(wanted), f"{query}: {len(hits)} hits, not {len(wanted)}")
            score_of = dict(wanted)
            for rank, ((path, score), (right, right_score)) in enumerate(zip(hits, wanted, strict=True)):
                is_tie = abs(score_of.get(path, score if rank >= 20 else 9) - right_score) <= 1e-5
                require(path == right or is_tie, f"{query}: hit {rank + 1} is {path}, not {right}")
                require(abs(score - right_score) <= 1e-4, f"{query}: hit {rank + 1} scores {score}, not {right_score}")

    @contextlib.contextmanager
    def asking_meanwhile(self, run: Run) -> Iterator[None]:
        """Sometimes a query while it indexes: consistent whenever it is asked."""
        trouble: list[Broken] = []
        is_empty = not self.known
        same = [name for name in self.known if name not in self.touched]
        picture = str(self.photos / self.random.choice(same)) if same else None
        share = self.random.random()

        def ask() -> None:
            nonlocal picture
            while not run.is_over and len(run.results) <= share * (run.planned or 1):
                time.sleep(0.01)
            if is_empty and run.saved:
                picture = next((result.path for result in run.results[: run.saved] if result.kind == "photo"), None)
            if run.is_over or picture is None:
                return
            try:
                self.ask(picture, self.index, may_be_empty=is_empty and not run.saved)
                self.tally.checks["queries meanwhile"] += 1
            except Broken as broken:
                trouble.append(broken)

        thread = threading.Thread(target=ask)
        if self.random.random() < 0.4:
            thread.start()
        try:
            yield
        finally:
            if thread.ident:
                thread.join()
        if trouble:
            raise trouble[0]

    def ask_afterwards(self, found: Snapshot) -> None:
        unchanged = [name for name, row in found.photos.items() if self.disk.get(name) == row[0]]
        if unchanged and self.random.random() < 0.5:
            self.ask(str(self.photos / self.random.choice(unchanged)), self.index)
            self.tally.checks["queries after a kill"] += 1
        if found.photos and self.has_words and self.random.random() < 0.1:
            (hits,) = self.answer(self.index, [self.random.choice(WORDS)]).values()
            self.check_hits(hits)
            self.tally.checks["queries by words after a kill"] += 1

    def ask(self, picture: str, index: Path, *, may_be_empty: bool = False) -> None:
        """Ask with a picture: among the hits is the picture itself, with a score of 1."""
        done = self.imgsearch(
            "query", "-i", picture, "--include-reference", "--json", "-n", "25", "--index", str(index)
        )
        if may_be_empty and (done.returncode == 1 or (done.returncode == 4 and _says_empty(done.stderr))):
            return
        require(done.returncode == 0, f"query {picture}: exit {done.returncode}: {done.stderr}")
        hits = [(path_of(hit), hit["score"]) for hit in map(json.loads, done.stdout.splitlines())]
        self.check_hits(hits)
        if os.path.relpath(picture, self.photos) not in self.touched:
            require(dict(hits).get(picture, 0) >= 0.9999 and hits[0][1] >= 0.9999, f"{picture} does not find itself")

    def check_hits(self, hits: list[tuple[str, float]]) -> None:
        paths = [path for path, _ in hits]
        require(paths, "no hits")
        require(len(set(paths)) == len(paths), f"a photo twice among the hits: {paths}")
        for path in paths:
            is_there = os.path.lexists(path) or os.path.relpath(path, self.photos) in self.touched
            require(is_there, f"a hit that is not on disk: {path}")

    # the table

    def table(self) -> Iterator[str]:
        tally = self.tally
        for title, counts in (("kills by phase", tally.kills), ("by signal", tally.signals), ("checks", tally.checks)):
            told = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            yield f"{title:22} {told}"
        yield f"{'at work':22} {tally.at_work} of {self.kills} kills"
        yield f"{'vectors not yet named':22} {tally.torn} kills between the vectors and their commit"
        yield f"{'checkpoints':22} {tally.checkpoints}, all kept"
        lost = tally.lost or [0]
        yield f"{'photos lost by a kill':22} most {max(lost)}, mean {sum(lost) / len(lost):.1f}"
        if any(tally.lost_texts):
            yield f"{'texts lost by a kill':22} most {max(tally.lost_texts)}"
        yield f"{'oldest work lost':22} {tally.oldest:.1f} s"
        if tally.stopped:
            yield f"{'orderly stops':22} {len(tally.stopped)}, slowest {max(tally.stopped):.1f} s"
        yield f"{'child processes':22} at most {tally.workers}, gone after at most {tally.outlived:.2f} s"


def _says_empty(complaint: str) -> bool:
    return "nothing indexed yet" in complaint or "no index at" in complaint


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="folder of photos to link or copy (default: generated)"
    )
    parser.add_argument("--count", type=int, metavar="N", help="number of photos (default: 600, or all of DIR)")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--at-work", type=int, default=0, metavar="N", help="continue until N kills hit while indexing")
    parser.add_argument("--life", type=int, default=5, help="kills before a run may finish (default: 5)")
    parser.add_argument("--signal", choices=[*SIGNALS, "mixed"], default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ocr", action="store_true", help="read the text in pictures too")
    parser.add_argument("--no-words", action="store_true", help="only picture queries, which load no model")
    parser.add_argument("--keep", action="store_true", help="do not delete the folder")
    arguments = parser.parse_args()
    if arguments.ocr and arguments.signal != "KILL":
        parser.error("--ocr is for --signal KILL")
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup's, which the runs would take over
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    started = time.time()
    work = Path(tempfile.mkdtemp(prefix="imgsearch-kill-")).resolve()
    (work / "photos").mkdir()
    if arguments.photos:
        borrow(work / "photos", arguments.photos, arguments.count)
    else:
        plant(work / "photos", arguments.count or 600, arguments.seed)
    trial = Trial(work, arguments)
    try:
        trial.run()
    except Broken as broken:
        print("\n".join(trial.table()))
        print(f"BROKEN after {trial.kills} kills: {broken}\nseed {arguments.seed}; files kept in {work}", flush=True)
        return 1
    print("\n".join(trial.table()))
    print(f"{'seconds':22} {time.time() - started:.0f}")
    if arguments.keep:
        print(f"kept: {work}")
    else:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
