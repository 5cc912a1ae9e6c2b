"""Thumbnails: small JPEGs of photos, made by worker processes and cached.

The cache has one file per content hash, side and moment of a video, readable only by the owner. On a full or read-only
disk there is no cache, which is not an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from imgsearch.core.places import cache_folder
from imgsearch.core.types import SkipPhoto
from imgsearch.core.writing import replacing

from .decode_pool import JPEG_START, DecodePool

MAX_SIDE = 4_096
MAX_BYTES = 512 << 20
"""About 20,000 thumbnails of 320 pixels. The least recently used are deleted first, a tenth at a time."""
KEPT_SHARE = 0.9
# The last use of a thumbnail is recorded at most once a day.
DAY_SECONDS = 86_400
# Thumbnails requested ahead, per worker.
LOOKAHEAD = 4


class Thumbnails:
    """Thumbnails from the cache, else from workers that are started on first use. Thread-safe; close it after use."""

    def __init__(self, folder: str | None = None, *, workers: int = 2, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or os.path.join(cache_folder(), "thumbnails")
        self.max_bytes = max_bytes
        self._count = workers
        self._workers: DecodePool | None = None
        self._is_closed = False
        self._starting = threading.Lock()
        self._cache = _Cache(self.folder, max_bytes)

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers. From now on only cached thumbnails are found."""
        with self._starting:
            self._is_closed = True
            workers, self._workers = self._workers, None
        if workers:
            workers.close()

    def jpeg(self, path: str, content_hash: bytes | None, side: int, at: float | None = None) -> bytes:
        """The photo upright, in sRGB, whole, its longer side `side` pixels or what it has, without metadata. Of a
        video, the frame at that many seconds, by default in the middle.

        With a content hash it comes from the cache if possible, even if the file is gone. Raises SkipPhoto
        for what cannot be read or decoded, ValueError for a side that is not 1 to 4096, workers.PoolClosed after
        `close`, and ImgsearchError where no worker can start.
        """
        if not 1 <= side <= MAX_SIDE:
            raise ValueError(f"a thumbnail of {side} pixels")
        if content_hash is not None and (kept := self._cache.find(content_hash, side, at)):
            return kept
        made = self._started().thumbnail(path, side, at)
        self._cache.keep(made.content_hash, side, at, made.jpeg)  # by the hash that was read: the file may have changed
        return made.jpeg

    def jpegs(
        self, photos: Iterable[tuple[str, bytes | None, float | None]], side: int
    ) -> Generator[bytes | SkipPhoto, None, None]:
        """`jpeg` for each (path, content hash, moment), in order, several at once; SkipPhoto for a photo without
        one."""
        waiting: deque[Future[bytes | SkipPhoto]] = deque()
        pool = ThreadPoolExecutor(self._count, thread_name_prefix="thumbnails")
        try:
            for path, content_hash, at in photos:
                waiting.append(pool.submit(self._jpeg_or_reason, path, content_hash, side, at))
                if len(waiting) > LOOKAHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after ^C, do not wait for a file that hangs

    def _jpeg_or_reason(self, path: str, content_hash: bytes | None, side: int, at: float | None) -> bytes | SkipPhoto:
        try:
            return self.jpeg(path, content_hash, side, at)
        except SkipPhoto as skipped:
            return skipped

    def _started(self) -> DecodePool:
        with self._starting:
            if self._workers is None:
                # A user waits for them: no niceness.
                self._workers = DecodePool(self._count, niceness=0)
                if self._is_closed:
                    self._workers.close()
            return self._workers


class _Cache:
    """Files `ab/abcd...-320.jpg` in a folder of their own, and `ab/abcd...-320-4000.jpg` of a video at four seconds."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = max_bytes
        self._held: int | None = None
        """Approximate bytes in the folder; other processes write there too."""
        self._counting = threading.Lock()

    def find(self, content_hash: bytes, side: int, at: float | None) -> bytes | None:
        path = self._path(content_hash, side, at)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                data = file.read()
                if time.time() - os.fstat(descriptor).st_mtime > DAY_SECONDS:
                    os.utime(path)
            if data.startswith(JPEG_START) and data.endswith(b"\xff\xd9"):
                return data
            os.unlink(path)  # truncated by a crash of the machine
        return None

    def keep(self, content_hash: bytes, side: int, at: float | None, jpeg: bytes) -> None:
        path = self._path(content_hash, side, at)
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with replacing(path, is_durable=False) as file:
                file.write(jpeg)
            self._make_room(len(jpeg))

    def _path(self, content_hash: bytes, side: int, at: float | None) -> str:
        name = content_hash.hex()
        moment = "" if at is None else f"-{round(1_000 * at)}"
        return os.path.join(self._folder, name[:2], f"{name}-{side}{moment}.jpg")

    def _make_room(self, added: int) -> None:
        """Delete the oldest if the cache is too large."""
        with self._counting:
            if self._held is not None:
                self._held += added
                if self._held <= self._most_bytes:
                    return
            files = sorted(_files(self._folder))
            self._held = sum(size for _, size, _ in files)
            if self._held <= self._most_bytes:
                return
            for _, size, path in files:
                if self._held <= KEPT_SHARE * self._most_bytes:
                    break
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._held -= size


# A complete thumbnail, or a partial one of a killed process.
_OURS = re.compile(r"[0-9a-f]{64}-\d+(-\d+)?\.jpg(\.[0-9a-f]{16})?|\.[0-9a-f]{16}\.new")


def _files(folder: str) -> Iterator[tuple[float, int, str]]:
    """(Last use, size in bytes, path) of each thumbnail; other files are ignored."""
    with contextlib.suppress(OSError), os.scandir(folder) as parts:
        for part in parts:
            with contextlib.suppress(OSError), os.scandir(part.path) as entries:
                for entry in entries:
                    if not _OURS.fullmatch(entry.name):
                        continue
                    with contextlib.suppress(OSError):
                        info = entry.stat(follow_symlinks=False)
                        yield info.st_mtime, info.st_size, entry.path
