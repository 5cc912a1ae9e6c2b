"""What `imgsearch doctor` has found, and how it names folders and commands."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.paths import printable

Level = Literal["ok", "note", "warning", "problem"]
"""`note`: could be better, if one wants; `warning`: works, and not as it should; `problem`: something does not work."""

# A library's message is cut here: some print all the paths that they have tried.
MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    level: Level
    found: str
    """One line. What lies in the user's home is named from `~` on."""
    fix: str | None = None
    """What to do: a command line where there is one, else words."""


class About:
    """Findings of one topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def ok(self, found: str) -> Finding:
        return self._finding("ok", found, None)

    def note(self, found: str, fix: str | None = None) -> Finding:
        return self._finding("note", found, fix)

    def warning(self, found: str, fix: str) -> Finding:
        return self._finding("warning", found, fix)

    def problem(self, found: str, fix: str) -> Finding:
        return self._finding("problem", found, fix)

    def raised(self, error: Exception) -> Finding:
        """What could not be looked at, for whatever reason."""
        if isinstance(error, ImgsearchError):
            return self.problem(str(error), error.hint or "see: imgsearch --help")
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if isinstance(error, OSError):
            return self.problem(f"could not be looked at: {said}", "check the disk, and the permissions there")
        return self.problem(f"could not be looked at: {said}", "please report this, with all that doctor prints")

    def safely(self, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """Its findings. What is broken may break whoever looks at it, which then is the finding."""
        try:
            yield from look()
        except Exception as error:
            yield self.raised(error)

    def _finding(self, level: Level, found: str, fix: str | None) -> Finding:
        # A command is not cut or joined as prose is: `rm -r` would be of another folder.
        return Finding(self.topic, level, _one_line(_without_home(found)), fix and printable(_typed_without_home(fix)))


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 3] + "..."


def _home() -> str | None:
    home = os.path.expanduser("~")
    return home.rstrip("/") if os.path.isabs(home) and home.rstrip("/") else None


def _without_home(text: str) -> str:
    home = _home()
    return re.sub(rf"{re.escape(home)}(?=[/\s:;,)'\"]|$)", "~", text) if home else text


def _typed_without_home(command: str) -> str:
    """The shell reads `~` only where a word begins, and not within quotes: there the path stays as it is."""
    home = _home()
    return re.sub(rf"(?<!\S){re.escape(home)}(?=[/\s;,)]|$)", "~", command) if home else command


def typed(path: str) -> str:
    """A path as one word of a command line, from `~` on where it can be."""
    home = _home()
    if home and path.startswith(f"{home}/"):
        return f"~/{_quoted(path[len(home) + 1 :])}"
    return _quoted(path)


def _quoted(path: str) -> str:
    """As $'...', which bash and zsh read, where it has characters that are not shown as they are."""
    if printable(path) == path:
        return shlex.quote(path)
    shown = "".join(f"\\{each}" if each in "\\'" else printable(each) for each in path)
    return f"$'{shown}'"


def install(*requirements: str) -> str:
    """The command that installs these into the Python that runs, in the way of whoever made it."""
    wanted = " ".join(map(shlex.quote, requirements))
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return f"pipx inject imgsearch-cli {wanted}"
    python = typed(sys.executable)
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python} {wanted}"
    return f"{python} -m pip install {wanted}"


def install_system(**packages: str) -> str | None:
    """The command by which this machine's package manager installs something; its names by manager."""
    commands = {
        "apt": "sudo apt install",
        "dnf": "sudo dnf install",
        "pacman": "sudo pacman -S",
        "zypper": "sudo zypper install",
        "apk": "sudo apk add",
        "brew": "brew install",
    }
    here = [manager for manager in commands if manager in packages and shutil.which(manager)]
    return f"{commands[here[0]]} {packages[here[0]]}" if here else None
