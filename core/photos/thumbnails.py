"""Photos made small, to be looked at: JPEGs of the whole picture, made by processes of their own and kept in a cache.

The cache is files by content hash and side, for their owner alone, and it is kept as well as can be: a full or
read-only disk means no cache and is no error. It holds nothing that could not be made again.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from imgsearch.core.paths import cache_folder
from imgsearch.core.types import SkipPhoto

from .decode_pool import JPEG_START, DecodePool

MOST_SIDE = 4_096
MOST_BYTES = 512 << 20
"""Some 20,000 thumbnails of 320 pixels. Those not looked at for the longest go first, a tenth of them at a time."""
KEPT_SHARE = 0.9
# A thumbnail that is looked at again counts as new, written down once a day at most.
DAY_SECONDS = 86_400
# Thumbnails asked for ahead of the one that is waited for, for each worker.
LOOKAHEAD = 4


class Thumbnails:
    """Thumbnails from the cache, else from workers that are started when they are first needed.

    Any number of threads may ask. Hold it open as long as there may be something to show, or close it.
    """

    def __init__(self, folder: str | None = None, *, workers: int = 2, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder or os.path.join(cache_folder(), "thumbnails")
        self.most_bytes = most_bytes
        self._count = workers
        self._workers: DecodePool | None = None
        self._is_closed = False
        self._starting = threading.Lock()
        self._cache = _Cache(self.folder, most_bytes)

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers at once. What was made stays in the cache, and only that is found from now on."""
        with self._starting:
            self._is_closed = True
            workers, self._workers = self._workers, None
        if workers:
            workers.close()

    def jpeg(self, path: str, content_hash: bytes | None, side: int) -> bytes:
        """The photo upright, in sRGB, whole, its longer side `side` pixels or what it has, without metadata.

        With its content hash it comes from the cache where that has it, whatever became of the file. Raises SkipPhoto
        for what cannot be read or decoded, ValueError for a side that is not 1 to 4096, workers.PoolClosed after
        `close`, and ImgsearchError where no worker can start.
        """
        if not 1 <= side <= MOST_SIDE:
            raise ValueError(f"a thumbnail of {side} pixels")
        if content_hash is not None and (kept := self._cache.find(content_hash, side)):
            return kept
        made = self._started().thumbnail(path, side)
        self._cache.keep(made.content_hash, side, made.jpeg)  # by what was read: the file may be another by now
        return made.jpeg

    def jpegs(self, photos: Iterable[tuple[str, bytes | None]], side: int) -> Generator[bytes | SkipPhoto, None, None]:
        """`jpeg` for each path and content hash, in order, several at once; a photo that has none gives its reason."""
        waiting: deque[Future[bytes | SkipPhoto]] = deque()
        pool = ThreadPoolExecutor(self._count, thread_name_prefix="thumbnails")
        try:
            for path, content_hash in photos:
                waiting.append(pool.submit(self._jpeg_or_reason, path, content_hash, side))
                if len(waiting) > LOOKAHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after ^C nobody waits for a file that hangs

    def _jpeg_or_reason(self, path: str, content_hash: bytes | None, side: int) -> bytes | SkipPhoto:
        try:
            return self.jpeg(path, content_hash, side)
        except SkipPhoto as skipped:
            return skipped

    def _started(self) -> DecodePool:
        with self._starting:
            if self._workers is None:
                # Somebody waits for them: they give way to nobody.
                self._workers = DecodePool(self._count, niceness=0)
                if self._is_closed:
                    self._workers.close()
            return self._workers


class _Cache:
    """Files `ab/abcd...-320.jpg` in a folder that holds nothing else."""

    def __init__(self, folder: str, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._held: int | None = None
        """Bytes in the folder as far as known; other processes write there too."""
        self._counting = threading.Lock()

    def find(self, content_hash: bytes, side: int) -> bytes | None:
        path = self._path(content_hash, side)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with open(descriptor, "rb") as file:
                data = file.read()
                if time.time() - os.fstat(descriptor).st_mtime > DAY_SECONDS:
                    os.utime(path)
            if data.startswith(JPEG_START) and data.endswith(b"\xff\xd9"):
                return data
            os.unlink(path)  # cut short by a crash of the machine
        return None

    def keep(self, content_hash: bytes, side: int, jpeg: bytes) -> None:
        path = self._path(content_hash, side)
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _write(path, jpeg)
            self._make_room(len(jpeg))

    def _path(self, content_hash: bytes, side: int) -> str:
        name = content_hash.hex()
        return os.path.join(self._folder, name[:2], f"{name}-{side}.jpg")

    def _make_room(self, added: int) -> None:
        """Remove the oldest where there is more than there may be."""
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


# A finished thumbnail, or one that a killed process left half written.
_OURS = re.compile(r"[0-9a-f]{64}-\d+\.jpg(\.[0-9a-f]{16})?")


def _write(path: str, data: bytes) -> None:
    """Whole or not at all, for its owner alone."""
    unfinished = f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def _files(folder: str) -> Iterator[tuple[float, int, str]]:
    """When each was last wanted, its size, and its path; whatever else lies there is let alone."""
    with contextlib.suppress(OSError), os.scandir(folder) as parts:
        for part in parts:
            with contextlib.suppress(OSError), os.scandir(part.path) as entries:
                for entry in entries:
                    if not _OURS.fullmatch(entry.name):
                        continue
                    with contextlib.suppress(OSError):
                        info = entry.stat(follow_symlinks=False)
                        yield info.st_mtime, info.st_size, entry.path
