"""Answer a query, once its arguments are read: ask a running server or search here, and print the hits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import ImgsearchError, UsageError
from imgsearch.core.paths import printable
from imgsearch.core.serving import protocol

from .output import render
from .output.hits import FIELDS, HitPrinter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from imgsearch.core.errors import QueryError
    from imgsearch.core.models.towers import QueryEmbedder
    from imgsearch.core.search.explain import Explanation
    from imgsearch.core.search.grammar import Query
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.options import SearchOptions
    from imgsearch.core.search.query_arguments import QueryArguments
    from imgsearch.core.search.searcher import Searcher

    from .output.sheets import Sheet

    OnExplained = Callable[[Explanation], None]
    Show = Callable[[str, Sequence[Hit]], None]

# Queries of standard input answered together: enough to share one pass over the vectors, few enough to see progress.
QUERIES_AT_ONCE = 1024
BYTES_AT_ONCE = 1 << 20


def answer(asked: QueryArguments) -> int:
    """The command `imgsearch query`. Returns the exit code."""
    code = _answer(asked)
    with contextlib.suppress(ImgsearchError):  # it has been answered; with filters it may be no valid query
        _mention_filters(asked)
    return code


def _answer(asked: QueryArguments) -> int:
    method, colon, file = (asked.compose or "").partition(":")
    if colon:  # a server has another working directory
        asked = asked._replace(compose=f"{method}:{os.path.abspath(os.path.expanduser(file))}")
    printer, sheet = _outputs(asked)
    render.set_quiet(asked.quiet)
    explains = (lambda explanation: _explain(explanation, as_json=asked.as_json)) if asked.explain else None
    log = None
    if asked.verbose:
        from .output.verbose import QueryLog

        has_filters = bool(asked.filters())
        log = QueryLog(asked.index, asked.strategy, asked.modality, has_filters=has_filters, then=explains)
    on_explained = log or explains
    statistics = asked.explain or printer.shows_statistics

    def show(typed: str, hits: Sequence[Hit]) -> None:
        """Print the hits of one query, and write them to a page where one was asked for."""
        if sheet is None or not sheet.is_stdout:
            printer.print(hits)
            render.flush()
        if sheet is not None:
            sheet.write(typed, hits, asked.options(statistics=False))

    def on_failure(reason: str) -> None:
        if asked.verbose:
            render.say(f"searching without the server: {reason}")

    if not asked.has_many and asked.device == "auto" and not (asked.no_server or asked.no_history):
        same = asked._replace(explain=on_explained is not None)
        found = protocol.ask(same, statistics=statistics, on_failure=on_failure)
        if found is not None:
            if log:
                log.is_warm = True
            return _print_warm(asked, found, show, on_explained)
    return _answer_here(asked, printer, show, on_explained, statistics=statistics)


def _answer_here(
    asked: QueryArguments, printer: HitPrinter, show: Show, on_explained: OnExplained | None, *, statistics: bool
) -> int:
    from imgsearch.core.search.query_texts import texts_of

    from .loading import open_store, query_embedder

    if asked.has_many:
        asked.refuse_for_lines()
    query = None if asked.has_many else asked.query()
    options = asked.options(statistics=statistics)
    with open_store(asked.index) as store:
        space = store.space_to_search()
        embedder = query_embedder(space, device=asked.device, offline=asked.offline, history=not asked.no_history)
        if query and query.reads_places:
            from imgsearch.core.search.place_words import with_places

            query = with_places(query, store)
        if query and (texts := texts_of(query, options, space.identity)):
            embedder.expect("text", sorted(texts))
        from imgsearch.core.compose.composers import composer_for  # while the tower loads
        from imgsearch.core.search.searcher import Searcher

        searcher = Searcher(store, lambda: embedder, store.view(space), composer_for)
        if query is None:
            blocks = map(_queries, typed_lines(QUERIES_AT_ONCE))
            code = answer_many(searcher, options, printer, blocks, asked.query_of_line, on_explained)
        else:
            hits = searcher.search(query, options, on_explained=on_explained)
            show(query.typed, hits)
            if not hits and not options.include_offline:
                _mention_offline(root.path for root in store.catalog.roots.all() if root.state == "offline")
            if not hits:
                _suggest_places(asked)
            code = 0 if hits else 1
        _mention_progress(store.progress())
    finish(embedder)
    return code


def answer_many(
    searcher: Searcher,
    options: SearchOptions,
    printer: HitPrinter,
    blocks: Iterable[list[str]],
    read: Callable[[str], Query],
    on_explained: OnExplained | None,
) -> int:
    """Answer every query of every block and print its hits. Returns the exit code.

    A query that `read` refuses, or that cannot be answered, is reported and skipped.
    """
    from imgsearch.core.errors import QueryError

    has_hits = has_errors = False

    def on_error(query: Query | None, error: QueryError) -> None:
        nonlocal has_errors
        has_errors = True
        render.print_error(error, as_json=printer.as_json)

    for block in blocks:
        queries = []
        for typed in block:
            try:
                queries.append(read(typed))
            except QueryError as error:
                on_error(None, error)
        for hits in searcher.search_many(queries, options, on_error=on_error, on_explained=on_explained):
            has_hits |= bool(hits)
            printer.print(hits)
        render.flush()
    return 2 if has_errors else 0 if has_hits else 1


def finish(embedder: QueryEmbedder) -> None:
    """After the hits. The output is closed first: what reads it can go on while a loaded model is exported."""
    render.flush()
    if embedder.model is not None:
        from .loading import export_towers

        render.close_output()
        export_towers(embedder.model)


def _outputs(asked: QueryArguments) -> tuple[HitPrinter, Sheet | None]:
    """What prints the hits, and the page they go to. Raises UsageError for forms that exclude each other."""
    refuse_two_forms(as_json=asked.as_json, paths=asked.paths, print0=asked.print0)
    is_for_programs = asked.as_json or asked.paths or asked.print0 or asked.fields is not None
    if asked.fields is not None and (asked.paths or asked.print0):
        raise UsageError("--fields cannot be combined with --paths and --print0", hint="leave out one of them")
    if asked.preview and is_for_programs:
        hint = "leave out one of them"
        raise UsageError("--preview cannot be combined with --json, --paths, --print0 and --fields", hint=hint)
    sheet = previews = None
    if asked.html is not None or asked.opens:
        from .output.sheets import sheet_for

        sheet = sheet_for(
            asked.html,
            opens=asked.opens,
            limit=asked.limit,
            has_many=asked.has_many,
            prints_otherwise=is_for_programs or asked.preview,
        )
    if asked.preview:
        from .output.previews import previews_here

        previews = previews_here()
    printer = HitPrinter(
        as_json=asked.as_json,
        paths=asked.paths,
        print0=asked.print0,
        has_many=asked.has_many,
        metadata=asked.metadata,
        fields=_fields(asked.fields),
        previews=previews,
    )
    return printer, sheet


def refuse_two_forms(*, as_json: bool, paths: bool, print0: bool) -> None:
    if as_json + paths + print0 > 1:
        raise UsageError("--json, --paths and --print0 cannot be combined", hint="choose one")


def _fields(typed: str | None) -> tuple[str, ...]:
    if typed is None:
        return ()
    names = tuple(name.strip() for name in typed.split(",") if name.strip())
    unknown = [name for name in names if name not in FIELDS]
    if unknown or not names:
        complaint = f"no field {unknown[0]!r}" if unknown else "--fields names no field"
        raise UsageError(complaint, hint=f"the fields are: {', '.join(FIELDS)}")
    return names


def _explain(explanation: Explanation, *, as_json: bool) -> None:
    render.flush()
    if as_json:
        sys.stderr.write(json.dumps({"explain": explanation.record}) + "\n")
    else:
        sys.stderr.write("".join(f"{line}\n" for line in explanation.lines()))
    sys.stderr.flush()


def _mention_filters(asked: QueryArguments) -> None:
    """That words which were searched could be filters: dates and file names. Only on a terminal, and after the hits."""
    if asked.natural or asked.verbatim or asked.quiet or asked.has_many or not (asked.words and sys.stderr.isatty()):
        return
    from imgsearch.core.search.natural import may_have_filters, may_name_place

    render.flush()
    words = " ".join(asked.words)
    if not (may_have_filters(words) or may_name_place(words)):
        return
    query = asked._replace(natural=True).query()
    if may_name_place(words):
        from imgsearch.core.search.place_words import with_places

        from .loading import open_store

        with open_store(asked.index) as store:
            query = with_places(query, store)
    if query.phrases:
        words = " and ".join(f'"{phrase.words}"' for phrase in query.phrases)
        render.say(f"to use {printable(words)} as a filter instead of words: --natural")


def _mention_offline(roots: Iterable[str]) -> None:
    """Why nothing was found where something used to be."""
    for path in roots:
        render.warn(f"{printable(path)} is offline and its photos are hidden (see: imgsearch status)")


def _suggest_places(asked: QueryArguments) -> None:
    """Where nothing was found at a place: names of the index that are spelled like it."""
    if not asked.place:
        return
    from imgsearch.core.search.place_names import near_spellings

    from .loading import open_store

    with open_store(asked.index) as store:
        names = near_spellings(asked.place, store)
    if names:
        render.say(f"did you mean {' or '.join(f'--place {printable(name)!r}' for name in names)}?")


def _mention_progress(progress: object) -> None:
    """That the index is being filled, so that a photo may be missing."""
    if progress is not None:
        render.flush()
        render.say(f"still indexing: {progress} done")


def _print_warm(
    asked: QueryArguments, answer: protocol.ServerAnswer, show: Show, on_explained: OnExplained | None
) -> int:
    """Print what a running server found, exactly as if it had been found here."""
    if on_explained and answer.explanation is not None:
        from imgsearch.core.search.explain import Explanation

        on_explained(Explanation(answer.explanation))
    show(answer.typed, answer.hits)
    _mention_offline(answer.offline)
    if not answer.hits:
        _suggest_places(asked)
    _mention_progress(answer.progress)
    render.flush()
    return 0 if answer.hits else 1


def typed_lines(at_once: int) -> Iterator[list[bytes]]:
    """The lines of standard input as they arrive, up to `at_once` together."""
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
