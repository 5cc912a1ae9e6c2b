"""The manual page imgsearch(1), written out from the table of commands and their help texts.

The rest, such as exit codes, is in tables here; tests compare them with the program and the README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from imgsearch import __version__

from .command_table import COMMANDS, Command
from .command_table import PROGRAM as ROOT
from .help_pages import argument_name, usage
from .options import HELP, Option

PROGRAM = "imgsearch"
# man needs a date: that of these texts, not of the day the page is made. Set it with each release.
WRITTEN = "2026-11-28"

DESCRIPTION = (
    f"`{PROGRAM}` finds photos in your own folders. `{PROGRAM} index` turns every photo into a vector with an OpenCLIP "
    f"model and stores it, with the photo's metadata, in an index; `{PROGRAM} query` ranks the photos by how well they "
    "match. Photos are only ever read. Everything happens on this machine; "
    "only the weights of a model are ever downloaded.",
    "Standard output holds only data: a table on a terminal, one hit per line with tabs between columns in a pipe, "
    "JSON Lines with --json, paths with --paths or --print0. Everything else goes to standard error.",
)
# As the table in docs/queries.md.
QUERIES = (
    ("sunset over the sea", "words; they need no quotes"),
    ("this.jpg", "photos like that picture, indexed or not"),
    ("red dress like this.jpg", "photos like the picture and of a red dress"),
    ("as a cartoon like this.jpg", "the same thing in another style"),
    ("like a.jpg and like b.jpg", "photos like both pictures"),
    ("beach -people -umbrella", "a beach; people and umbrellas count against a photo"),
    ('beach -"beach umbrella"', "the same with more than one word"),
    ("2*sunset + harbour", "both, and the sunset twice as much"),
    ("2*sunset + a.jpg", "a picture may be a part of the sum"),
    ("2*sunset + harbour like a.jpg", "`like` takes the whole query before it: the sum, composed with the picture"),
)
# As the table in README.md.
EXIT_STATUS = (
    ("0", "done (a closed pipe included)"),
    ("1", "the search ran and found nothing"),
    ("2", "wrong usage, or an error you can act on"),
    ("3", "done, but some files were skipped"),
    ("4", "no index here, one made by a newer version, or a damaged one"),
    ("5", "the index is in use by another process"),
    ("6", "`check` found a problem, or `doctor` found something that does not work"),
    ("70", "a bug: please report the traceback"),
    ("129, 130, 143", "hung up, interrupted, terminated: finished work is kept"),
)
ENVIRONMENT = (
    ("IMGSEARCH_INDEX", "The index to use without --index."),
    ("IMGSEARCH_CONFIG", "The configuration file; none if empty."),
    (
        "IMGSEARCH_HNSW_SLOTS",
        "Maximum number of vectors in one HNSW graph; 0: no graphs. Default: 131072.",
    ),
    ("NO_COLOR", "If not empty, no colours. Overrides the next two; --preview still draws in colours."),
    ("CLICOLOR_FORCE", "If not empty and not 0, colours in a pipe too, but never with --json, -l, -0 and --fields."),
    ("CLICOLOR", "If 0, no colours."),
    ("COLUMNS", "The width of progress bars, pictures and help, instead of the width of the terminal."),
    ("CI", "If set, and not 0 or false, no progress bars."),
    ("HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE", "If 1, download no weights, as with --offline."),
    ("HF_HOME, HF_HUB_CACHE", "Where downloaded weights are kept."),
    ("HF_ENDPOINT", "Where weights are downloaded from."),
    ("XDG_DATA_HOME, XDG_CONFIG_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR", "Where the folders below are, on Linux."),
    ("XDG_DATA_DIRS", "Where `doctor` looks for installed completions, besides the user's own folder."),
    ("FORCE_HYPERLINK", "If 0, paths on a terminal are not hyperlinks."),
)
FILES = (
    (
        "~/.local/share/imgsearch/index/",
        "The index, unless another is named or found. On macOS: ~/Library/Application Support/imgsearch/index/.",
    ),
    (
        ".imgsearch/",
        f"An index created by `{PROGRAM} init`. Commands in its folder or below use it.",
    ),
    (
        "~/.config/imgsearch/config.toml",
        f"Settings, as `{PROGRAM} config` writes them. On macOS: ~/Library/Application Support/imgsearch/config.toml.",
    ),
    (".imgsearchignore", "What `index` skips in this folder and below, in the syntax of .gitignore."),
    (
        "~/.cache/imgsearch/",
        "Models exported for fast queries, thumbnails, and the vectors of recent queries. Can be removed at any "
        "time. On macOS: ~/Library/Caches/imgsearch/.",
    ),
    ("~/.cache/huggingface/hub/", "Downloaded weights."),
    ("$XDG_RUNTIME_DIR/imgsearch/", f"The sockets on which `{PROGRAM} serve` answers queries."),
)
EXAMPLES = (
    ("View the photos found:", f"{PROGRAM} query dog -0 | xargs -0 feh"),
    ("Copy them:", f"{PROGRAM} query whiteboard -0 -n 200 | rsync -a0 --files-from=- / ~/whiteboards/"),
    (
        "Search again, with photos you liked and disliked:",
        f"{PROGRAM} query dog --more-like liked.jpg --less-like other.jpg",
    ),
    ("Run many queries with one load of the model:", f"{PROGRAM} query - --json < queries.txt"),
    ("Keep index and model in memory for other queries:", f"{PROGRAM} serve --socket-only --idle 30 &"),
)
SEE_ALSO = "exiftool(1), feh(1), fzf(1), jq(1), nsxiv(1), rsync(1), xargs(1)"


def page() -> str:
    """The whole page, as roff with the macros of man(7), in ASCII."""
    lines = [
        f'.\\" Generated from the program by: {PROGRAM} --show-manual',
        f'.TH {PROGRAM.upper()} 1 {WRITTEN} {_argument(f"version {__version__}")} "User Commands"',
        # Do not hyphenate names and options, and do not stretch lines.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{PROGRAM} \\- {_text(ROOT.summary.rstrip('.'))}",
        ".SH SYNOPSIS",
        _synopsis(ROOT),
        ".SH DESCRIPTION",
        _text(DESCRIPTION[0]),
        *_paragraphs(DESCRIPTION[1:]),
        ".SH OPTIONS",
        *_options((*ROOT.options, *HELP)),
        ".SH COMMANDS",
        *(line for command in COMMANDS.values() for line in _command(command)),
        ".SH QUERIES",
        *_table(QUERIES),
        *_paragraphs(("The whole query language, and what scores mean: docs/queries.md in the source.",)),
        ".SH EXIT STATUS",
        *_table(EXIT_STATUS),
        ".SH ENVIRONMENT",
        *_table(ENVIRONMENT),
        ".SH FILES",
        *_table(FILES),
        ".SH EXAMPLES",
        *(line for said, typed in EXAMPLES for line in _entry(_text(said), _typed(typed))),
        *_paragraphs(("More examples: docs/recipes.md in the source.",)),
        ".SH SEE ALSO",
        _text(SEE_ALSO),
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------- from the table


def _synopsis(command: Command) -> str:
    name, _, rest = usage(command).partition(" [OPTIONS]")
    return f"{_bold(name)} {_escaped(f'[OPTIONS]{rest}')}"


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_argument(command.name)}"
    yield _synopsis(command)
    said, typed = [], []
    for paragraph in command.text().split("\n\n"):
        if paragraph.startswith("  "):
            typed.append(paragraph)
        elif not re.fullmatch(r"Examples?:", paragraph.strip()):
            said.append(paragraph)
    yield from _paragraphs(said)
    for argument in command.arguments:
        yield from _entry(_italic(argument_name(argument)), _text(argument.help))
    yield from _options(command.options)
    if typed:
        yield from _paragraphs(("Example:" if len(typed) == 1 else "Examples:",))
        yield ".RS 4"
        yield "\n.PP\n".join(map(_typed, typed))
        yield ".RE"


def _options(options: Iterable[Option]) -> Iterator[str]:
    """`-n, --limit N`, or `--exact, --ann`, and what it is for. Help is described once for all commands."""
    for option in options:
        names = ", ".join(map(_bold, (*sorted(option.names, key=len), *option.off.split())))
        yield from _entry(f"{names} {_italic(option.values)}" if option.values else names, _text(option.sentence))


# ---------------------------------------------------------------------------------------------- to roff


def _paragraphs(texts: tuple[str, ...] | list[str]) -> Iterator[str]:
    for text in texts:
        yield ".PP"
        yield _text(text)


def _table(rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in rows:
        yield from _entry(_bold(term), _text(text))


def _entry(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield _line(term)
    yield text


def _typed(text: str) -> str:
    """A command to type. Filled like any paragraph: a narrow terminal would cut it off."""
    return _line(_escaped(" ".join(text.split())))


def _text(text: str) -> str:
    """Prose as one line: `code` and options are bold."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w-]*)", " ".join(text.split()))
    shown = (_bold(part.strip("`")) if at % 2 else _escaped(part) for at, part in enumerate(parts))
    return _line("".join(shown))


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{_escaped(text)}\\fR"


def _argument(text: str) -> str:
    """One argument of a macro."""
    return f'"{_escaped(text)}"'


def _line(text: str) -> str:
    """A line that is no request even if it begins with a dot."""
    return f"\\&{text}" if text.startswith(".") else text


# A plain - may come out as a hyphen, and ' ` ^ ~ as typographic signs, which no shell takes. A " ends an argument.
_SIGNS = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def _escaped(text: str) -> str:
    """Each character as itself."""
    return "".join(_SIGNS.get(sign, sign if sign.isascii() else f"\\[u{ord(sign):04X}]") for sign in text)
