"""The configuration file: default values of options, in TOML.

    index = "~/Pictures/.imgsearch"     for every command that has such an option
    [query]                             for one command; [roots.move] for one of a group
    limit = 20

A key is the long name of an option without its dashes. Options that are typed override the file.
"""

from __future__ import annotations

import os

from .errors import ConfigError
from .paths import printable
from .places import config_folder, is_index_given

TYPE_CHECKING = False  # every TAB imports this, and typing takes longer than the rest
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

VARIABLE = "IMGSEARCH_CONFIG"
MAX_BYTES = 1 << 20


class Setting:
    """One value of the file, as TOML has it: a string, a number, a boolean, a date or a list of them."""

    __slots__ = ("key", "table", "value")

    def __init__(self, table: tuple[str, ...], key: str, value: Any) -> None:
        self.table = table
        """The words of a command; () stands for all."""
        self.key = key
        self.value = value

    @property
    def name(self) -> str:
        """As it is typed; a word with a dot in it is none of ours, and stays in quotes."""
        return ".".join(f'"{word}"' if "." in word else word for word in (*self.table, self.key))


def path() -> str | None:
    """$IMGSEARCH_CONFIG, else config.toml in the user's folder for such files. None where the variable is empty."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return os.path.abspath(os.path.expanduser(given)) if given else None
    return os.path.join(config_folder(), "config.toml")


def text() -> str:
    """The file as it is; empty where there is none. Raises ConfigError for one that cannot be read."""
    where = path()
    if where is None:
        return ""
    try:
        with open(where, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _broken(where, "is too large for a configuration file")
        return data.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError as error:
        raise _broken(where, "is not UTF-8") from error
    except OSError as error:
        raise _broken(where, f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def load() -> list[Setting]:
    """All settings, in the order of the file. Raises ConfigError for a file that is not TOML or cannot be read."""
    written = text()
    if not written.strip():
        return []
    import tomllib

    try:
        return list(_settings((), tomllib.loads(written)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise _broken(path() or "", f"is not TOML: {reason[:1].lower()}{reason[1:]}") from error


def index() -> str | None:
    """The index that the file names, if nothing nearer names one. Raises ConfigError as `load` does."""
    if is_index_given():
        return None
    return next((str(each.value) for each in load() if not each.table and each.key == "index"), None)


def _settings(table: tuple[str, ...], values: dict[str, Any]) -> Iterator[Setting]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _settings((*table, key), value)
        else:
            yield Setting(table, key, value)


def _broken(where: str, what: str) -> ConfigError:
    return ConfigError(
        f"{printable(where)}: {what}",
        hint=f"fix it with: imgsearch config edit; or ignore it once with: {VARIABLE}= imgsearch ...",
    )


# ---- Writing ---------------------------------------------------------------------------------------------------------


def change(table: Sequence[str], key: str, value: Any) -> None:
    """Set one value, or with None take out one that is there. Comments stay. Raises ConfigError."""
    import tomllib

    import tomlkit
    import tomlkit.exceptions

    load()  # which says it better where the file is broken
    where = path()
    if where is None:
        raise ConfigError(f"${VARIABLE} is empty, so there is no file to write to", hint=f"unset {VARIABLE}")
    document = tomlkit.parse(text())
    inner: Any = document
    wanted = inner_wanted = document.unwrap()
    for name in table:
        for level, made in ((inner, tomlkit.table()), (inner_wanted, {})):
            if not isinstance(level.setdefault(name, made), dict):
                raise _broken(where, f"has {name}, which is not a table")
        inner, inner_wanted = inner[name], inner_wanted[name]
    if value is None:
        del inner[key], inner_wanted[key]
    else:
        inner[key] = inner_wanted[key] = value
    written = tomlkit.dumps(document)
    if tomllib.loads(written) != wanted:
        raise _broken(where, "is written in a way that `imgsearch config` cannot change")
    write(where, written)


def write(where: str, written: str) -> None:
    """Whole or not at all, and where a link leads. Raises ConfigError."""
    from .writing import replacing

    target = os.path.realpath(where)
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with replacing(target, mode=0o666) as file:
            if os.path.exists(target):
                os.fchmod(file.fileno(), os.stat(target).st_mode & 0o777)
            file.write(written.encode())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{printable(where)}: cannot be written: {reason}", hint=f"name another: ${VARIABLE}"
        ) from error
