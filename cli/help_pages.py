"""The help of a command as plain text: `-h` shows the most common options, `--help` all of them, in groups.

`python -m imgsearch.cli.help_pages` prints all pages, for `help.txt` (see `help_text`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from .command_table import COMMANDS, PROGRAM, Command, within
from .help_text import PAGE, folded
from .options import GROUPS, HELP, Argument, Option

MAX_SHORT = 12
"""A command with no more options shows all of them in its short help."""


def page(command: Command, *, is_long: bool) -> str:
    """What `imgsearch COMMAND --help` prints, or with `-h` the short form of it."""
    return folded(source(command, is_long=is_long))


def all_pages(commands: Mapping[str, Command] = COMMANDS) -> str:
    """The sources of all pages, each after the arguments that it answers."""
    return "".join(
        f"{PAGE}{' '.join([*command.words, option])}\n{source(command, is_long=option == '--help')}\n"
        for command in (PROGRAM, *commands.values())
        for option in ("-h", "--help")
    )


def source(command: Command, *, is_long: bool) -> str:
    """A page before its lines are folded: `name<TAB>text` for an entry, `<TAB>text` for a paragraph."""
    commands = [] if command.name and not command.is_group else within(command.name, COMMANDS)
    said, examples = _split(command.text() if is_long or command.is_group else command.summary)
    shown = (
        command.options
        if is_long or len(command.options) <= MAX_SHORT
        else tuple(o for o in command.options if o.is_common)
    )
    sections = [
        ("", [f"Usage: {usage(command)}"]),
        *(("", [_entry("", paragraph)]) for paragraph in said),
        ("Commands", [_entry(each.words[-1], each.summary) for each in commands]),
        ("Arguments", [_entry(argument_name(each), each.help) for each in command.arguments]),
        *_groups(shown),
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


def _groups(options: Iterable[Option]) -> Iterator[tuple[str, list[str]]]:
    """Named sections; without names where there is only one."""
    everything = [*options, *HELP]
    by_group = {group: [each for each in everything if each.group == group] for group in GROUPS}
    filled = {group: members for group, members in by_group.items() if members}
    for group, members in filled.items():
        title = group if len(filled) > 1 else "Options"
        yield title, [_entry(option_name(each), each.sentence) for each in members]


def _split(text: str) -> tuple[list[str], list[str]]:
    """Paragraphs of prose, and the examples at the end."""
    paragraphs = [each for each in text.split("\n\n") if not re.fullmatch(r"Examples?:", each.strip())]
    examples = [each for each in paragraphs if each.startswith("  ")]
    return [each for each in paragraphs if not each.startswith("  ")], examples


def _entry(name: str, text: str) -> str:
    return f"{name}\t{' '.join(text.split())}"


if __name__ == "__main__":
    sys.stdout.write(all_pages())
