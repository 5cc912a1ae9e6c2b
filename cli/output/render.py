"""What the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.paths import path_fields, printable
from imgsearch.core.paths import size as size

if TYPE_CHECKING:
    from imgsearch.core.store.catalog import Root


def emit(line: str | bytes, end: bytes = b"\n") -> None:
    """One line of data. Names keep their exact bytes. A reader that has gone away is a BrokenPipeError (see app)."""
    data = line if isinstance(line, bytes) else os.fsencode(line)
    sys.stdout.flush()
    sys.stdout.buffer.write(data + end)


def emit_json(record: dict[str, Any]) -> None:
    """One record. A terminal gets it in ASCII, which says the same and steers nothing."""
    emit(json.dumps(record, ensure_ascii=is_terminal()).encode("utf-8", "replace"))


def root_record(root: Root, photos: int) -> dict[str, Any]:
    """A root as `--json` shows it (docs/json.md)."""
    return {**path_fields(root.path), "kind": root.kind, "state": root.state, "note": root.note, "photos": photos}


def flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def leave_quietly() -> NoReturn:
    """Exit 0 although stdout is closed: `head` has seen enough. The interpreter must not try to flush again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(0)


def close_output() -> None:
    """Let whoever reads from us go on: there is no more to come."""
    flush()
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def shown(name: str) -> str | bytes:
    """A file name as it may go to stdout: escaped on a terminal, exact elsewhere."""
    return printable(name) if is_terminal() else os.fsencode(name)


_is_quiet = False


def hush(is_wanted: bool) -> bool:
    """The callback of `--quiet`: from now on nothing is said but errors."""
    global _is_quiet
    _is_quiet = is_wanted
    return is_wanted


def is_quiet() -> bool:
    return _is_quiet


def say(message: str) -> None:
    """One line to the person, on stderr."""
    if not _is_quiet:
        _speak("imgsearch:", message)


def warn(message: str) -> None:
    """As `say`, of what is not as it should be, though no error."""
    if not _is_quiet:
        _speak(painted("imgsearch:", YELLOW, sys.stderr), message)


def complain(error: ImgsearchError, *, as_json: bool) -> None:
    """An error: what happened, to which file, and what to do next. Said under `--quiet`, too."""
    if as_json:
        record = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        sys.stderr.write(json.dumps(record, ensure_ascii=True) + "\n")
        return
    _speak(painted("imgsearch:", RED, sys.stderr), printable(str(error)))
    if error.hint:
        sys.stderr.write(f"  {printable(error.hint)}\n")


def _speak(who: str, message: str) -> None:
    sys.stderr.write(f"{who} {message}\n")
    sys.stderr.flush()


DIM, BOLD, RED, YELLOW = "2", "1", "1;31", "33"


def is_coloured(stream: TextIO) -> bool:
    """Whether colours go there (no-color.org, bixense.com/clicolors): where both ask, NO_COLOR wins."""
    known = os.environ.get
    if known("NO_COLOR"):
        return False
    if known("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and known("CLICOLOR") != "0" and known("TERM", "dumb") != "dumb"


def painted(text: str, style: str, stream: TextIO) -> str:
    """The text in a colour, where colours go."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and is_coloured(stream) else text


def seen(path: str) -> str | bytes:
    """As `shown`, for people: on a terminal the folders are dim, so that the name is what is seen."""
    return painted_path(printable(path)) if is_terminal() else os.fsencode(path)


def painted_path(path: str) -> str:
    """A path for stdout, its folders dim."""
    folders, slash, name = path.rpartition("/")
    return painted(folders + slash, DIM, sys.stdout) + name


def columns(stream: TextIO) -> int:
    """How many characters a line holds: what $COLUMNS says, else what the terminal does."""
    try:
        told = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        told = 0
    if told > 0:
        return told
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS


USUAL_COLUMNS = 80


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 photo`, `1,234 photos`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
