"""What the user has settled in a file, made the defaults of the commands' options."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imgsearch.core import config
from imgsearch.core.config import Setting
from imgsearch.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Key:
    """One option of one command, as the file names it."""

    command: tuple[str, ...]
    name: str
    option: Any
    is_other_way: bool
    """The second of `--this/--that`."""

    @property
    def full(self) -> str:
        return ".".join((*self.command, self.name))

    @property
    def names(self) -> tuple[str, str]:
        """For this command, and for all that have such an option."""
        return self.full, self.name

    @property
    def kind(self) -> type:
        if self.option.is_flag:
            return bool
        return {"int": int, "float": float}.get(self.option.type.name.removesuffix("eger"), str)

    @property
    def values(self) -> str:
        """What may be given, for people."""
        if self.option.is_flag:
            return "true|false"
        choices = getattr(self.option.type, "choices", None)
        return "|".join(map(str, choices)) if choices else self.option.metavar or self.kind.__name__

    def read(self, value: Any) -> Any:
        """A value of the file as the option takes it. Raises ValueError, with what it should have been."""
        if self.option.multiple:
            return [self._one(each) for each in (value if isinstance(value, list) else [value])]
        return self._one(value)

    def _one(self, value: Any) -> Any:
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError("is true or false")
            return value is not self.is_other_way
        if isinstance(value, bool | list):
            raise ValueError(f"is one {'text' if self.kind is str else 'number'}")
        if self.kind is str:
            return value.isoformat() if isinstance(value, datetime.date) else str(value)
        if not isinstance(value, int | float) or (self.kind is int and not isinstance(value, int)):
            raise ValueError("is a whole number" if self.kind is int else "is a number")
        return self.kind(value)


def keys(command: Any, words: tuple[str, ...] = ()) -> Iterator[Key]:
    """All that can be settled for a command, and for those within it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from keys(inner, (*words, name))
    if not words or hasattr(command, "commands"):
        return
    for option in command.params:
        if option.param_type_name == "option" and not (option.is_eager or option.hidden):
            for names, is_other_way in ((option.opts, False), (option.secondary_opts, True)):
                for name in names:
                    if name.startswith("--"):
                        yield Key(words, name[2:], option, is_other_way)


def general(key: Key) -> Key:
    """The same option, of whichever command has it."""
    return replace(key, command=())


def default_map(program: Any, arguments: Sequence[str]) -> dict[str, Any]:
    """The defaults of the command that is called, in the form that typer's click takes them.

    Raises ConfigError for a file that cannot be read, and for what it says of this command and is not so.
    """
    words: list[str] = []
    command = program
    for word in arguments:
        if word not in getattr(command, "commands", {}):
            break
        words.append(word)
        command = command.commands[word]
    known = {key.name: key for key in keys(command, tuple(words))}
    # The program itself has nothing that can be settled, and help is wanted most where the file is broken.
    if not (words and known) or list(arguments[len(words) :]) in (["--help"], ["-h"]):
        return {}
    values = {}
    try:
        settled = config.settings_for(words, arguments)
    except ConfigError:
        if words not in (["doctor"], ["config", "edit"], ["config", "path"]):
            raise
        settled = []  # a broken file is what these are for
    for setting in settled:
        if setting.key in known or setting.table == tuple(words):
            key = known_key(setting.key, known, setting)
            values[key.option.name] = _read(key, setting)
    for word in reversed(words):
        values = {word: values}
    return values


def complaint(setting: Setting, known: Mapping[str, Key]) -> ConfigError | None:
    """What is wrong with it, if anything."""
    try:
        _read(known_key(setting.name, known, setting), setting)
    except ConfigError as error:
        return error
    return None


def known_key(name: str, known: Mapping[str, Key], setting: Setting | None = None) -> Key:
    """Raises ConfigError for a name that no option has, in the file if it is a setting's."""
    key = known.get(name)
    if key:
        return key
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"{f'did you mean {near[0]}? ' if near else ''}imgsearch config list --all shows what there is"
    where = f"{config.path()}: " if setting else ""
    raise ConfigError(f"{where}{setting.name if setting else name}: there is no such option", hint=hint)


def typed_value(key: Key, values: Sequence[str]) -> Any:
    """What is typed, as the file is to have it. Raises ConfigError for values that the option does not take."""
    if len(values) > 1 and not key.option.multiple:
        raise ConfigError(f"{key.full} takes one value", hint="put quotes around words that belong together")
    read = [_typed(key, value) for value in values]
    return read if key.option.multiple else read[0]


def _typed(key: Key, value: str) -> Any:
    truth = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    try:
        if key.kind is bool:
            return truth[value.lower()]
        read = key.kind(value)
        choices = getattr(key.option.type, "choices", None)
        if choices and read not in map(str, choices):
            raise ValueError
        return read
    except (ValueError, KeyError):
        complaint = f"{key.full}: {value!r} is not what it takes: {key.values}"
        raise ConfigError(complaint, hint="imgsearch config list --all shows what each key takes") from None


def _read(key: Key, setting: Setting) -> Any:
    try:
        value = key.read(setting.value)
        for each in value if isinstance(value, list) else [value]:
            if key.kind is not bool:
                _typed(key, str(each))
    except (ValueError, ConfigError) as error:
        what = str(error) if isinstance(error, ConfigError) else f"{setting.name} {error}"
        hint = f"set it with: imgsearch config set {setting.name} {key.values}"
        raise ConfigError(f"{config.path()}: {what}", hint=hint) from None
    return value
