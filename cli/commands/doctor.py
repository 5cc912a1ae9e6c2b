"""`imgsearch doctor`: what works on this machine, what does not, and how to fix it."""

from __future__ import annotations

import locale
import os
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
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.doctor.examination import examine

    levels: Counter[str] = Counter()
    topic = ""
    with Line() as line:
        findings = examine(
            index,
            script_of=_script_of,
            settings=_settings,
            terminal=(_encoding, _display),
            on_check=lambda what: line.draw(f"checking {what}"),
        )
        for finding in findings:
            line.clear()
            levels[finding.level] += 1
            if as_json:
                render.emit_json({key: getattr(finding, key) for key in ("topic", "level", "found", "fix")})
            else:
                render.emit(_lines(finding, "" if finding.topic == topic else finding.topic))
            topic = finding.topic
            render.flush()
    if not as_json:
        render.say(_sentence(levels))
    return EXIT_FOUND if levels["problem"] else 0


def _sentence(levels: Counter[str]) -> str:
    counted = [render.count(levels[level], level) for level in ("problem", "warning", "note") if levels[level]]
    if levels["problem"] + levels["warning"]:
        return ", ".join(counted)
    return "; ".join(["no problems", *counted])


def _lines(finding: Finding, topic: str) -> str:
    """The topic, the level, what was found, and the fix below it."""
    head = f"{topic:{TOPIC_WIDTH}}{finding.level:{LEVEL_WIDTH}}"
    indent = " " * len(head)
    width = render.columns(sys.stdout) if render.is_terminal() else 0
    text = head + finding.found
    if width >= len(head) + 20:
        folded = textwrap.wrap(finding.found, width - len(head), break_on_hyphens=False, break_long_words=False)
        text = head + f"\n{indent}".join(folded)
    # A fix is never wrapped, so that it can be copied.
    return f"{text}\n{indent}fix: {finding.fix}" if finding.fix else text


def _script_of(shell: str) -> bytes:
    from imgsearch.cli import completion

    return completion.script(shell).encode()


def _settings() -> Iterator[Finding]:
    """Whether the configuration file is valid."""
    from imgsearch.cli import settings
    from imgsearch.core import config
    from imgsearch.core.doctor.findings import ok, warning

    where = config.path()
    if where is None or not os.path.lexists(where):
        yield ok(f"no configuration file ({where or f'${config.VARIABLE} is empty'})")
        return
    known = settings.known_keys()
    found = {each.name: each for each in config.load()}
    wrong = [error for each in found.values() if (error := settings.complaint(each, known))]
    for error in wrong:
        yield warning(str(error), error.hint or "imgsearch config edit")
    if not wrong:
        yield ok(f"{where}: {render.count(len(found), 'setting')}")


# ---- The terminal ----------------------------------------------------------------------------------------------------


def _encoding() -> Iterator[Finding]:
    """The encodings of file names and of the terminal."""
    from imgsearch.core.doctor.findings import note, ok, warning

    names = ("LC_ALL", "LC_CTYPE", "LANG")
    chosen = next((f"{name}={os.environ[name]}" for name in names if os.environ.get(name)), None)
    files, console = sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "none"
    if not _is_utf8(files):
        found = f"file names are read as {files} ({chosen}): names with other characters do not match what is typed"
        yield warning(found, "export LC_ALL=C.UTF-8")
    elif not _is_locale():
        yield warning(f"this system does not have the locale {chosen}", "export LC_ALL=C.UTF-8")
    elif not chosen or not _is_utf8(chosen.rpartition(".")[2].partition("@")[0]):
        shell = f"the shell ({chosen or 'no LANG'}), which shows ? instead"
        yield note(f"file names are UTF-8 for imgsearch but not for {shell}", "export LANG=C.UTF-8")
    else:
        yield ok(f"{chosen}; file names are {files}, output is {console}")


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
    from imgsearch.core.doctor.findings import note, ok

    term = os.environ.get("TERM", "")
    inside = "tmux" if os.environ.get("TMUX") else "screen" if os.environ.get("STY") else None
    if not render.is_terminal():
        yield ok("output is not a terminal: no colours, no previews")
        return
    colours = "no colours (NO_COLOR)" if os.environ.get("NO_COLOR") else os.environ.get("COLORTERM") or "basic colours"
    yield ok(f"TERM={term or 'not set'}{f', in {inside}' if inside else ''}, {colours}")
    if term in ("", "dumb"):
        yield note("--preview draws nothing: TERM is dumb or not set", "export TERM=xterm-256color")
    elif previews := previews_here():
        hidden = f"; {inside} hides the graphics of the terminal around it" if inside else ""
        yield ok(f"--preview draws with {previews.protocol} graphics{hidden}")
