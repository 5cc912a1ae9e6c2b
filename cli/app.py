"""The command `imgsearch`: its verbs, and the one place where exceptions become exit codes."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from imgsearch import __version__
from imgsearch.core.errors import ImgsearchError

from . import (
    calibrate_cmd,
    check_cmd,
    completion,
    dupes_cmd,
    eval_cmd,
    export_cmd,
    failures_cmd,
    index_cmd,
    init_cmd,
    models_cmd,
    notes_cmd,
    prune_cmd,
    query_cmd,
    render,
    roots_cmd,
    serve_cmd,
    similar_cmd,
    status_cmd,
)

if TYPE_CHECKING:
    import sqlite3

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
# Python looks for garbage after every 700 objects, and while it starts there is none: 30 of 445 ms of a refresh.
GARBAGE_THRESHOLDS = 20_000, 20, 20

# Every error that typer raises about what was typed derives from this class of its vendored click.
TypingError: type[Exception] = typer.BadParameter.__mro__[2]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        render.emit(f"imgsearch {__version__}")
        raise typer.Exit


def _print_completion(context: typer.Context, shell: completion.Shell | None) -> None:
    if shell:
        render.emit(completion.script(shell, context), end=b"")
        raise typer.Exit


def imgsearch(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    show_completion: Annotated[
        completion.Shell | None,
        typer.Option(
            "--show-completion",
            callback=_print_completion,
            is_eager=True,
            help="Print the completion script for this shell.",
        ),
    ] = None,
) -> None:
    if context.invoked_subcommand is None:
        render.emit(context.get_help())


COMMANDS: tuple[Callable[..., int], ...] = (
    index_cmd.index,
    query_cmd.query,
    status_cmd.status,
    failures_cmd.failures,
    prune_cmd.prune,
    check_cmd.check,
    models_cmd.models,
    init_cmd.init,
    calibrate_cmd.calibrate,
    eval_cmd.evaluate,
    dupes_cmd.dupes,
    similar_cmd.similar,
    export_cmd.export,
    export_cmd.take_in,
    serve_cmd.serve,
)


def _verb(command: Callable[..., int]) -> str:
    """As it is typed: its name, but that `eval` and `import` are Python's."""
    return {eval_cmd.evaluate: "eval", export_cmd.take_in: "import"}.get(command, command.__name__)


def _app(*commands: Callable[..., int]) -> typer.Typer:
    # Rich help costs 60-70 ms a start.
    made = typer.Typer(
        name="imgsearch",
        help="grep for photos: search local pictures by words, by a picture, or by a picture plus a change.\n\n"
        "Everything happens on this machine. Start with:\n\n"
        "  imgsearch index ~/Photos\n\n"
        '  imgsearch query "sunset over the sea"',
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(imgsearch)
    for command in commands:
        made.command(_verb(command))(command)
    return made


def app_for(arguments: list[str]) -> typer.Typer:
    """The command that is asked for, alone: what typer makes of the others takes 15 ms. Else all of them."""
    asked = [command for command in COMMANDS if arguments and _verb(command) == arguments[0]]
    made = _app(*(asked or COMMANDS))
    if not asked:
        made.add_typer(roots_cmd.roots)
        made.add_typer(notes_cmd.notes)
    return made


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 1 nothing found, 2 usage, 3 some files skipped, 4 no or damaged index,
    5 locked, 6 check found something, 70 a bug, 130 interrupted."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    _open_what_is_closed()
    arguments = sys.argv[1:] if arguments is None else arguments
    code = exit_code(arguments)
    if "torch" not in sys.modules:  # which complains of what is left
        gc.freeze()  # nothing is worth collecting any more, and looking through all modules is felt
    sys.exit(code)


def _open_what_is_closed() -> None:
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
        if arguments[:1] == ["query"]:
            query_cmd.refuse_dashed_words(arguments[1:])
        code = app_for(arguments)(arguments, prog_name="imgsearch", standalone_mode=False)
        render.flush()
        return code if isinstance(code, int) else 0
    except ImgsearchError as error:
        render.complain(error, as_json=as_json)
        return error.exit_code
    except TypingError as error:
        return _explain(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
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
        # Only a command that opened an index gets here. A plain SQLITE_ERROR is SQL of ours that is wrong.
        if type(error).__module__ == "sqlite3" and getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
            from imgsearch.core.catalog import as_index_error

            known = as_index_error(cast("sqlite3.Error", error))
            render.complain(known, as_json=as_json)
            return known.exit_code
        _report_bug()
        return EXIT_BUG


def _explain(error: Any, *, as_json: bool) -> int:
    """Wrong usage, in our form: what was wrong, and where help is."""
    message = error.format_message()
    command = getattr(getattr(error, "ctx", None), "command_path", "imgsearch")
    message = message[0].lower() + message[1:].rstrip(".")
    render.complain(ImgsearchError(message, hint=f"see: {command} --help"), as_json=as_json)
    return 2


def _explain_os_error(error: OSError, *, as_json: bool) -> int:
    """A disk that is full or a folder that may not be entered is the user's to mend, not a bug."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
    reason = (error.strerror or str(error)).lower()
    hint = None
    if error.errno == errno.ENOSPC:
        hint = "free some space or name another index with --index" if name else "the output could not be written"
    if error.errno == errno.ENOENT and not _has_working_directory():
        name, reason, hint = None, "the working directory is no longer there", "cd to another one"
    message = f"{name}: {reason}" if name else reason
    render.complain(ImgsearchError(message, hint=hint), as_json=as_json)
    return 2


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _report_bug() -> None:
    import traceback

    with contextlib.suppress(OSError):
        traceback.print_exc()
        render.say("this is a bug; please report it with the lines above")
