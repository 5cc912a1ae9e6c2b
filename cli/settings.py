"""The settings of the configuration file as default values of options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from imgsearch.core import config
from imgsearch.core.config import Setting
from imgsearch.core.errors import ConfigError
from imgsearch.core.places import is_index_given

from .command_table import COMMANDS, Command
from .options import Option


class Key(NamedTuple):
    """One option of one command, as the file names it. `command` is () for the option of every command that has it."""

    command: tuple[str, ...]
    name: str
    option: Option
    is_off: bool
    """Whether it is the second of `--this/--that`."""

    @property
    def full(self) -> str:
        return ".".join((*self.command, self.name))

    @property
    def values(self) -> str:
        """What it takes, for people."""
        return "true|false" if self.option.is_flag else self.option.values

    def read(self, value: Any) -> Any:
        """A value of the file as the option takes it. Raises ValueError, with what it should have been."""
        if self.option.is_list:
            return [self._one(each) for each in (value if isinstance(value, list) else [value])]
        return self._one(value)

    def _one(self, value: Any) -> Any:
        kind = self.option.type
        if kind is bool:
            if not isinstance(value, bool):
                raise ValueError("must be true or false")
            return value is not self.is_off
        if isinstance(value, bool | list):
            raise ValueError(f"must be a single {'text' if kind is str else 'number'}")
        if kind is str:
            return value.isoformat() if hasattr(value, "isoformat") else str(value)  # TOML has dates
        if not isinstance(value, int | float) or (kind is int and not isinstance(value, int)):
            raise ValueError("must be a whole number" if kind is int else "must be a number")
        return kind(value)


def keys(commands: Mapping[str, Command] = COMMANDS) -> Iterator[Key]:
    """Everything that the file can set."""
    for command in commands.values():
        yield from keys_of(command)


def keys_of(command: Command) -> Iterator[Key]:
    for option in command.options:
        for names, is_off in ((option.names, False), (option.off.split(), True)):
            for name in names if option.is_setting else ():
                if name.startswith("--"):
                    yield Key(command.words, name[2:], option, is_off)


def known_keys() -> dict[str, Key]:
    """By full name: first the options that every command shares, sorted, then those of each command."""
    found: dict[str, Key] = {}
    for key in keys():
        found.setdefault(key.name, key._replace(command=()))
    return {**dict(sorted(found.items())), **{key.full: key for key in keys()}}


def settings_for(command: Sequence[str], arguments: Sequence[str]) -> list[Setting]:
    """The settings that apply to a command: general ones, those of its group, its own; each key once.

    Left out is what something nearer overrides: another form of output that is typed, another way to name the index.
    """
    chosen = [each for each in config.load() if each.table == tuple(command)[: len(each.table)]]
    by_key = {each.key: each for each in sorted(chosen, key=lambda each: len(each.table))}
    if by_key:
        typed = _typed_names(arguments)
        for rivals in _rivals().values():
            if rivals & typed:
                by_key = {key: each for key, each in by_key.items() if key not in rivals}
    if "index" in by_key and is_index_given():
        del by_key["index"]
    return list(by_key.values())


def _rivals() -> dict[str, set[str]]:
    """Long names of options that exclude each other, in sets."""
    found: dict[str, set[str]] = {}
    for key in keys():
        if key.option.rivals:
            found.setdefault(key.option.rivals, set()).add(key.name)
    return found


def _typed_names(arguments: Sequence[str]) -> set[str]:
    """Long names of options. A value that looks like one counts, which does no harm."""
    letters = {
        name[1:]: key.name for key in keys() if key.option.is_flag for name in key.option.names if len(name) == 2
    }
    names = {each.partition("=")[0][2:] for each in arguments if each.startswith("--")}
    together = (each[1:] for each in arguments if each.startswith("-") and not each.startswith("--"))
    return names | {letters[letter] for word in together for letter in takewhile(letters.__contains__, word)}


def default_map(arguments: Sequence[str]) -> dict[str, Any]:
    """The settings of the command that is called, as typer takes default values.

    Raises ConfigError for a file that cannot be read, and for a setting of this command that is wrong.
    """
    command = called(arguments)
    # Help has to work most of all where the file is broken.
    if command is None or list(arguments[len(command.words) :]) in (["--help"], ["-h"]):
        return {}
    known = {key.name: key for key in keys_of(command)}
    if not known:
        return {}
    try:
        chosen = settings_for(command.words, arguments)
    except ConfigError:
        if command.name != "doctor":
            raise
        chosen = []  # doctor reports a broken file
    values: dict[str, Any] = {}
    for setting in chosen:
        if setting.key in known or setting.table == command.words:
            key = known_key(setting.key, known, setting)
            values[key.option.parameter] = _read(key, setting)
    for word in reversed(command.words):
        values = {word: values}
    return values


def called(arguments: Sequence[str]) -> Command | None:
    """The command that the first words name; None for the program itself and for a group that does not run."""
    for count in (2, 1):
        command = COMMANDS.get(" ".join(arguments[:count])) if len(arguments) >= count else None
        if command and command.is_runnable:
            return command
    return None


def complaint(setting: Setting, known: Mapping[str, Key]) -> ConfigError | None:
    """What is wrong with it, if anything."""
    try:
        _read(known_key(setting.name, known, setting), setting)
    except ConfigError as error:
        return error
    return None


def known_key(name: str, known: Mapping[str, Key], setting: Setting | None = None) -> Key:
    """Raises ConfigError for a name that no option has; it names the file if the name is a setting's."""
    key = known.get(name)
    if key:
        return key
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"{f'did you mean {near[0]}? ' if near else ''}all options: imgsearch config list --all"
    where = f"{config.path()}: " if setting else ""
    raise ConfigError(f"{where}{setting.name if setting else name}: no such option", hint=hint)


def typed_value(key: Key, values: Sequence[str]) -> Any:
    """What is typed, as the file is to hold it. Raises ConfigError for values that the option does not take."""
    if len(values) > 1 and not key.option.is_list:
        raise ConfigError(f"{key.full} takes one value", hint="put quotes around words that belong together")
    read = [_typed(key, value) for value in values]
    return read if key.option.is_list else read[0]


def _typed(key: Key, value: str) -> Any:
    truth = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    option = key.option
    try:
        if option.is_flag:
            return truth[value.lower()]
        read = option.type(value)
        if option.choices and not option.pattern and read not in option.choices:
            raise ValueError
        return read
    except (ValueError, KeyError):
        said = f"{key.full} takes {key.values}, not {value!r}"
        raise ConfigError(said, hint="to see what each key accepts: imgsearch config list --all") from None


def _read(key: Key, setting: Setting) -> Any:
    try:
        value = key.read(setting.value)
        for each in value if isinstance(value, list) else [value]:
            if not key.option.is_flag:
                _typed(key, str(each))
    except (ValueError, ConfigError) as error:
        what = str(error) if isinstance(error, ConfigError) else f"{setting.name} {error}"
        hint = f"set it with: imgsearch config set {setting.name} {key.values}"
        raise ConfigError(f"{config.path()}: {what}", hint=hint) from None
    return value
