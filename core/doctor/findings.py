"""The findings of `imgsearch doctor`, and the commands that fix them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from imgsearch.core.errors import ImgsearchError, IndexDamaged, IndexLocked, IndexNotFound, IndexUnusable
from imgsearch.core.paths import printable
from imgsearch.core.photos.codecs import version_of

Level = Literal["ok", "note", "warning", "problem"]
"""`note`: could be better; `warning`: works, but not as it should; `problem`: does not work."""

# Some libraries list every path that they tried in an error.
MAX_CHARACTERS = 300
_FIXES: dict[type[ImgsearchError], str] = {
    IndexDamaged: "imgsearch check --repair",
    IndexLocked: "wait until it has finished",
    IndexNotFound: "imgsearch index FOLDER",
    IndexUnusable: "check its permissions and free space",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    topic: str
    level: Level
    found: str
    """One line. The user's home folder is shown as `~`."""
    fix: str | None = None
    """What to do: a command line if there is one, else a sentence."""


LOW_DISK_BYTES = 1_000_000_000
Check = Callable[[], Iterator[Finding]]


class Topic:
    """Makes the findings of one topic."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ok(self, found: str) -> Finding:
        return self._finding("ok", found, None)

    def note(self, found: str, fix: str | None = None) -> Finding:
        return self._finding("note", found, fix)

    def warning(self, found: str, fix: str) -> Finding:
        return self._finding("warning", found, fix)

    def problem(self, found: str, fix: str) -> Finding:
        return self._finding("problem", found, fix)

    def raised(self, error: Exception) -> Finding:
        """A check that failed."""
        if isinstance(error, ImgsearchError):
            return self.problem(str(error), error.hint or _FIXES.get(type(error), "see: imgsearch --help"))
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, OSError):
            return self.problem(f"check failed: {said}", "check the disk and its permissions")
        return self.problem(f"check failed: {said}", "please report this with the output of imgsearch doctor")

    def safely(self, check: Check) -> Iterator[Finding]:
        """Its findings. An exception becomes a finding too."""
        try:
            yield from check()
        except Exception as error:
            yield self.raised(error)

    def _finding(self, level: Level, found: str, fix: str | None) -> Finding:
        # A command is never shortened: `rm -r` would remove another folder.
        return Finding(self.name, level, _one_line(_without_home(found)), fix and printable(_typed_without_home(fix)))


SERVE = Topic("serve")


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 3] + "..."


def _home() -> str | None:
    home = os.path.expanduser("~")
    return home.rstrip("/") if os.path.isabs(home) and home.rstrip("/") else None


def _without_home(text: str) -> str:
    home = _home()
    return re.sub(rf"{re.escape(home)}(?=[/\s:;,)'\"]|$)", "~", text) if home else text


def _typed_without_home(command: str) -> str:
    """A shell expands `~` only at the start of an unquoted word; elsewhere the path stays."""
    home = _home()
    return re.sub(rf"(?<!\S){re.escape(home)}(?=[/\s;,)]|$)", "~", command) if home else command


def typed(path: str) -> str:
    """A path as one word of a command line, with `~` if possible."""
    home = _home()
    if home and path.startswith(f"{home}/"):
        return f"~/{_quoted(path[len(home) + 1 :])}"
    return _quoted(path)


def _quoted(path: str) -> str:
    """Quoted as $'...', which bash and zsh read, if it has characters that cannot be printed."""
    if printable(path) == path:
        return shlex.quote(path)
    shown = "".join(f"\\{each}" if each in "\\'" else printable(each) for each in path)
    return f"$'{shown}'"


def requirement(name: str) -> str:
    """A library with the versions that imgsearch needs, as its package declares them: `torch<3,>=2.6`."""
    for line in importlib.metadata.requires("imgsearch-cli") or ():
        wanted = line.partition(";")[0].strip()
        if re.split(r"[^\w.-]", wanted)[0] == name:
            return wanted
    return name


def reinstall(*names: str) -> str:
    """The command that installs libraries, or replaces broken ones."""
    is_missing = any(version_of(name) == "none" for name in names)
    return install(*(() if is_missing else ("--force-reinstall", "--no-deps")), *map(requirement, names))


def install(*words: str) -> str:
    """The command that installs into the running Python, by the tool that made its environment."""
    wanted = " ".join(map(shlex.quote, words))
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return f"pipx inject imgsearch-cli {wanted}"
    python = typed(sys.executable)
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python} {wanted}"
    return f"{python} -m pip install {wanted}"


def existing_folder(path: str) -> str:
    """The path, or the nearest folder above it that exists."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path
