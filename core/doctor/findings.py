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
from functools import partial
from typing import Literal

from imgsearch.core.errors import ConfigError, ImgsearchError, IndexDamaged, IndexLocked, IndexNotFound, IndexUnusable
from imgsearch.core.paths import printable
from imgsearch.core.photos.codecs import version_of

Level = Literal["ok", "note", "warning", "problem"]
"""`note`: could be better; `warning`: works, but not as it should; `problem`: does not work."""

# Some libraries list every path that they tried in an error.
MAX_CHARACTERS = 300
LOW_DISK_BYTES = 1_000_000_000
TORCH = ("torch", "torchvision", "open_clip_torch", "timm", "onnx")
"""What loads models, and makes their ONNX towers. A light installation does not have them."""
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


def _home() -> str | None:
    home = os.path.expanduser("~").rstrip("/")
    return home if os.path.isabs(home) else None


def _without_home(text: str, before: str = "") -> str:
    home = _home()
    return re.sub(rf"{before}{re.escape(home)}(?=[/\s:;,)'\"]|$)", "~", text) if home else text


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
    wanted = (line.partition(";")[0].strip() for line in importlib.metadata.requires("imgsearch-cli") or ())
    return next((each for each in wanted if re.split(r"[^\w.-]", each)[0] == name), name)


def reinstall(name: str) -> str:
    """The command that installs a library, or replaces a broken one."""
    is_missing = version_of(name) == "none"
    return install(*(() if is_missing else ("--force-reinstall", "--no-deps")), requirement(name))


def install(*words: str) -> str:
    """The command that installs into the running Python, by the tool that made its environment."""
    wanted = " ".join(map(shlex.quote, words))
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return f"pipx inject imgsearch-cli {wanted}"
    python = typed(sys.executable)
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python} {wanted}"
    return f"{python} -m pip install {wanted}"


def is_light() -> bool:
    """Whether this is an installation without torch and open_clip."""
    return version_of("torch") == version_of("open_clip_torch") == "none"


def with_torch(command: str = "") -> str:
    """A command that loads a model; before it the one that installs torch, if needed."""
    installs = [install(*map(requirement, TORCH))] if is_light() else []
    return " && ".join([*installs, *filter(None, [command])])


def free_bytes(path: str) -> int:
    """Free space at a path, which need not exist."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free
