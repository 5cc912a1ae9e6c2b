"""Every command with its arguments and options, in the order of the help.

Longer than 600 lines because it is one table, read by looking up a command.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from imgsearch.core.search.choices import PUBLISHED

from .options import (
    COMPOSE,
    DECODE,
    DEVICE,
    DRY_RUN,
    EXACT,
    EXCLUDE,
    FILTERS,
    GROUP,
    HIDDEN,
    INCLUDE_OFFLINE,
    INCLUDE_REFERENCE,
    INDEX,
    JSON,
    LIMIT,
    METADATA,
    MIN_SCORE,
    MODEL,
    OFFLINE,
    OUTPUT,
    PATHS,
    PRECISION,
    PRINT0,
    QUERY,
    QUIET,
    RANKING,
    UNDER,
    VERBOSE,
    VIDEO,
    WAIT,
    WEIGHT,
    WORKERS,
    Argument,
    Option,
    flag,
)

SHELLS = ("bash", "zsh", "fish")
DEFAULT_PORT = 8765
IDLE_MINUTES = 15
"""After which `serve --socket-only` ends by default."""


class Command(NamedTuple):
    name: str
    """All its words: `query`, `roots move`."""
    summary: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    place: str = ""
    """`module:function` in `commands`; empty if both have the command's name."""
    description: str = ""
    """Of a group of commands: what its help says after the summary. That of a command is its function's docstring.
    A group with a `place` also runs by itself."""

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(self.name.split())

    @property
    def module(self) -> str:
        return self.place.partition(":")[0] or self.words[0]

    @property
    def function(self) -> str:
        return self.place.partition(":")[2] or self.words[-1]

    @property
    def is_group(self) -> bool:
        return bool(self.description)

    @property
    def is_runnable(self) -> bool:
        return not self.is_group or bool(self.place)

    def load(self) -> Callable[..., Any]:
        """The function that runs it, if it is runnable."""
        function: Callable[..., Any] = getattr(import_module(f"{__package__}.commands.{self.module}"), self.function)
        return function

    def text(self) -> str:
        """The whole help text: the summary first, examples last."""
        if self.is_group:
            return f"{self.summary}\n\n{self.description}"
        first, *lines = (self.load().__doc__ or "").strip().split("\n")
        return "\n".join([first, *(line.removeprefix("    ") for line in lines)])


# fmt: off

KEY = Argument(
    "key", "KEY", "An option, such as `limit`, or one of a command, such as `query.limit`.", is_required=True,
    offers="keys",
)
# ---- Commands --------------------------------------------------------------------------------------------------------

PROGRAM = Command(
    "",
    "grep for photos: search local pictures by words, by a picture, or by a picture plus a change.",
    options=(
        flag("version", "--version -V", "Print the version.", is_setting=False, is_common=True),
        Option(
            "show_completion",
            "--show-completion",
            "Print the completion script for a shell.",
            choices=SHELLS,
            is_setting=False,
            is_common=True,
        ),
        flag("show_manual", "--show-manual", "Print the manual page in roff.", is_setting=False, is_common=True),
    ),
    description="""\
Everything runs on this machine; no photo or query leaves it.

Examples:

  imgsearch index ~/Photos

  imgsearch query "sunset over the sea\"""",
)

_INDEX = Command(
    "index",
    "Make photos searchable: walk folders, and embed what is new or changed.",
    (
        Argument(
            "paths", "PATH", "Folders and pictures. Default: everything in the index.", is_list=True,
            offers="files",
        ),
    ),
    (
        MODEL,
        Option(
            "weights", "--weights", "Weights for the open_clip architecture given by --model.", metavar="TAG|FILE",
            offers="files",
        ),
        Option(
            "preprocess_from", "--preprocess-from", "With --weights FILE: use the preprocessing of this tag.",
            metavar="TAG"
        ),
        EXCLUDE,
        HIDDEN,
        VIDEO,
        DECODE,
        Option(
            "batch_size", "--batch-size -b", "Number of pictures to embed at once. Default: depends on the device.",
            type=int, metavar="N", minimum=1,
        ),
        WORKERS,
        Option(
            "time_limit", "--time-limit", "Give up on a file after this many seconds of decoding.", type=float,
            metavar="S", default=60.0, minimum=0.1,
        ),
        Option(
            "ocr", "--ocr",
            "Also read the text in photos that look like text. Remembered for the folder. Needs the extra [ocr].",
            type=bool, off="--no-ocr", is_common=True,
        ),
        DEVICE, PRECISION, OFFLINE, WAIT, DRY_RUN, JSON, QUIET, VERBOSE, INDEX,
    ),
)

_QUERY = Command(
    "query",
    "Find photos by words, by a picture, or by a picture plus a change.",
    (
        Argument(
            "words",
            "WORDS",
            "What to search for: words, a picture, or `words like PICTURE`. `-` reads one query per line from standard "
            "input.",
            is_list=True,
            offers="files",
        ),
    ),
    (
        Option(
            "image", "--image -i", "A picture to search by.", metavar="PATH", is_list=True, group=QUERY,
            is_common=True, offers="files",
        ),
        Option("text", "--text -t", "Words to search by, as literal text.", metavar="WORDS", group=QUERY, api="text"),
        Option(
            "negatives", "--not", "Rank photos of this lower.", metavar="WORDS", is_list=True, group=QUERY,
            is_common=True, api="not",
        ),
        Option(
            "change_from", "--from", "With --to and a picture: what the picture shows now.", metavar="WORDS",
            group=QUERY,
        ),
        Option(
            "change_to", "--to", "With --from and a picture: what it should show instead.", metavar="WORDS", group=QUERY
        ),
        Option(
            "more_like", "--more-like", "Prefer photos like this picture.", metavar="PATH", is_list=True, group=QUERY,
            offers="files", api="more_like",
        ),
        Option(
            "less_like", "--less-like", "Avoid photos like this picture.", metavar="PATH", is_list=True, group=QUERY,
            offers="files", api="less_like",
        ),
        Option(
            "any_of", "--any", "Words or a picture. Find photos that match at least one of them.", metavar="QUERY",
            is_list=True, group=QUERY, offers="files",
        ),
        Option(
            "all_of", "--all", "Words or a picture. Find photos that match all of them.", metavar="QUERY",
            is_list=True, group=QUERY, offers="files",
        ),
        flag(
            "natural", "--natural",
            "Read dates (july 2023, last summer), places (in Porto) and file names in the words as filters, and "
            "`without` and `not` as a minus.",
            group=QUERY, is_common=True,
        ),
        flag("verbatim", "--verbatim", "Treat the whole query as literal text.", group=QUERY),
        LIMIT,
        MIN_SCORE,
        Option(
            "min_z", "--min-z", "Only photos whose score is at least this many standard deviations above the mean.",
            type=float, metavar="Z", group=RANKING, api="min_z",
        ),
        flag(
            "auto_cut", "--auto-cut", "Stop at the first photo that is not relevant. There may be no results at all.",
            group=RANKING, api="auto_cut",
        ),
        Option(
            "after", "--after", "Only photos taken on this day or later: 2024-07-03, 2024-07, 2024, 30d, yesterday.",
            metavar="DATE", group=FILTERS, is_common=True, api="after",
        ),
        Option(
            "before", "--before", "Only photos taken on this day or earlier.", metavar="DATE", group=FILTERS,
            is_common=True,
            api="before",
        ),
        Option(
            "month", "--month", "Only photos taken in this month, of any year or of one: july, 7, 2023-07.",
            metavar="MONTH", is_list=True, group=FILTERS, api="month",
        ),
        Option(
            "on", "--on", "Only photos taken on this day, of any year or of one: 12-25, 2019-12-25.", metavar="DAY",
            is_list=True, group=FILTERS, api="on",
        ),
        Option(
            "camera", "--camera", "Only photos from a camera whose name contains this.", metavar="CAMERA", is_list=True,
            group=FILTERS, offers="cameras", api="camera",
        ),
        Option(
            "lens", "--lens", "Only photos taken with a lens whose name contains this.", metavar="LENS", is_list=True,
            group=FILTERS, offers="lenses", api="lens",
        ),
        Option(
            "near", "--near", "Only photos taken near this place: 48.85,2.35,5km.", metavar="LAT,LON,RADIUS",
            group=FILTERS,
            api="near",
        ),
        Option(
            "place", "--place", "Only photos of this town, region or country: Porto, or 'Porto, Portugal'.",
            metavar="NAME", is_list=True, group=FILTERS, offers="places", api="place",
        ),
        Option(
            "rating", "--rating", "Minimum rating: 4; an exact one: =3; or a range: 3-5.", metavar="STARS",
            group=FILTERS,
            api="rating",
        ),
        Option(
            "keyword", "--keyword", "Only photos with this keyword; if repeated, with all of them.", metavar="KEYWORD",
            is_list=True, group=FILTERS, offers="keywords", api="keyword",
        ),
        UNDER,
        Option(
            "name", "--name",
            "Only files whose name matches, with or without its extension, ignoring case: IMG_3551, '*beach*'.",
            metavar="GLOB", is_list=True, group=FILTERS, api="name",
        ),
        Option(
            "glob", "--glob", "Only files whose name matches, or whose path if the pattern has a slash.",
            metavar="PATTERN", is_list=True, group=FILTERS, api="glob",
        ),
        Option(
            "ext", "--ext", "Only files with this extension: jpg, or jpg,png.", metavar="EXTENSION", is_list=True,
            group=FILTERS, api="ext",
        ),
        Option(
            "min_size", "--min-size", "Minimum dimensions: 1600x1200 or 12MP; or minimum file size: 500kB.",
            metavar="SIZE",
            group=FILTERS, api="min_size",
        ),
        Option(
            "orientation", "--orientation", "Only photos of this shape.", choices=("landscape", "portrait", "square"),
            is_list=True, group=FILTERS, api="orientation",
        ),
        Option(
            "has", "--has", "Only photos with GPS, a caption, a date or damage; or only videos.",
            choices=("gps", "caption", "date", "damage", "video"), is_list=True, group=FILTERS, api="has",
        ),
        Option(
            "text_contains", "--text-contains",
            "Only photos whose texts contain these words: captions, notes, and text in the picture. 'INV-20*' finds "
            "longer words too.",
            metavar="WORDS", is_list=True, group=FILTERS, api="text_contains",
        ),
        Option(
            "root", "--root", "Only photos of this root: its path, or the last part of it.", metavar="ROOT",
            is_list=True, group=FILTERS, offers="roots", api="root",
        ),
        INCLUDE_REFERENCE,
        INCLUDE_OFFLINE,
        Option(
            "sort", "--sort", "Order of the results. The best ones are selected first, then sorted.",
            default="score", choices=("score", "date", "path", "size"), group=RANKING, is_common=True, api="sort",
        ),
        flag("reverse", "--reverse -r", "Reverse the order.", group=RANKING, api="reverse"),
        GROUP,
        Option(
            "diverse", "--diverse",
            "Prefer photos that differ from each other: from 0 (off) to 1 (as different as possible).",
            type=float, metavar="LAMBDA", default=0.0, minimum=0, maximum=1, group=RANKING, api="diverse",
        ),
        Option(
            "modality", "--modality", "Search the pictures, the texts of photos, or both.", default="image",
            choices=("image", "text", "any"), group=QUERY, api="modality",
        ),
        COMPOSE,
        WEIGHT,
        EXACT,
        JSON,
        PATHS,
        PRINT0,
        METADATA,
        Option(
            "fields", "--fields", "Print these fields: path,score,taken_at,camera ... (see docs/json.md).",
            metavar="FIELDS", group=OUTPUT, rivals="output",
        ),
        Option(
            "html", "--html", "Also write the results as a self-contained web page; - is standard output.",
            metavar="FILE", group=OUTPUT, offers="files",
        ),
        flag("opens", "--open", "With --html: open the page in the browser.", group=OUTPUT),
        flag(
            "preview", "--preview", "Show the photos themselves in the terminal.", group=OUTPUT, is_common=True,
            rivals="output",
        ),
        flag("explain", "--explain", "Print on stderr how the query was interpreted and answered.", group=OUTPUT),
        flag("no_history", "--no-history", "Do not use or save the vectors of earlier queries."),
        flag("no_server", "--no-server", "Answer in this process even if `imgsearch serve` is running."),
        DEVICE, OFFLINE, QUIET, VERBOSE, INDEX,
    ),
)

_TRAIN_RESTYLE = Command(
    "train-composer restyle",
    "Train `restyle` for your model, from your own photos.",
    (
        Argument(
            "paths", "PATH", "Folders and photos. Default: the photos of the index.", is_list=True, offers="files"
        ),
    ),
    (
        Option(
            "out", "--out", "The file of weights to write. An existing one is replaced.", metavar="FILE",
            default="restyle.safetensors", group=OUTPUT, is_common=True, offers="files",
        ),
        Option(
            "max_photos", "--max-photos", "Maximum number of photos, evenly spread.", type=int, metavar="N",
            default=1500, minimum=50, is_common=True,
        ),
        MODEL, WORKERS, DEVICE, PRECISION, OFFLINE, JSON, QUIET, INDEX,
    ),
    place="train_composer:restyle",
)

_TRAIN_GATED = Command(
    "train-composer gated",
    "Train `gated` for the model of your index, from captions of its photos.",
    options=(
        Option(
            "captions", "--captions -a",
            "Captions of photos in the index: JSON Lines of {file, captions}, lines `picture.jpg,caption`, or JSON of "
            "COCO or Karpathy.",
            metavar="FILE", group=QUERY, is_common=True, offers="files",
        ),
        Option(
            "split", "--split", "The split of a Karpathy file. Default: test.", metavar="SPLIT", group=QUERY,
        ),
        Option(
            "out", "--out", "The file of weights to write. An existing one is replaced.", metavar="FILE",
            default="gated.safetensors", group=OUTPUT, is_common=True, offers="files",
        ),
        DEVICE, PRECISION, OFFLINE, JSON, QUIET, INDEX,
    ),
    place="train_gated:gated",
)

_TRAIN_LINCIR = Command(
    "train-composer lincir",
    "Train `lincir` for your model, from texts alone.",
    (),
    (
        Option(
            "captions", "--captions",
            "Texts, one per line, or JSON Lines with `captions`. Default: the texts of the index.",
            metavar="FILE", is_common=True, offers="files",
        ),
        Option(
            "out", "--out", "The file of weights to write. An existing one is replaced.", metavar="FILE",
            default="lincir.safetensors", group=OUTPUT, is_common=True, offers="files",
        ),
        Option("seed", "--seed", "Another number gives other weights.", type=int, metavar="N", default=0, minimum=0),
        Option(
            "rounds", "--rounds", "Maximum number of rounds, of 160 steps at most.", type=int, metavar="N", default=30,
            minimum=1,
        ),
        MODEL, OFFLINE, JSON, QUIET, INDEX,
    ),
    place="train_composer:lincir",
)

_OCR = Command(
    "ocr",
    "Read the text in indexed photos, so that `imgsearch query` can search it.",
    (
        Argument(
            "paths", "PATH", "Folders and photos. Default: everything in the index.", is_list=True, offers="files"
        ),
    ),
    (
        flag(
            "everything", "--all", "Read all photos, not only those that look like text.", group=FILTERS,
            is_common=True,
        ),
        WORKERS._replace(help="Number of processes that read text. Default: one per core, if memory allows."),
        DEVICE, OFFLINE, JSON, QUIET, VERBOSE, INDEX,
    ),
)

_SIMILAR = Command(
    "similar",
    "Find photos like a picture.",
    (
        Argument(
            "files", "FILE", "Pictures, indexed or not; `-` reads one path per line from standard input.",
            is_list=True, is_required=True, offers="files",
        ),
    ),
    (
        LIMIT._replace(help="Maximum number of results for each picture."),
        MIN_SCORE, UNDER, GROUP, EXACT, JSON, PATHS, PRINT0, METADATA,
        INCLUDE_REFERENCE._replace(help="Also show the picture itself."),
        INCLUDE_OFFLINE, DEVICE, OFFLINE, QUIET, VERBOSE, INDEX,
    ),
)

_DUPES = Command(
    "dupes",
    "Find duplicate photos: the same file, or the same picture resized, re-encoded or rotated.",
    options=(
        Option(
            "keep", "--keep", "Which photo of each group to keep: the one with most pixels, or the one taken first.",
            default="largest", choices=("largest", "oldest"), group=FILTERS, is_common=True,
        ),
        flag(
            "exact", "--exact", "Only find files with the same bytes. Reads no photos.",
            group=FILTERS, is_common=True,
        ),
        flag(
            "quick", "--quick",
            "Only read photos whose vectors are similar. Misses copies that are rotated, tiny or in black and white.",
            group=FILTERS,
        ),
        UNDER,
        flag(
            "others", "--others --paths -l", "Print only the duplicates, not the photos to keep, and no empty lines.",
            group=OUTPUT, is_common=True, rivals="output",
        ),
        JSON,
        PRINT0._replace(help="Like -l, but each path is followed by NUL, for `xargs -0`."),
        WORKERS._replace(help="Number of processes that read photos. Default: one per core."),
        QUIET, VERBOSE, INDEX,
    ),
)

_WATCH = Command(
    "watch",
    "Index folders, and keep the index up to date as files change.",
    (
        Argument(
            "paths", "DIR", "Folders. Default: everything in the index.", is_list=True, offers="folders"
        ),
    ),
    (
        MODEL, EXCLUDE, HIDDEN, VIDEO, DECODE, WORKERS,
        Option(
            "poll", "--poll", "Seconds between scans of folders that cannot report changes, such as network disks.",
            type=float, metavar="S", default=60.0, minimum=1,
        ),
        DEVICE, PRECISION, OFFLINE, JSON, QUIET, VERBOSE, INDEX,
    ),
)

_SERVE = Command(
    "serve",
    "Open a gallery of your photos in the browser, and keep the index and model in memory for fast queries.",
    options=(
        Option(
            "host", "--host", "The address to listen on. Any other than the default opens the gallery to the network.",
            metavar="ADDRESS", default="127.0.0.1",
        ),
        Option(
            "port", "--port",
            f"The port to listen on; 0 means any free port. Default: {DEFAULT_PORT}, or any free port.",
            type=int, metavar="PORT", minimum=0, maximum=65535,
        ),
        flag("socket_only", "--socket-only", "Do not open a gallery; only speed up `imgsearch query`."),
        Option(
            "idle", "--idle",
            f"Exit after this many minutes without a query; 0 means never. Default: {IDLE_MINUTES} with --socket-only, "
            "else 0.",
            type=float, metavar="MINUTES", minimum=0,
        ),
        DEVICE, OFFLINE, QUIET, INDEX,
    ),
)

_PRUNE = Command(
    "prune",
    "Remove deleted and excluded photos from the index, and free their space.",
    options=(
        Option(
            "offline", "--offline", "Also remove the photos that are missing in this offline root.", metavar="ROOT",
            is_list=True,
            offers="roots",
        ),
        Option(
            "space", "--space",
            "Also remove all vectors of this model, given by its name or its id in `imgsearch status`.",
            metavar="MODEL", is_list=True,
        ),
        flag("imported", "--imported", "Also remove imported vectors whose photos were never indexed here."),
        DRY_RUN, WAIT, JSON, QUIET, VERBOSE, INDEX,
    ),
)

_CHECK = Command(
    "check",
    "Check the index: catalogue, vectors, graphs, and the files that hold them.",
    options=(
        flag("deep", "--deep", "Also read and embed a sample of the photos again, and compare."),
        Option(
            "sample", "--sample", "Number of photos that --deep reads; 0 means all.", type=int, metavar="N",
            default=1_000, minimum=0,
        ),
        flag("repair", "--repair", "Fix what is found, and embed again what was lost."),
        DEVICE, OFFLINE, WAIT, JSON, QUIET, VERBOSE, INDEX,
    ),
)

_FORMATS = ("npz", "parquet", "jsonl")
_NOTE_TEXT = Option(
    "text", "--text -t", "Only the note with this text. Default: all notes about the photo.", metavar="WORDS"
)
_EVAL = Command(
    "eval",
    "Measure search quality with published benchmarks or your own queries.",
    (
        Argument(
            "benchmark", "BENCHMARK", "A benchmark, or jsonl for queries of your own.",
            choices=("coco", "flickr", "cirr", "fashioniq", "circo", "jsonl"),
        ),
    ),
    (
        Option(
            "annotations", "--annotations -a",
            "The annotation file; for cirr, fashioniq and circo, the folder of the annotation files.",
            metavar="PATH", group=QUERY, is_common=True, offers="files",
        ),
        Option(
            "images", "--images",
            "The folder of the pictures. New ones are indexed first. With jsonl, default: all photos of the index.",
            metavar="DIR", group=QUERY, is_common=True, offers="folders",
        ),
        Option(
            "split", "--split", "The split to use. Default: test for coco and flickr, else val.", metavar="SPLIT",
            group=QUERY,
            is_common=True,
        ),
        MODEL._replace(help="A model, as for `imgsearch index`. Default: the model of the index."),
        COMPOSE,
        Option(
            "methods", "--methods",
            "Compare methods of --compose in one table: all, or a comma-separated list. Each is compared with lerp at "
            "its best weight.",
            metavar="LIST", group=QUERY,
        ),
        WEIGHT,
        EXACT._replace(default=True, help="Scan every vector (the default), or use HNSW graphs."),
        Option(
            "metrics", "--metrics",
            "Comma-separated list of recall@K, hit_rate@K, share_found@K, precision@K, mrr, mrr@K, map@K, ndcg@K, "
            "median_rank. Default: the usual ones of the benchmark.",
            metavar="LIST", group=OUTPUT, is_common=True,
        ),
        Option(
            "limit", "--limit -n", "Length of the rankings that --out writes.", type=int, metavar="K", minimum=1,
            group=OUTPUT,
        ),
        Option(
            "captions_per_image", "--captions-per-image",
            "coco, flickr: use the first five captions of each picture, or all. Default: 5.",
            choices=("5", "all"), group=QUERY,
        ),
        Option(
            "prompt", "--prompt", "coco, flickr: the text to search by, with {} for the caption. Default: {}.",
            metavar="TEXT", group=QUERY,
        ),
        Option(
            "gallery", "--gallery",
            "fashioniq: rank the whole split, or only its references and targets. Default: original.",
            choices=("original", "union"), group=QUERY,
        ),
        Option(
            "join", "--join", "fashioniq: how to join the two captions into one query. Default: mean.",
            choices=("mean", "and", "reversed", "comma"), group=QUERY,
        ),
        Option(
            "shared_concept", "--shared-concept",
            "circo: how the query names what both pictures share. Default: none.",
            choices=("none", "magiclens", "bge"), group=QUERY,
        ),
        INCLUDE_REFERENCE._replace(help="jsonl: also rank the picture of the query itself."),
        flag(
            "allow_missing", "--allow-missing",
            "Run even if pictures are missing. The result cannot be compared with others.",
        ),
        Option(
            "out", "--out", "Write the result, with the ranking and metrics of every query, to this file.",
            metavar="RUN.json",
            group=OUTPUT, is_common=True, offers="files",
        ),
        Option(
            "compare", "--compare", "Compare this run with one that --out wrote.", metavar="RUN.json", group=OUTPUT,
            is_common=True, offers="files",
        ),
        Option(
            "submission", "--submission", "cirr, circo, fashioniq: write the file to submit to the benchmark's server.",
            metavar="FILE", group=OUTPUT, offers="files",
        ),
        DEVICE, PRECISION, OFFLINE, WAIT,
        JSON._replace(help="Print the result as one JSON object."),
        QUIET,
        INDEX._replace(
            help="The index of the pictures, created if missing. Default: one in your cache folder; without --images, "
            "the one that `imgsearch query` uses."
        ),
    ),
    "eval:evaluate",
)

_FOLDER = Argument(
    "folder", "DIR", "The folder of the photos. Default: the working directory.", default=".", offers="folders",
)
_FILE_OUT = Argument(
    "file", "FILE", "The file to write: .npz, .parquet or .jsonl; - is JSON Lines on standard output.",
    is_required=True, offers="files",
)

ALL = (
    _INDEX, _QUERY, _SIMILAR, _DUPES, _WATCH, _OCR, _SERVE,
    Command(
        "status", "Show what the index holds: folders, counts, model, size, and how many vectors are in HNSW graphs.",
        options=(JSON, INDEX),
    ),
    Command(
        "composers", "List the ways to combine a picture and words that fit the index's model.",
        options=(JSON, INDEX),
        place="composers:show",
        description="""\
Without a command: the default is marked with *. Methods whose weights are for another model come last, with the reason;
`file` means that you give a file of weights. The column PACS is the mAP on pictures in four styles, measured with the
built-in model; see docs/composition.md.

Examples:

  imgsearch composers --json | jq -r 'select(.fits) | .name'

  imgsearch composers import searle SEARLE_ViT-B32.pt""",
    ),
    Command(
        "composers import", "Convert the published weights of a method to a file for `imgsearch query --compose`.",
        (
            Argument("method", "METHOD", f"One of: {', '.join(PUBLISHED)}.", is_required=True, offers="files"),
            Argument("file", "FILE", "The published file, as torch.save wrote it.", is_required=True, offers="files"),
        ),
        (
            Option(
                "out", "--out -o",
                "The file of weights to write. Default: METHOD.safetensors. An existing one is replaced.",
                metavar="FILE", group=OUTPUT, is_common=True, offers="files",
            ),
            MODEL._replace(
                help="The open_clip model, ARCH/TAG, that the weights are for. Default: by their dimension.",
                metavar="ARCH/TAG",
            ),
            Option(
                "feature_norm", "--feature-norm",
                "The mean length of the model's picture vectors. Default: known for the OpenAI models.",
                type=float, metavar="N", minimum=0,
            ),
            JSON, QUIET,
        ),
        place="composers:import_file",
    ),
    Command(
        "failures", "List the files that could not be indexed, with the stage that failed and the reason.",
        options=(
            flag("show_all", "--all", "Also list the damaged photos that were indexed.", is_common=True),
            JSON, INDEX,
        ),
    ),
    _PRUNE, _CHECK,
    Command(
        "doctor", "Check that everything imgsearch needs works on this machine, and show how to fix what does not.",
        options=(JSON, INDEX),
    ),
    Command(
        "config", "Show and change the default values of options, which are kept in a TOML file.",
        description="""\
A key is the long name of an option: `limit` for all commands that have it, `query.limit` for one. Options on
the command line override the file; for the index, so do $IMGSEARCH_INDEX and an .imgsearch/ at or above the working
directory. $IMGSEARCH_CONFIG names another file, or none if it is empty.

Examples:

  imgsearch config set query.limit 20

  imgsearch config list --all

  IMGSEARCH_CONFIG= imgsearch query dog""",
    ),
    Command(
        "config list", "List the settings.",
        options=(
            flag("everything", "--all", "List every key, with the values it accepts and its setting.", group=OUTPUT),
            JSON,
        ),
        place="config:show",
    ),
    Command("config get", "Print the setting of a key, each value on its own line.", (KEY,)),
    Command(
        "config set", "Set a key in the file. Comments are kept.",
        (
            KEY,
            Argument(
                "values", "VALUE", "The value, or several for an option that can be repeated.", is_list=True,
                is_required=True,
            ),
        ),
        place="config:put",
    ),
    Command("config unset", "Remove a key from the file.", (KEY,)),
    Command("config path", "Print the path of the file, whether or not it exists."),
    Command("config edit", "Open the file in $VISUAL or $EDITOR, then check it."),
    Command(
        "models",
        "List the models that have an alias, or move a model to a machine without torch.",
        options=(JSON,),
        place="models:show",
        description="""\
Without a command: list download size, quality, licence, and whether a model can be used here without a download. The
columns COCO and Flickr are the published recall@1 from text to image, in percent. Any other open_clip model works too:
--model ARCH/TAG.

Examples:

  imgsearch models --json | jq -r 'select(.cached) | .name'

  imgsearch models export lite lite.tar

  imgsearch models import lite.tar""",
    ),
    Command(
        "models export", "Write a model to a file, for machines without torch.",
        (
            Argument("model", "NAME", "The model, as for `index --model`.", is_required=True, offers="files"),
            Argument(
                "file", "FILE", "The file to write; - is standard output.", is_required=True, offers="files"
            ),
        ),
        (OFFLINE, JSON, QUIET), place="models:export",
    ),
    Command(
        "models import", "Install a model from a file that `imgsearch models export` wrote.",
        (Argument("file", "FILE", "The file to read; - is standard input.", is_required=True, offers="files"),),
        (JSON, QUIET), place="models:import_file",
    ),
    Command(
        "init", "Create a portable index: DIR/.imgsearch/, used by every command that runs in DIR or below.",
        (_FOLDER,), (QUIET,),
    ),
    Command(
        "roots", "List the indexed folders, or tell the index where they have moved.",
        description="""\
A root is an indexed folder, or the folder of a picture that was indexed by itself.

Examples:

  imgsearch roots list

  imgsearch roots move ~/Photos /media/disk/Photos""",
    ),
    Command(
        "roots list", "List the roots, with their kind, whether they are online, and the number of their photos.",
        options=(JSON, INDEX), place="roots:show",
    ),
    Command(
        "roots move", "Tell the index that the photos of OLD are now in NEW.",
        (
            Argument(
                "old", "OLD", "The old folder: a root, or a folder above roots.", is_required=True, offers="folders"
            ),
            Argument("new", "NEW", "The new folder.", is_required=True, offers="folders"),
        ),
        (WAIT, JSON, QUIET, INDEX),
    ),
    Command(
        "notes", "Add your own notes to photos, and search them.",
        description="""\
A note stays with the photo when it is renamed, copied or edited. It is kept in the index, not in the file.

Examples:

  imgsearch notes add beach.jpg "the summer we lost the dog"

  imgsearch query "lost dog" --modality text""",
    ),
    Command(
        "notes add", "Add a note to one or more photos.",
        (
            Argument(
                "arguments", "FILE", "One or more indexed photos, then the text of the note.", is_list=True,
                is_required=True,
                offers="files",
            ),
        ),
        (WAIT, JSON, DEVICE, OFFLINE, QUIET, INDEX),
    ),
    Command(
        "notes list", "List notes, oldest first, with the photos they are about.",
        (Argument("file", "FILE", "Only notes about this photo.", offers="files"),), (JSON, QUIET, INDEX),
        place="notes:show",
    ),
    Command(
        "notes remove", "Remove notes about a photo.",
        (Argument("file", "FILE", "The photo. The file itself need not exist.", is_required=True, offers="files"),),
        (_NOTE_TEXT, WAIT, JSON, QUIET, INDEX),
    ),
    Command(
        "export", "Write photos with their metadata, texts and vectors to a file.",
        (_FILE_OUT,),
        (
            Option(
                "form", "--format", "The format. Default: the one that the name of the file suggests.",
                choices=_FORMATS, group=OUTPUT,
            ),
            JSON, QUIET, INDEX,
        ),
    ),
    Command(
        "import", "Import vectors and notes from a file that `imgsearch export` wrote.",
        (
            Argument(
                "file", "FILE", "The file to read, in any format; - is standard input.", is_required=True,
                offers="files",
            ),
        ),
        (WAIT, JSON, QUIET, INDEX),
        place="export:import_file",
    ),
    Command(
        "calibrate",
        "Recompute the statistics of the collection that ranking uses. `index` does this as the collection changes.",
        options=(
            Option(
                "hubness", "--hubness",
                "In later searches, rank photos that match any words lower. Off by default.",
                type=bool, off="--no-hubness",
            ),
            WAIT, JSON, DEVICE, OFFLINE, QUIET, INDEX,
        ),
    ),
    _EVAL,
    Command(
        "train-composer",
        "Train the weights of a composition method for your model.",
        description="""\
For `imgsearch query --compose`. `restyle` is trained from photos alone, `gated` from photos with captions, and `lincir`
from texts alone.

Examples:

  imgsearch train-composer restyle --out mine.safetensors

  imgsearch train-composer gated --captions captions.jsonl

  imgsearch train-composer lincir --captions captions.txt""",
    ),
    _TRAIN_RESTYLE,
    _TRAIN_GATED,
    _TRAIN_LINCIR,
)
COMMANDS = {command.name: command for command in ALL}
"""By name, in the order of the help; a group before its commands."""


def within(name: str, commands: dict[str, Command]) -> list[Command]:
    """The commands directly in a group; those of the program itself for an empty name."""
    return [each for each in commands.values() if each.words[:-1] == tuple(name.split())]
