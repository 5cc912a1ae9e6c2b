"""One file with the towers of a model, to take them to a machine that has no torch.

An uncompressed tar file: the manifest first, then the files that it lists, in its order. The same towers always make
the same bytes. A file to import is not trusted: it is read once, in order, in bounded memory, and only regular files
with the expected names, sizes and checksums are accepted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from imgsearch.core.errors import ModelError
from imgsearch.core.late import LateModule
from imgsearch.core.paths import printable, size

from .registry import BUILTIN, ModelSpec, weights_digest
from .towers import FORMAT, MANIFEST, RAW_FORMAT, TOWERS, Manifest, TextConfig, Towers, TowersError, towers_folder
from .towers_cache import publish, temporary_folder

if TYPE_CHECKING:
    import numpy as np
else:
    np = LateModule("numpy")

Progress = Callable[[int, int], None]
"""Called with the bytes done, and their total."""

BLOCK = tarfile.BLOCKSIZE
PIECE_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 1 << 20
MAX_NUMBER = 1 << 16
"""Of dimensions, tokens, and pixels of a side."""
FILE_NAME = re.compile(r"\w{1,40}(\.\w{1,20}){1,2}", re.ASCII)
MAX_FILES = 16

AGAIN = "copy it again, or export it again with: imgsearch models export NAME FILE"


@dataclass(frozen=True, slots=True)
class Imported:
    name: str
    fingerprint: str
    bytes: int
    is_new: bool
    """False: the same model was here already."""


def write_model(towers: Towers, file: IO[bytes], on_progress: Progress = lambda done, total: None) -> int:
    """Write the towers of a model. Returns the number of bytes. Raises ModelError if they are damaged, OSError."""
    manifest = towers.manifest
    content = manifest.to_json().encode()
    total = sum(manifest.files.values())
    written = _begin(file, MANIFEST, len(content)) + file.write(content) + _pad(file, len(content))
    done = 0
    for name, length in sorted(manifest.files.items()):
        written += _begin(file, name, length)
        digest = hashlib.sha256()
        with open(os.path.join(towers.path, name), "rb") as source:
            while piece := source.read(PIECE_BYTES):
                digest.update(piece)
                written += file.write(piece)
                done += len(piece)
                on_progress(done, total)
        if digest.hexdigest() != manifest.sha256[name]:
            raise ModelError(f"{towers.path}: {name} is damaged", hint="delete this folder; it is made again")
        written += _pad(file, length)
    return written + file.write(bytes(2 * BLOCK))


def _begin(file: IO[bytes], name: str, length: int) -> int:
    member = tarfile.TarInfo(name)
    member.size, member.mode = length, 0o600
    return file.write(member.tobuf(tarfile.GNU_FORMAT))


def _pad(file: IO[bytes], length: int) -> int:
    return file.write(bytes(-length % BLOCK))


# ------------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A regular file to read. Raises OSError, ModelError."""
    with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ModelError(f"{printable(path)}: not a regular file", hint="to read from a pipe, use -")
        yield file


def read_model(file: IO[bytes], name: str, on_progress: Progress = lambda done, total: None) -> Imported:
    """Put the model of a file into the user's cache, completely or not at all. `name` is the file's, for errors.

    Raises ModelError.
    """
    try:
        manifest = _manifest(_member(file, MANIFEST, MAX_MANIFEST_BYTES))
    except ModelError as error:
        raise ModelError(f"{name}: {error}", hint=error.hint) from None
    spec = ModelSpec.from_json(manifest.model)
    path, total = towers_folder(manifest.fingerprint), sum(manifest.files.values())
    there = Towers.of_model(spec) or Towers.at(path)
    if there and there.manifest.fingerprint != manifest.fingerprint:
        raise ModelError(
            f"{name}: another model named {printable(spec.name)} is in {printable(there.path)}",
            hint="delete that folder to replace it",
        )
    if there and _is_the_same(there, manifest):
        return Imported(spec.name, manifest.fingerprint, total, is_new=False)
    try:
        with temporary_folder(os.path.dirname(path)) as folder:
            if shutil.disk_usage(folder).free < total:
                raise ModelError(f"no space for {size(total)} in {os.path.dirname(path)}", hint="free some space there")
            try:
                _unpack(file, manifest, folder, on_progress)
            except ModelError as error:
                raise ModelError(f"{name}: {error}", hint=error.hint) from None
            towers = Towers(folder, manifest)
            _require_working(towers, name)
            if there:
                there.remove()
            publish(towers, path, manifest.fingerprint)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "free some space there, or check its permissions"
        raise ModelError(f"cannot write {path}: {reason}", hint=hint) from error
    return Imported(spec.name, manifest.fingerprint, total, is_new=True)


def _is_the_same(there: Towers, manifest: Manifest) -> bool:
    if there.manifest.sha256 != manifest.sha256:
        return False
    return all(weights_digest(os.path.join(there.path, name)) == digest for name, digest in manifest.sha256.items())


def _unpack(file: IO[bytes], manifest: Manifest, folder: str, on_progress: Progress) -> None:
    """Write all files and then the manifest. Raises ModelError, OSError."""
    done, total = 0, sum(manifest.files.values())
    for name, length in sorted(manifest.files.items()):
        if _header(file, name) != length:
            raise ModelError(f"{name} has another size than its manifest says", hint=AGAIN)
        digest = hashlib.sha256()
        with open(_new(os.path.join(folder, name)), "wb") as out:
            for piece in _pieces(file, length):
                digest.update(piece)
                out.write(piece)
                done += len(piece)
                on_progress(done, total)
        _exactly(file, -length % BLOCK)
        if digest.hexdigest() != manifest.sha256[name]:
            raise ModelError(f"{name} is damaged: its checksum is wrong", hint=AGAIN)
    if any(_exactly(file, 2 * BLOCK)):
        raise ModelError("it contains more than its manifest says", hint=AGAIN)
    with open(_new(os.path.join(folder, MANIFEST)), "wb") as out:
        out.write(manifest.to_json().encode())


def _new(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _member(file: IO[bytes], name: str, most: int) -> bytes:
    length = _header(file, name)
    if length > most:
        raise ModelError("not a model file", hint=AGAIN)
    content = _exactly(file, length)
    _exactly(file, -length % BLOCK)
    return content


def _header(file: IO[bytes], name: str) -> int:
    """The length of the next file, which must be a regular one of this name. Raises ModelError."""
    try:
        member = tarfile.TarInfo.frombuf(_exactly(file, BLOCK), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        member = tarfile.TarInfo("")
    if member.name != name or member.type != tarfile.REGTYPE or member.size < 0:
        raise ModelError("not a model file" if name == MANIFEST else f"{name} is missing", hint=AGAIN)
    return member.size


def _exactly(file: IO[bytes], length: int) -> bytes:
    return b"".join(_pieces(file, length))


def _pieces(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length:
        try:
            piece = file.read(min(length, PIECE_BYTES))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ModelError(f"cannot be read: {reason}", hint="check the file and its disk") from error
        if not piece:
            raise ModelError("truncated", hint=AGAIN)
        length -= len(piece)
        yield piece


def _manifest(content: bytes) -> Manifest:
    """Raises ModelError for what this version did not write."""
    damaged = ModelError("its manifest is damaged", hint=AGAIN)
    try:
        number = json.loads(content)["format"]
        if isinstance(number, int) and number not in (FORMAT, RAW_FORMAT):
            raise (
                ModelError("made by an older version of imgsearch", hint="export it again with this version")
                if number < FORMAT
                else ModelError("made by a newer version of imgsearch", hint="update imgsearch")
            )
        manifest = Manifest.from_json(content.decode())
        is_sane = _is_sane(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if not is_sane:
        raise damaged
    return manifest


def _is_sane(manifest: Manifest) -> bool:
    """Whether every value is one that `onnx_export` may write. May raise TypeError and ValueError instead."""
    try:
        spec = ModelSpec.from_json(manifest.model)
    except ModelError:
        return False
    recipe, texts = manifest.recipe, {**manifest.details, **manifest.lacking, "": manifest.made_with}
    return (
        spec.arch != BUILTIN
        and not manifest.earlier
        and _is_digest(manifest.fingerprint)
        and all(_is_count(each) for each in (manifest.dim, manifest.context_length, *recipe.size))
        and len(recipe.size) == 2
        and len(recipe.mean) == len(recipe.std) == 3
        and all(math.isfinite(each) for each in (*recipe.mean, *recipe.std))
        and recipe.interpolation in ("bicubic", "bilinear")
        and recipe.resize_mode in ("shortest", "longest", "squash")
        and type(recipe.fill_color) is int
        and manifest.clean in ("", "lower", "whitespace", "canonicalize")
        and (manifest.text is None or _is_sane_text(manifest.text, manifest.files))
        and set(manifest.lacking) <= set(TOWERS)
        and all(isinstance(each, str) for pair in texts.items() for each in pair)
        and len(manifest.files) <= MAX_FILES
        and all(map(FILE_NAME.fullmatch, manifest.files))
        and MANIFEST not in manifest.files
        and set(manifest.sha256) == set(manifest.files)
        and all(type(length) is int and length >= 0 for length in manifest.files.values())
        and all(map(_is_digest, manifest.sha256.values()))
    )


def _is_sane_text(text: TextConfig, files: Mapping[str, int]) -> bool:
    return (
        text.weights in files
        and _is_count(text.heads)
        and _is_count(text.layers)
        and text.activation in ("gelu", "quick_gelu")
        and 0 < text.epsilon < 1
    )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_NUMBER


def _require_working(towers: Towers, name: str) -> None:
    """Embed a text and a picture. Raises ModelError."""
    manifest = towers.manifest
    try:
        for tower in TOWERS:
            if not towers.has(tower):
                continue
            if tower == "text":
                vectors = towers.embed_texts(["a photo"])
            else:
                square = np.zeros((1, *manifest.recipe.size, 3), np.uint8)
                vectors = towers.embed_images(square)
                if towers.has_raw(tower):  # the vectors below are these, at unit length
                    raw = towers.raw_images(square)
                    vectors = vectors if np.allclose(raw / np.linalg.norm(raw), vectors, atol=1e-3) else raw[:0]
            if vectors.shape != (1, manifest.dim) or not np.allclose(np.linalg.norm(vectors), 1, atol=1e-3):
                raise TowersError("its vectors are not what its manifest says", is_damage=True)
    except (TowersError, ValueError) as error:
        is_damage = not isinstance(error, TowersError) or error.is_damage
        hint = AGAIN if is_damage else "close other programs, and try again"
        raise ModelError(f"{name}: the model does not run here: {error}", hint=hint) from error
