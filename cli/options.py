"""Options that several commands share, each worded once."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Optional

import typer

from .output import render


class SearchIn(StrEnum):
    image = "image"
    text = "text"
    any = "any"


class SortBy(StrEnum):
    score = "score"
    date = "date"
    path = "path"
    size = "size"


class GroupBy(StrEnum):
    duplicates = "duplicates"
    burst = "burst"
    day = "day"
    place = "place"


class Orientation(StrEnum):
    landscape = "landscape"
    portrait = "portrait"
    square = "square"


class Has(StrEnum):
    gps = "gps"
    caption = "caption"
    date = "date"


class DecodeMode(StrEnum):
    fast = "fast"
    exact = "exact"


class Precision(StrEnum):
    auto = "auto"
    fp16 = "fp16"
    bf16 = "bf16"
    fp32 = "fp32"


Index = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time
    typer.Option(
        "--index",
        metavar="DIR",
        help="The index to use. Default: $IMGSEARCH_INDEX, else the nearest .imgsearch/ at or above the "
        "working directory, else the one that `imgsearch config` settles, else one in your data directory.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout, one object each.")]


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cuda(:\d+)?|mps|cpu", name):
        raise typer.BadParameter(f"{name!r} is not auto, cuda, cuda:N, mps or cpu")
    return name


Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cuda[:N]|mps|cpu",
        help="Where the model runs.",
        show_default=True,
        callback=_check_device,
    ),
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="Number format of the model; auto chooses by device.")
]
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="builtin, an alias (`imgsearch models`), an open_clip ARCH/TAG, hf-hub:ORG/REPO, local-dir:DIR, "
        "or auto. Default: the model the index has, else auto.",
    ),
]
Exclude = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Pass over what matches, as in .gitignore; may be repeated. Remembered with the folder.",
    ),
]
Hidden = Annotated[
    bool,
    typer.Option("--hidden", help="Also files and folders whose name starts with a dot; remembered as --exclude is."),
]
Decode = Annotated[
    DecodeMode, typer.Option("--decode", help="fast reads large JPEGs at a reduced size; exact reads every pixel.")
]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--workers", min=1, metavar="N", help="Files decoded at once. Default: one a core."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing: use only models that are on this machine.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="If another process is writing to the index, go on when it has finished.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=render.set_quiet, help="Say nothing but errors.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more on stderr: what is done, with what, and how long it takes.")
]
MinScore = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--min-score", metavar="S", help="Only photos with at least this score."),
]
Under = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--under", metavar="DIR", help="Only photos in this folder; may be repeated."),
]
Group = Annotated[
    Optional[GroupBy],  # noqa: UP045
    typer.Option("--group", help="Show the best photo of each group: near-copies, a burst, a day, or a place."),
]
Exact = Annotated[
    Optional[bool],  # noqa: UP045
    typer.Option(
        "--exact/--ann", help="Scan every vector, or use what HNSW graphs there are. Default: what is faster."
    ),
]
Paths = Annotated[bool, typer.Option("--paths", "-l", help="Print bare paths.")]
Print0 = Annotated[bool, typer.Option("--print0", "-0", help="Print bare paths, each ended by NUL.")]
Metadata = Annotated[
    bool, typer.Option("--metadata", help="Also print what is known of each photo: camera, place, keywords ...")
]
IncludeOffline = Annotated[bool, typer.Option("--include-offline", help="Also photos on disks that are not there now.")]
