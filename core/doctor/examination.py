"""Runs all checks of `imgsearch doctor`.

Checks only read: they do not make, download or send anything, except that SQLite makes two helper files beside a
catalogue that it reads. Every exception becomes a finding. Whatever may crash or hang (libraries, the GPU, disks that
do not respond) runs in a child process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType

from . import machine
from .completions import COMPLETIONS, ScriptOf, completions
from .findings import SERVE, Check, Finding, Topic
from .index import INDEX, index, server
from .model_files import MODELS, builtin_model, cached_models, onnx_towers
from .probe import Probe, Unanswered


class Examination:
    """All checks. Keep it open while its findings are read."""

    def __init__(self, index: str | None, *, script_of: ScriptOf, terminal: Check, settings: Check) -> None:
        """`index` is `--index`; `terminal` and `settings` are the checks of the command line."""
        self._index = index
        self._script_of = script_of
        self._terminal = terminal
        self._settings = settings
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Examination:
        try:
            # All in parallel, the slowest first.
            self._devices = self._probe("devices", seconds=machine.DEVICE_SECONDS)
            self._libraries = {
                name: self._probe("library", name, seconds=machine.LIBRARY_SECONDS) for name in machine.LIBRARIES
            }
        except BaseException:
            self._opened.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def _probe(self, *check: str, seconds: float) -> Probe:
        return self._opened.enter_context(contextlib.closing(Probe(*check, seconds=seconds)))

    def findings(self, on_topic: Callable[[str], None] = lambda topic: None) -> Iterator[Finding]:
        """The findings, topic by topic. `on_topic` is called with what is checked next."""
        for topic, name, check in self._checks():
            on_topic(name)
            yield from topic.safely(check)

    def _checks(self) -> tuple[tuple[Topic, str, Check], ...]:
        """Each check with its topic and the name that is shown while it runs."""
        return (
            (machine.PROGRAM, "the program", machine.program),
            (machine.PROGRAM, "the libraries", lambda: machine.libraries(self._libraries)),
            (machine.DEVICE, "the processor", machine.cores),
            (machine.DEVICE, "the memory", machine.memory),
            (machine.DEVICE, "torch, which takes some seconds to load", lambda: machine.devices(self._devices)),
            (machine.CODECS, "the decoders", lambda: machine.codecs(self._libraries)),
            (MODELS, "the models", cached_models),
            (MODELS, "the built-in model", builtin_model),
            (MODELS, "the ONNX towers", lambda: onnx_towers(self._index)),
            (INDEX, "the index", self._check_index),
            (SERVE, "the gallery", machine.gallery),
            (SERVE, "the socket", lambda: server(self._index)),
            (Topic("settings"), "the settings", self._settings),
            (Topic("terminal"), "the terminal", self._terminal),
            (COMPLETIONS, "the shells", lambda: completions(self._script_of)),
        )

    def _check_index(self) -> Iterator[Finding]:
        """Without the parts that would import a library that crashes."""
        breaks = [name for name in ("numpy", "hnswlib") if _crashes(self._libraries[name])]
        yield from index(self._index, may_check=not breaks)


def _crashes(probe: Probe) -> bool:
    try:
        probe.answer()
    except Unanswered as why:
        return "ModuleNotFoundError" not in str(why)
    return False
