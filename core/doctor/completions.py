"""Whether each installed shell finds the completions of this imgsearch.

Only files are read. Asking an interactive shell would run its owner's settings, which may do anything.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator

from .findings import Finding, note, ok, safely, warning
from .fixes import typed

MAX_SETTINGS_BYTES = 1 << 20

ScriptOf = Callable[[str], bytes]
"""What `imgsearch --show-completion SHELL` prints."""


SCRIPTS = {
    "bash": "{bash}/completions/imgsearch {shared}/bash-completion/completions/imgsearch "
    "/etc/bash_completion.d/imgsearch",
    "zsh": "{home}/.zfunc/_imgsearch {shared}/zsh/site-functions/_imgsearch {shared}/zsh/vendor-completions/_imgsearch",
    "fish": "{config}/fish/completions/imgsearch.fish /etc/fish/completions/imgsearch.fish "
    "{data}/fish/vendor_completions.d/imgsearch.fish {shared}/fish/vendor_completions.d/imgsearch.fish",
}
"""Where each shell looks for the completion script of imgsearch; the first is the user's own."""
SETTINGS = {
    "bash": "{home}/.bashrc {home}/.bash_profile {home}/.bash_completion",
    "zsh": "{zsh}/.zshrc {zsh}/.zshenv {zsh}/.zprofile",
    "fish": "{config}/fish/config.fish",
}
"""The user's startup files; the first is the one to add a line to."""


def _paths(templates: str) -> list[str]:
    """The paths of these templates, those of shared data once for each folder."""
    known, home = os.environ.get, os.path.expanduser("~")
    data = known("XDG_DATA_HOME") or f"{home}/.local/share"
    folders = {
        "home": home,
        "data": data,
        "config": known("XDG_CONFIG_HOME") or f"{home}/.config",
        "bash": known("BASH_COMPLETION_USER_DIR") or f"{data}/bash-completion",
        "zsh": known("ZDOTDIR") or home,
    }
    shared = [each for each in (known("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":") if each]
    return [
        template.format(shared=each, **folders)
        for template in templates.split()
        for each in (shared if "{shared}" in template else [""])
    ]


def completions(script_of: ScriptOf) -> Iterator[Finding]:
    shells = list(filter(shutil.which, SCRIPTS))
    if not shells:
        yield Finding("note", "neither bash, zsh nor fish is installed")
    for shell in shells:
        yield from safely(_completions, shell, script_of)


def _completions(shell: str, script_of: ScriptOf) -> Iterator[Finding]:
    settings = "\n".join(os.fsdecode(_read(path)) for path in _paths(SETTINGS[shell]))
    scripts = _paths(SCRIPTS[shell])
    script, own = next(filter(os.path.isfile, scripts), None), scripts[0]
    show = f"imgsearch --show-completion {shell} >"
    write = f"mkdir -p {typed(os.path.dirname(own))} && {show} {typed(own)}"
    if script is None:
        if re.search(r"imgsearch\s+--show-completion|/_?imgsearch(\.fish)?\b", settings):
            yield ok(f"{shell}: loaded by its settings")
            return
        yield note(f"{shell}: no completions of imgsearch", write)
    elif _read(script) == script_of(shell):
        yield ok(f"{shell}: {script}")
    else:
        fix = f"{show} {typed(script)}" if os.access(script, os.W_OK) else f"sudo rm {typed(script)} && {write}"
        yield warning(f"{shell}: {script} is of another version of imgsearch, or was edited", fix)
    if script in (None, own):
        yield from _not_loaded(shell, settings, own)


def _not_loaded(shell: str, settings: str, own: str) -> Iterator[Finding]:
    """Why the shell would not load a script from the user's own folder."""
    if shell == "bash":
        tops = ("/usr/share", "/usr/local/share", "/opt/homebrew/share", "/opt/local/share")
        is_loaded = any(os.path.isfile(f"{top}/bash-completion/bash_completion") for top in tops)
        is_loaded |= "bash-completion/completions/imgsearch" in settings
        line, found = f". {typed(own)}", "bash: bash-completion, which loads them, is not installed"
    else:
        folder = os.path.dirname(own)
        is_loaded = shell == "fish" or bool(re.search(r"(?s)\.zfunc.*compinit|oh-my-zsh", settings))
        line = f"fpath=({typed(folder)} $fpath); autoload -Uz compinit && compinit"
        found = f"zsh: its settings do not load completions from {folder}"
    if not is_loaded:
        yield note(found, f"echo {typed(line)} >> {typed(_paths(SETTINGS[shell])[0])}")


def _read(path: str) -> bytes:
    """The start of a file; nothing if it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MAX_SETTINGS_BYTES)
    return b""
