"""Checks of the model files on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.models.hub import cached, hub_cache, hub_files, offline_variable
from imgsearch.core.models.onnx_towers import FORMAT, MANIFEST, SHIPPED, Manifest, OnnxTowers
from imgsearch.core.models.registry import (
    ALIASES,
    BUILTIN,
    RECOMMENDED,
)
from imgsearch.core.paths import cache_folder, size
from imgsearch.core.places import locate
from imgsearch.core.store.store import Store

from .findings import LOW_DISK_BYTES, Finding, Topic, existing_folder, install, typed

if TYPE_CHECKING:
    from imgsearch.core.store.records import Space

MODELS = Topic("models")


def cached_models() -> Iterator[Finding]:
    """Which models are in the Hugging Face cache, and whether their files are complete."""
    folder = hub_cache()
    here = [name for name, alias in ALIASES.items() if name != BUILTIN and cached(alias.spec)]
    names = f"with {', '.join(here)}" if here else "without a model that `imgsearch models` lists"
    switch = offline_variable()
    if os.path.isdir(folder):
        yield MODELS.ok(f"{folder}: {size(_bytes_below(folder))}, {names}")
        yield from _writable(folder, "models cannot be downloaded")
        yield from _damaged(folder)
    elif os.path.lexists(folder):
        fix = f"mv {typed(folder)} {typed(folder)}.old"
        yield MODELS.problem(f"{folder} is not a folder: models cannot be downloaded", fix)
    if RECOMMENDED not in here:
        fetched = f"imgsearch index FOLDER --model {RECOMMENDED}"
        if switch:
            found = f"{RECOMMENDED}, the recommended model, is not downloaded, and {switch} forbids downloads"
            yield MODELS.note(found, f"unset {switch}; {fetched}")
        else:
            megabytes = ALIASES[RECOMMENDED].download_mb
            yield MODELS.note(f"{RECOMMENDED}, the recommended model, is not downloaded ({megabytes} MB)", fetched)
        yield from _room(folder, "for the recommended model")
    elif switch:
        yield MODELS.note(f"{switch} is set: no downloads", f"unset {switch}")


def _writable(folder: str, consequence: str) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield MODELS.warning(f"{folder} is not writable: {consequence}", f"chmod u+rwx {typed(folder)}")


def _room(folder: str, purpose: str) -> Iterator[Finding]:
    free = shutil.disk_usage(existing_folder(folder)).free
    if free < LOW_DISK_BYTES:
        yield MODELS.warning(f"{size(free)} free at {folder}, not enough {purpose}", "free some space there")


def _bytes_below(folder: str) -> int:
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                info = os.lstat(os.path.join(top, name))
                total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total


def _damaged(cache: str) -> Iterator[Finding]:
    """Repositories of known models with incomplete files. The cache may hold others, which are not checked."""
    known = {files.repo: alias for alias in ALIASES.values() if (files := hub_files(alias.spec))}
    for repo, alias in known.items():
        folder = os.path.join(cache, "models--" + repo.replace("/", "--"))
        if not os.path.isdir(folder):
            continue
        again = f"rm -r {typed(folder)} && imgsearch index FOLDER --model {alias.name}"
        for path in _files_below(os.path.join(folder, "snapshots")):
            if trouble := weights_trouble(path):
                shown = os.path.basename(path)
                yield MODELS.problem(f"{alias.name}: {shown} {trouble}: the model cannot be loaded", again)
        partial = [path for path in _files_below(os.path.join(folder, "blobs")) if path.endswith(".incomplete")]
        if partial and not cached(alias.spec):
            found = f"{alias.name}: its download was interrupted after {size(sum(map(os.path.getsize, partial)))}"
            yield MODELS.note(found, f"imgsearch index FOLDER --model {alias.name}")


def _files_below(folder: str) -> Iterator[str]:
    for top, _, names in os.walk(folder):
        yield from (os.path.join(top, name) for name in sorted(names))


def weights_trouble(path: str) -> str | None:
    """What is wrong with a model file, from its size and header; None if nothing is."""
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if not path.endswith(".safetensors"):
                return None if length or not path.endswith((".bin", ".pt")) else "is empty"
            head = file.read(8)
            size_of_head = struct.unpack("<Q", head)[0] if len(head) == 8 else length
            if size_of_head + 8 > length:
                return f"is cut off after {size(length)}"
            tensors = json.loads(file.read(size_of_head))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
            should = 8 + size_of_head + max(ends, default=0)
            return f"is cut off after {size(length)} of {size(should)}" if length < should else None
    except FileNotFoundError:
        return "is a link to a missing file"
    except OSError as error:
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return "is damaged"


def builtin_model() -> Iterator[Finding]:
    """Whether the files of the built-in model have their shipped checksums."""
    bad = []
    with open(os.path.join(SHIPPED, "SHA256SUMS"), encoding="ascii") as file:
        sums = [line.split() for line in file]
    for digest, name in sums:
        try:
            with open(os.path.join(SHIPPED, name), "rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                    bad.append(f"{name} has changed")
        except OSError as error:
            bad.append(f"{name} cannot be read ({(error.strerror or str(error)).lower()})")
    if bad:
        found = f"the built-in model in {SHIPPED} is damaged: {', '.join(bad)}"
        fix = install("--force-reinstall", "--no-deps", ".")
        yield MODELS.problem(found, f"in the source folder of imgsearch: {fix}")
    else:
        yield MODELS.ok(f"{BUILTIN}: all {len(sums)} files are intact")


def onnx_towers(option: str | None) -> Iterator[Finding]:
    """The cached ONNX towers, which answer queries without torch."""
    cache = cache_folder()
    if os.path.isdir(cache):
        yield MODELS.ok(f"{cache}: {size(_bytes_below(cache))} of cached data")
        yield from _writable(cache, "every query loads the whole model")
    elif os.path.lexists(cache):
        found = f"{cache} is not a folder: every query loads the whole model"
        yield MODELS.warning(found, f"mv {typed(cache)} {typed(cache)}.old")
    used = {space.identity.fingerprint for space in _spaces_of(option)}
    stale: list[str] = []
    for folder in _subfolders(os.path.join(cache, "light")):
        fingerprint = _fingerprint(folder)
        if fingerprint is None or OnnxTowers.find(fingerprint, folder) is None:
            yield MODELS.note(f"{folder}: incomplete or of another version; not used", f"rm -r {typed(folder)}")
        elif used and fingerprint not in used:
            stale.append(folder)
    if stale:
        found = f"{size(sum(map(_bytes_below, stale)))} of ONNX towers for models that this index does not use"
        yield MODELS.note(f"{found}; another index may", "rm -r " + " ".join(map(typed, stale)))


def _subfolders(folder: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _fingerprint(folder: str) -> str | None:
    """Of the model that the towers in this folder belong to."""
    try:
        with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
            manifest = Manifest.from_json(file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest.fingerprint if manifest.format == FORMAT else None


def _spaces_of(option: str | None) -> list[Space]:
    """The spaces of the index; none if it cannot be read, which is a finding of the index."""
    try:
        with Store.open(locate(option), update=False) as store:
            return store.catalog.spaces.all()
    except (ImgsearchError, OSError):
        return []
