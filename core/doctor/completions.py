"""Whether each installed shell finds the completions of this imgsearch.

Only files are read. Asking an interactive shell would run its owner's settings, which may do anything.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .findings import Finding, Topic, typed

COMPLETIONS = Topic("completions")
MAX_SETTINGS_BYTES = 1 << 20

ScriptOf = Callable[[str], bytes]
"""What `imgsearch --show-completion SHELL` prints."""


@dataclass(frozen=True, slots=True)
class Shell:
    name: str
    file: str
    """Name of its completion script for imgsearch."""
    folders: tuple[str, ...]
    """Where it looks for scripts; the first is the user's own."""
    settings: tuple[str, ...]
    """The user's startup files; the first is the one to add a line to."""


def installed_shells() -> list[Shell]:
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    shared = [
        folder for folder in (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":") if folder
    ]
    bash = os.environ.get("BASH_COMPLETION_USER_DIR") or f"{data}/bash-completion"
    zsh = os.environ.get("ZDOTDIR") or home
    known = [
        Shell(
            "bash",
            "imgsearch",
            (
                f"{bash}/completions",
                *(f"{each}/bash-completion/completions" for each in shared),
                "/etc/bash_completion.d",
            ),
            (f"{home}/.bashrc", f"{home}/.bash_profile", f"{home}/.bash_completion"),
        ),
        Shell(
            "zsh",
            "_imgsearch",
            (
                f"{home}/.zfunc",
                *(f"{each}/zsh/{name}" for each in shared for name in ("site-functions", "vendor-completions")),
            ),
            (f"{zsh}/.zshrc", f"{zsh}/.zshenv", f"{zsh}/.zprofile"),
        ),
        Shell(
            "fish",
            "imgsearch.fish",
            (
                f"{config}/fish/completions",
                "/etc/fish/completions",
                *(f"{each}/fish/vendor_completions.d" for each in (data, *shared)),
            ),
            (f"{config}/fish/config.fish",),
        ),
    ]
    return [shell for shell in known if shutil.which(shell.name)]


def completions(script_of: ScriptOf) -> Iterator[Finding]:
    shells = installed_shells()
    if not shells:
        yield COMPLETIONS.note("neither bash, zsh nor fish is installed")
    for shell in shells:
        yield from COMPLETIONS.safely(lambda shell=shell: _completions(shell, script_of))  # type: ignore[misc]


def _completions(shell: Shell, script_of: ScriptOf) -> Iterator[Finding]:
    settings = "\n".join(os.fsdecode(_read(path)) for path in shell.settings)
    script = next((path for folder in shell.folders if os.path.isfile(path := f"{folder}/{shell.file}")), None)
    own = f"{shell.folders[0]}/{shell.file}"
    write = f"mkdir -p {typed(os.path.dirname(own))} && imgsearch --show-completion {shell.name} > {typed(own)}"
    if script is None:
        if re.search(r"imgsearch\s+--show-completion|/_?imgsearch(\.fish)?\b", settings):
            yield COMPLETIONS.ok(f"{shell.name}: loaded by its settings")
            return
        yield COMPLETIONS.note(f"{shell.name}: no completions of imgsearch", write)
    elif _read(script) == script_of(shell.name):
        yield COMPLETIONS.ok(f"{shell.name}: {script}")
    elif os.access(script, os.W_OK):
        fix = f"imgsearch --show-completion {shell.name} > {typed(script)}"
        yield COMPLETIONS.warning(f"{shell.name}: {script} is of another version of imgsearch, or was edited", fix)
    else:
        fix = f"sudo rm {typed(script)} && {write}"
        yield COMPLETIONS.warning(f"{shell.name}: {script} is of another version of imgsearch, or was edited", fix)
    if script in (None, own):
        yield from _not_loaded(shell, settings, own)


def _not_loaded(shell: Shell, settings: str, own: str) -> Iterator[Finding]:
    """Why the shell would not load a script from the user's own folder."""
    line = None
    if (
        shell.name == "bash"
        and not _has_bash_completion()
        and f"bash-completion/completions/{shell.file}" not in settings
    ):
        line, found = f". {typed(own)}", "bash: bash-completion, which loads them, is not installed"
    elif shell.name == "zsh" and not re.search(r"(?s)\.zfunc.*compinit|oh-my-zsh", settings):
        line = f"fpath=({typed(os.path.dirname(own))} $fpath); autoload -Uz compinit && compinit"
        found = f"zsh: its settings do not load completions from {os.path.dirname(own)}"
    if line:
        yield COMPLETIONS.note(found, f"echo {typed(line)} >> {typed(shell.settings[0])}")


def _has_bash_completion() -> bool:
    tops = ("/usr/share", "/usr/local/share", "/opt/homebrew/share", "/opt/local/share")
    return any(os.path.isfile(f"{top}/bash-completion/bash_completion") for top in tops)


def _read(path: str) -> bytes:
    """The start of a regular file; nothing if it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_SETTINGS_BYTES)
    return b""
