"""The help of a command as plain text: `-h` shows the most common options, `--help` all of them, in groups."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator

from .command_table import COMMANDS, Command, within
from .options import GROUPS, HELP, Argument, Option
from .output import render

MIN_COLUMNS, MAX_COLUMNS = 40, 100
"""Columns of text, however wide the terminal."""
TERM_COLUMNS = 26
"""Of the column with names; what is longer stands on a line of its own."""
MAX_SHORT = 12
"""A command with no more options shows all of them in its short help."""


def page(command: Command, *, is_long: bool) -> str:
    """What `imgsearch COMMAND --help` prints, or with `-h` the short form of it."""
    width = min(max(render.columns(sys.stdout), MIN_COLUMNS), MAX_COLUMNS)
    commands = [] if command.name and not command.is_group else within(command.name, COMMANDS)
    said, examples = _split(command.text() if is_long or command.is_group else command.summary)
    shown = (
        command.options
        if is_long or len(command.options) <= MAX_SHORT
        else tuple(o for o in command.options if o.is_common)
    )
    sections = [
        ("", [f"Usage: {usage(command)}"]),
        *(("", _filled(paragraph, width)) for paragraph in said),
        ("Commands", _entries(((each.words[-1], each.summary) for each in commands), width)),
        ("Arguments", _entries(((argument_name(each), each.help) for each in command.arguments), width)),
        *_groups(shown, width),
    ]
    if len(shown) < len(command.options):
        sections.append(("", [f"All options: imgsearch {command.name} --help"]))
    if examples:
        sections.append(("Examples" if len(examples) > 1 else "Example", examples))
    return "\n\n".join("\n".join([f"{title}:"] * bool(title) + lines) for title, lines in sections if lines)


def usage(command: Command) -> str:
    words = ["imgsearch", *command.words, "[OPTIONS]"]
    if command.is_group:
        return " ".join([*words, "[COMMAND [ARGS]...]" if command.is_runnable else "COMMAND [ARGS]..."])
    for each in command.arguments:
        name = argument_name(each)
        words.append(name if each.is_required else f"[{name}]")
    return " ".join(words)


def argument_name(argument: Argument) -> str:
    return argument.metavar + ("..." if argument.is_list else "")


def option_name(option: Option) -> str:
    """`-n, --limit N`, or `--exact, --ann`."""
    names = ", ".join([*sorted(option.names, key=len), *option.off.split()])
    return f"{names} {option.values}".rstrip()


def _groups(options: Iterable[Option], width: int) -> Iterator[tuple[str, list[str]]]:
    """Named sections; without names where there is only one."""
    everything = [*options, *HELP]
    by_group = {group: [each for each in everything if each.group == group] for group in GROUPS}
    filled = {group: members for group, members in by_group.items() if members}
    for group, members in filled.items():
        title = group if len(filled) > 1 else "Options"
        yield title, _entries(((option_name(each), each.sentence) for each in members), width)


def _split(text: str) -> tuple[list[str], list[str]]:
    """Paragraphs of prose, and the examples at the end."""
    paragraphs = [each for each in text.split("\n\n") if not re.fullmatch(r"Examples?:", each.strip())]
    examples = [each for each in paragraphs if each.startswith("  ")]
    return [each for each in paragraphs if not each.startswith("  ")], examples


def _entries(entries: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Names in one column, what they are for in the next."""
    lines = []
    for name, text in entries:
        folded = _filled(text, width - TERM_COLUMNS)
        if len(name) > TERM_COLUMNS - 4:
            lines += [f"  {name}", *(" " * TERM_COLUMNS + line for line in folded)]
        else:
            lines += [f"  {name}".ljust(TERM_COLUMNS) + folded[0], *(" " * TERM_COLUMNS + line for line in folded[1:])]
    return lines


def _filled(text: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), max(width, 20), break_on_hyphens=False, break_long_words=False) or [""]
