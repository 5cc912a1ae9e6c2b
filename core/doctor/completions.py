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

from .findings import Finding, note, ok, safely, typed, warning

MAX_SETTINGS_BYTES = 1 << 20

ScriptOf = Callable[[str], bytes]
"""What `imgsearch --show-completion SHELL` prints."""


@dataclass(frozen=True, slots=True)
class Shell:
    name: str
    scripts: list[str]
    """Where it looks for the completion script of imgsearch; the first is the user's own."""
    settings: list[str]
    """The user's startup files; the first is the one to add a line to."""


def installed_shells() -> list[Shell]:
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    shared = list(filter(None, (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")))
    bash = os.environ.get("BASH_COMPLETION_USER_DIR") or f"{data}/bash-completion"
    zsh = os.environ.get("ZDOTDIR") or home
    bash_folders = [f"{each}/bash-completion/completions" for each in shared]
    zsh_folders = [f"{each}/zsh/{name}" for each in shared for name in ("site-functions", "vendor-completions")]
    fish_folders = [f"{each}/fish/vendor_completions.d" for each in (data, *shared)]
    known = [
        Shell(
            "bash",
            [f"{each}/imgsearch" for each in (f"{bash}/completions", *bash_folders, "/etc/bash_completion.d")],
            [f"{home}/{name}" for name in (".bashrc", ".bash_profile", ".bash_completion")],
        ),
        Shell(
            "zsh",
            [f"{each}/_imgsearch" for each in (f"{home}/.zfunc", *zsh_folders)],
            [f"{zsh}/{name}" for name in (".zshrc", ".zshenv", ".zprofile")],
        ),
        Shell(
            "fish",
            [
                f"{each}/imgsearch.fish"
                for each in (f"{config}/fish/completions", "/etc/fish/completions", *fish_folders)
            ],
            [f"{config}/fish/config.fish"],
        ),
    ]
    return [shell for shell in known if shutil.which(shell.name)]


def completions(script_of: ScriptOf) -> Iterator[Finding]:
    shells = installed_shells()
    if not shells:
        yield Finding("note", "neither bash, zsh nor fish is installed")
    for shell in shells:
        yield from safely(_completions, shell, script_of)


def _completions(shell: Shell, script_of: ScriptOf) -> Iterator[Finding]:
    settings = "\n".join(os.fsdecode(_read(path)) for path in shell.settings)
    script, own = next(filter(os.path.isfile, shell.scripts), None), shell.scripts[0]
    show = f"imgsearch --show-completion {shell.name} >"
    write = f"mkdir -p {typed(os.path.dirname(own))} && {show} {typed(own)}"
    if script is None:
        if re.search(r"imgsearch\s+--show-completion|/_?imgsearch(\.fish)?\b", settings):
            yield ok(f"{shell.name}: loaded by its settings")
            return
        yield note(f"{shell.name}: no completions of imgsearch", write)
    elif _read(script) == script_of(shell.name):
        yield ok(f"{shell.name}: {script}")
    else:
        fix = f"{show} {typed(script)}" if os.access(script, os.W_OK) else f"sudo rm {typed(script)} && {write}"
        yield warning(f"{shell.name}: {script} is of another version of imgsearch, or was edited", fix)
    if script in (None, own):
        yield from _not_loaded(shell, settings, own)


def _not_loaded(shell: Shell, settings: str, own: str) -> Iterator[Finding]:
    """Why the shell would not load a script from the user's own folder."""
    if shell.name == "bash":
        tops = ("/usr/share", "/usr/local/share", "/opt/homebrew/share", "/opt/local/share")
        is_loaded = any(os.path.isfile(f"{top}/bash-completion/bash_completion") for top in tops)
        is_loaded |= "bash-completion/completions/imgsearch" in settings
        line, found = f". {typed(own)}", "bash: bash-completion, which loads them, is not installed"
    else:
        folder = os.path.dirname(own)
        is_loaded = shell.name == "fish" or bool(re.search(r"(?s)\.zfunc.*compinit|oh-my-zsh", settings))
        line = f"fpath=({typed(folder)} $fpath); autoload -Uz compinit && compinit"
        found = f"zsh: its settings do not load completions from {folder}"
    if not is_loaded:
        yield note(found, f"echo {typed(line)} >> {typed(shell.settings[0])}")


def _read(path: str) -> bytes:
    """The start of a file; nothing if it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_SETTINGS_BYTES)
    return b""
