"""`imgsearch query`: ask."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from . import options, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imgsearch.core.catalog import Space
    from imgsearch.core.errors import QueryError
    from imgsearch.core.grammar import Query
    from imgsearch.core.light import QueryEmbedder
    from imgsearch.core.search import Hit, Searcher
    from imgsearch.core.search import Options as SearchOptions
    from imgsearch.core.store import Store
    from imgsearch.core.types import Embedder

# Lines of standard input answered together: enough to share one pass over the vectors, few enough to see progress.
QUERIES_AT_ONCE = 1024
BYTES_AT_ONCE = 1 << 20


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
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many photos.")] = 10,
    min_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--min-score", metavar="S", help="Only photos with at least this score."),
    ] = None,
    under: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--under", metavar="DIR", help="Only photos in this folder; may be repeated."),
    ] = None,
    modality: Annotated[
        options.SearchIn,
        typer.Option("--modality", help="Search the pictures, the texts that photos carry, or both."),
    ] = options.SearchIn.image,
    compose: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--compose",
            metavar="METHOD",
            help="How a picture and words go together: and, lerp, slerp, add, product or weicom. Default: lerp.",
        ),
    ] = None,
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--weight", "-w", metavar="W", help="Of the words: 0 is the picture alone, 1 the words alone."),
    ] = None,
    exact: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--exact/--ann", help="Scan every vector, or use what HNSW graphs there are. Default: what is faster."
        ),
    ] = None,
    as_json: options.Json = False,
    paths: Annotated[bool, typer.Option("--paths", "-l", help="Print bare paths.")] = False,
    print0: Annotated[bool, typer.Option("--print0", "-0", help="Print bare paths, each ended by NUL.")] = False,
    include_reference: Annotated[
        bool,
        typer.Option("--include-reference", help="Do not leave out the picture asked with, nor copies of it."),
    ] = False,
    include_offline: Annotated[
        bool, typer.Option("--include-offline", help="Also photos on disks that are not there now.")
    ] = False,
    no_history: Annotated[
        bool,
        typer.Option("--no-history", help="Neither use nor keep the vectors of texts that were asked before."),
    ] = False,
    device: options.Device = "auto",
    offline: options.Offline = False,
    index: options.Index = None,
) -> int:
    """Find photos by words, by a picture, or by a picture plus a change.

    Words need no quotes. A picture is asked with by its path. `red dress like this.jpg` looks for photos that are
    like this.jpg, but with a red dress. Exit code 1 says that nothing was found.

    Examples:

      imgsearch query sunset over the sea

      imgsearch query beach.jpg

      imgsearch query "red dress like this.jpg" --json | jq -r .path

      imgsearch query dog -0 | xargs -0 feh
    """
    from imgsearch.core.errors import UsageError

    if (as_json + paths + print0) > 1:
        raise UsageError("--json, --paths and --print0 exclude each other", hint="choose one")
    printer = _Printer(as_json=as_json, paths=paths, print0=print0, has_many=words == ["-"])
    from .loading import open_store, query_embedder

    if words == ["-"] and (image or text is not None):
        raise UsageError("`-` goes without --image and --text", hint="put the pictures into the lines that are read")
    asked = None if words == ["-"] else _query(words or [], image or [], text)
    with open_store(index) as store:
        space = store.space_to_search()
        embedder = query_embedder(space, device=device, offline=offline, history=not no_history)
        if asked and asked.text:
            embedder.expect("text", [asked.text])
        search_options = _search_options(
            limit, min_score, under, modality, compose, weight, exact, include_reference, include_offline
        )
        if asked is None:
            code = _answer_lines(_searcher(store, space, embedder), search_options, printer)
        else:
            hits = _searcher(store, space, embedder).search(asked, search_options)
            printer.print(hits)
            if not hits and not include_offline:
                _mention_offline(store)
            code = 0 if hits else 1
    render.flush()
    _make_light(embedder)
    return code


def _mention_offline(store: Store) -> None:
    """Why nothing may have been found where something used to be."""
    from imgsearch.core.paths import printable

    for root in store.catalog.roots():
        if root.state == "offline":
            render.say(f"{printable(root.path)} is offline and its photos are hidden (see: imgsearch status)")


def _search_options(
    limit: int,
    min_score: float | None,
    under: list[str] | None,
    modality: options.SearchIn,
    method: str | None,
    weight: float | None,
    exact: bool | None,
    include_reference: bool,
    include_offline: bool,
) -> SearchOptions:
    from imgsearch.core.compose import DEFAULT_METHOD
    from imgsearch.core.search import Options

    return Options(
        limit=limit,
        min_score=min_score,
        under=tuple(under or ()),
        modality=modality.value,
        method=method or DEFAULT_METHOD,
        weight=weight,
        strategy="auto" if exact is None else "exact" if exact else "ann",
        include_reference=include_reference,
        include_offline=include_offline,
    )


def _searcher(store: Store, space: Space, embedder: Embedder) -> Searcher:
    from imgsearch.core.search import Searcher

    return Searcher(store, lambda: embedder, store.view(space))


def _make_light(embedder: QueryEmbedder) -> None:
    """The answer is out: whoever reads it from a pipe can go on, though the process takes longer this once."""
    if embedder.whole is not None:
        from .loading import make_light

        render.close_output()
        make_light(embedder.whole)


def _query(words: list[str], images: list[str], text: str | None) -> Query:
    """The one query that arguments and options make together."""
    from imgsearch.core import grammar
    from imgsearch.core.errors import UsageError

    typed = " ".join(words)
    if not words:
        if not images and text is None:
            raise UsageError("nothing to look for", hint='say it: imgsearch query "sunset over the sea", or see --help')
        return grammar.explicit(text, tuple(images))
    if text is not None:
        raise UsageError("words twice: as arguments and as --text", hint="give them once")
    if not images:
        return grammar.parse(typed)
    asked = grammar.parse(typed)
    return grammar.explicit(asked.text, (*asked.images, *images), typed=typed)


def _answer_lines(searcher: Searcher, search_options: SearchOptions, printer: _Printer) -> int:
    """Answer every line of standard input; a line that is no query is complained of and passed over."""
    from imgsearch.core import grammar
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
                queries.append(grammar.parse(line))
            except QueryError as error:
                on_error(None, error)
        for hits in searcher.search_many(queries, search_options, on_error=on_error):
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


class _Printer:
    """Hits in the form asked for."""

    def __init__(self, *, as_json: bool, paths: bool, print0: bool, has_many: bool) -> None:
        self.as_json = as_json
        self._paths = paths
        self._print0 = print0
        self._has_many = has_many

    def print(self, hits: Sequence[Hit]) -> None:
        if self._has_many and hits and render.is_terminal() and not (self.as_json or self._paths or self._print0):
            render.emit(render.shown(hits[0].query))
        for hit in hits:
            self._print(hit)

    def _print(self, hit: Hit) -> None:
        if self.as_json:
            render.emit_json(hit_record(hit))
        elif self._print0:
            render.emit(os.fsencode(hit.path), end=b"\0")
        elif self._paths:
            render.emit(render.shown(hit.path))
        elif render.is_terminal():
            from imgsearch.core.paths import printable

            text = f"  {printable(hit.place.text)!r}" if hit.place.text else ""
            render.emit(f"{hit.score:7.3f}  {printable(hit.path)}{text}")
        else:
            fields = [f"{hit.score:.4f}".encode(), os.fsencode(hit.path)]
            if self._has_many:
                fields.insert(0, os.fsencode(hit.query))
            if hit.place.text:
                fields.append(" ".join(hit.place.text.split()).encode("utf-8", "replace"))
            render.emit(b"\t".join(fields))


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as `--json` shows it. Keys are only ever added (docs/json.md)."""
    from imgsearch.core.paths import path_fields

    place = hit.place
    taken_at = place.facts["taken_at"]
    if taken_at and place.facts["taken_offset"]:
        taken_at += place.facts["taken_offset"]
    record: dict[str, Any] = {
        **path_fields(hit.query, "query"),
        "rank": hit.rank,
        "score": round(hit.score, 6),
        "method": hit.method,
        **path_fields(hit.path),
        **path_fields(place.root, "root"),
        "modality": hit.modality,
        "taken_at": taken_at,
        "width": place.facts["width"],
        "height": place.facts["height"],
        "model": hit.model,
    }
    if place.text is not None:
        record["text"] = place.text
        record["text_source"] = place.text_source
    if place.pair is not None:
        record |= path_fields(f"{place.root.rstrip('/')}/{place.pair}", "pair")
    return record
