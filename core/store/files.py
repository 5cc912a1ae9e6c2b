"""Files of an index: opened without following links, written so that a crash leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.places import CATALOG
from imgsearch.core.writing import fsync_path, naming

SALVAGED = f"{CATALOG}.salvaged.new"
"""A salvaged catalogue that is not in its place yet."""


@contextlib.contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """Open a file of an index for reading. The index may come from another person: links are not followed and pipes
    are not waited for. Raises IndexDamaged, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_a_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_file(path)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _not_a_file(path: str) -> IndexDamaged:
    return IndexDamaged(f"{path}: not a regular file")


def replace_file(path: str, data: bytes) -> None:
    """Write a small file so that a reader sees the old or the new one, never a part."""
    write_durably(f"{path}.new", data)
    os.replace(f"{path}.new", path)
    fsync_path(os.path.dirname(path) or ".")


def write_durably(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with naming(path), open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_at(path: str, offset: int, blocks: Iterable[bytes]) -> None:
    """Write blocks one after the other from that offset on, and make them durable. The rest of the file stays."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with naming(path):
            for block in blocks:
                data = memoryview(block)
                while data:
                    written = os.pwrite(descriptor, data, offset)
                    data, offset = data[written:], offset + written
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_paths(folder: str, is_wanted: Callable[[str], bool]) -> list[str]:
    """Paths of the entries whose name is wanted, sorted; none for a folder that cannot be read."""
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder) if is_wanted(name))
    except OSError:
        return []


def try_unlink(path: str) -> bool:
    """Whether the file was removed."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
