"""Read the arguments of `imgsearch query` without typer, which takes as long to load as a warm answer.

Reads only what is certainly right. Everything else, and every error message, is left to typer; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from imgsearch.core.config import Setting
from imgsearch.core.errors import UsageError
from imgsearch.core.search.query_arguments import QueryArguments

from .command_table import COMMANDS
from .options import HELP, Option

_OPTIONS: dict[str, Option] = {
    name: option for option in COMMANDS["query"].options for name in (*option.names, *option.off.split())
}
_FLAGS = {name for name, option in _OPTIONS.items() if option.is_flag} | {n for each in HELP for n in each.names}


def read(arguments: list[str], settings: Sequence[Setting] = ()) -> QueryArguments | None:
    """The arguments of `imgsearch query`, or None where typer has to read them, or to complain."""
    found: dict[str, Any] = {}
    typed: set[str] = set()
    words: list[str] = []
    rest = iter(arguments)
    try:
        for setting in settings:
            _set(found, setting)
        for each in rest:
            if each == "--":
                words += rest
            elif each.startswith("--"):
                name, equals, value = each.partition("=")
                _take(found, typed, name, value if equals else None, rest)
            elif each.startswith("-") and len(each) > 1:
                _take(found, typed, each[:2], each[2:] or None, rest)
            else:
                words.append(each)
    except (KeyError, ValueError, StopIteration):
        return None
    return QueryArguments(**found, words=tuple(words))


def _set(found: dict[str, Any], setting: Setting) -> None:
    """Raises KeyError and ValueError for what is not certainly right."""
    name, value = f"--{setting.key}", setting.value
    if not setting.table and name not in _OPTIONS:
        return  # meant for other commands
    option = _OPTIONS[name]
    if option.is_flag:
        if not isinstance(value, bool):
            raise ValueError
        found[option.parameter] = value is not (name in option.off.split())
    elif option.is_list:
        found[option.parameter] = tuple(
            _value(option, each) for each in (value if isinstance(value, list) else [value])
        )
    elif option.type is str:
        found[option.parameter] = _value(option, value)
    elif type(value) is int or (type(value) is float and option.type is float):
        found[option.parameter] = _value(option, str(value))
    else:
        raise ValueError


def _take(found: dict[str, Any], typed: set[str], name: str, value: str | None, rest: Iterator[str]) -> None:
    """Raises KeyError for an option that is not known here, ValueError and StopIteration for values that are wrong."""
    option = _OPTIONS[name]
    if option.is_flag:
        if value is not None:
            raise ValueError
        found[option.parameter] = name not in option.off.split()
        return
    read = _value(option, next(rest) if value is None else value)
    if not option.is_list:
        found[option.parameter] = read
    elif option.parameter in typed:
        found[option.parameter] += (read,)
    else:
        typed.add(option.parameter)
        found[option.parameter] = (read,)


def _value(option: Option, text: Any) -> Any:
    """Raises ValueError for a value that it does not take."""
    if not isinstance(text, str) or (option.choices and text not in option.choices):
        raise ValueError
    value = option.type(text)
    if (option.minimum is not None and value < option.minimum) or (
        option.maximum is not None and value > option.maximum
    ):
        raise ValueError
    return value


def refuse_dashed_words(arguments: list[str]) -> None:
    """Raises UsageError for a word such as `-night`, which would be read as `-n ight`, with what was probably meant."""
    previous = ""
    for word in arguments:
        if word == "--":
            return
        is_long = previous.startswith("--") and "=" not in previous
        is_value = previous == "-t" or (is_long and previous not in _FLAGS)
        letters = word[1:]
        is_word = word.startswith("-") and len(letters) > 1 and letters.isalpha()
        if is_word and not is_value and not _are_together(letters):
            hint = f"to rank photos of that lower: --not {letters}, or the whole query in quotes"
            raise UsageError(f"no such option: {word}", hint=hint)
        previous = word


def _are_together(letters: str) -> bool:
    """Whether these are short options in one word; only the last of them may take a value: `-ln 5`."""
    *flags, last = (f"-{letter}" for letter in letters)
    return all(flag in _FLAGS for flag in flags) and (last in _FLAGS or last in _OPTIONS)
