"""What the tables of the catalogue hold, as objects, and how names of files are stored in them."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable
from imgsearch.core.types import Facts, Modality, Photo, Region, SpaceIdentity

from .schema import NOT_YOURS


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def split(relpath: str) -> tuple[bytes, bytes]:
    """A relpath as the catalogue stores it: (folder, name) as bytes. The folder of the root itself is empty."""
    folder, _, name = os.fsencode(relpath).rpartition(b"/")
    return folder, name


def join(folder: bytes, name: bytes) -> str:
    if not (isinstance(folder, bytes) and isinstance(name, bytes)):
        raise IndexDamaged(f"the catalogue holds an invalid file name: {folder!r:.40}, {name!r:.40}", hint=NOT_YOURS)
    return os.fsdecode(folder + b"/" + name if folder else name)


def is_inside(relpath: str) -> bool:
    """Whether a relpath names a file below its root. It may not: the catalogue may come from another person."""
    return bool(relpath) and "\0" not in relpath and not {"", ".", ".."} & set(relpath.split("/"))


def leads_out(root: str, relpath: str) -> IndexDamaged:
    return IndexDamaged(
        f"the catalogue names {printable(relpath)!r} in {printable(root)}, which is not a path inside it",
        hint=NOT_YOURS,
    )


def parsed_json(text: object, kind: type) -> Any:
    """A value stored as JSON if it has the given type, else None."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def below(folder: bytes) -> tuple[bytes, bytes]:
    """The half-open range of the names of the folders below `folder`, for an index look-up."""
    return (folder + b"/", folder + b"0") if folder else (b"", b"\xff" * 4097)


def at_or_below(folder: bytes) -> list[tuple[bytes, bytes]]:
    """The ranges of the names of `folder` and the folders below it, in order."""
    return [(folder, folder + b"\0"), below(folder)] if folder else [below(folder)]


@dataclass(frozen=True, slots=True)
class Root:
    id: int
    path: str
    kind: Literal["folder", "files"]
    device: int | None
    state: Literal["online", "offline"]
    note: str | None = None
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    video: bool = False
    ocr: bool = False
    """Whether runs of `index` also read the text in its pictures."""

    def path_of(self, relpath: str) -> str:
        """The absolute path of a file of this root. Raises IndexDamaged if it is outside the root."""
        if not is_inside(relpath):
            raise leads_out(self.path, relpath)
        return f"{self.path.rstrip('/')}/{relpath}"


@dataclass(frozen=True, slots=True)
class KnownPhoto:
    """A photo as the catalogue has it, as far as finding changes needs it."""

    id: int
    size: int
    mtime_ns: int
    inode: int
    sidecars: str
    pair: bytes | None
    content_hash: bytes
    state: str
    named: int
    """It was once given by name, so a walk that skips it does not hide it."""
    has_vectors: int


@dataclass(frozen=True, slots=True)
class FolderColumns:
    """The present photos of one folder in the order of their names, each column as one string."""

    folder: bytes
    is_plain: int
    """No photo has a sidecar or a pair."""
    names: bytes
    """Separated by slashes."""
    sizes: str
    """Separated by a comma and a space, as Python prints a list; so are the next two."""
    mtimes_ns: str
    inodes: str


@dataclass(frozen=True, slots=True)
class KnownFailure:
    size: int
    mtime_ns: int
    codecs: str
    is_silent: int
    reason: str
    stage: str


@dataclass(frozen=True, slots=True)
class Space:
    id: str
    identity: SpaceIdentity
    model: str
    """The `ModelSpec` that loads the model, as JSON."""
    state: Literal["building", "complete"]
    generation: int
    slots: int


@dataclass(frozen=True, slots=True)
class Place:
    """A photo as search shows it."""

    id: int
    root: str
    relpath: str
    content_hash: bytes
    size: int
    mtime_ns: int
    state: str
    facts: dict[str, Any]
    keywords: tuple[str, ...]
    pair: str | None
    slot: int = -1
    """Of the vector that was looked up."""
    whole_slot: int = -1
    """Where that is a region's: the slot of the whole picture. Else -1."""
    region: Region | None = None
    """What that vector shows, if it is not the whole picture."""
    at: float | None = None
    """Of a video: when what that vector shows is shown, in seconds."""
    text: str | None = None
    text_source: str | None = None

    @property
    def path(self) -> str:
        return f"{self.root.rstrip('/')}/{self.relpath}"

    @property
    def main_slot(self) -> int:
        """The slot to compare the photo with others by: never a region's."""
        return self.slot if self.whole_slot < 0 else self.whole_slot


@dataclass(frozen=True, slots=True)
class NewVector:
    slot: int
    modality: Modality
    key: bytes
    crc: int | None
    """CRC-32 of the vector's bytes; None if an old version wrote it."""


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo to write: the file, the hash of the bytes that were read, and their facts."""

    photo: Photo
    content_hash: bytes
    size: int
    mtime_ns: int
    facts: Facts


def text_key(text: str) -> bytes:
    """The key of a text. Equal texts share one vector."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def region_key(content_hash: bytes, region: Region) -> bytes:
    """The key of the vector of a part of a picture, or of a moment of a video."""
    place = f"{region.x:.6f} {region.y:.6f} {region.width:.6f} {region.height:.6f}"
    place += "" if region.at is None else f" {region.at:.6f}"
    return hashlib.sha256(content_hash + place.encode("ascii")).digest()


def region_keys(content_hash: bytes, regions: Sequence[Region]) -> tuple[bytes, ...]:
    """The keys of the vectors of a content's regions: the first is that of the whole picture."""
    return content_hash, *(region_key(content_hash, region) for region in regions[1:])


def as_region(values: Sequence[object]) -> Region | None:
    """Four numbers as a part of a picture, or five as a moment of a video, if they describe one; else None. The fifth
    may be None."""
    sides, moment = values[:4], values[4] if len(values) == 5 else None
    if len(sides) != 4 or len(values) > 5:
        return None
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in sides):
        return None
    if moment is not None and not (isinstance(moment, int | float) and 0 <= moment < math.inf):
        return None
    x, y, width, height = (float(value) for value in sides)  # type: ignore[arg-type]
    if not (width > 0 and height > 0 and x + width <= 1 + 1e-5 and y + height <= 1 + 1e-5):
        return None
    return Region(x, y, width, height, None if moment is None else float(moment))


def sidecar_stamp(photo: Photo) -> str:
    """The names, sizes and times of the sidecars as one string, to detect changes."""
    if not photo.sidecars:
        return "[]"
    return json.dumps([[os.path.basename(s.relpath), s.size, s.mtime_ns] for s in photo.sidecars])


def pair_name(photo: Photo) -> bytes | None:
    """A pair is in the same folder, so its name is enough, and stays right when the folder moves."""
    return None if photo.pair is None else os.path.basename(os.fsencode(photo.pair))
