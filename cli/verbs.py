"""The commands as typer parses them, made from `command_table`. Loaded only where `fast_path` cannot read a line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer
import typer.main
from typer.exceptions import TyperException

from imgsearch import __version__
from imgsearch.core.search.query_arguments import QueryArguments

from . import help_pages, settings
from .command_table import COMMANDS, PROGRAM, Command, within
from .options import HELP, Argument, Option
from .output import render

Abort = typer.Abort
TypingError: type[Exception] = TyperException
"""Raised for what was typed wrong; it has `format_message`, and usually `ctx` and `param`."""


def app_for(arguments: list[str], commands: Mapping[str, Command] = COMMANDS) -> typer.Typer:
    """The command that is called, alone: typer takes 15 ms for the others. Otherwise all of them."""
    app = typer.Typer(name="imgsearch", **_SETTINGS, pretty_exceptions_enable=False)
    app.callback(invoke_without_command=True)(_parsing(PROGRAM, _run_program))
    typed = arguments[0] if arguments else ""
    for command in [commands[typed]] if typed in commands else within("", dict(commands)):
        if command.is_group:
            group = typer.Typer(name=command.name, **_SETTINGS)
            group.callback(invoke_without_command=True)(_parsing(command, _show_group(command)))
            for inner in within(command.name, dict(commands)):
                _add(group, inner)
            app.add_typer(group)
        else:
            _add(app, command)
    return app


# Rich help takes 60-70 ms; help is ours anyway.
_SETTINGS: dict[str, Any] = {"add_completion": False, "add_help_option": False, "rich_markup_mode": None}


def run(arguments: list[str]) -> object:
    """Returns what the command does, which is its exit code. Raises what it raises, and TypingError."""
    program = typer.main.get_command(app_for(arguments))
    return program.main(
        arguments, prog_name="imgsearch", standalone_mode=False, default_map=settings.default_map(arguments)
    )


def _add(app: typer.Typer, command: Command) -> None:
    def call(context: typer.Context, **values: Any) -> object:
        if "quiet" in values:
            render.set_quiet(values["quiet"])
        function = command.load()
        if command.name == "query":
            return function(QueryArguments(**values))
        return function(**values)

    app.command(command.words[-1], add_help_option=False)(_parsing(command, call))


def _parsing(command: Command, call: Callable[..., object]) -> Callable[..., object]:
    """A function that typer reads the options of a command from, and that hands their values on as plain types."""
    parameters: list[Argument | Option] = [*command.arguments, *command.options]

    def parsed(context: typer.Context, **values: Any) -> object:
        for option in HELP:
            values.pop(option.parameter)
        lists = {each.parameter for each in parameters if each.is_list}
        return call(context, **{k: tuple(map(str, v or ())) if k in lists else v for k, v in values.items()})

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    made = [_typer_parameter(each) for each in parameters]
    made += [_help_parameter(command, each) for each in HELP]
    parsed.__signature__ = inspect.Signature([context, *made])  # type: ignore[attr-defined]
    parsed.__annotations__ = {each.name: each.annotation for each in (context, *made)}
    return parsed


def _typer_parameter(parameter: Argument | Option) -> inspect.Parameter:
    kind = _kind(parameter)
    if isinstance(parameter, Argument):
        default = inspect.Parameter.empty if parameter.is_required else parameter.default
        name = help_pages.argument_name(parameter)
        return _parameter(parameter.parameter, kind, default, typer.Argument(metavar=name, help=parameter.help))
    flags = list(parameter.names)
    if parameter.off:
        flags[0] += f"/{parameter.off}"
    limits: dict[str, Any] = {"min": parameter.minimum, "max": parameter.maximum}
    declared = typer.Option(
        *flags, help=parameter.sentence, metavar=parameter.metavar or None, callback=_check(parameter), **limits
    )
    return _parameter(parameter.parameter, kind, parameter.default, declared)


def _kind(parameter: Argument | Option) -> Any:
    kind: Any = parameter.type if isinstance(parameter, Option) else str
    if parameter.choices and not (isinstance(parameter, Option) and parameter.pattern):
        is_list = parameter.is_list  # typer has no list of Literal
        kind = StrEnum("Choice", {each: each for each in parameter.choices}) if is_list else Literal[parameter.choices]
    if parameter.is_list:
        kind = list[kind]
    is_required = isinstance(parameter, Argument) and parameter.is_required
    return kind if is_required or parameter.default is not None else kind | None


def _parameter(name: str, kind: Any, default: Any, declared: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declared]
    )


def _check(option: Option) -> Callable[[Any], Any] | None:
    if not option.pattern:
        return None

    def check(value: str | None) -> str | None:
        if value is not None and value not in option.choices and not re.fullmatch(option.pattern, value):
            wanted = option.metavar if "|" in option.metavar else f"one of {', '.join(map(repr, option.choices))}"
            raise typer.BadParameter(f"{value!r} is not {wanted}")
        return value

    return check


def _help_parameter(command: Command, option: Option) -> inspect.Parameter:
    """`-h` or `--help`, which win over whatever else is typed."""

    def show(is_wanted: bool) -> None:
        if is_wanted:
            render.emit(help_pages.page(command, is_long="--help" in option.names))
            raise typer.Exit

    declared = typer.Option(*option.names, help=option.help, is_eager=True, callback=show)
    return _parameter(option.parameter, bool, False, declared)


def _run_program(context: typer.Context, *, version: bool, show_completion: str | None, show_manual: bool) -> None:
    if version:
        render.emit(f"imgsearch {__version__}")
    elif show_completion:
        from . import completion

        render.emit(completion.script(show_completion), end=b"")
    elif show_manual:
        from . import manual

        render.emit(manual.page(), end=b"")
    elif context.invoked_subcommand is None:
        render.emit(help_pages.page(PROGRAM, is_long=False))
    else:
        return
    raise typer.Exit


def _show_group(command: Command) -> Callable[..., object]:
    def show(context: typer.Context, **values: Any) -> object:
        if context.invoked_subcommand is not None:
            return None
        if command.is_runnable:
            return command.load()(**values)
        render.emit(help_pages.page(command, is_long=True))
        return None

    return show
