"""`imgsearch similar`: photos like a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imgsearch.cli.output.hits import HitPrinter
from imgsearch.cli.run_query import answer_many, finish, refuse_two_forms, typed_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgsearch.core.search.choices import GroupBy
    from imgsearch.core.search.grammar import Query

# Pictures searched by together: enough to share one pass over the vectors, few enough to see progress.
PICTURES_AT_ONCE = 256


def similar(
    *,
    files: tuple[str, ...],
    limit: int,
    min_score: float | None,
    under: tuple[str, ...],
    group: GroupBy | None,
    exact: bool | None,
    as_json: bool,
    paths: bool,
    print0: bool,
    metadata: bool,
    include_reference: bool,
    include_offline: bool,
    device: str,
    offline: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Find photos like a picture.

    Several pictures are searched one after another. Arguments are always paths, never words. With `-`, each
    result also names the picture it belongs to, as with `query -`. Copies of the picture are results too; --group
    duplicates shows only one of them. Exit code 1 means that nothing was found for any picture.

    Examples:

      imgsearch similar beach.jpg

      find ~/New -name '*.jpg' | imgsearch similar - -n 1 --json | jq -r '[.query, .path, .score] | @tsv'
    """
    from imgsearch.cli.loading import open_store, query_embedder
    from imgsearch.cli.output.verbose import QueryLog
    from imgsearch.core.errors import UsageError
    from imgsearch.core.search.filters import Filters
    from imgsearch.core.search.options import SearchOptions
    from imgsearch.core.search.searcher import Searcher

    refuse_two_forms(as_json=as_json, paths=paths, print0=print0)
    if "-" in files and len(files) > 1:
        raise UsageError("`-` cannot be combined with other files", hint="put their paths on standard input")
    has_many = files == ("-",) or len(files) > 1
    printer = HitPrinter(as_json=as_json, paths=paths, print0=print0, has_many=has_many, metadata=metadata)
    search_options = SearchOptions(
        limit=limit,
        min_score=min_score,
        filters=Filters(under=under),
        group=group,
        strategy="auto" if exact is None else "exact" if exact else "ann",
        include_reference=include_reference,
        include_offline=include_offline,
        statistics=printer.shows_statistics,
    )
    log = QueryLog(index, search_options.strategy, "image", has_filters=bool(under)) if verbose else None
    with open_store(index) as store:
        space = store.space_to_search()
        embedder = query_embedder(space, device=device, offline=offline, history=False)
        searcher = Searcher(store, lambda: embedder, store.view(space))
        code = answer_many(searcher, search_options, printer, _blocks(files), _picture, log)
    finish(embedder)
    return code


def _picture(file: str) -> Query:
    from imgsearch.core.errors import QueryError
    from imgsearch.core.search import grammar

    try:
        return grammar.explicit(None, (file,))
    except QueryError as error:
        raise QueryError(str(error), hint="check the name") from error


def _blocks(files: tuple[str, ...]) -> Iterator[list[str]]:
    """The pictures, some at a time; those of standard input as they arrive."""
    if files != ("-",):
        for start in range(0, len(files), PICTURES_AT_ONCE):
            yield list(files[start : start + PICTURES_AT_ONCE])
        return
    for lines in typed_lines(PICTURES_AT_ONCE):
        yield [os.fsdecode(line) for line in lines if line.strip()]
