"""What the user has settled: options and their values, in a TOML file.

    index = "~/Pictures/.imgsearch"     for every command that has such an option
    [query]                             for one command; [roots.move] for one of a group
    limit = 20

A key is the long name of an option without its dashes. What is typed wins over the file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from .errors import ConfigError
from .paths import printable
from .places import config_folder, is_index_given

VARIABLE = "IMGSEARCH_CONFIG"
MOST_BYTES = 1 << 20
RIVALS = (frozenset(("json", "paths", "others", "print0", "fields", "preview")), frozenset(("quiet", "verbose")))
"""Options that exclude each other: one that is typed puts aside what is settled of the others."""
SHORT = {"l": "paths", "0": "print0", "q": "quiet", "v": "verbose", "r": "reverse"}
"""The letters of options that take no value, which may stand together: `-ql`."""


class Setting(NamedTuple):
    """One value of the file, as TOML has it: a string, a number, a boolean, a date or a list of them."""

    table: tuple[str, ...]
    """The words of a command; () stands for all."""
    key: str
    value: Any

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
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise _broken(where, "is larger than any settings are")
        return data.decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError as error:
        raise _broken(where, "is not UTF-8") from error
    except OSError as error:
        raise _broken(where, f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def load() -> list[Setting]:
    """All settings, in the order of the file. Raises ConfigError for a file that is no TOML or cannot be read."""
    written = text()
    if not written.strip():
        return []
    import tomllib

    try:
        return list(_settings((), tomllib.loads(written)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) or "nested too deeply"
        raise _broken(path() or "", f"is no TOML: {reason[:1].lower()}{reason[1:]}") from error


def settings_for(command: Sequence[str], arguments: Sequence[str]) -> list[Setting]:
    """What is settled for the command that these words call: for all, for its group, for itself; each key once.

    Left out is what something nearer outdoes: a form of output that is typed, another place of the index.
    """
    chosen = [each for each in load() if each.table == tuple(command)[: len(each.table)]]
    by_key = {each.key: each for each in sorted(chosen, key=lambda each: len(each.table))}
    typed = _typed_names(arguments)
    for rivals in RIVALS:
        if rivals & typed:
            by_key = {key: each for key, each in by_key.items() if key not in rivals}
    if "index" in by_key and is_index_given():
        del by_key["index"]
    return list(by_key.values())


def _typed_names(arguments: Sequence[str]) -> set[str]:
    """Long names of options. A value that looks like one counts, which does no harm."""
    names = {each.partition("=")[0][2:] for each in arguments if each.startswith("--")}
    together = (each[1:] for each in arguments if each.startswith("-") and not each.startswith("--"))
    return names | {SHORT[letter] for letters in together for letter in takewhile(SHORT.__contains__, letters)}


def _settings(table: tuple[str, ...], values: dict[str, Any]) -> Iterator[Setting]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _settings((*table, key), value)
        else:
            yield Setting(table, key, value)


def _broken(where: str, what: str) -> ConfigError:
    return ConfigError(
        f"{printable(where)}: {what}",
        hint=f"mend it with: imgsearch config edit; or go without it this once: {VARIABLE}= imgsearch ...",
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
                raise ConfigError(f"{printable(where)}: {name} is no table", hint="mend it with: imgsearch config edit")
        inner, inner_wanted = inner[name], inner_wanted[name]
    if value is None:
        del inner[key], inner_wanted[key]
    else:
        inner[key] = inner_wanted[key] = value
    written = tomlkit.dumps(document)
    if tomllib.loads(written) != wanted:
        raise _broken(where, "is written in a way that cannot be changed here")
    write(where, written)


def write(where: str, written: str) -> None:
    """Whole or not at all, and where a link leads. Raises ConfigError."""
    target = os.path.realpath(where)
    new = f"{target}.{os.getpid()}.new"
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        try:
            with open(new, "x", encoding="utf-8") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(target):
                os.chmod(new, os.stat(target).st_mode & 0o777)
            os.replace(new, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"{printable(where)}: cannot be written: {reason}", hint=f"name another: ${VARIABLE}"
        ) from error
