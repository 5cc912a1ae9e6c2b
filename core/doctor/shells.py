"""Whether each shell on this machine has the completions of this imgsearch where it looks for them.

Only files are looked at. To ask an interactive shell would run what its owner wrote into its settings, which may wait,
print, or do anything; and bash would not know of completions that it loads on the first TAB.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .findings import About, Finding, install_system, typed

ABOUT = About("completions")
# Where a script that nobody found by its place may be named: all of it is read, and none of it run.
MOST_SETTINGS_BYTES = 1 << 20

ScriptOf = Callable[[str], bytes]
"""What `imgsearch --show-completion SHELL` prints."""


@dataclass(frozen=True, slots=True)
class Shell:
    name: str
    file: str
    """What it calls a completion script of imgsearch."""
    own: str
    """The folder for the user's own."""
    folders: tuple[str, ...]
    """All that it looks into, in its order."""
    settings: tuple[str, ...]


def shells() -> list[Shell]:
    """Those that are installed."""
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    shared = [data, *(os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")]
    own_bash = os.environ.get("BASH_COMPLETION_USER_DIR") or os.path.join(data, "bash-completion")
    own_zsh = os.path.join(home, ".zfunc")
    zsh = os.environ.get("ZDOTDIR") or home
    own_fish = os.path.join(config, "fish", "completions")
    known = [
        Shell(
            "bash",
            "imgsearch",
            os.path.join(own_bash, "completions"),
            (
                f"{own_bash}/completions",
                *_below("bash-completion/completions", [*_beside_programs(), *shared]),
                "/etc/bash_completion.d",
            ),
            (f"{home}/.bashrc", f"{home}/.bash_profile", f"{home}/.bash_completion"),
        ),
        Shell("zsh", "_imgsearch", own_zsh, (own_zsh,), (f"{zsh}/.zshrc", f"{zsh}/.zshenv", f"{zsh}/.zprofile")),
        Shell(
            "fish",
            "imgsearch.fish",
            own_fish,
            (own_fish, "/etc/fish/completions", *_below("fish/vendor_completions.d", [*shared, *_beside("fish")])),
            (f"{config}/fish/config.fish",),
        ),
    ]
    return [shell for shell in known if shutil.which(shell.name)]


def _below(name: str, folders: list[str]) -> list[str]:
    return [os.path.join(folder, name) for folder in folders if folder]


def _beside(program: str) -> list[str]:
    """The folder for data that was installed along with it."""
    path = shutil.which(program)
    return [os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(path))), "share")] if path else []


def _beside_programs() -> list[str]:
    """Where bash-completion looks from 2.12 on: beside each folder of programs, that of a virtual environment too."""
    if not re.search(rb"BASH_COMPLETION_VERSINFO=\((2 1[2-9]|2 [2-9]\d|[3-9])", _bash_completion()):
        return []
    folders = [folder for folder in os.get_exec_path() if os.path.basename(folder) in ("bin", "sbin")]
    return [os.path.join(os.path.dirname(folder), "share") for folder in folders]


def completions(script_of: ScriptOf) -> Iterator[Finding]:
    found = shells()
    if not found:
        yield ABOUT.note("neither bash, zsh nor fish is installed")
    for shell in found:
        yield from ABOUT.safely(lambda shell=shell: _completions(shell, script_of))  # type: ignore[misc]


def _completions(shell: Shell, script_of: ScriptOf) -> Iterator[Finding]:
    settings = _settings(shell)
    folders = [*shell.folders, *_more_zsh_folders(settings)] if shell.name == "zsh" else list(shell.folders)
    there = next((path for folder in folders if os.path.isfile(path := os.path.join(folder, shell.file))), None)
    if there is None:
        if re.search(r"imgsearch\s+--show-completion|/_?imgsearch(\.fish)?\b", settings):
            yield ABOUT.ok(f"{shell.name}: its settings ask imgsearch for them at every start")
        else:
            yield ABOUT.note(f"{shell.name}: no completions of imgsearch", _line(shell))
            yield from _not_read(shell, settings)
        return
    if _read(there) != script_of(shell.name):
        fix = f"imgsearch --show-completion {shell.name} > {typed(there)}"
        if not os.access(there, os.W_OK):
            fix = f"sudo rm {typed(there)} && {_line(shell)}"
        yield ABOUT.warning(f"{shell.name}: {there} is of another version of imgsearch, or changed by hand", fix)
    else:
        yield ABOUT.ok(f"{shell.name}: {there}")
    yield from _not_read(shell, settings, os.path.dirname(there))


def _line(shell: Shell) -> str:
    """The command that puts the script into the user's own folder for them."""
    path = typed(os.path.join(shell.own, shell.file))
    return f"mkdir -p {typed(shell.own)} && imgsearch --show-completion {shell.name} > {path}"


def _not_read(shell: Shell, settings: str, folder: str | None = None) -> Iterator[Finding]:
    """Why a script that lies, or is to lie, in that folder would not be read."""
    folder = folder or shell.own
    if shell.name == "bash" and not _bash_completion():
        packages = dict.fromkeys(("apt", "dnf", "pacman", "zypper", "apk"), "bash-completion")
        fix = install_system(**packages, brew="bash-completion@2")
        found = "bash: bash-completion, which reads them, is not installed"
        yield ABOUT.note(found, fix or f"echo '. {typed(os.path.join(folder, shell.file))}' >> ~/.bashrc")
    if shell.name == "zsh" and folder not in _default_fpath():
        lacking = [f"fpath=({typed(folder)} $fpath)"] if os.path.basename(folder) not in settings else []
        lacking += ["autoload -Uz compinit && compinit"] if "compinit" not in settings else []
        if lacking and "oh-my-zsh" not in settings:
            rc = typed(os.path.join(os.environ.get("ZDOTDIR") or os.path.expanduser("~"), ".zshrc"))
            found = f"zsh: its settings do not make it look into {folder}"
            yield ABOUT.note(found, f"echo {typed('; '.join(lacking))} >> {rc}")


def _bash_completion() -> bytes:
    """The script that bash-completion is; nothing where it is not installed."""
    tops = ("/usr/share", "/usr/local/share", "/opt/homebrew/share", "/opt/local/share")
    return next(filter(None, (_read(f"{top}/bash-completion/bash_completion") for top in tops)), b"")


def _more_zsh_folders(settings: str) -> Iterator[str]:
    """What zsh itself looks into, and what its settings name as `fpath`."""
    home = os.path.expanduser("~")
    for line in settings.splitlines():
        if "fpath" in line and not line.lstrip().startswith("#"):
            for word in re.findall(r"[^\s()\"'=:]+", line):
                path = re.sub(r"^(~|\$HOME|\$\{HOME\})(?=/|$)", lambda _: home, word)
                if os.path.isabs(path):
                    yield path
    yield from _default_fpath()


def _default_fpath() -> list[str]:
    """As it was built: with `-f` none of the user's files is read."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["zsh", "-f", "-c", "print -rl -- $fpath"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
        return os.fsdecode(done.stdout).splitlines()
    return []


def _settings(shell: Shell) -> str:
    return "\n".join(os.fsdecode(_read(path)) for path in shell.settings)


def _read(path: str) -> bytes:
    """At most so much of a regular file; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MOST_SETTINGS_BYTES)
    return b""
