"""What the commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.paths import path_fields, printable

if TYPE_CHECKING:
    from imgsearch.core.catalog import Root


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


def say(message: str) -> None:
    """One line to the person, on stderr."""
    sys.stderr.write(f"imgsearch: {message}\n")
    sys.stderr.flush()


def complain(error: ImgsearchError, *, as_json: bool) -> None:
    """An error: what happened, to which file, and what to do next."""
    if as_json:
        record = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        sys.stderr.write(json.dumps(record, ensure_ascii=True) + "\n")
        return
    say(printable(str(error)))
    if error.hint:
        sys.stderr.write(f"  {printable(error.hint)}\n")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 photo`, `1,234 photos`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Bytes as a person reads them: `3.4 MB`."""
    amount = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
