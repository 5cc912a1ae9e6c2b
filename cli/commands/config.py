"""`imgsearch config`: what is settled for every run, in a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch.cli import options, settings
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imgsearch.core.config import Setting

config = typer.Typer(
    name="config",
    help="Show and change what is settled for every run: options and their values, in a TOML file.\n\n"
    "A key is the long name of an option: `limit` for all commands that have it, `query.limit` for one. What is typed "
    "wins over the file; for the index, so do $IMGSEARCH_INDEX and an .imgsearch/ at or above the working directory. "
    "$IMGSEARCH_CONFIG names another file, or none if it is empty.\n\n"
    "Examples:\n\n"
    "  imgsearch config set query.limit 20\n\n"
    "  imgsearch config list --all\n\n"
    "  IMGSEARCH_CONFIG= imgsearch query dog",
    rich_markup_mode=None,
)
HEAD = """\
# Options of imgsearch, by their long names: see imgsearch config --help, and for all keys imgsearch config list --all
"""

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="An option, as `limit`, or one of a command, as `query.limit`.")
]


@config.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        render.emit(context.get_help())


@config.command("list")
def show(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Every key there is, with what it takes and what it is set to.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """List what is settled. What no command knows is complained of, with exit code 2.

    Example:

      imgsearch config list
    """
    from imgsearch.core import config as core
    from imgsearch.core.paths import printable

    known = _known(context)
    settled = {each.name: each for each in core.load()}
    for name, key in known.items() if everything else ():
        value = _written(settled[name].value) if name in settled else ""
        if as_json:
            record = {"key": name, "values": key.values, "help": key.option.help}
            render.emit_json(record | {"value": _plain(settled[name].value) if name in settled else None})
        else:
            render.emit("\t".join([name, key.values, value]))
    for each in settled.values() if not everything else ():
        if as_json:
            render.emit_json({"key": each.name, "value": _plain(each.value)})
        else:
            render.emit(printable(f"{each.name} = {_written(each.value)}"))
    render.flush()
    if not settled and not everything:
        render.say(f"nothing is settled in {printable(core.path() or 'any file')}")
    return _complain(settled.values(), known, as_json=as_json)


@config.command()
def get(context: typer.Context, key: KeyArgument) -> int:
    """Print what a key is set to; a list has a line for each. Exit code 1 says that it is not set.

    Example:

      imgsearch config get query.limit
    """
    from imgsearch.core import config as core

    settings.known_key(key, _known(context))
    for each in core.load():
        if each.name == key:
            for value in each.value if isinstance(each.value, list) else [each.value]:
                render.emit(render.shown(value if isinstance(value, str) else _written(value)))
            return 0
    return 1


@config.command("set")
def put(
    context: typer.Context,
    key: KeyArgument,
    values: Annotated[
        list[str], typer.Argument(metavar="VALUE...", help="Several for an option that may be repeated.")
    ],
) -> int:
    """Set a key, in the file, whose comments stay.

    Examples:

      imgsearch config set query.limit 20

      imgsearch config set query.preview true

      imgsearch config set index.exclude '*.tmp' 'Trash/'
    """
    from imgsearch.core import config as core

    known = settings.known_key(key, _known(context))
    core.change(*_where(key), settings.typed_value(known, values))
    return 0


@config.command()
def unset(context: typer.Context, key: KeyArgument) -> int:
    """Take a key out of the file. Exit code 1 says that it was not there.

    Example:

      imgsearch config unset query.limit
    """
    from imgsearch.core import config as core

    setting = next((each for each in core.load() if each.name == key), None)
    if setting is None:
        settings.known_key(key, _known(context))
        return 1
    core.change(setting.table, setting.key, None)
    return 0


@config.command()
def path() -> int:
    """Print where the file is, whether or not there is one.

    Example:

      cat "$(imgsearch config path)"
    """
    render.emit(render.shown(_file()))
    return 0


@config.command()
def edit(context: typer.Context) -> int:
    """Open the file in $VISUAL or $EDITOR, and look at it afterwards.

    Example:

      EDITOR=nano imgsearch config edit
    """
    import shlex
    import subprocess

    from imgsearch.core import config as core
    from imgsearch.core.errors import ConfigError
    from imgsearch.core.paths import printable

    where = _file()
    if not os.path.lexists(where):
        core.write(where, HEAD)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.run([*shlex.split(editor), where], check=False).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{printable(editor)}: {reason.lower()}", hint="set EDITOR to an editor that is here"
        ) from error
    if code:
        raise ConfigError(f"{printable(editor)} ended with exit code {code}", hint="set EDITOR to another editor")
    return _complain(core.load(), _known(context), as_json=False)


def _complain(settled: Iterable[Setting], known: Mapping[str, settings.Key], *, as_json: bool) -> int:
    """Of what no command knows. Returns the exit code."""
    complaints = [settings.complaint(each, known) for each in settled]
    for each in filter(None, complaints):
        render.complain(each, as_json=as_json)
    return 2 if any(complaints) else 0


def _file() -> str:
    from imgsearch.core import config as core
    from imgsearch.core.errors import ConfigError

    where = core.path()
    if where is None:
        raise ConfigError(f"${core.VARIABLE} is empty, so there is no file", hint=f"unset {core.VARIABLE}")
    return where


def _known(context: typer.Context) -> dict[str, settings.Key]:
    """By full name: the options of each command, and those of all commands under their own names."""
    found: dict[str, settings.Key] = {}
    of_commands = list(settings.keys(context.find_root().command))
    for key in of_commands:
        found.setdefault(key.name, settings.general(key))
    return {**dict(sorted(found.items())), **{key.full: key for key in of_commands}}


def _where(key: str) -> tuple[tuple[str, ...], str]:
    *table, name = key.split(".")
    return tuple(table), name


def _written(value: Any) -> str:
    """As it stands in the file."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """In JSON, which has no dates."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
