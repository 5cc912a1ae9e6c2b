"""The command `imgsearch`: how it starts, and the one place where exceptions become exit codes."""

from __future__ import annotations

import errno
import gc
import os
import sys

from imgsearch import __version__
from imgsearch.core.errors import ImgsearchError

from .output import render

TYPE_CHECKING = False  # importing typing takes as long as printing help
if TYPE_CHECKING:
    from typing import Any, NoReturn

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
# Python collects garbage after every 700 objects, and there is none during a start: 30 of 445 ms of a refresh.
GARBAGE_THRESHOLDS = 20_000, 20, 20
# OpenBLAS, which comes with numpy, starts a thread per core and lets them spin: .1 s of every core, and more than ten
# times as long for a small product on a busy machine. Only these commands multiply matrices that are large enough.
MULTIPLYING = "dupes", "eval"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 1 nothing found, 2 usage, 3 some files skipped, 4 no or damaged index,
    5 locked, 6 check or doctor found something, 70 a bug, 130 interrupted."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    _open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not set(MULTIPLYING).intersection(arguments[:1]):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = exit_code(arguments)
    if "torch" not in sys.modules:  # torch prints warnings about objects that are left
        gc.freeze()  # a last collection of all modules would take noticeable time
    sys.exit(code)


def _open_closed_streams() -> None:
    """With `<&-` or `>&-` the first file opened would become standard input or output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process


def exit_code(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        code = _run(arguments)
        render.flush()
        return code if isinstance(code, int) else 0
    except ImgsearchError as error:
        render.print_error(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        render.leave_quietly()
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # typer turns a closed pipe into exit 1
            render.leave_quietly()
        raise
    except OSError as error:
        return _explain_os_error(error, as_json=as_json)
    except Exception as error:
        if "typer" in sys.modules:
            from .verbs import Abort, TypingError

            if isinstance(error, Abort):
                return EXIT_INTERRUPTED
            if isinstance(error, TypingError):
                return _explain(error, as_json=as_json)
        # Only a command that opened an index gets here. A plain SQLITE_ERROR is SQL of ours that is wrong.
        if type(error).__module__ == "sqlite3" and getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
            import sqlite3

            from imgsearch.core.store.connection import as_index_error

            assert isinstance(error, sqlite3.Error)
            known = as_index_error(error)
            render.print_error(known, as_json=as_json)
            return known.exit_code
        _report_bug()
        return EXIT_BUG


def _run(arguments: list[str]) -> object:
    """What is asked most is answered without typer, which takes longer to load than a warm answer."""
    match arguments:
        case ["--complete", *topic]:  # by the shells, on every TAB
            return _offer(topic)
        case ["--version" | "-V"]:
            render.emit(f"imgsearch {__version__}")
            return 0
        case [] | [*_, "-h" | "--help"] if page := _help(arguments or ["-h"]):
            render.emit(page)
            return 0
        case ["query", *typed]:
            from . import fast_path, settings

            fast_path.refuse_dashed_words(typed)
            asked = fast_path.read(typed, settings.settings_for(["query"], arguments))
            if asked is not None:
                from .run_query import answer

                return answer(asked)
    from .verbs import run

    return run(arguments)


def _help(arguments: list[str]) -> str | None:
    from . import help_text

    return help_text.prepared(arguments)


def _offer(arguments: list[str]) -> int:
    """TOPIC TYPED INDEX: print one name per line. Errors are silent: the user is in the middle of a command."""
    from imgsearch.core import config
    from imgsearch.core.store.completion_values import completion_values

    topic, typed, index = (*arguments, "", "", "")[:3]
    try:
        names = completion_values(topic, typed, index or config.index())
    except (ImgsearchError, OSError, ValueError):
        return 1
    for name in names:
        render.emit(name)
    return 0


def _explain(error: Any, *, as_json: bool) -> int:
    """Print a usage error of typer in our form: what was wrong, and where to find help."""
    message = error.format_message()
    command = getattr(getattr(error, "ctx", None), "command_path", "imgsearch")
    message = message[0].lower() + message[1:].rstrip(".")
    if _is_setting(error):
        from imgsearch.core import config

        message = f"{config.path()}: {message}"
    render.print_error(ImgsearchError(message, hint=f"see: {command} --help"), as_json=as_json)
    return 2


def _is_setting(error: Any) -> bool:
    """Whether the wrong value comes from the configuration file."""
    context, name = getattr(error, "ctx", None), getattr(getattr(error, "param", None), "name", None)
    source = context.get_parameter_source(name) if context and name else None
    return getattr(source, "name", None) == "DEFAULT_MAP"


WHAT_NEXT = {
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.ENOENT: "check the name",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "allow more open files: ulimit -n NUMBER",
    errno.EIO: "check the disk and its cable",
}


def _explain_os_error(error: OSError, *, as_json: bool) -> int:
    """A full disk or a folder without permission is for the user to fix, not a bug."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    reason = (error.strerror or str(error)).lower()
    hint = WHAT_NEXT.get(error.errno or 0, "try again; `imgsearch check` says whether the index is intact")
    if error.errno == errno.ENOSPC:
        hint = "free some space or name another index with --index" if name else "the output could not be written"
    if error.errno == errno.ENOENT and not _has_working_directory():
        name, reason, hint = None, "the working directory no longer exists", "cd to another one"
    message = f"{name}: {reason}" if name else reason
    render.print_error(ImgsearchError(message, hint=hint), as_json=as_json)
    return 2


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _report_bug() -> None:
    import contextlib
    import traceback

    with contextlib.suppress(OSError):
        traceback.print_exc()
        render.say("this is a bug; please report it with the lines above")
