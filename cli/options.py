"""What an option is, and the options that several commands share. Those of one command are in `command_table`.

Every option is declared once. Derived from these tables: what typer parses (`verbs`), the quick reading of `query`
(`fast_path`), help (`help_pages`), completion scripts, the manual page, the keys of the configuration file (`settings`)
and the schema of the web API. Imports only light modules: every query loads this one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from imgsearch.core.search.choices import CHANGE_METHOD, DEFAULT_METHOD, LEARNED, LEARNED_DEFAULT, METHODS, RAW_SUM

QUERY, FILTERS, RANKING, OUTPUT, RUNNING = GROUPS = ("Query", "Filters", "Ranking", "Output", "Running")


class Argument(NamedTuple):
    """A value known by its position. One that is a list and not required may be left out altogether."""

    parameter: str
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    default: Any = None
    is_list: bool = False
    is_required: bool = False
    offers: str = ""
    """What completion offers: files, folders, indexes, cameras, lenses, keywords, places, roots, models, keys, or
    nothing."""


class Option(NamedTuple):
    """An option, or with type bool a flag. `parameter` is its name in the command's function."""

    parameter: str
    flags: str
    """The long one first: `--limit -n`."""
    help: str
    type: type = str
    metavar: str = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    """A regular expression of what it takes besides its choices."""
    off: str = ""
    """Of a flag: the one that says the opposite."""
    is_list: bool = False
    minimum: float | None = None
    maximum: float | None = None
    group: str = RUNNING
    is_common: bool = False
    """Whether `-h` shows it."""
    offers: str = ""
    """As `Argument.offers`."""
    api: str = ""
    """Its name in a request to the web API, if it has one there."""
    rivals: str = ""
    """Options of the same name here exclude each other: one that is typed overrides the settings of the others."""
    is_setting: bool = True
    """Whether the configuration file may set it."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.flags.split())

    @property
    def is_flag(self) -> bool:
        return self.type is bool

    @property
    def values(self) -> str:
        """What it takes, as help shows it."""
        return "" if self.is_flag else self.metavar or "|".join(self.choices)

    @property
    def sentence(self) -> str:
        """The whole help text."""
        parts = [self.help]
        if self.is_list:
            parts.append("Can be repeated.")
        if self.default is not None and not self.is_flag:
            shown = f"{self.default:g}" if self.type is float else self.default
            parts.append(f"Default: {shown}.")
        return " ".join(parts)


def flag(parameter: str, flags: str, help: str, **more: Any) -> Option:
    return Option(parameter, flags, help, type=bool, **{"default": False, **more})


# ---- Options of several commands -------------------------------------------------------------------------------------

HELP = (
    flag("short_help", "-h", "Show the most common options.", is_setting=False),
    flag("long_help", "--help", "Show all options.", is_setting=False),
)
INDEX = Option(
    "index",
    "--index",
    "The index to use. Default: $IMGSEARCH_INDEX, else the nearest .imgsearch/ at or above the working directory, else "
    "the one set with `imgsearch config`, else one in your data directory.",
    metavar="DIR",
    offers="indexes",
    is_common=True,
)
JSON = flag(
    "as_json", "--json", "Print JSON Lines: one object per line.", group=OUTPUT, is_common=True, rivals="output"
)
QUIET = flag("quiet", "--quiet -q", "Only print errors.", group=OUTPUT, rivals="messages")
VERBOSE = flag(
    "verbose",
    "--verbose -v",
    "Print details on stderr, such as the model, the files and the time each step takes.",
    group=OUTPUT,
    rivals="messages",
)
PATHS = flag("paths", "--paths -l", "Print only paths.", group=OUTPUT, is_common=True, rivals="output")
PRINT0 = flag(
    "print0",
    "--print0 -0",
    "Print only paths, each followed by NUL, for `xargs -0`.",
    group=OUTPUT,
    is_common=True,
    rivals="output",
)
METADATA = flag("metadata", "--metadata", "Also print metadata of each photo: camera, place, keywords.", group=OUTPUT)
DEVICE = Option(
    "device",
    "--device",
    "Where to run the model.",
    metavar="auto|cuda[:N]|mps|cpu",
    default="auto",
    choices=("auto", "cuda", "mps", "cpu"),
    pattern=r"cuda:\d+",
)
PRECISION = Option(
    "precision",
    "--precision",
    "Floating-point format of the model; auto depends on the device.",
    default="auto",
    choices=("auto", "fp16", "bf16", "fp32"),
)
OFFLINE = flag("offline", "--offline", "Download nothing: use only models that are on this machine.")
WAIT = flag("wait", "--wait", "If another process is writing to the index, wait until it has finished.")
DRY_RUN = flag("dry_run", "--dry-run", "Show what would be done, and change nothing.", is_common=True)
MODEL = Option(
    "model",
    "--model -m",
    "builtin, an alias (see `imgsearch models`), an open_clip ARCH/TAG, hf-hub:ORG/REPO, local-dir:DIR, or auto. "
    "Default: the model of the index, else auto.",
    metavar="NAME",
    is_common=True,
    offers="models",
)
EXCLUDE = Option(
    "exclude",
    "--exclude",
    "Skip files and folders that match, as in .gitignore. Remembered for the folder.",
    metavar="GLOB",
    is_list=True,
    group=FILTERS,
    is_common=True,
)
HIDDEN = flag(
    "hidden",
    "--hidden",
    "Include files and folders whose name starts with a dot. Remembered for the folder.",
    group=FILTERS,
    is_common=True,
)
VIDEO = Option(
    "video",
    "--video",
    "Also index videos: mp4, mov, mkv, webm, avi. Remembered for the folder. Needs the extra [video].",
    type=bool,
    off="--no-video",
    group=FILTERS,
    is_common=True,
)
DECODE = Option(
    "decode",
    "--decode",
    "fast reads large JPEGs at a reduced size; exact reads every pixel.",
    default="fast",
    choices=("fast", "exact"),
)
WORKERS = Option(
    "workers", "--workers", "Number of decoding processes. Default: one per core.", type=int, metavar="N", minimum=1
)
LIMIT = Option(
    "limit",
    "--limit -n",
    "Maximum number of results.",
    type=int,
    metavar="N",
    default=10,
    group=RANKING,
    is_common=True,
)
MIN_SCORE = Option(
    "min_score", "--min-score", "Only photos with at least this score.", type=float, metavar="S", group=RANKING,
    api="min_score",
)  # fmt: skip
UNDER = Option(
    "under",
    "--under",
    "Only photos in this folder.",
    metavar="DIR",
    is_list=True,
    group=FILTERS,
    is_common=True,
    offers="folders",
    api="under",
)
GROUP = Option(
    "group",
    "--group",
    "Show only the best photo of each group: near copies, a burst, a day, a place (within 1 km), or a town.",
    choices=("duplicates", "burst", "day", "place", "town"),
    group=RANKING,
    api="group",
)
EXACT = Option(
    "exact",
    "--exact",
    "Scan every vector, or use HNSW graphs. Default: the faster one.",
    type=bool,
    off="--ann",
)
INCLUDE_REFERENCE = flag(
    "include_reference",
    "--include-reference",
    "Also show the pictures of the query, and copies of them.",
    group=FILTERS,
)
INCLUDE_OFFLINE = flag(
    "include_offline", "--include-offline", "Also show photos on disks that are not connected.", group=FILTERS
)
COMPOSE = Option(
    "compose",
    "--compose",
    f"How to combine a picture and words: {', '.join(METHODS)}. FILE: weights of your own for {', '.join(LEARNED)}. "
    f"Default: {LEARNED_DEFAULT} with the built-in model, {RAW_SUM} with BGE-VL, else {DEFAULT_METHOD}; "
    f"{CHANGE_METHOD} with --from.",
    metavar="METHOD[:FILE]",
    choices=METHODS,
    pattern=rf"(?s:({'|'.join(LEARNED)}):.+)",
    group=RANKING,
    api="method",
)
WEIGHT = Option(
    "weight",
    "--weight -w",
    "Weight of the words: 0 is the picture alone, 1 the words alone. Default: depends on the method.",
    type=float,
    metavar="W",
    minimum=0,
    maximum=1,
    group=RANKING,
    api="weight",
)
