"""The commands that fix what `imgsearch doctor` finds."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys

from imgsearch.core.paths import printable
from imgsearch.core.photos.codecs import version_of

TORCH = ("torch", "torchvision", "open_clip_torch", "timm", "onnx")
"""What loads models, and makes their ONNX towers. A light installation does not have them."""


def home_folder() -> str | None:
    home = os.path.expanduser("~").rstrip("/")
    return home if os.path.isabs(home) else None


def typed(path: str) -> str:
    """A path as one word of a command line, with `~` if possible."""
    home = home_folder()
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
