"""Files that are written whole or not at all, and reach the disk.

Apart from `paths` because help and completion need that, and importing contextlib takes as long as both.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Name the file in an OSError raised on a descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = path
        raise


@contextlib.contextmanager
def replacing(path: str, *, mode: int = 0o600, is_durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` at the end. If anything fails, what was there stays as it was."""
    unfinished = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(unfinished, flags, mode), "wb") as file:
            yield file
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, unfinished):
            error.filename, error.filename2 = path, None
        raise


def fsync_path(path: str) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
