"""`imgsearch query`: ask."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Optional

import typer

from imgsearch.cli import options, run_query
from imgsearch.core.search.query_arguments import QueryArguments


def query(
    words: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time
        typer.Argument(
            metavar="WORDS...",
            help="What to look for: words, a picture, or `words like PICTURE`. `-` reads one query a line from "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--image", "-i", metavar="PATH", help="A picture to search by; may be repeated."),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--text", "-t", metavar="WORDS", help="Words to search by, taken as they are."),
    ] = None,
    negatives: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--not", metavar="WORDS", help="What should not be shown; may be repeated."),
    ] = None,
    change_from: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="WORDS", help="With --to and a picture: what is there to see now."),
    ] = None,
    change_to: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--to", metavar="WORDS", help="With --from and a picture: what should be there instead."),
    ] = None,
    more_like: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--more-like", metavar="PATH", help="Draw the answer towards this picture; may be repeated."),
    ] = None,
    less_like: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--less-like", metavar="PATH", help="Draw the answer away from this picture; may be repeated."),
    ] = None,
    any_of: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--any", metavar="QUERY", help="Words or a picture of which any will do; give several."),
    ] = None,
    all_of: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--all", metavar="QUERY", help="Words or a picture of which all must fit; give several."),
    ] = None,
    natural: Annotated[
        bool, typer.Option("--natural", help="Take `without` and `not` before words for a minus.")
    ] = False,
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="Take all of WORDS as words, whatever they look like.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many photos.")] = 10,
    min_score: options.MinScore = None,
    min_z: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--min-z",
            metavar="Z",
            help="Only photos that stand out from the collection by so many standard deviations.",
        ),
    ] = None,
    auto_cut: Annotated[
        bool, typer.Option("--auto-cut", help="Stop where relevance stops, which may be before the first photo.")
    ] = False,
    after: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--after", metavar="DATE", help="Taken on this day or later: 2024-07-03, 2024-07, 2024, 30d, yesterday."
        ),
    ] = None,
    before: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--before", metavar="DATE", help="Taken on this day or earlier."),
    ] = None,
    camera: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--camera", metavar="CAMERA", help="Taken with a camera whose name has this in it; may be repeated."
        ),
    ] = None,
    lens: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--lens", metavar="LENS", help="Taken with a lens whose name has this in it; may be repeated."),
    ] = None,
    near: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--near", metavar="LAT,LON,RADIUS", help="Taken within the radius: 48.85,2.35,5km."),
    ] = None,
    rating: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--rating", metavar="STARS", help="Rated at least so: 4; or =3, 3-5."),
    ] = None,
    keyword: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--keyword", metavar="KEYWORD", help="With this keyword; may be repeated for all of them."),
    ] = None,
    under: options.Under = None,
    glob: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Only files whose name, or path if it has a slash, matches; may be repeated.",
        ),
    ] = None,
    ext: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--ext", metavar="EXTENSION", help="Only files with this extension: jpg, or jpg,png; may be repeated."
        ),
    ] = None,
    min_size: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--min-size", metavar="SIZE", help="At least so large: 1600x1200, 12MP, or a file of 500kB."),
    ] = None,
    orientation: Annotated[
        Optional[list[options.Orientation]],  # noqa: UP045
        typer.Option("--orientation", help="Only pictures of this shape; may be repeated."),
    ] = None,
    has: Annotated[
        Optional[list[options.Has]],  # noqa: UP045
        typer.Option("--has", help="Only photos that say where, what or when; may be repeated."),
    ] = None,
    root: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--root", metavar="ROOT", help="Only photos of this root, by path or by its last part; may be repeated."
        ),
    ] = None,
    sort: Annotated[
        options.SortBy,
        typer.Option("--sort", help="Order in which the photos found are shown; which they are, relevance decides."),
    ] = options.SortBy.score,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="Show them the other way round.")] = False,
    group: options.Group = None,
    diverse: Annotated[
        float,
        typer.Option("--diverse", metavar="LAMBDA", help="Prefer photos that differ: 0 not at all, 1 above all."),
    ] = 0.0,
    modality: Annotated[
        options.SearchIn,
        typer.Option("--modality", help="Search the pictures, the texts that photos carry, or both."),
    ] = options.SearchIn.image,
    compose: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--compose",
            metavar="METHOD",
            help="How a picture and words go together: and, lerp, slerp, add, product, weicom, basic, basic-style or "
            "pdv. Default: lerp, or pdv with --from.",
        ),
    ] = None,
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weight", "-w", metavar="W", help="Of the words: 0 is the picture alone, 1 the words alone."),
    ] = None,
    exact: options.Exact = None,
    as_json: options.Json = False,
    paths: options.Paths = False,
    print0: options.Print0 = False,
    metadata: options.Metadata = False,
    fields: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--fields", metavar="FIELDS", help="Print these: path,score,taken_at,camera ... (docs/json.md)."),
    ] = None,
    html: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--html", metavar="FILE", help="Also write the photos found as a web page that stands alone; - is stdout."
        ),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="With --html: show the page in the browser.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="On a terminal: draw the photos found.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say on stderr how the query was read and answered.")
    ] = False,
    include_reference: Annotated[
        bool,
        typer.Option("--include-reference", help="Do not leave out the pictures asked with, nor copies of them."),
    ] = False,
    include_offline: options.IncludeOffline = False,
    no_history: Annotated[
        bool,
        typer.Option("--no-history", help="Neither use nor keep the vectors of texts that were asked before."),
    ] = False,
    no_server: Annotated[
        bool, typer.Option("--no-server", help="Answer in this process, though `imgsearch serve` is running.")
    ] = False,
    device: options.Device = "auto",
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    index: options.Index = None,
) -> int:
    """Find photos by words, by a picture, or by a picture plus a change.

    Words need no quotes. A picture is asked with by its path. `red dress like this.jpg` looks for photos that are
    like this.jpg, but with a red dress; `beach -people` for beaches without people (with quotes, or: beach --not
    people). Exit code 1 says that nothing was found. All of the language: docs/queries.md.

    Examples:

      imgsearch query sunset over the sea

      imgsearch query beach.jpg

      imgsearch query "red dress like this.jpg" --json | jq -r .path

      imgsearch query "beach -people" --after 2023 --camera fuji --auto-cut

      imgsearch query dog -0 | xargs -0 feh
    """
    return run_query.answer(_arguments(locals()))


def _arguments(values: dict[str, Any]) -> QueryArguments:
    typed = {name: () if name in _LISTS and value is None else value for name, value in values.items()}
    return QueryArguments(**{name: _plain(value) for name, value in typed.items()})


_LISTS = {name for name, default in QueryArguments._field_defaults.items() if default == ()}


def _plain(value: Any) -> Any:
    """As typer gives it, without its lists and enumerations."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.value if isinstance(value, Enum) else value
