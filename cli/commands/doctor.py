"""`imgsearch doctor`: what works on this machine, what does not, and how to mend it."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgsearch.cli import options
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.doctor.findings import Finding

EXIT_FOUND = 6
TOPIC, LEVEL = 13, 9
"""Columns that these two take."""


def doctor(as_json: options.Json = False, index: options.Index = None) -> int:
    """Look at what imgsearch needs on this machine, and say how to mend what is not as it should be.

    Libraries, GPU, precision, cores, memory, formats, models, the index, a running server, the terminal and the shells'
    completions. It only looks: nothing is mended, fetched or sent. Exit code 6 says that something does not work;
    notes and warnings alone are 0.

    The output names folders (your home as ~) and no photos: it may go into a bug report.

    Examples:

      imgsearch doctor

      imgsearch doctor --json | jq -r 'select(.fix) | .found, .fix'
    """
    from imgsearch.core.doctor.checks import Examination

    levels: Counter[str] = Counter()
    lines, waiting = _Lines(), _Waiting()
    with Examination(index, script_of=_script_of, terminal=_terminal, settings=_settings) as examination:
        try:
            for finding in examination.findings(waiting):
                waiting.close()
                levels[finding.level] += 1
                if as_json:
                    render.emit_json(_record(finding))
                else:
                    for line in lines.of(finding):
                        render.emit(line)
                render.flush()
        finally:
            waiting.close()
    if not as_json:
        render.say(_sentence(levels))
    return EXIT_FOUND if levels["problem"] else 0


def _record(finding: Finding) -> dict[str, str | None]:
    return {"topic": finding.topic, "level": finding.level, "found": finding.found, "fix": finding.fix}


def _sentence(levels: Counter[str]) -> str:
    if not levels["problem"] + levels["warning"]:
        return "all is well" + (f"; {render.count(levels['note'], 'note')}" if levels["note"] else "")
    return ", ".join(render.count(levels[level], level) for level in ("problem", "warning", "note") if levels[level])


class _Lines:
    """Findings for a person: the topic once, the level, what was found, and below it what to do."""

    def __init__(self) -> None:
        self._topic = ""
        self._columns = shutil.get_terminal_size().columns if render.is_terminal() else 0

    def of(self, finding: Finding) -> Iterator[str]:
        topic = "" if finding.topic == self._topic else finding.topic
        self._topic = finding.topic
        yield from self._folded(f"{topic:{TOPIC}}{finding.level:{LEVEL}}", finding.found)
        if finding.fix:  # in one piece, however long, so that it can be copied
            yield f"{'':{TOPIC + LEVEL}}fix: {finding.fix}"

    def _folded(self, head: str, text: str) -> list[str]:
        room = self._columns - len(head)
        if room < 20:
            return [head + text]
        folded = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False) or [""]
        return [head + folded[0], *(" " * len(head) + line for line in folded[1:])]


class _Waiting:
    """On a terminal, one line that says what is being looked at."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def __call__(self, what: str) -> None:
        if self._is_shown:
            line = f"looking at {what}"[: shutil.get_terminal_size().columns - 1]  # more would not be wiped away
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _script_of(shell: str) -> bytes:
    """The script that this version prints."""
    command = [sys.executable, "-P", "-m", "imgsearch", "--show-completion", shell]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60).stdout


def _settings() -> Iterator[Finding]:
    """Whether the file of settings is understood, as only a process that knows all commands can tell."""
    from imgsearch.core import config
    from imgsearch.core.doctor.findings import About

    about, where = About("settings"), config.path()
    if where is None or not os.path.lexists(where):
        yield about.ok(f"none are made ({where or f'${config.VARIABLE} is empty'})")
        return
    command = [sys.executable, "-P", "-m", "imgsearch", "config", "list"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60
    )
    complaints = re.findall(r"^imgsearch: (.*)\n(?:  (.*))?", done.stderr, re.MULTILINE) if done.returncode else []
    for said, hint in complaints:
        tell = about.warning if done.stdout else about.problem  # which stops every command
        yield tell(said, hint or "imgsearch config edit")
    if not complaints:
        yield about.ok(f"{where}: {render.count(len(done.stdout.splitlines()), 'setting')}")


# ---- The terminal ----------------------------------------------------------------------------------------------------


def _terminal() -> Iterator[Finding]:
    yield from _encoding()
    yield from _looks()


def _encoding() -> Iterator[Finding]:
    """How names of files are read, and in which encoding everything else writes and reads them."""
    from imgsearch.core.doctor.findings import About

    about = About("terminal")
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    chosen = next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), None)
    files, console = sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "none"
    if not _is_utf8(files):
        found = f"names of files are read as {files} ({chosen}): those beyond it do not match what is typed"
        yield about.warning(found, "export LC_ALL=C.UTF-8")
    elif not _is_locale():
        yield about.warning(f"{chosen} is a locale that this system has not", "export LC_ALL=C.UTF-8")
    elif not chosen or not _is_utf8(chosen.rpartition(".")[2].partition("@")[0]):
        found = f"names are UTF-8 for imgsearch, and not for the shell ({chosen or 'no LANG'}), which shows others as ?"
        yield about.note(found, "export LANG=C.UTF-8")
    else:
        yield about.ok(f"{chosen}; names of files are {files}, output is {console}")


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def _is_locale() -> bool:
    """Whether the system has the locale that the environment names."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True


def _looks() -> Iterator[Finding]:
    """What it can show: colours and photos."""
    from imgsearch.cli.output.previews import previews_here
    from imgsearch.core.doctor.findings import About

    about = About("terminal")
    term = os.environ.get("TERM", "")
    inside = "tmux" if os.environ.get("TMUX") else "screen" if os.environ.get("STY") else None
    if not render.is_terminal():
        yield about.ok("output is not a terminal here: no colours, no previews, exact names")
        return
    colours = "no colours (NO_COLOR)" if os.environ.get("NO_COLOR") else os.environ.get("COLORTERM") or "basic colours"
    yield about.ok(f"TERM={term or 'not set'}{f', in {inside}' if inside else ''}, {colours}")
    if term in ("", "dumb"):
        yield about.note("--preview draws nothing: TERM is dumb or not set", "export TERM=xterm-256color")
    elif previews := previews_here():
        hidden = f"; {inside} passes on no graphics of the terminal around it" if inside else ""
        yield about.ok(f"--preview draws with {previews.protocol} graphics{hidden}")
