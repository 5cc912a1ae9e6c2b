"""The lock file of an index: one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator

from imgsearch.core.errors import IndexLocked, IndexUnusable
from imgsearch.core.paths import printable
from imgsearch.core.writing import naming

# How often a waiting writer tries again: soon enough for a person, and next to no work.
POLL_SECONDS = 0.1

OnWait = Callable[[str], None]
"""Called once before waiting, with the process id of the writer, or "unknown"."""


@contextlib.contextmanager
def write_lock(folder: str, on_wait: OnWait | None = None) -> Iterator[None]:
    """Hold the lock. If another process does, raises IndexLocked, or with `on_wait` waits until it is free."""
    path = os.path.join(folder, "lock")
    while not _is_file_at(path, descriptor := _open_locked(path, on_wait)):
        os.close(descriptor)  # the index was removed, and perhaps made again, during the wait
    try:
        with naming(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def writer_of(folder: str) -> str | None:
    """The process id of the writer, or "unknown"; None if no process writes. Raises OSError."""
    try:
        descriptor = os.open(os.path.join(folder, "lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released at once: a writer hardly ever meets it
        return None
    except BlockingIOError:
        return _process_id(descriptor)
    finally:
        os.close(descriptor)


def _open_locked(path: str, on_wait: OnWait | None) -> int:
    descriptor = _open(path)
    try:
        if not _try_lock(path, descriptor):
            owner = _process_id(descriptor)
            if on_wait is None:
                raise IndexLocked(f"{printable(os.path.dirname(path))}: in use by another imgsearch (process {owner})")
            on_wait(owner)
            while not _try_lock(path, descriptor):
                time.sleep(POLL_SECONDS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open(path: str) -> int:
    """The lock file is written to, so it must not be a link to another file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if os.path.islink(path):
            raise _not_a_lock(path) from None
        raise IndexUnusable(
            f"{printable(os.path.dirname(path))}: cannot write to the index ({error.strerror})"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_lock(path)
    return descriptor


def _not_a_lock(path: str) -> IndexUnusable:
    return IndexUnusable(
        f"{printable(path)}: not a regular file, so it cannot be the lock", hint="remove it, then run the command again"
    )


def _try_lock(path: str, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise IndexUnusable(
            f"{printable(path)}: cannot be locked ({error.strerror})", hint="put the index on a local disk"
        ) from error
    return True


def _process_id(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"


def _is_file_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
