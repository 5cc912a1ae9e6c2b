"""`imgsearch doctor`: what works on this machine, what does not, and how to fix it."""

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

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.doctor.findings import Finding

EXIT_FOUND = 6
TOPIC_WIDTH, LEVEL_WIDTH = 13, 9


def doctor(*, as_json: bool, index: str | None) -> int:
    """Check that everything imgsearch needs works on this machine, and show how to fix what does not.

    Checks libraries, GPU, precision, cores, memory, file formats, models, the index, a running server, settings, the
    terminal and shell completions. Nothing is changed, downloaded or sent. Exit code 6 means that something does not
    work; with only notes and warnings the exit code is 0.

    The output contains folder names (your home folder as ~) but no names of photos, so you can add it to a bug report.

    Examples:

      imgsearch doctor

      imgsearch doctor --json | jq -r 'select(.fix) | .found, .fix'
    """
    from imgsearch.core.doctor.examination import Examination

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
        return "no problems" + (f"; {render.count(levels['note'], 'note')}" if levels["note"] else "")
    return ", ".join(render.count(levels[level], level) for level in ("problem", "warning", "note") if levels[level])


class _Lines:
    """Findings as lines: the topic once, the level, what was found, and the fix below it."""

    def __init__(self) -> None:
        self._topic = ""
        self._columns = shutil.get_terminal_size().columns if render.is_terminal() else 0

    def of(self, finding: Finding) -> Iterator[str]:
        topic = "" if finding.topic == self._topic else finding.topic
        self._topic = finding.topic
        yield from self._folded(f"{topic:{TOPIC_WIDTH}}{finding.level:{LEVEL_WIDTH}}", finding.found)
        if finding.fix:  # never wrapped, so that it can be copied
            yield f"{'':{TOPIC_WIDTH + LEVEL_WIDTH}}fix: {finding.fix}"

    def _folded(self, head: str, text: str) -> list[str]:
        room = self._columns - len(head)
        if room < 20:
            return [head + text]
        folded = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False) or [""]
        return [head + folded[0], *(" " * len(head) + line for line in folded[1:])]


class _Waiting:
    """On a terminal, one line that shows the running check."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def __call__(self, what: str) -> None:
        if self._is_shown:
            line = f"checking {what}"[: shutil.get_terminal_size().columns - 1]  # a second line would not be erased
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _script_of(shell: str) -> bytes:
    """The completion script of this version."""
    command = [sys.executable, "-P", "-m", "imgsearch", "--show-completion", shell]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60).stdout


def _settings() -> Iterator[Finding]:
    """Whether the configuration file is valid, checked by `imgsearch config list`, which knows all options."""
    from imgsearch.core import config
    from imgsearch.core.doctor.findings import Topic

    topic, where = Topic("settings"), config.path()
    if where is None or not os.path.lexists(where):
        yield topic.ok(f"no configuration file ({where or f'${config.VARIABLE} is empty'})")
        return
    command = [sys.executable, "-P", "-m", "imgsearch", "config", "list"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60
    )
    errors = re.findall(r"^imgsearch: (.*)\n(?:  (.*))?", done.stderr, re.MULTILINE) if done.returncode else []
    for message, hint in errors:
        report = topic.warning if done.stdout else topic.problem
        yield report(message, hint or "imgsearch config edit")
    if not errors:
        yield topic.ok(f"{where}: {render.count(len(done.stdout.splitlines()), 'setting')}")


# ---- The terminal ----------------------------------------------------------------------------------------------------


def _terminal() -> Iterator[Finding]:
    yield from _encoding()
    yield from _display()


def _encoding() -> Iterator[Finding]:
    """The encodings of file names and of the terminal."""
    from imgsearch.core.doctor.findings import Topic

    topic = Topic("terminal")
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    chosen = next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), None)
    files, console = sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "none"
    if not _is_utf8(files):
        found = f"file names are read as {files} ({chosen}): names with other characters do not match what is typed"
        yield topic.warning(found, "export LC_ALL=C.UTF-8")
    elif not _is_locale():
        yield topic.warning(f"this system does not have the locale {chosen}", "export LC_ALL=C.UTF-8")
    elif not chosen or not _is_utf8(chosen.rpartition(".")[2].partition("@")[0]):
        found = (
            f"file names are UTF-8 for imgsearch but not for the shell ({chosen or 'no LANG'}), which shows ? instead"
        )
        yield topic.note(found, "export LANG=C.UTF-8")
    else:
        yield topic.ok(f"{chosen}; file names are {files}, output is {console}")


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def _is_locale() -> bool:
    """Whether the system has the locale of the environment."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True


def _display() -> Iterator[Finding]:
    """Colours and previews."""
    from imgsearch.cli.output.previews import previews_here
    from imgsearch.core.doctor.findings import Topic

    topic = Topic("terminal")
    term = os.environ.get("TERM", "")
    inside = "tmux" if os.environ.get("TMUX") else "screen" if os.environ.get("STY") else None
    if not render.is_terminal():
        yield topic.ok("output is not a terminal: no colours, no previews")
        return
    colours = "no colours (NO_COLOR)" if os.environ.get("NO_COLOR") else os.environ.get("COLORTERM") or "basic colours"
    yield topic.ok(f"TERM={term or 'not set'}{f', in {inside}' if inside else ''}, {colours}")
    if term in ("", "dumb"):
        yield topic.note("--preview draws nothing: TERM is dumb or not set", "export TERM=xterm-256color")
    elif previews := previews_here():
        hidden = f"; {inside} hides the graphics of the terminal around it" if inside else ""
        yield topic.ok(f"--preview draws with {previews.protocol} graphics{hidden}")
