"""What `imgsearch query` does, once its arguments are read: ask a running server or this process, and print."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import UsageError
from imgsearch.core.serving import protocol

from .output import render
from .output.hits import FIELDS, Printer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from imgsearch.core.errors import QueryError
    from imgsearch.core.models.onnx_towers import QueryEmbedder
    from imgsearch.core.search.explain import Explanation
    from imgsearch.core.search.grammar import Query
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.options import SearchOptions
    from imgsearch.core.search.query_arguments import Asked
    from imgsearch.core.search.searcher import Searcher
    from imgsearch.core.store.catalog import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder

    from .output.sheets import Sheet
    from .output.verbose import Teller

# Lines of standard input answered together: enough to share one pass over the vectors, few enough to see progress.
QUERIES_AT_ONCE = 1024
BYTES_AT_ONCE = 1 << 20


def answer(asked: Asked) -> int:
    """The command, given its parameters by name. Returns the exit code."""
    as_json, has_many = asked["as_json"], asked["words"] == ["-"]
    printer, sheet = _outputs(asked, has_many=has_many)
    render.hush(asked["quiet"])
    on_explained = _explainer(as_json=as_json) if asked["explain"] else None
    teller = _teller(asked, on_explained) if asked["verbose"] else None
    statistics = asked["explain"] or printer.shows_statistics
    show = _Show(asked, printer, sheet)
    if not has_many and asked["device"] == "auto" and not (asked["no_server"] or asked["no_history"]):
        found = protocol.ask({**asked, "explain": asked["explain"] or asked["verbose"]}, statistics=statistics)
        if found is not None:
            if teller:
                teller.is_warm = True
            return _print_warm(found, show, teller or on_explained)
    from imgsearch.core.search.encoding import texts_of
    from imgsearch.core.search.query_arguments import options_of, query_of, refuse_for_lines

    from .loading import open_store, query_embedder

    if has_many:
        refuse_for_lines(asked)
    one = None if has_many else query_of(asked)
    options = options_of(asked, statistics=statistics)
    with open_store(asked["index"]) as store:
        space = store.space_to_search()
        embedder = query_embedder(
            space, device=asked["device"], offline=asked["offline"], history=not asked["no_history"]
        )
        if one and (texts := texts_of(one, options, space.identity)):
            embedder.expect("text", sorted(texts))
        searcher = _searcher(store, space, embedder)
        if one is None:
            code = _answer_lines(searcher, options, printer, asked, teller or on_explained)
        else:
            hits = searcher.search(one, options, on_explained=teller or on_explained)
            show(one.typed, hits)
            if not hits and not options.include_offline:
                _mention_offline(root.path for root in store.catalog.roots() if root.state == "offline")
            code = 0 if hits else 1
    render.flush()
    _make_light(embedder)
    return code


def _outputs(asked: Asked, *, has_many: bool) -> tuple[Printer, Sheet | None]:
    """What prints the hits, and the page they go to. Raises UsageError for forms that exclude each other."""
    as_json, paths, print0, preview = (asked[name] for name in ("as_json", "paths", "print0", "preview"))
    fields, html, opens = asked["fields"], asked["html"], asked["opens"]
    if (as_json + paths + print0) > 1:
        raise UsageError("--json, --paths and --print0 exclude each other", hint="choose one")
    if fields is not None and (paths or print0):
        raise UsageError("--fields goes with columns or --json, not with bare paths", hint="leave out one of them")
    if preview and (as_json or paths or print0 or fields is not None):
        hint = "leave out one of them"
        raise UsageError("--preview draws for people, not beside --json, --paths, --print0 or --fields", hint=hint)
    sheet = previews = None
    if html is not None or opens:
        from .output.sheets import sheet_for

        prints_otherwise = as_json or paths or print0 or preview or fields is not None
        sheet = sheet_for(html, opens=opens, limit=asked["limit"], has_many=has_many, prints_otherwise=prints_otherwise)
    if preview:
        from .output.previews import previews_here

        previews = previews_here()
    printer = Printer(
        as_json=as_json,
        paths=paths,
        print0=print0,
        has_many=has_many,
        metadata=asked["metadata"],
        fields=_fields(fields),
        previews=previews,
    )
    return printer, sheet


def _fields(typed: str | None) -> tuple[str, ...]:
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


def _teller(asked: Asked, then: Callable[[Explanation], None] | None) -> Teller:
    from dataclasses import fields

    from imgsearch.core.search.filters import Filters

    from .output.verbose import Teller

    exact = asked["exact"]
    return Teller(
        asked["index"],
        strategy="auto" if exact is None else "exact" if exact else "ann",
        modality=asked["modality"],
        narrowed={each.name: asked[each.name] for each in fields(Filters)},
        then=then,
    )


def _mention_offline(roots: Iterable[str]) -> None:
    """Why nothing may have been found where something used to be."""
    from imgsearch.core.paths import printable

    for path in roots:
        render.warn(f"{printable(path)} is offline and its photos are hidden (see: imgsearch status)")


class _Show:
    """Hits of one query, printed and put on a sheet where one was asked for."""

    def __init__(self, asked: Asked, printer: Printer, sheet: Sheet | None) -> None:
        self._asked = asked
        self._printer = printer
        self._sheet = sheet

    def __call__(self, typed: str, hits: Sequence[Hit]) -> None:
        if self._sheet is None or not self._sheet.is_stdout:
            self._printer.print(hits)
            render.flush()
        if self._sheet is not None:
            from imgsearch.core.search.query_arguments import options_of

            self._sheet.write(typed, hits, options_of(self._asked, statistics=False))


def _print_warm(answer: protocol.Answer, show: _Show, on_explained: Callable[[Explanation], None] | None) -> int:
    """What a running server found, printed as if it had been found here."""
    if on_explained and answer.explanation is not None:
        from imgsearch.core.search.explain import Explanation

        on_explained(Explanation(answer.explanation))
    show(answer.typed, answer.hits)
    _mention_offline(answer.offline)
    render.flush()
    return 0 if answer.hits else 1


def _searcher(store: Store, space: Space, embedder: Embedder) -> Searcher:
    from imgsearch.core.search.searcher import Searcher

    return Searcher(store, lambda: embedder, store.view(space))


def _make_light(embedder: QueryEmbedder) -> None:
    """The answer is out: whoever reads it from a pipe can go on, though the process takes longer this once."""
    if embedder.whole is not None:
        from .loading import make_light

        render.close_output()
        make_light(embedder.whole)


def _answer_lines(
    searcher: Searcher,
    options: SearchOptions,
    printer: Printer,
    asked: Asked,
    on_explained: Callable[[Explanation], None] | None,
) -> int:
    """Answer every line of standard input; a line that is no query is complained of and passed over."""
    from imgsearch.core.errors import QueryError
    from imgsearch.core.search.query_arguments import query_of_line

    has_hits = has_errors = False

    def on_error(query: Query | None, error: QueryError) -> None:
        nonlocal has_errors
        has_errors = True
        render.complain(error, as_json=printer.as_json)

    for lines in typed_lines(QUERIES_AT_ONCE):
        queries = []
        for line in _queries(lines):
            try:
                queries.append(query_of_line(asked, line))
            except QueryError as error:
                on_error(None, error)
        for hits in searcher.search_many(queries, options, on_error=on_error, on_explained=on_explained):
            has_hits |= bool(hits)
            printer.print(hits)
        render.flush()
    if has_errors:
        return 2
    return 0 if has_hits else 1


def typed_lines(at_once: int) -> Iterator[list[bytes]]:
    """The lines of standard input as they come, several at a time if several are there."""
    if sys.stdin is None:
        return
    rest = b""
    source: Any = sys.stdin.buffer  # typed without read1, which it has
    while data := source.read1(BYTES_AT_ONCE):
        *lines, rest = (rest + data).split(b"\n")
        for start in range(0, len(lines), at_once):
            yield lines[start : start + at_once]
    yield [rest]


def _queries(lines: list[bytes]) -> list[str]:
    return [line for line in (os.fsdecode(raw.removeprefix(b"\xef\xbb\xbf").strip()) for raw in lines) if line]
