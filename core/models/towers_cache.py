"""Puts the ONNX towers of a model into the user's cache: completely and durably, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator

from imgsearch.core.writing import fsync_path

from .towers import MANIFEST, Towers

# Files of a killed attempt are deleted after this long.
STALE_SECONDS = 3600


@contextlib.contextmanager
def temporary_folder(parent: str) -> Iterator[str]:
    """A folder that is deleted at the end unless it was moved."""
    os.makedirs(parent, mode=0o700, exist_ok=True)
    for entry in os.scandir(parent):
        if entry.name.startswith(".making-") and time.time() - entry.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(entry.path, ignore_errors=True)
    folder = tempfile.mkdtemp(dir=parent, prefix=".making-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(towers: Towers, path: str, fingerprint: str) -> Towers:
    """Move the towers to their place, durably, unless another process was first."""
    for name in (*towers.manifest.files, MANIFEST):
        fsync_path(os.path.join(towers.path, name))
    other = Towers.find(fingerprint, path)
    if other is not None and not other.is_worth_retrying():
        return other
    shutil.rmtree(path, ignore_errors=True)
    try:
        os.rename(towers.path, path)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    fsync_path(os.path.dirname(path))
    return Towers.find(fingerprint, path) or towers
