"""Checks that run in a child process, because a broken library or a dead disk may crash or hang them.

`python -m imgsearch.core.doctor.probe CHECK WORD...` prints JSON Lines.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

# A process that hangs in the kernel, for example on a dead disk, is left behind after this time.
REAP_SECONDS = 1.0

# A check must not write or send anything: Python writes .pyc files, ONNX Runtime sends telemetry.
SILENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

Record = dict[str, Any]


class Probe:
    """A check that is running. Close it in the end."""

    def __init__(self, check: str, *words: str, seconds: float) -> None:
        self._seconds = seconds
        # -P: never import a module from the working directory.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __spec__.name, check, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **SILENT},
        )

    @cached_property
    def answers(self) -> list[Record]:
        """All records that it printed in time. A check that failed has only an `error`."""
        try:
            out, err = self._process.communicate(timeout=self._seconds)
            why = _ending(self._process.returncode, err)
        except subprocess.TimeoutExpired as late:
            out, why = late.output or b"", f"no answer within {self._seconds:.0f} seconds"
        return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")] or [{"error": why}]

    def answer(self) -> Record:
        return self.answers[-1]

    def close(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP_SECONDS)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()


def _ending(code: int, err: bytes) -> str:
    if code < 0:
        return f"it crashed ({signal.Signals(-code).name})"
    lines = err.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with code {code}"


# ---- The process -----------------------------------------------------------------------------------------------------


def _library(name: str) -> Iterator[Record]:
    """Whether it can be imported, and its features."""
    module = importlib.import_module(name)
    if name == "PIL":
        features = importlib.import_module("PIL.features")
        names = ("jpg", "zlib", "webp", "avif", "jpg_2000", "libtiff", "littlecms2")
        yield {name: features.version(name) or bool(features.check(name)) for name in names}
    elif name == "pillow_heif":
        yield {"libheif": module.libheif_version()}
    elif name == "rawpy":
        yield {"libraw": ".".join(map(str, module.libraw_version))}
    else:
        yield {}


def _devices() -> Iterator[Record]:
    from imgsearch.core.models import embedding

    yield embedding.devices()


def _folders(*paths: str) -> Iterator[Record]:
    """Whether each path exists and is readable."""
    for path in paths:
        try:
            mode = os.R_OK | os.X_OK if stat.S_ISDIR(os.stat(path).st_mode) else os.R_OK
            yield {"state": "present" if os.access(path, mode) else "cannot be read"}
        except FileNotFoundError:
            yield {"state": "missing"}
        except OSError as error:
            yield {"state": (error.strerror or str(error)).lower()}


CHECKS: dict[str, Callable[..., Iterator[Record]]] = {"library": _library, "devices": _devices, "folders": _folders}


def _answer(check: str, *words: str) -> None:
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # what libraries print goes to stderr
        try:
            for record in CHECKS[check](*words):
                out.write(json.dumps(record) + "\n")
                out.flush()
        except Exception as error:  # a broken library raises anything
            first = str(error).strip().partition("\n")[0]
            out.write(json.dumps({"error": f"{type(error).__name__}: {first}".removesuffix(": ")}) + "\n")


if __name__ == "__main__":
    _answer(*sys.argv[1:])
