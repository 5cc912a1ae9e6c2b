"""The installed decoders, found without loading them."""

from __future__ import annotations

import functools

DECODER_VERSION = 2
"""Increased when `decode` can read more files, so that past failures are tried again."""


@functools.cache
def codecs() -> str:
    """The versions in one line. A failure that was recorded with another line is tried again."""
    names = ("pillow", "pillow-heif", "pillow-jxl-plugin", "rawpy", "av")
    return " ".join([f"imgsearch-decode/{DECODER_VERSION}"] + [f"{name}/{version_of(name)}" for name in names])


def version_of(distribution: str) -> str:
    """The installed version, or `none`."""
    import importlib.metadata

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"
