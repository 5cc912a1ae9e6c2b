"""SQL conditions with parameters, and the helpers that all filters build them with."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from imgsearch.core.errors import UsageError
from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable

SqlValue = str | int | float | bytes | None

MAX_NAME_BYTES = 1 << 16
"""Longer values match no pattern. No path, camera name or keyword list that we write is longer."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A non-empty expression over `p` (photos) and `r` (roots), with its parameters."""

    sql: str
    parameters: dict[str, SqlValue]


class Parameters:
    """The parameters of a condition: calling it with a value returns the placeholder."""

    def __init__(self) -> None:
        self.by_name: dict[str, SqlValue] = {}

    def __call__(self, value: SqlValue) -> str:
        name = f"filter{len(self.by_name)}"
        self.by_name[name] = value
        return f":{name}"


def any_of(tests: Iterable[str]) -> str:
    """The tests joined by `or`, nested by halves: SQLite limits the depth of an expression to a thousand."""
    tests = list(tests)
    if len(tests) < 2:
        return tests[0] if tests else "false"
    middle = len(tests) // 2
    return f"({any_of(tests[:middle])} or {any_of(tests[middle:])})"


def refused(option: str, typed: str, takes: str, example: str) -> UsageError:
    return UsageError(f"{option} {shown(typed)}: takes {takes}", hint=f"for example: {option} {example}")


def shown(typed: str) -> str:
    return printable(typed[:80]) if typed.strip() else repr(typed)


def name_pattern(pattern: str) -> re.Pattern[str]:
    """A shell pattern for a whole name. The standard library's takes linear time, whatever the number of stars."""
    return re.compile(fnmatch.translate(pattern))
