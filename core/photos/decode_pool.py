"""Worker processes that read photos: started when needed, given one file each, replaced when they die.

Each has a socket of its own, so that what comes from a socket can only be about the file that its worker was given. (A
pool that shares one channel between its workers, as pebble's does, stops when a worker dies with the channel's lock.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import has_video_extension, processor_cores
from imgsearch.core.types import DECODE_SECONDS, Facts, NotAPicture, Photo, Recipe, Region, SkipPhoto, Stage, TextLine

from .decode_worker import LIMIT_BYTES, Channel, ChannelClosed, ChannelTimeout, facts_from
from .ocr import INSTALL
from .regions import WHOLE, regions_for

if TYPE_CHECKING:
    import numpy as np

    from imgsearch.core.types import Squares
else:
    np = LateModule("numpy")

# The model computes on all cores, each of its steps on all at once: a decoder that took one from it would hold up the
# others too. So decoders work while it waits for them, and a batch that is being embedded has the machine.
NICENESS = 10
# Many frames of a video are decoded, so its time limit is that of a photo times this.
PICTURES_OF_VIDEO = 5
# On top of the time limit, reading a file may take as long as a slow network disk needs for it.
SLOWEST_BYTES_PER_SECOND = 1_000_000
START_SECONDS = 60.0
# How long a killed worker may take to be gone; one that hangs in the kernel is left to it.
REAP_SECONDS = 1.0

# How much of the memory that is free when the workers start they may take together, and one huge photo alone.
SHARE_OF_MEMORY = 0.75
MIN_SHARE_BYTES, MAX_SHARE_BYTES = 256 << 20, 2 << 30
# The largest picture that is read at all, 179 megapixels, takes up to 24 bytes a pixel on its way.
MIN_ALONE_BYTES, MAX_ALONE_BYTES = 512 << 20, LIMIT_BYTES

JPEG_START = b"\xff\xd8\xff"

T = TypeVar("T")
_Take = Callable[[dict[str, Any], bytes], T]
"""Turns an answer into its result. Raises KeyError, TypeError, ValueError or ChannelClosed if it is malformed."""

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """A photo, as a worker read it."""

    content_hash: bytes
    """SHA-256 over all bytes of the file."""
    size: int
    mtime_ns: int
    facts: Facts
    squares: Squares | None
    """uint8, (n, height, width, 3); None if the content was known and no pixels were needed."""
    regions: tuple[Region, ...] = ()
    """Of a panorama or a video whose regions were asked for: what each square shows."""

    @property
    def square(self) -> Squares | None:
        """uint8, (height, width, 3): the square of the whole picture, which is its centre."""
        return None if self.squares is None else self.squares[0]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A photo made small."""

    content_hash: bytes
    """SHA-256 over all bytes of the file that was read."""
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class ReadText:
    """The text of a photo."""

    content_hash: bytes
    """SHA-256 over all bytes of the file that was read."""
    lines: tuple[TextLine, ...]
    """From top to bottom."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds that a worker may take, first until all bytes are hashed, then for the pixels."""

    reading: float
    decoding: float


class PoolClosed(Exception):
    """The workers were closed while a file was being read."""


class _WorkerDied(Exception):
    """A worker ended in the middle of a file."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage: Stage = stage
        self.reason = reason


class DecodePool:
    """Reads photos in worker processes, one photo per calling thread at a time.

    Keep it open while there may be more to read: `with DecodePool() as pool: pool.read(photo, ...)`.
    """

    def __init__(self, count: int | None = None, *, seconds: float = DECODE_SECONDS, niceness: int = NICENESS) -> None:
        self.count = count or processor_cores()
        self.seconds = seconds
        self._niceness = niceness
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_closed = False
        self._changing = threading.Lock()
        self._alone = threading.Lock()
        # Linux kills a worker when the thread that started it ends, so one lasting thread starts all of them.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")
        free = int(memory_available() * SHARE_OF_MEMORY)
        self._share = min(max(free // self.count, MIN_SHARE_BYTES), MAX_SHARE_BYTES)
        self._most = min(max(free, MIN_ALONE_BYTES), MAX_ALONE_BYTES)

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers. Threads that wait for one raise PoolClosed."""
        with self._changing:
            self._is_closed = True
            processes = [*self._idle, *self._busy]
            self._idle.clear()
        for process in processes:
            process.kill()
        until = time.monotonic() + REAP_SECONDS
        for process in processes:
            process.reap(max(0.0, until - time.monotonic()))
        self._starter.shutdown()

    def read(
        self,
        photo: Photo,
        recipe: Recipe,
        *,
        draft_side: int = 0,
        known: Container[bytes] = frozenset(),
        regions: bool = False,
    ) -> DecodedPhoto:
        """The photo as `decode.read_picture` and `preprocess.square` make it, without their risks.

        `known` is asked whether the pixels of these contents are needed at all. With `regions`, a panorama has a square
        for each of its regions, unless the recipe puts the whole picture into one, and a video one for each of its
        moments. Raises NotAPicture, SkipPhoto (also
        for a decoder that crashed or took too long), and PoolClosed.
        """
        task = {
            "path": photo.path,
            "sidecars": [[sidecar.relpath, sidecar.size, sidecar.mtime_ns] for sidecar in photo.sidecars],
            "named": photo.named,
            "video": (photo.video or photo.named) and has_video_extension(photo.path),
            "draft_side": draft_side,
            "recipe": dataclasses.asdict(recipe),
            "regions": regions,
        }
        return self._answer(
            task, photo.size, lambda record, data: _read_of(record, data, recipe, has_regions=regions), known
        )

    def thumbnail(self, path: str, side: int, at: float | None = None) -> Thumbnail:
        """The photo as a JPEG: upright, sRGB, whole, neither side longer than `side`, without metadata. Of a video, the
        frame at that many seconds, by default in the middle.

        Raises SkipPhoto for what cannot be read or decoded, and PoolClosed.
        """
        task = {"path": path, "thumbnail": side, "at": at, "video": has_video_extension(path)}
        return self._whole(task, _thumbnail_of)

    def text(self, path: str) -> ReadText:
        """The lines of text in the upright photo, read at `ocr.MAX_SIDE`. Needs the extra [ocr].

        Raises SkipPhoto for what cannot be read or decoded, ImgsearchError if the extra does not work, and PoolClosed.
        """
        return self._whole({"path": path, "ocr": True}, _text_of)

    def _whole(self, task: dict[str, Any], take: _Take[T]) -> T:
        """The result of a task on a file that is known to be a picture."""
        try:
            size = os.stat(task["path"]).st_size
        except (OSError, ValueError):  # the worker says what is wrong with it
            size = 0
        try:
            return self._answer(task, size, take)
        except NotAPicture:
            raise SkipPhoto("decode", "not a picture") from None

    def _answer(self, task: dict[str, Any], size: int, take: _Take[T], known: Container[bytes] = frozenset()) -> T:
        """The result of a task on a file of `size` bytes, as `take` returns it."""
        seconds = self.seconds * (PICTURES_OF_VIDEO if task.get("video") else 1)
        limits = _Limits(seconds + size / SLOWEST_BYTES_PER_SECOND, seconds)
        try:
            return self._read(task, take, limits, known)
        except _WorkerDied:  # the file may not be the reason: out of memory, or a kill
            try:
                with self._alone_once():
                    return self._read({**task, "alone": True}, take, limits, known)
            except _WorkerDied as died:
                raise SkipPhoto(died.stage, died.reason) from None

    def _read(self, task: dict[str, Any], take: _Take[T], limits: _Limits, known: Container[bytes]) -> T:
        """Raises _WorkerDied if the worker did; another one takes the next task."""
        worker = self._ready()
        is_well = False
        try:
            read = self._converse(worker, task, take, limits, known)
            is_well = True
            return read
        except (NotAPicture, SkipPhoto):
            is_well = True
            raise
        except ChannelClosed:
            if self._is_closed:
                raise PoolClosed from None
            raise worker.cause_of_death() from None
        except ChannelTimeout:
            if worker.is_reading:  # the disk is slow, not the file
                raise SkipPhoto("read", f"given up after {limits.reading:.0f} seconds of reading") from None
            raise SkipPhoto("decode", f"given up after {limits.decoding:g} seconds of decoding") from None
        finally:
            self._give_back(worker, is_well=is_well)

    def _ready(self) -> _Process:
        """A worker that has started. Raises ImgsearchError if two in a row cannot start."""
        for attempt in (1, 2):
            worker = self._taken()
            try:
                worker.wait_until_ready()
                return worker
            except ChannelClosed:
                self._give_back(worker, is_well=False)
                if self._is_closed:
                    raise PoolClosed from None
                if attempt == 2:
                    raise worker.no_start() from None
            except BaseException:
                self._give_back(worker, is_well=False)
                raise
        raise AssertionError("unreachable")

    def _taken(self) -> _Process:
        with self._changing:
            if self._is_closed:
                raise PoolClosed
            worker = self._idle.pop() if self._idle else None
            if worker is None:
                worker = self._starter.submit(_Process, self._share, self._most, self._niceness).result()
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: _Process, *, is_well: bool) -> None:
        with self._changing:
            self._busy.discard(worker)
            if is_well and not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()

    def _converse(
        self, worker: _Process, task: dict[str, Any], take: _Take[T], limits: _Limits, known: Container[bytes]
    ) -> T:
        """Send the task, answer the worker's questions, return its result."""
        with contextlib.ExitStack() as held:
            patience, is_alone = limits.reading, bool(task.get("alone"))
            worker.is_reading = True
            worker.channel.send({**task, "alarm": _alarm(patience)})
            while True:
                record, data = worker.channel.receive(patience)
                patience = limits.decoding
                match record.get("ask"):
                    case "known":
                        worker.is_reading = False  # all its bytes are hashed
                        answer = _bytes(record, "content_hash") in known
                    case "alone":
                        if is_alone:
                            raise ChannelClosed  # it asks again
                        held.enter_context(self._alone_once())
                        answer = is_alone = True
                        patience = limits.reading  # a second attempt reads the file again
                    case _:
                        return _taken(record, data, take)
                worker.channel.send({"yes": answer, "alarm": _alarm(patience)})

    @contextmanager
    def _alone_once(self) -> Iterator[None]:
        """A lock for the one worker that may use all free memory."""
        while not self._alone.acquire(timeout=0.5):
            if self._is_closed:
                raise PoolClosed
        try:
            yield
        finally:
            self._alone.release()


def _alarm(patience: float) -> float:
    """Seconds until a worker without a parent ends by itself: long after it would have been killed."""
    return 2 * patience + 60


def _taken(record: dict[str, Any], data: bytes, take: _Take[T]) -> T:
    """The result in a worker's answer, or its exception. Raises ChannelClosed for an invalid answer."""
    try:
        if record.get("nothing"):
            raise NotAPicture
        if "skipped" in record:
            stage, reason = record["skipped"]
            raise SkipPhoto(stage if stage in ("read", "memory", "decode", "ocr") else "decode", str(reason))
        return take(record, data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ChannelClosed from None


def _read_of(record: dict[str, Any], data: bytes, recipe: Recipe, *, has_regions: bool) -> DecodedPhoto:
    picture, squares = record["picture"], None
    facts = facts_from(picture["facts"])
    regions = regions_for(facts, recipe) if has_regions else ()
    if moments := record.get("moments") if has_regions else None:
        regions = tuple(replace(WHOLE, at=float(seconds)) for seconds in moments)
    if "squares" in record:
        squares = np.frombuffer(data, np.uint8).reshape(len(regions) or 1, *recipe.size, 3)
    content_hash, size, mtime_ns = _bytes(picture, "content_hash"), int(picture["size"]), int(picture["mtime_ns"])
    return DecodedPhoto(content_hash, size, mtime_ns, facts, squares, regions)


def _thumbnail_of(record: dict[str, Any], data: bytes) -> Thumbnail:
    if not data.startswith(JPEG_START):
        raise ChannelClosed
    return Thumbnail(_bytes(record, "thumbnail"), data)


def _text_of(record: dict[str, Any], data: bytes) -> ReadText:
    if "broken" in record:
        raise ImgsearchError(str(record["broken"]), hint=f"reinstall it: {INSTALL}")
    lines = tuple(TextLine(str(text), float(score), Region(*map(float, box))) for text, score, *box in record["lines"])
    return ReadText(_bytes(record, "content_hash"), lines)


def _bytes(record: dict[str, Any], key: str) -> bytes:
    try:
        value = bytes.fromhex(record[key])
    except (KeyError, TypeError, ValueError):
        raise ChannelClosed from None
    if len(value) != 32:
        raise ChannelClosed
    return value


class _Process:
    """One worker process."""

    def __init__(self, share: int, most: int, niceness: int) -> None:
        ours, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.channel = Channel(ours)
        self.is_reading = False
        self._is_ready = False
        self._last_words = ""
        isolation = (
            ["-I"] if sys.flags.isolated else ["-P"]
        )  # never import from the working directory: it may contain a PIL.py
        command = [sys.executable, *isolation, "-m", "imgsearch.core.photos.decode_worker"]
        command += [str(number) for number in (theirs.fileno(), os.getpid(), share, most, niceness)]
        try:
            with theirs, _endings_blocked():
                self._process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._said,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                )
        except OSError as error:
            self.channel.close()
            self._said.close()
            raise ImgsearchError(
                f"cannot start a process to read photos: {(error.strerror or str(error)).lower()}",
                hint="free some memory, allow more open files (ulimit -n), or use fewer --workers",
            ) from error

    def wait_until_ready(self) -> None:
        """Raises ChannelClosed if the process ends before it has started."""
        if self._is_ready:
            return
        try:
            self.channel.receive(START_SECONDS)
        except ChannelTimeout:
            raise ChannelClosed from None
        self._is_ready = True

    def no_start(self) -> ImgsearchError:
        """The error for a process that cannot start."""
        said = self._last_words or f"it ended with {self._process.returncode}"
        return ImgsearchError(f"a process to read photos did not start: {said}", hint="reinstall imgsearch")

    def cause_of_death(self) -> _WorkerDied:
        """Why the file that it was reading failed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return _WorkerDied("memory", "the process that decoded it was killed, perhaps because memory ran out")
        if code is not None and code < 0:
            return _WorkerDied("decode", f"its decoder crashed ({signal.Signals(-code).name})")
        return _WorkerDied("decode", "its decoder crashed")

    def end(self) -> None:
        """Kill it. Does not wait for a process that hangs in the kernel, for example on a dead network disk."""
        if not self._is_ready:
            self._last_words = self._said_last()
        self.kill()
        self.reap(REAP_SECONDS)

    def kill(self) -> None:
        self.channel.close()
        self._process.kill()

    def reap(self, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._said.close()

    def _said_last(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        with contextlib.suppress(ValueError):  # closed meanwhile
            self._said.seek(0)
            lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


@contextmanager
def _endings_blocked() -> Iterator[None]:
    """A process started inside ignores ^C, SIGTERM and SIGHUP, which reach the whole process group. It ends when its
    socket is closed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def memory_available() -> int:
    """Bytes of free memory, within the limits of the system and its containers."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        found += [int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")]
    for folder in cgroups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                total, taken = (int(_text(f"{folder}/{name}")) for name in (limit, used))
                # The page cache is freed when memory is needed.
                stat = dict(line.split() for line in _text(f"{folder}/memory.stat").splitlines())
                found.append(max(0, total - taken + int(stat.get("inactive_file", 0))))
    return min(found) if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def cgroups(kind: Literal["memory", "cpu"]) -> list[str]:
    """The cgroup folders with the limits of this process."""
    tops = ["/sys/fs/cgroup", f"/sys/fs/cgroup/{kind}"]
    with contextlib.suppress(OSError):
        for line in _text("/proc/self/cgroup").splitlines():
            _, _, path = line.split(":", 2)
            tops += [f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/{kind}{path}"] if path != "/" else []
    return tops


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
