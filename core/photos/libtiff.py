"""Keeps libtiff from printing to stderr.

Pillow has no setting for that. This finds the libtiff inside Pillow's wheel and turns off its messages through ctypes;
its errors are still raised. With another layout libtiff prints again, and nothing else changes: a contract test in
tests/test_decode.py shows it, so no minor version of Pillow is pinned.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import os
from contextlib import suppress

import PIL  # noqa: TID253 - imported late, with decode


@functools.cache
def silence() -> None:
    folder = os.path.dirname(os.path.abspath(PIL.__file__))
    for pattern in ("../pillow.libs/libtiff*.so*", ".dylibs/libtiff*.dylib"):
        for library in glob.glob(os.path.join(folder, pattern)):
            with suppress(OSError, AttributeError):
                loaded = ctypes.CDLL(library)
                loaded.TIFFSetErrorHandler(None)
                loaded.TIFFSetWarningHandler(None)
