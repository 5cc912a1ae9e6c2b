"""Photos as one zip archive, made while it is sent: no temporary file, and a constant amount of memory.

Photos are stored as they are, because they are compressed already. The zip64 format is used where a size needs it.
"""

from __future__ import annotations

import itertools
import os
import re
import time
import unicodedata
import zipfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from imgsearch.core.paths import printable

from .originals import NotServed, open_original, reason_of, require_as_indexed

if TYPE_CHECKING:
    from imgsearch.core.store.records import Place

LEFT_OUT = "left-out.txt"
BYTES_AT_ONCE = 1 << 18
MAX_NAME_BYTES = 200
"""File systems allow 255; a number may be added."""
_FORBIDDEN = '<>:"/\\|?*'
"""On Windows, and what separates folders."""
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_JOINERS = "\u200c\u200d"
"""Some scripts and emoji need them."""


def zipped(places: Iterable[Place], roots: Sequence[str]) -> Generator[bytes]:
    """The bytes of the archive, piece by piece.

    A photo that `open_original` refuses is left out. One that changes while it is read is as long as it could be read.
    A text file at the end lists both.
    """
    out, names, complaints = _Pieces(), Names(), []
    names.of(LEFT_OUT)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]  # writing is enough
        for place in places:
            try:
                file = open_original(place, roots)
            except NotServed as refused:
                complaints.append(f"{printable(place.path)}: {refused}")
                continue
            with file, archive.open(_entry(names.of(os.path.basename(place.relpath)), place), "w") as entry:
                try:
                    for piece in _as_indexed(file, place):
                        entry.write(piece)
                        yield out.taken()
                except (OSError, NotServed) as error:
                    reason = reason_of(error) if isinstance(error, OSError) else "it changed while it was read"
                    complaints.append(f"{printable(place.path)}: perhaps incomplete: {reason}")
        if complaints:
            archive.writestr(LEFT_OUT, "".join(f"{line}\n" for line in complaints))
    yield out.taken()


def _entry(name: str, place: Place) -> zipfile.ZipInfo:
    at = time.localtime(place.mtime_ns // 1_000_000_000)
    moment = (at.tm_year, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec)
    entry = zipfile.ZipInfo(name, moment if 1980 <= at.tm_year <= 2107 else (1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100644 << 16
    entry.file_size = place.size  # decides on zip64
    return entry


def _as_indexed(file: BinaryIO, place: Place) -> Iterator[bytes]:
    """Not more bytes than were indexed. Raises NotServed at the end if the file is not the same any more."""
    left = place.size
    while left > 0 and (data := file.read(min(BYTES_AT_ONCE, left))):
        left -= len(data)
        yield data
    require_as_indexed(place, os.fstat(file.fileno()))


class Names:
    """Names in an archive that every system can unpack into one folder. Equal names get a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def of(self, name: str) -> str:
        safe = safe_name(name)
        stem, extension = os.path.splitext(safe)
        key = _folded(safe)
        for number in itertools.count(self._next.get(key, 1)):
            found = safe if number == 1 else f"{stem} ({number}){extension}"
            if _folded(found) not in self._taken:
                break
        self._next[key] = number + 1
        self._taken.add(_folded(found))
        return found


def safe_name(name: str) -> str:
    """The name without what another system would refuse or read as a folder.

    Bytes that are not UTF-8 become replacement characters.
    """
    text = os.fsencode(name).decode("utf-8", "replace")
    text = "".join("_" if _is_unsafe(character) else character for character in text).strip(" ").rstrip(". ")
    stem, extension = os.path.splitext(text)
    if len(extension.encode()) > MAX_NAME_BYTES // 4:
        stem, extension = text, ""
    text = stem.encode()[: MAX_NAME_BYTES - len(extension.encode())].decode("utf-8", "ignore") + extension
    text = text.rstrip(". ")
    return f"_{text}" if not text or _RESERVED.fullmatch(text) else text


def _is_unsafe(character: str) -> bool:
    if character in _JOINERS:
        return False
    return character in _FORBIDDEN or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _folded(name: str) -> str:
    """Names that are one on a Mac or on Windows are equal here."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class _Pieces:
    """What `zipfile` writes to: it cannot seek, so sizes and checksums follow the contents."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
