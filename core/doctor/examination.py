"""Runs all checks of `imgsearch doctor`.

Checks only read: they do not make, download or send anything, except that SQLite makes two helper files beside a
catalogue that it reads. Every exception becomes a finding. Whatever may crash or hang (libraries, the GPU, disks that
do not respond) runs in a child process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from . import machine
from .completions import ScriptOf, completions
from .findings import Check, Finding, safely
from .index import index, server
from .model_files import builtin_model, cached_models, towers
from .probe import Probe


def examine(
    option: str | None,
    *,
    script_of: ScriptOf,
    settings: Check,
    terminal: tuple[Check, ...],
    on_check: Callable[[str], None],
) -> Iterator[Finding]:
    """The findings of all checks, topic by topic; `on_check` is called with what is checked next.

    `option` is `--index`; `settings` and `terminal` are checks of the command line.
    """
    with contextlib.ExitStack() as opened:

        def probe(*check: str, seconds: float) -> Probe:
            return opened.enter_context(contextlib.closing(Probe(*check, seconds=seconds)))

        # All in parallel, the slowest first.
        devices = probe("devices", seconds=machine.DEVICE_SECONDS)
        libraries = {name: probe("library", name, seconds=machine.LIBRARY_SECONDS) for name in machine.LIBRARIES}
        checks: tuple[tuple[str, str, Check], ...] = (
            ("program", "the program", machine.program),
            ("program", "the libraries", partial(machine.libraries, libraries)),
            ("program", "the place names", partial(machine.places, libraries)),
            ("program", "the text reader", partial(machine.text_reader, libraries)),
            ("device", "the processor", machine.cores),
            ("device", "the memory", machine.memory),
            ("device", "torch, which takes some seconds to load", partial(machine.devices, devices)),
            ("codecs", "the decoders", partial(machine.codecs, libraries)),
            ("models", "the models", cached_models),
            ("models", "the built-in model", builtin_model),
            ("models", "the ONNX towers", partial(towers, option)),
            ("index", "the index", lambda: index(option, may_check=not _breaks_checks(libraries))),
            ("serve", "the gallery", machine.gallery),
            ("serve", "the socket", partial(server, option)),
            ("settings", "the settings", settings),
            *(("terminal", "the terminal", check) for check in terminal),
            ("completions", "the shells", partial(completions, script_of)),
        )
        for topic, what, check in checks:
            on_check(what)
            for finding in safely(check):
                yield replace(finding, topic=topic)


def _breaks_checks(libraries: machine.Libraries) -> bool:
    """Whether a check of the index would import a library that cannot be loaded. It does not need hnswlib."""
    hnswlib = libraries["hnswlib"].answer().get("error", "")
    return "error" in libraries["numpy"].answer() or bool(hnswlib and "ModuleNotFoundError" not in hnswlib)
