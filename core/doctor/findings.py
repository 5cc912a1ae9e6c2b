"""The findings of `imgsearch doctor`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from imgsearch.core.errors import ConfigError, ImgsearchError, IndexDamaged, IndexLocked, IndexNotFound, IndexUnusable
from imgsearch.core.paths import printable

from .fixes import home_folder

Level = Literal["ok", "note", "warning", "problem"]
"""`note`: could be better; `warning`: works, but not as it should; `problem`: does not work."""

# Some libraries list every path that they tried in an error.
MAX_CHARACTERS = 300
LOW_DISK_BYTES = 1_000_000_000
_FIXES: dict[type[ImgsearchError], str] = {
    ConfigError: "imgsearch config edit",
    IndexDamaged: "imgsearch check --repair",
    IndexLocked: "wait until it has finished",
    IndexNotFound: "imgsearch index FOLDER",
    IndexUnusable: "check its permissions and free space",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    level: Level
    found: str
    """One line. The user's home folder is shown as `~`."""
    fix: str | None = None
    """What to do: a command line if there is one, else a sentence."""
    topic: str = ""


Check = Callable[[], Iterator[Finding]]


def ok(found: str) -> Finding:
    return Finding("ok", _one_line(_without_home(found)))


def _with_fix(level: Level, found: str, fix: str) -> Finding:
    # A command is never shortened: `rm -r` would remove another folder. A shell expands only a `~` that starts a word.
    return Finding(level, _one_line(_without_home(found)), printable(_without_home(fix, before=r"(?<!\S)")))


note, warning, problem = partial(_with_fix, "note"), partial(_with_fix, "warning"), partial(_with_fix, "problem")


def safely(check: Callable[..., Iterator[Finding]], *arguments: object) -> Iterator[Finding]:
    """The findings of a check. An exception becomes a finding too."""
    try:
        yield from check(*arguments)
    except ImgsearchError as error:
        yield problem(str(error), error.hint or _FIXES.get(type(error), "see: imgsearch --help"))
    except Exception as error:
        found = f"check failed: {type(error).__name__}: {error}".removesuffix(": ")
        is_disk = isinstance(error, OSError)
        report = "please report this with the output of imgsearch doctor"
        yield problem(found, "check the disk and its permissions" if is_disk else report)


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 3] + "..."


def _without_home(text: str, before: str = "") -> str:
    home = home_folder()
    return re.sub(rf"{before}{re.escape(home)}(?=[/\s:;,)'\"]|$)", "~", text) if home else text


def free_bytes(path: str) -> int:
    """Free space at a path, which need not exist."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free
