"""`imgsearch config`: default values of options, in a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from imgsearch.cli import settings
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imgsearch.core.config import Setting

HEAD = """\
# Options of imgsearch, by their long names: see imgsearch config --help, and for all keys imgsearch config list --all
"""


def show(*, everything: bool, as_json: bool) -> int:
    """List the settings.

    Unknown settings are reported, and the exit code is 2.

    Example:

      imgsearch config list
    """
    from imgsearch.core import config as core
    from imgsearch.core.paths import printable

    known = settings.known_keys()
    found = {each.name: each for each in core.load()}
    for name, key in known.items() if everything else ():
        value = _written(found[name].value) if name in found else ""
        if as_json:
            record = {"key": name, "values": key.values, "help": key.option.sentence}
            render.emit_json(record | {"value": _plain(found[name].value) if name in found else None})
        else:
            render.emit("\t".join([name, key.values, value]))
    for each in found.values() if not everything else ():
        if as_json:
            render.emit_json({"key": each.name, "value": _plain(each.value)})
        else:
            render.emit(printable(f"{each.name} = {_written(each.value)}"))
    render.flush()
    if not found and not everything:
        render.say(f"no settings in {printable(core.path() or 'any file')}")
    return _complain(found.values(), known, as_json=as_json)


def get(*, key: str) -> int:
    """Print the setting of a key, each value on its own line.

    Exit code 1 means that it is not set.

    Example:

      imgsearch config get query.limit
    """
    from imgsearch.core import config as core

    settings.known_key(key, settings.known_keys())
    for each in core.load():
        if each.name == key:
            for value in each.value if isinstance(each.value, list) else [each.value]:
                render.emit(render.shown(value if isinstance(value, str) else _written(value)))
            return 0
    return 1


def put(*, key: str, values: tuple[str, ...]) -> int:
    """Set a key in the file. Comments are kept.

    Examples:

      imgsearch config set query.limit 20

      imgsearch config set query.preview true

      imgsearch config set index.exclude '*.tmp' 'Trash/'
    """
    from imgsearch.core import config as core

    known = settings.known_key(key, settings.known_keys())
    *table, name = key.split(".")
    core.change(table, name, settings.typed_value(known, values))
    return 0


def unset(*, key: str) -> int:
    """Remove a key from the file.

    Exit code 1 means that it was not set.

    Example:

      imgsearch config unset query.limit
    """
    from imgsearch.core import config as core

    setting = next((each for each in core.load() if each.name == key), None)
    if setting is None:
        settings.known_key(key, settings.known_keys())
        return 1
    core.change(setting.table, setting.key, None)
    return 0


def path() -> int:
    """Print the path of the file, whether or not it exists.

    Example:

      cat "$(imgsearch config path)"
    """
    render.emit(render.shown(_file()))
    return 0


def edit() -> int:
    """Open the file in $VISUAL or $EDITOR, then check it.

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
            f"{printable(editor)}: {reason.lower()}", hint="set EDITOR to an editor that is installed"
        ) from error
    if code:
        raise ConfigError(f"{printable(editor)} ended with exit code {code}", hint="set EDITOR to another editor")
    return _complain(core.load(), settings.known_keys(), as_json=False)


def _complain(found: Iterable[Setting], known: Mapping[str, settings.Key], *, as_json: bool) -> int:
    """Report what is wrong in the settings. Returns the exit code."""
    complaints = [settings.complaint(each, known) for each in found]
    for each in filter(None, complaints):
        render.print_error(each, as_json=as_json)
    return 2 if any(complaints) else 0


def _file() -> str:
    from imgsearch.core import config as core
    from imgsearch.core.errors import ConfigError

    where = core.path()
    if where is None:
        raise ConfigError(f"${core.VARIABLE} is empty, so there is no file", hint=f"unset {core.VARIABLE}")
    return where


def _written(value: Any) -> str:
    """As the file has it."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """For JSON, which has no dates."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
