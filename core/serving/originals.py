"""The files of photos, opened only if they are as indexed and inside an indexed folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from imgsearch.core.paths import mtime_ns

if TYPE_CHECKING:
    from imgsearch.core.store.records import Place


class NotServed(Exception):
    """The file of a photo is not given out; the message says why."""

    def __init__(self, reason: str, *, hint: str | None = None, is_outside: bool = False) -> None:
        super().__init__(reason)
        self.hint = hint
        self.is_outside = is_outside


def open_original(place: Place, roots: Sequence[str]) -> BinaryIO:
    """The file of a photo, open for reading. `roots` are the folders that it may be in.

    A link may lead out of its root, and a FIFO or another file may have taken the photo's place: raises NotServed.
    """
    real = os.path.realpath(place.path)
    if not any(real.startswith(os.path.realpath(root).rstrip("/") + "/") for root in roots):
        raise NotServed("a link to outside the indexed folders", is_outside=True)
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotServed(reason_of(error)) from error
    file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
    try:
        require_as_indexed(place, os.fstat(descriptor))
    except NotServed:
        file.close()
        raise
    return file


def require_as_indexed(place: Place, info: os.stat_result) -> None:
    """Raises NotServed for another file than the indexed one."""
    if not stat.S_ISREG(info.st_mode) or (info.st_size, mtime_ns(info)) != (place.size, place.mtime_ns):
        raise NotServed("it has changed since it was indexed", hint="update the index with: imgsearch index")


def reason_of(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or "cannot be read").lower()
