"""The manual page imgsearch(1), written out from the app's own commands, options and help texts.

What those do not hold, such as the exit codes, is in tables here; tests hold them against the program and the README.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from imgsearch import __version__

PROGRAM = "imgsearch"
# man asks for one; it is that of the words below, not that of the day the page is printed. Set it with each release.
WRITTEN = "2026-11-21"

DESCRIPTION = (
    f"`{PROGRAM}` finds photos in your own folders. `{PROGRAM} index` turns every photo into a vector with an OpenCLIP "
    f"model and keeps it, with the facts in the photo's header, in a folder of its own; `{PROGRAM} query` ranks the "
    "photos by how near they are to what is asked. Photos are only ever read. Everything happens on this machine; "
    "nothing but a model's weights is ever fetched.",
    "On stdout there is data and nothing else: on a terminal for people, in a pipe one hit a line with tabs between "
    "its columns, with --json JSON Lines, with --paths or --print0 bare names. All else goes to stderr.",
)
# As the table in docs/queries.md.
QUERIES = (
    ("sunset over the sea", "words; they need no quotes"),
    ("this.jpg", "photos like that picture, indexed or not"),
    ("red dress like this.jpg", "photos like the picture and of a red dress"),
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
    ("6", "`check` found something, or `doctor` something that does not work"),
    ("70", "a bug: please report the traceback"),
    ("129, 130, 143", "hung up, interrupted, terminated: what was done is kept"),
)
ENVIRONMENT = (
    ("IMGSEARCH_INDEX", "The index to use where no --index names one."),
    ("IMGSEARCH_CONFIG", "The file of settings; none where it is empty."),
    (
        "IMGSEARCH_HNSW_SLOTS",
        "From how many vectors on HNSW graphs are built; 0 is never. Default: 131072.",
    ),
    ("NO_COLOR", "Not empty: no colours. It wins over the next two; --preview draws in colours all the same."),
    ("CLICOLOR_FORCE", "Not empty and not 0: colours in a pipe too, but never with --json, -l, -0 and --fields."),
    ("CLICOLOR", "0: no colours."),
    ("COLUMNS", "How wide bars, pictures and help may be, whatever the terminal says."),
    ("CI", "Not empty, 0 or false: no bars."),
    ("HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE", "1: fetch no weights, as with --offline."),
    ("HF_HOME, HF_HUB_CACHE", "Where weights that were fetched are kept."),
    ("HF_ENDPOINT", "Where weights are fetched from."),
    ("XDG_DATA_HOME, XDG_CONFIG_HOME, XDG_CACHE_HOME, XDG_RUNTIME_DIR", "Where the folders below lie, on Linux."),
    ("XDG_DATA_DIRS", "Where `doctor` looks for completions that the system has, besides the user's own."),
    ("FORCE_HYPERLINK", "0: names on a terminal are no links."),
)
FILES = (
    (
        "~/.local/share/imgsearch/index/",
        "The index, unless another is named or found. On macOS: ~/Library/Application Support/imgsearch/index/.",
    ),
    (
        ".imgsearch/",
        f"An index that `{PROGRAM} init` made. It is used from any folder below the one that it lies in.",
    ),
    (
        "~/.config/imgsearch/config.toml",
        f"Settings, as `{PROGRAM} config` writes them. On macOS: ~/Library/Application Support/imgsearch/config.toml.",
    ),
    (".imgsearchignore", "What `index` passes over in this folder and below, written as a .gitignore."),
    (
        "~/.cache/imgsearch/",
        "Models prepared for quick queries, thumbnails, and the vectors of the last questions. May be removed at any "
        "time. On macOS: ~/Library/Caches/imgsearch/.",
    ),
    ("~/.cache/huggingface/hub/", "Weights that were fetched."),
    ("$XDG_RUNTIME_DIR/imgsearch/", f"Sockets by which `{PROGRAM} serve` answers queries."),
)
EXAMPLES = (
    ("Look at what was found:", f"{PROGRAM} query dog -0 | xargs -0 feh"),
    ("Copy it:", f"{PROGRAM} query whiteboard -0 -n 200 | rsync -a0 --files-from=- / ~/whiteboards/"),
    ("Ask once more, with what was liked:", f"{PROGRAM} query dog --more-like liked.jpg --less-like other.jpg"),
    ("Ask many things with one load of the model:", f"{PROGRAM} query - --json < queries.txt"),
    ("Keep index and model warm for other queries:", f"{PROGRAM} serve --socket-only --idle 30 &"),
)
SEE_ALSO = "exiftool(1), feh(1), fzf(1), jq(1), nsxiv(1), rsync(1), xargs(1)"


def page(context: typer.Context) -> str:
    """The whole page, as roff with the macros of man(7), in ASCII."""
    root = context.find_root()
    within = list(_commands(root))
    lines = [
        f'.\\" Generated from the program by: {PROGRAM} --show-manual',
        f'.TH {PROGRAM.upper()} 1 {WRITTEN} {_argument(f"version {__version__}")} "User Commands"',
        # Names and options are not to be split, nor words stretched to fill a line.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{PROGRAM} \\- {_text(_summary(root))}",
        ".SH SYNOPSIS",
        _synopsis(root),
        ".SH DESCRIPTION",
        _text(DESCRIPTION[0]),
        *_paragraphs(DESCRIPTION[1:]),
        ".SH OPTIONS",
        *_parameters(root, has_help=True),
        ".SH COMMANDS",
        *(line for command in within for line in _command(command)),
        ".SH QUERIES",
        *_table(QUERIES),
        *_paragraphs(("All of the language, and what the scores mean: docs/queries.md in the source.",)),
        ".SH EXIT STATUS",
        *_table(EXIT_STATUS),
        ".SH ENVIRONMENT",
        *_table(ENVIRONMENT),
        ".SH FILES",
        *_table(FILES),
        ".SH EXAMPLES",
        *(line for said, typed in EXAMPLES for line in _entry(_text(said), _typed(typed))),
        *_paragraphs(("More of them: docs/recipes.md in the source.",)),
        ".SH SEE ALSO",
        _text(SEE_ALSO),
    ]
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------ from the app


def _commands(context: Any) -> Iterator[Any]:
    """The contexts of all commands within, each group before its own."""
    group = context.command
    for name in group.list_commands(context) if hasattr(group, "list_commands") else ():
        command = group.get_command(context, name)
        if not command.hidden:
            inner = typer.Context(command, info_name=name, parent=context)
            yield inner
            yield from _commands(inner)


def _summary(context: Any) -> str:
    """The first sentence, as it stands after the name."""
    return str(context.command.help).split("\n\n")[0].rstrip(".")


def _synopsis(context: Any) -> str:
    pieces = [piece.strip("{}") for piece in context.command.collect_usage_pieces(context)]
    return f"{_bold(context.command_path)} {_escaped(' '.join(pieces))}"


def _command(context: Any) -> Iterator[str]:
    yield f".SS {_argument(context.command_path.removeprefix(f'{PROGRAM} '))}"
    yield _synopsis(context)
    said, typed = [], []
    for paragraph in str(context.command.help).split("\n\n"):
        if paragraph.startswith("  "):
            typed.append(paragraph)
        elif not re.fullmatch(r"Examples?:", paragraph.strip()):
            said.append(paragraph)
    yield from _paragraphs(said)
    yield from _parameters(context)
    if typed:
        yield from _paragraphs(("Example:" if len(typed) == 1 else "Examples:",))
        yield ".RS 4"
        yield "\n.PP\n".join(map(_typed, typed))
        yield ".RE"


def _parameters(context: Any, *, has_help: bool = False) -> Iterator[str]:
    """Arguments and options. --help is told of once for all commands."""
    for parameter in context.command.get_params(context):
        if getattr(parameter, "hidden", False) or (parameter.name == "help" and not has_help):
            continue
        metavar = parameter.make_metavar(context).strip("[]{}<>")
        if parameter.param_type_name == "argument":
            yield from _entry(_italic(metavar), _text(parameter.help or ""))
            continue
        yield from _entry(_option(parameter, metavar), _text(parameter.get_help_record(context)[1]))


def _option(option: Any, metavar: str) -> str:
    """`-n, --limit N`, or `--exact, --ann`."""
    names = [*sorted(option.opts, key=len), *option.secondary_opts]
    shown = ", ".join(map(_bold, names))
    return shown if option.is_flag else f"{shown} {_italic(metavar)}"


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
    """What is to be typed. Filled like any paragraph: a narrow terminal would cut it off."""
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
    """One that is no request, though it begins with a dot."""
    return f"\\&{text}" if text.startswith(".") else text


# A plain - may come out as a hyphen, and ' ` ^ ~ as typographic signs, which no shell takes. A " ends an argument.
_SIGNS = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def _escaped(text: str) -> str:
    """Each character as itself."""
    return "".join(_SIGNS.get(sign, sign if sign.isascii() else f"\\[u{ord(sign):04X}]") for sign in text)
