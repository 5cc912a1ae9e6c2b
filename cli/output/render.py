"""What the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.paths import path_fields, printable
from imgsearch.core.paths import size as size

from .hints import hint_of

TYPE_CHECKING = False  # importing typing, or json, takes as long as printing help
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn, TextIO

    from imgsearch.core.store.records import Root


def emit(line: str | bytes, end: bytes = b"\n") -> None:
    """Print one line of data; names keep their exact bytes. Raises BrokenPipeError if the reader is gone (see app)."""
    data = line if isinstance(line, bytes) else os.fsencode(line)
    sys.stdout.flush()
    sys.stdout.buffer.write(data + end)


def emit_json(record: Mapping[str, object]) -> None:
    """Print one record; in ASCII on a terminal, where control characters must not have an effect."""
    import json

    emit(json.dumps(record, ensure_ascii=is_terminal()).encode("utf-8", "replace"))


def root_record(root: Root, photos: int) -> dict[str, object]:
    """A root as `--json` prints it (docs/json.md)."""
    return {**path_fields(root.path), "kind": root.kind, "state": root.state, "note": root.note, "photos": photos}


def report(record: Mapping[str, object], *lines: str, as_json: bool) -> None:
    """What a command has done: a record on stdout, or lines for people on stderr."""
    if as_json:
        emit_json(record)
        flush()
    else:
        for line in lines:
            say(line)


def listing(records: Iterable[Mapping[str, object]], lines: Iterable[str], *, as_json: bool) -> None:
    """Print JSON Lines, or the lines of a table."""
    if as_json:
        for record in records:
            emit_json(record)
    else:
        for line in lines:
            emit(line)
    flush()


def flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def leave_quietly() -> NoReturn:
    """Exit 0 when stdout is closed, as by `head`. The interpreter must not flush again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(0)


def close_output() -> None:
    """Close stdout early, so that its reader can go on."""
    flush()
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def shown(name: str) -> str | bytes:
    """A file name for stdout: escaped on a terminal, exact elsewhere."""
    return printable(name) if is_terminal() else os.fsencode(name)


_is_quiet = False


def set_quiet(is_quiet: bool) -> bool:
    """The callback of `--quiet`: only print errors."""
    global _is_quiet
    _is_quiet = is_quiet
    return is_quiet


def is_quiet() -> bool:
    return _is_quiet


def say(message: str) -> None:
    """Print one line on stderr, except under `--quiet`."""
    if not _is_quiet:
        _write_line("imgsearch:", message)


def warn(message: str) -> None:
    """As `say`, but coloured."""
    if not _is_quiet:
        _write_line(painted("imgsearch:", YELLOW, sys.stderr), message)


def print_error(error: ImgsearchError, *, as_json: bool) -> None:
    """Print an error and its hint, under `--quiet` too."""
    if as_json:
        import json

        record = {"error": str(error), "hint": hint_of(error), "exit_code": error.exit_code}
        sys.stderr.write(json.dumps(record, ensure_ascii=True) + "\n")
        return
    _write_line(painted("imgsearch:", RED, sys.stderr), printable(str(error)))
    if hint := hint_of(error):
        sys.stderr.write(f"  {printable(hint)}\n")


def _write_line(prefix: str, message: str) -> None:
    sys.stderr.write(f"{prefix} {message}\n")
    sys.stderr.flush()


DIM, BOLD, RED, YELLOW = "2", "1", "1;31", "33"


def is_coloured(stream: TextIO) -> bool:
    """Whether to colour this stream (no-color.org, bixense.com/clicolors). NO_COLOR wins over CLICOLOR_FORCE."""
    known = os.environ.get
    if known("NO_COLOR"):
        return False
    if known("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and known("CLICOLOR") != "0" and known("TERM", "dumb") != "dumb"


def painted(text: str, style: str, stream: TextIO) -> str:
    """The text in a style, if the stream is coloured."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and is_coloured(stream) else text


def seen(path: str) -> str | bytes:
    """As `shown`, but on a terminal the folders are dim."""
    return painted_path(printable(path)) if is_terminal() else os.fsencode(path)


def painted_path(path: str) -> str:
    """A path for stdout with dim folders."""
    folders, slash, name = path.rpartition("/")
    return painted(folders + slash, DIM, sys.stdout) + name


def columns(stream: TextIO) -> int:
    """Width of a line in characters: $COLUMNS, else that of the terminal."""
    try:
        width = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        width = 0
    if width > 0:
        return width
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


DEFAULT_COLUMNS = 80


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 photo`, `1,234 photos`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
