"""Checks of the model files on this machine."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.models.hub import cached, hub_cache, hub_files, offline_variable
from imgsearch.core.models.registry import ALIASES, BUILTIN, RECOMMENDED, json_file
from imgsearch.core.models.towers import MANIFEST, SHIPPED, Towers
from imgsearch.core.paths import size
from imgsearch.core.places import cache_folder, locate
from imgsearch.core.store.status import bytes_on_disk
from imgsearch.core.store.store import Store

from .findings import LOW_DISK_BYTES, Finding, free_bytes, note, ok, problem, warning
from .fixes import install, typed, with_torch


def cached_models() -> Iterator[Finding]:
    """Which models are in the Hugging Face cache, and whether their files are complete."""
    folder, switch = hub_cache(), offline_variable()
    here = [name for name, alias in ALIASES.items() if name != BUILTIN and cached(alias.spec)]
    names = f"with {', '.join(here)}" if here else "without a model that `imgsearch models` lists"
    if os.path.isdir(folder):
        yield ok(f"{folder}: {size(bytes_on_disk(folder))}, {names}")
        yield from _damaged(folder)
    yield from _unwritable(folder, problem, "models cannot be downloaded")
    if RECOMMENDED in here:
        if switch:
            yield note(f"{switch} is set: no downloads", f"unset {switch}")
        return
    found = f"{RECOMMENDED}, the recommended model, is not downloaded"
    download = with_torch(f"imgsearch index FOLDER --model {RECOMMENDED}")
    if switch:
        yield note(f"{found}, and {switch} forbids downloads", f"unset {switch}; {download}")
    else:
        yield note(f"{found} ({ALIASES[RECOMMENDED].download_mb} MB)", download)
    free = free_bytes(folder)
    if free < LOW_DISK_BYTES:
        yield warning(f"{size(free)} free at {folder}, not enough for the recommended model", "free some space there")


def _unwritable(folder: str, report: Callable[[str, str], Finding], consequence: str) -> Iterator[Finding]:
    if os.path.isdir(folder):
        if not os.access(folder, os.W_OK | os.X_OK):
            yield warning(f"{folder} is not writable: {consequence}", f"chmod u+rwx {typed(folder)}")
    elif os.path.lexists(folder):
        yield report(f"{folder} is not a folder: {consequence}", f"mv {typed(folder)} {typed(folder)}.old")


def _damaged(cache: str) -> Iterator[Finding]:
    """Repositories of known models with incomplete files. The cache may hold others, which are not checked."""
    known = {files.repo: alias for alias in ALIASES.values() if (files := hub_files(alias.spec))}
    for repo, alias in known.items():
        folder = Path(cache, "models--" + repo.replace("/", "--"))
        download = f"imgsearch index FOLDER --model {alias.name}"
        for path in sorted(folder.glob("snapshots/**/*")):
            if trouble := weights_trouble(path):
                found = f"{alias.name}: {path.name} {trouble}: the model cannot be loaded"
                yield problem(found, f"rm -r {typed(str(folder))} && {download}")
        partial = [path.stat().st_size for path in folder.glob("blobs/*.incomplete")]
        if partial and not cached(alias.spec):
            yield note(f"{alias.name}: its download was interrupted after {size(sum(partial))}", download)


def weights_trouble(path: Path) -> str | None:
    """What is wrong with a model file, from its size and header; None if nothing is."""
    try:
        length = path.stat().st_size
        if path.suffix != ".safetensors":
            return "is empty" if path.suffix in (".bin", ".pt") and not length else None
        with open(path, "rb") as file:
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
    sums = [line.split() for line in Path(SHIPPED, "SHA256SUMS").read_text(encoding="ascii").splitlines()]
    for digest, name in sums:
        try:
            with open(os.path.join(SHIPPED, name), "rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != digest:
                    bad.append(f"{name} has changed")
        except OSError as error:
            bad.append(f"{name} cannot be read ({(error.strerror or str(error)).lower()})")
    if bad:
        fix = "in the source folder of imgsearch: " + install("--force-reinstall", "--no-deps", ".")
        yield problem(f"the built-in model in {SHIPPED} is damaged: {', '.join(bad)}", fix)
    else:
        yield ok(f"{BUILTIN}: all {len(sums)} files are intact")


def towers(option: str | None) -> Iterator[Finding]:
    """The cached ONNX towers, which answer queries without torch."""
    cache = cache_folder()
    if os.path.isdir(cache):
        yield ok(f"{cache}: {size(bytes_on_disk(cache))} of cached data")
    yield from _unwritable(cache, warning, "every query loads the whole model")
    used, stale = _fingerprints(option), []
    for folder in sorted(glob.glob(os.path.join(glob.escape(cache), "light", "*"))):
        fingerprint = json_file(os.path.join(folder, MANIFEST)).get("fingerprint", "")
        if os.path.islink(folder) or not os.path.isdir(folder):
            continue
        if Towers.find(fingerprint, folder) is None:
            yield note(f"{folder}: incomplete or of another version; not used", f"rm -r {typed(folder)}")
        elif used and fingerprint not in used:
            stale.append(folder)
    if stale:
        found = f"{size(sum(map(bytes_on_disk, stale)))} of ONNX towers for models that this index does not use"
        yield note(f"{found}; another index may", "rm -r " + " ".join(map(typed, stale)))


def _fingerprints(option: str | None) -> set[str]:
    """Of the models in the index; none if it cannot be read, which is a finding of the index."""
    try:
        with Store.open(locate(option), update=False) as store:
            return {space.identity.fingerprint for space in store.catalog.spaces.all()}
    except (ImgsearchError, OSError):
        return set()
