"""The arguments of `imgsearch query`, read without typer: it takes as long to load as a warm answer.

Only what is plainly right is read here. All else, and every complaint, is left to typer; a test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import UsageError
from imgsearch.core.search.query_arguments import QueryArguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgsearch.core.config import Setting

_TEXTS = {
    "text": "--text -t",
    "change_from": "--from",
    "change_to": "--to",
    "after": "--after",
    "before": "--before",
    "near": "--near",
    "rating": "--rating",
    "min_size": "--min-size",
    "compose": "--compose",
    "fields": "--fields",
    "html": "--html",
    "index": "--index",
}
_LISTS = {
    "image": "--image -i",
    "negatives": "--not",
    "more_like": "--more-like",
    "less_like": "--less-like",
    "any_of": "--any",
    "all_of": "--all",
    "camera": "--camera",
    "lens": "--lens",
    "keyword": "--keyword",
    "under": "--under",
    "glob": "--glob",
    "ext": "--ext",
    "root": "--root",
}
_NUMBERS: dict[str, tuple[str, type, Any]] = {
    "limit": ("--limit -n", int, 10),
    "min_score": ("--min-score", float, None),
    "min_z": ("--min-z", float, None),
    "diverse": ("--diverse", float, 0.0),
    "weight": ("--weight -w", float, None),
}
_CHOICES: dict[str, tuple[str, str, Any]] = {
    "orientation": ("--orientation", "landscape portrait square", []),
    "has": ("--has", "gps caption date", []),
    "sort": ("--sort", "score date path size", "score"),
    "group": ("--group", "duplicates burst day place", None),
    "modality": ("--modality", "image text any", "image"),
    "device": ("--device", "auto cuda mps cpu", "auto"),
}
_FLAGS = {
    "natural": "--natural",
    "verbatim": "--verbatim",
    "auto_cut": "--auto-cut",
    "reverse": "--reverse -r",
    "as_json": "--json",
    "paths": "--paths -l",
    "print0": "--print0 -0",
    "metadata": "--metadata",
    "opens": "--open",
    "preview": "--preview",
    "explain": "--explain",
    "include_reference": "--include-reference",
    "include_offline": "--include-offline",
    "no_history": "--no-history",
    "no_server": "--no-server",
    "offline": "--offline",
    "quiet": "--quiet -q",
    "verbose": "--verbose -v",
}
_EITHER = {"exact": {"--exact": True, "--ann": False}}


def read(arguments: list[str], settings: Sequence[Setting] = ()) -> QueryArguments | None:
    """The arguments of `imgsearch query`, or None where typer has to read them, or to complain."""
    found = _defaults()
    typed: set[str] = set()
    words: list[str] = []
    rest = iter(arguments)
    try:
        _settle(found, settings)
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
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return QueryArguments(**values, words=tuple(words))


def _settle(found: dict[str, Any], settings: Sequence[Setting]) -> None:
    """Raises KeyError and ValueError for what is not plainly right."""
    for setting in settings:
        name, value = f"--{setting.key}", setting.value
        if not setting.table and name not in _OPTIONS:
            continue  # meant for other commands
        parameter, reading = _OPTIONS[name]
        if not callable(reading):
            if not isinstance(value, bool):
                raise ValueError
            found[parameter] = value is reading
        elif isinstance(found[parameter], list):
            found[parameter] = [reading(_text(each)) for each in (value if isinstance(value, list) else [value])]
        elif reading is float and type(value) in (int, float):
            found[parameter] = float(value)
        elif reading is int and type(value) is int:
            found[parameter] = value
        elif reading in (int, float):
            raise ValueError
        else:
            found[parameter] = reading(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _take(found: dict[str, Any], typed: set[str], name: str, value: str | None, rest: Any) -> None:
    """Raises KeyError for an option that is not known here, ValueError and StopIteration for values that are wrong."""
    parameter, reading = _OPTIONS[name]
    if not callable(reading):
        if value is not None:
            raise ValueError
        found[parameter] = reading
        return
    read = reading(next(rest) if value is None else value)
    if not isinstance(found[parameter], list):
        found[parameter] = read
    elif parameter in typed:
        found[parameter].append(read)
    else:
        typed.add(parameter)
        found[parameter] = [read]


def _defaults() -> dict[str, Any]:
    return {
        **dict.fromkeys(_TEXTS),
        **{name: [] for name in _LISTS},
        **{name: default for name, (_, _, default) in _NUMBERS.items()},
        **{name: [] if default == [] else default for name, (_, _, default) in _CHOICES.items()},
        **dict.fromkeys(_FLAGS, False),
        **dict.fromkeys(_EITHER),
    }


def _one_of(choices: str) -> Any:
    def read(value: str) -> str:
        if value not in choices.split():
            raise ValueError
        return value

    return read


_OPTIONS: dict[str, tuple[str, Any]] = {
    name: (parameter, reading)
    for names, parameter, reading in (
        *((names, parameter, str) for parameter, names in (_TEXTS | _LISTS).items()),
        *((names, parameter, kind) for parameter, (names, kind, _) in _NUMBERS.items()),
        *((names, parameter, _one_of(choices)) for parameter, (names, choices, _) in _CHOICES.items()),
        *((names, parameter, True) for parameter, names in _FLAGS.items()),
        *((name, parameter, value) for parameter, both in _EITHER.items() for name, value in both.items()),
    )
    for name in names.split()
}
"""By name: the parameter, and how its value is read or, of a flag, what it says."""
_VALUELESS = {name for name, (_, reading) in _OPTIONS.items() if not callable(reading)} | {"--help", "-h"}


def refuse_dashed_words(arguments: list[str]) -> None:
    """`-night` would be read as `-n ight`. Raises UsageError for such a word, with what was probably meant."""
    previous = ""
    for word in arguments:
        if word == "--":
            return
        is_long = previous.startswith("--") and "=" not in previous
        is_value = previous == "-t" or (is_long and previous not in _VALUELESS)
        letters = word[1:]
        is_word = word.startswith("-") and len(letters) > 1 and letters.isalpha()
        if is_word and not is_value and not _are_together(letters):
            hint = f"to leave out photos of that: --not {letters}, or the whole query in quotes"
            raise UsageError(f"{word} is no option", hint=hint)
        previous = word


def _are_together(letters: str) -> bool:
    """Whether these are short options in one word; only the last of them may take a value: `-ln 5`."""
    *flags, last = (f"-{letter}" for letter in letters)
    return all(flag in _VALUELESS for flag in flags) and (last in _VALUELESS or last in _OPTIONS)
