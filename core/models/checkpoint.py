"""Tensors of a file that torch.save wrote. A process of its own unpickles it, and makes nothing but tensors.

`python -m imgsearch.core.models.checkpoint FILE KEY` prints one line of JSON, and then the values.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ModelError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

MAX_VALUES = 60_000_000
"""Of all tensors that are wanted: more than the largest head that is published."""
MAX_REASON = 300
SECONDS = 300.0
HINT = "save it as published, with torch.save({KEY: network.state_dict()}, FILE)"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Part of what is in the file."""

    tensors: dict[str, Vectors]
    """Those under the key, float32, by their names there."""
    others: tuple[str, ...]
    """The other keys, which were not read."""


def read(path: str, key: str) -> Checkpoint:
    """The tensors under a key of the file. Raises ModelError, which names the file."""
    if not os.path.isfile(path):
        why = "not a regular file" if os.path.exists(path) else "no such file or directory"
        raise ModelError(f"{printable(path)}: {why}", hint="give the file of the published weights")
    # -P: never import a module from the working directory.
    command = [sys.executable, "-P", "-m", __spec__.name, path, key]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{printable(path)} was not read within {SECONDS:.0f} seconds", hint=HINT) from None
    line, _, values = done.stdout.partition(b"\n")
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        record = {"error": _ending(done.returncode)}
    if "error" in record:
        raise ModelError(f"{printable(path)} {printable(record['error'][:MAX_REASON])}", hint=HINT)
    tensors, at = {}, 0
    for name, shape in record["tensors"].items():
        count = math.prod(shape)
        tensors[name] = np.frombuffer(values, "<f4", count, at).reshape(shape)
        at += 4 * count
    return Checkpoint(tensors, tuple(record["others"]))


def _ending(code: int) -> str:
    return f"crashed the process that read it ({signal.Signals(-code).name if code < 0 else f'code {code}'})"


# ---- The process -----------------------------------------------------------------------------------------------------


class _Refused(Exception):
    pass


def _main(path: str, key: str) -> None:
    out = sys.stdout.buffer
    try:
        tensors, others = _tensors(path, key)
    except _Refused as error:
        out.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    record = {"tensors": {name: list(tensor.shape) for name, tensor in tensors.items()}, "others": others}
    out.write(json.dumps(record).encode() + b"\n")
    for tensor in tensors.values():
        out.write(tensor.float().contiguous().numpy().astype("<f4").tobytes())
    out.flush()


def _tensors(path: str, key: str) -> tuple[dict[str, Any], list[str]]:
    import torch

    try:
        # Mapped: of a zip, only what is wanted is read.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged or hostile file raises anything
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"holds {foreign[1]}, which is not a tensor" if foreign else "is damaged, or holds more than tensors"
        raise _Refused(why) from error
    part = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(part, Mapping):
        names = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise _Refused(f"has no {key}; it has: {names or 'nothing'}")
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in part.items()):
        raise _Refused(f"has more than tensors in {key}")
    if sum(tensor.numel() for tensor in part.values()) > MAX_VALUES:
        raise _Refused(f"has more than {MAX_VALUES:,} values in {key}")
    return dict(part), [str(name) for name in content if name != key]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _main(*sys.argv[1:])
