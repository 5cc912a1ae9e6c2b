"""Help pages that were prepared from the table of commands, so that help needs neither the table nor the commands."""

from __future__ import annotations

import os
import sys

from .output import render

PAGE = "\f"
"""Begins a page of `help.txt`; the arguments that it answers follow in the same line."""
MIN_COLUMNS, MAX_COLUMNS = 40, 100
"""Columns of text, however wide the terminal."""
TERM_COLUMNS = 26
"""Of the column with names; what is longer stands on a line of its own."""


def prepared(arguments: list[str]) -> str | None:
    """The help page that these arguments ask for and nothing else."""
    with open(os.path.join(os.path.dirname(__file__), "help.txt"), encoding="utf-8") as file:
        pages = file.read()
    _, _, rest = pages.partition(f"{PAGE}{' '.join(arguments)}\n")
    return folded(rest.partition(f"\n{PAGE}")[0].rstrip()) if rest else None


def folded(source: str) -> str:
    """A page as `help_pages.source` makes it, folded to the width of the terminal."""
    width = min(max(render.columns(sys.stdout), MIN_COLUMNS), MAX_COLUMNS)
    return "\n".join(line for each in source.split("\n") for line in _folded_line(each, width))


def _folded_line(line: str, width: int) -> list[str]:
    """An entry has its name in one column and what it is for in the next."""
    name, tab, text = line.partition("\t")
    if not tab:
        return [line]
    if not name:
        return _filled(text, width)
    first, *more = _filled(text, width - TERM_COLUMNS)
    indent = " " * TERM_COLUMNS
    if len(name) > TERM_COLUMNS - 4:
        return [f"  {name}", indent + first, *(indent + line for line in more)]
    return [f"  {name}".ljust(TERM_COLUMNS) + first, *(indent + line for line in more)]


def _filled(text: str, width: int) -> list[str]:
    """Lines of whole words. As textwrap, whose import takes as long as a page."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(width, 20):
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines
