"""Why a file could not be decoded, in one line."""

from __future__ import annotations

import errno
import math
import os
import re
import struct

from PIL import Image  # noqa: TID253 - this module is itself imported late

from imgsearch.core.paths import printable
from imgsearch.core.types import SkipPhoto

MAX_PIXELS = 2 * 89_478_485
"""Pillow's own limit (it refuses at twice its warning), also for decoders that Pillow does not check."""
MAX_REASON_CHARACTERS = 200


def too_large(pixels: int) -> str:
    return f"{math.ceil(pixels / 1e6):,} megapixels, over the limit of {MAX_PIXELS // 1_000_000}"


_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|cannot allocate memory|bad_alloc", re.IGNORECASE)


def reason_of(error: BaseException) -> SkipPhoto:
    is_out_of_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if is_out_of_memory or _OUT_OF_MEMORY.search(str(error)):
        return SkipPhoto("memory", "not enough memory to decode it")
    # A wrong offset in a header makes a seek fail, which is not an error of the disk.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EOVERFLOW):
        return unreadable(error)
    return SkipPhoto("decode", _reason(error))


def unreadable(error: Exception) -> SkipPhoto:
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return SkipPhoto("read", "permission denied")
    if number in (errno.ENOENT, errno.ENOTDIR):
        return SkipPhoto("read", "vanished before it was read")
    if number == errno.ELOOP:
        return SkipPhoto("read", "a symbolic link loop")
    message = os.strerror(number).lower() if number else _one_line(str(error))
    return SkipPhoto("read", f"cannot be read: {message}")


def _reason(error: BaseException) -> str:
    """Why it failed, in one line."""
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        return too_large(int(pixels[1])) if pixels else "too many pixels"
    message = _one_line(str(error))
    if not message or isinstance(error, _CODE_ERRORS):
        return f"damaged or not supported ({type(error).__name__})"
    if isinstance(error, EOFError) or re.search(
        r"truncat|unexpected end|not enough image data|end of file", message, re.I
    ):
        return message if message.lower().startswith("truncated:") else f"truncated: {message}"
    return f"damaged or not supported: {message}"


# Errors whose message is about the decoder's code, not about the file.
_CODE_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError, UnicodeError, struct.error,
)  # fmt: skip
_BYTES = re.compile(r"\bb(['\"])((?:\\.|[^\\])*?)\1")
_ADDRESS = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>|0x[0-9a-f]{6,}", re.IGNORECASE)


def _one_line(text: str) -> str:
    plain = _BYTES.sub(lambda match: "" if "\\" in match[2] else match[2], _ADDRESS.sub("", text)).strip()
    return printable(" ".join(plain.split()))[:MAX_REASON_CHARACTERS].rstrip(" :")
