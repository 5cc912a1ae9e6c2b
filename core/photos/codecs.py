"""What this installation can decode, told without loading any of it."""

from __future__ import annotations

import functools

DECODER_VERSION = 1
"""Raised when `decode` learns to read what it could not, so that past failures are tried again."""


@functools.cache
def codecs() -> str:
    """In one line: a failure under another line is worth another try."""
    names = ("pillow", "pillow-heif", "pillow-jxl-plugin", "rawpy")
    return " ".join([f"imgsearch-decode/{DECODER_VERSION}"] + [f"{name}/{version_of(name)}" for name in names])


def version_of(distribution: str) -> str:
    """As installed, or `none`."""
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"
