"""`imgsearch query`: ask."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from . import options, render
from .hits import FIELDS, Printer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from imgsearch.core.arrange import Hit
    from imgsearch.core.catalog import Space
    from imgsearch.core.errors import QueryError
    from imgsearch.core.explain import Explanation
    from imgsearch.core.grammar import Query
    from imgsearch.core.light import QueryEmbedder
    from imgsearch.core.search import Options as SearchOptions
    from imgsearch.core.search import Searcher
    from imgsearch.core.store import Store
    from imgsearch.core.types import Embedder
    from imgsearch.core.warm import Answer

    from .sheets import Sheet

# Lines of standard input answered together: enough to share one pass over the vectors, few enough to see progress.
QUERIES_AT_ONCE = 1024
BYTES_AT_ONCE = 1 << 20
# Options that stand together after one dash, and the long ones that take no value: after any other a word may begin
# with a dash. Held equal to the command's own by a test.
SHORT_FLAGS = frozenset("lrh0")
FLAGS = frozenset(
    "--natural --verbatim --auto-cut --reverse --exact --ann --json --paths --print0 --metadata --explain --open "
    "--preview --include-reference --include-offline --no-history --no-server --offline --help".split()
)


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
            "--camera", metavar="NAME_PART", help="Taken with a camera whose name has this in it; may be repeated."
        ),
    ] = None,
    lens: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--lens", metavar="NAME_PART", help="Taken with a lens whose name has this in it; may be repeated."
        ),
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
        typer.Option("--keyword", metavar="WORD", help="With this keyword; may be repeated for all of them."),
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
    from imgsearch.core.errors import UsageError

    if (as_json + paths + print0) > 1:
        raise UsageError("--json, --paths and --print0 exclude each other", hint="choose one")
    if fields is not None and (paths or print0):
        raise UsageError("--fields goes with columns or --json, not with bare paths", hint="leave out one of them")
    if preview and (as_json or paths or print0 or fields is not None):
        hint = "leave out one of them"
        raise UsageError("--preview draws for people, not beside --json, --paths, --print0 or --fields", hint=hint)
    has_many = words == ["-"]
    sheet = previews = None
    if html is not None or opens:
        from .sheets import sheet_for

        prints_otherwise = as_json or paths or print0 or preview or fields is not None
        sheet = sheet_for(html, opens=opens, limit=limit, has_many=has_many, prints_otherwise=prints_otherwise)
    if preview:
        from .previews import previews_here

        previews = previews_here()
    printer = Printer(
        as_json=as_json,
        paths=paths,
        print0=print0,
        has_many=has_many,
        metadata=metadata,
        fields=_fields(fields),
        previews=previews,
    )
    asked = _Asked(
        images=tuple(image or ()),
        text=text,
        negatives=tuple(negatives or ()),
        change_from=change_from,
        change_to=change_to,
        more_like=tuple(more_like or ()),
        less_like=tuple(less_like or ()),
        any_of=tuple(any_of or ()),
        all_of=tuple(all_of or ()),
        natural=natural,
        verbatim=verbatim,
    )
    narrowed: dict[str, Any] = {
        "after": after,
        "before": before,
        "camera": tuple(camera or ()),
        "lens": tuple(lens or ()),
        "near": near,
        "rating": rating,
        "keyword": tuple(keyword or ()),
        "under": tuple(under or ()),
        "glob": tuple(glob or ()),
        "ext": tuple(ext or ()),
        "min_size": min_size,
        "orientation": tuple(each.value for each in orientation or ()),
        "has": tuple(each.value for each in has or ()),
        "root": tuple(root or ()),
    }
    how: dict[str, Any] = {
        "limit": limit,
        "min_score": min_score,
        "min_z": min_z,
        "auto_cut": auto_cut,
        "modality": modality.value,
        "method": compose,
        "weight": weight,
        "sort": sort.value,
        "reverse": reverse,
        "group": group.value if group else None,
        "diverse": diverse,
        "strategy": "auto" if exact is None else "exact" if exact else "ann",
        "include_reference": include_reference,
        "include_offline": include_offline,
        "statistics": explain or printer.shows_statistics,
    }
    on_explained = _explainer(as_json=as_json) if explain else None
    if has_many:
        asked.check_lines()
    one = None if has_many else asked.query(words or [])
    if one and device == "auto" and not (no_server or no_history):
        from imgsearch.core import warm

        answer = warm.ask(index, one, how, narrowed, explain=explain, offline=offline)
        if answer is not None:
            return _print_warm(answer, _Show(printer, sheet, one, how, narrowed), on_explained)
    from imgsearch.core.filters import Filters
    from imgsearch.core.questions import texts_of
    from imgsearch.core.search import Options

    from .loading import open_store, query_embedder

    search_options = Options(**how, filters=Filters(**narrowed))
    with open_store(index) as store:
        space = store.space_to_search()
        embedder = query_embedder(space, device=device, offline=offline, history=not no_history)
        if one and (texts := texts_of(one, search_options, space.identity)):
            embedder.expect("text", sorted(texts))
        searcher = _searcher(store, space, embedder)
        if one is None:
            code = _answer_lines(searcher, search_options, printer, asked, on_explained)
        else:
            hits = searcher.search(one, search_options, on_explained=on_explained)
            _Show(printer, sheet, one, how, narrowed)(hits)
            if not hits and not include_offline:
                _mention_offline(root.path for root in store.catalog.roots() if root.state == "offline")
            code = 0 if hits else 1
    render.flush()
    _make_light(embedder)
    return code


def refuse_dashed_words(arguments: list[str]) -> None:
    """`-night` would be read as `-n ight`. Raises UsageError for such a word, with what was probably meant."""
    from imgsearch.core.errors import UsageError

    previous = ""
    for word in arguments:
        if word == "--":
            return
        is_value = previous == "-t" or (previous.startswith("--") and "=" not in previous and previous not in FLAGS)
        letters = re.fullmatch(r"-([^\W\d_]{2,})", word)
        if letters and not is_value and not set(letters[1]) <= SHORT_FLAGS:
            hint = f"to leave out photos of that: --not {letters[1]}, or the whole query in quotes"
            raise UsageError(f"{word} is no option", hint=hint)
        previous = word


def _fields(typed: str | None) -> tuple[str, ...]:
    from imgsearch.core.errors import UsageError

    if typed is None:
        return ()
    names = tuple(name.strip() for name in typed.split(",") if name.strip())
    unknown = [name for name in names if name not in FIELDS]
    if unknown or not names:
        complaint = f"no field {unknown[0]!r}" if unknown else "--fields names none"
        raise UsageError(complaint, hint=f"there are: {', '.join(FIELDS)}")
    return names


def _explainer(*, as_json: bool) -> Callable[[Explanation], None]:
    def explain(explanation: Explanation) -> None:
        render.flush()
        if as_json:
            sys.stderr.write(json.dumps({"explain": explanation.record}) + "\n")
        else:
            sys.stderr.write("".join(f"{line}\n" for line in explanation.lines()))
        sys.stderr.flush()

    return explain


def _mention_offline(roots: Iterable[str]) -> None:
    """Why nothing may have been found where something used to be."""
    from imgsearch.core.paths import printable

    for path in roots:
        render.say(f"{printable(path)} is offline and its photos are hidden (see: imgsearch status)")


@dataclass(frozen=True, slots=True)
class _Show:
    """Hits of one query, printed and put on a sheet where one was asked for."""

    printer: Printer
    sheet: Sheet | None
    query: Query
    how: dict[str, Any]
    narrowed: dict[str, Any]

    def __call__(self, hits: Sequence[Hit]) -> None:
        if self.sheet is None or not self.sheet.is_stdout:
            self.printer.print(hits)
            render.flush()
        if self.sheet is not None:
            self.sheet.write(self.query.typed, hits, self.how, self.narrowed)


def _print_warm(answer: Answer, show: _Show, on_explained: Callable[[Explanation], None] | None) -> int:
    """What a running server found, printed as if it had been found here."""
    if on_explained and answer.explanation is not None:
        from imgsearch.core.explain import Explanation

        on_explained(Explanation(answer.explanation))
    show(answer.hits)
    _mention_offline(answer.offline)
    render.flush()
    return 0 if answer.hits else 1


def _searcher(store: Store, space: Space, embedder: Embedder) -> Searcher:
    from imgsearch.core.search import Searcher

    return Searcher(store, lambda: embedder, store.view(space))


def _make_light(embedder: QueryEmbedder) -> None:
    """The answer is out: whoever reads it from a pipe can go on, though the process takes longer this once."""
    if embedder.whole is not None:
        from .loading import make_light

        render.close_output()
        make_light(embedder.whole)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the options add to the words."""

    images: tuple[str, ...]
    text: str | None
    negatives: tuple[str, ...]
    change_from: str | None
    change_to: str | None
    more_like: tuple[str, ...]
    less_like: tuple[str, ...]
    any_of: tuple[str, ...]
    all_of: tuple[str, ...]
    natural: bool
    verbatim: bool

    def query(self, words: list[str]) -> Query:
        """The one query that arguments and options make together."""
        from imgsearch.core import grammar
        from imgsearch.core.errors import UsageError

        if words and self.text is not None:
            raise UsageError("words twice: as arguments and as --text", hint="give them once")
        if words:
            return self._combined(self._parsed(" ".join(words)), self.images)
        if self.text is not None or (self.images and not self._has_parts):
            return self._combined(grammar.explicit(self.text, self.images), ())
        if not (self.images or self._has_parts):
            raise UsageError("nothing to look for", hint='say it: imgsearch query "sunset over the sea", or see --help')
        return self._combined(None, self.images)

    def line(self, line: str) -> Query:
        """One query of many."""
        return self._combined(self._parsed(line), ())

    def check_lines(self) -> None:
        """Many queries share what narrows each of them, not what one of them would consist of."""
        from imgsearch.core.errors import UsageError

        if self.images or self.text is not None or self.change_from is not None or self.change_to is not None:
            raise UsageError(
                "`-` goes without --image, --text, --from and --to",
                hint="put the pictures into the lines that are read",
            )
        if self.any_of or self.all_of:
            raise UsageError("`-` goes without --any and --all", hint="ask one such query at a time")

    @property
    def _has_parts(self) -> bool:
        return bool(
            self.negatives
            or self.change_from is not None
            or self.change_to is not None
            or self.more_like
            or self.less_like
            or self.any_of
            or self.all_of
        )

    def _parsed(self, typed: str) -> Query:
        from imgsearch.core import grammar

        return grammar.parse(typed, natural=self.natural, verbatim=self.verbatim)

    def _combined(self, base: Query | None, images: tuple[str, ...]) -> Query:
        from imgsearch.core import grammar

        if base is not None and not (images or self._has_parts):
            return base
        return grammar.combine(
            base,
            images=images,
            negatives=self.negatives,
            change_from=self.change_from,
            change_to=self.change_to,
            more_like=self.more_like,
            less_like=self.less_like,
            any_of=self.any_of,
            all_of=self.all_of,
            verbatim=self.verbatim,
        )


def _answer_lines(
    searcher: Searcher,
    search_options: SearchOptions,
    printer: Printer,
    asked: _Asked,
    on_explained: Callable[[Explanation], None] | None,
) -> int:
    """Answer every line of standard input; a line that is no query is complained of and passed over."""
    from imgsearch.core.errors import QueryError

    has_hits = has_errors = False

    def on_error(query: Query | None, error: QueryError) -> None:
        nonlocal has_errors
        has_errors = True
        render.complain(error, as_json=printer.as_json)

    for lines in _blocks():
        queries = []
        for line in lines:
            try:
                queries.append(asked.line(line))
            except QueryError as error:
                on_error(None, error)
        for hits in searcher.search_many(queries, search_options, on_error=on_error, on_explained=on_explained):
            has_hits |= bool(hits)
            printer.print(hits)
        render.flush()
    if has_errors:
        return 2
    return 0 if has_hits else 1


def _blocks() -> Iterator[list[str]]:
    """The lines of standard input as they come, many at a time if many are there."""
    if sys.stdin is None:
        return
    rest = b""
    source: Any = sys.stdin.buffer  # typed without read1, which it has
    while data := source.read1(BYTES_AT_ONCE):
        *lines, rest = (rest + data).split(b"\n")
        for start in range(0, len(lines), QUERIES_AT_ONCE):
            yield _queries(lines[start : start + QUERIES_AT_ONCE])
    yield _queries([rest])


def _queries(lines: list[bytes]) -> list[str]:
    return [line for line in (os.fsdecode(raw.removeprefix(b"\xef\xbb\xbf").strip()) for raw in lines) if line]
