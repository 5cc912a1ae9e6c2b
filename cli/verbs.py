"""The verbs, as typer knows them. Only the one that is asked for is imported, and none by what needs no typer."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer
import typer.main

from imgsearch import __version__

from . import completion, settings
from .output import render

# Every error that typer raises about what was typed derives from this class of its vendored click.
Abort = typer.Abort
TypingError: type[Exception] = typer.BadParameter.__mro__[2]

COMMANDS = (
    "index", "query", "similar", "dupes", "watch", "serve", "status", "failures", "prune", "check", "doctor", "config",
    "models", "init", "roots", "notes", "export", "import", "calibrate", "eval",
)  # fmt: skip
"""In the order of the help. Each is a function, or a group of commands, in the module of its name in `commands`."""
_PLACES = {"eval": ("eval", "evaluate"), "import": ("export", "take_in")}
"""Module and function of commands whose name is a keyword or a built-in function."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        render.emit(f"imgsearch {__version__}")
        raise typer.Exit


def _print_completion(context: typer.Context, shell: completion.Shell | None) -> None:
    if shell:
        render.emit(completion.script(shell, context), end=b"")
        raise typer.Exit


def _print_manual(context: typer.Context, is_wanted: bool) -> None:
    if is_wanted:
        from . import manual

        render.emit(manual.page(context), end=b"")
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
    show_manual: Annotated[
        bool,
        typer.Option("--show-manual", callback=_print_manual, is_eager=True, help="Print the manual page, as roff."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        render.emit(context.get_help())


def app_for(arguments: list[str]) -> typer.Typer:
    """The verb that is asked for, alone: what typer makes of the others takes 15 ms. Else all of them."""
    made = typer.Typer(
        name="imgsearch",
        help="grep for photos: search local pictures by words, by a picture, or by a picture plus a change.\n\n"
        "Everything happens on this machine. Start with:\n\n"
        "  imgsearch index ~/Photos\n\n"
        '  imgsearch query "sunset over the sea"',
        add_completion=False,
        rich_markup_mode=None,  # rich help costs 60-70 ms a start
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(imgsearch)
    asked = arguments[0] if arguments else ""
    is_alone = asked in COMMANDS and asked != "config"  # which knows the options of all
    for verb in [asked] if is_alone else COMMANDS:
        module, function = _PLACES.get(verb, (verb, verb))
        command = getattr(import_module(f"{__package__}.commands.{module}"), function)
        if isinstance(command, typer.Typer):
            made.add_typer(command)
        else:
            made.command(verb)(command)
    return made


def run(arguments: list[str]) -> object:
    """Returns what the command does, which is its exit code. Raises what it raises, and TypingError."""
    program = typer.main.get_command(app_for(arguments))
    return program.main(
        arguments, prog_name="imgsearch", standalone_mode=False, default_map=settings.default_map(program, arguments)
    )
