"""`imgsearch similar`: photos like a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch.cli import options
from imgsearch.cli.output import render
from imgsearch.cli.output.hits import Printer
from imgsearch.cli.run_query import typed_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imgsearch.cli.output.verbose import Teller

# Lines of standard input answered together: enough to share one pass over the vectors, few enough to see progress.
PICTURES_AT_ONCE = 256


def similar(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Pictures, in the index or not; `-` reads one path a line from stdin."),
    ],
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many photos for each.")] = 10,
    min_score: options.MinScore = None,
    under: options.Under = None,
    group: options.Group = None,
    exact: options.Exact = None,
    as_json: options.Json = False,
    paths: options.Paths = False,
    print0: options.Print0 = False,
    metadata: options.Metadata = False,
    include_reference: Annotated[
        bool, typer.Option("--include-reference", help="Do not leave out the picture asked with.")
    ] = False,
    include_offline: options.IncludeOffline = False,
    device: options.Device = "auto",
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    index: options.Index = None,
) -> int:
    """Find photos like a picture. Several pictures have an answer each, one after the other.

    Names are taken as they are, whatever words they are made of. With `-` one path is read from each line, and as with
    `query -` each hit names the picture it is for. Copies of the picture are shown; --group duplicates puts them
    together. Exit code 1 says that nothing was found for any of them.

    Examples:

      imgsearch similar beach.jpg

      find ~/New -name '*.jpg' | imgsearch similar - -n 1 --json | jq -r '[.query, .path, .score] | @tsv'
    """
    from imgsearch.cli.loading import open_store, query_embedder
    from imgsearch.cli.output.verbose import Teller
    from imgsearch.core.errors import UsageError
    from imgsearch.core.search.filters import Filters
    from imgsearch.core.search.options import SearchOptions
    from imgsearch.core.search.searcher import Searcher

    if (as_json + paths + print0) > 1:
        raise UsageError("--json, --paths and --print0 exclude each other", hint="choose one")
    if "-" in files and len(files) > 1:
        raise UsageError("`-` goes without other files", hint="put them into the lines that are read")
    has_many = files == ["-"] or len(files) > 1
    printer = Printer(as_json=as_json, paths=paths, print0=print0, has_many=has_many, metadata=metadata)
    narrowed: dict[str, Any] = {"under": tuple(under or ())}
    search_options = SearchOptions(
        limit=limit,
        min_score=min_score,
        filters=Filters(**narrowed),
        group=group.value if group else None,
        strategy="auto" if exact is None else "exact" if exact else "ann",
        include_reference=include_reference,
        include_offline=include_offline,
        statistics=printer.shows_statistics,
    )
    strategy, modality = search_options.strategy, search_options.modality
    teller = Teller(index, strategy=strategy, modality=modality, narrowed=narrowed) if verbose else None
    with open_store(index) as store:
        space = store.space_to_search()
        embedder = query_embedder(space, device=device, offline=offline, history=False)
        searcher = Searcher(store, lambda: embedder, store.view(space))
        answers = _Answers(searcher, search_options, printer, teller)
        for block in _blocks(files):
            answers.answer(block)
    code = 2 if answers.has_errors else 0 if answers.has_hits else 1
    render.flush()
    if embedder.whole is not None:
        from imgsearch.cli.loading import make_light

        render.close_output()
        make_light(embedder.whole)
    return code


class _Answers:
    """What came of pictures that were asked with."""

    def __init__(self, searcher: Any, search_options: Any, printer: Printer, teller: Teller | None) -> None:
        self._searcher, self._options, self._printer, self._teller = searcher, search_options, printer, teller
        self.has_hits = self.has_errors = False

    def answer(self, files: list[str]) -> None:
        """One answer each; a picture that cannot be used is complained of and passed over."""
        from imgsearch.core.errors import QueryError
        from imgsearch.core.search import grammar

        queries = []
        for file in files:
            try:
                queries.append(grammar.explicit(None, (file,)))
            except QueryError as error:
                self._complain(None, QueryError(str(error), hint="check the name"))
        told = {"on_error": self._complain, "on_explained": self._teller}
        for hits in self._searcher.search_many(queries, self._options, **told):
            self.has_hits |= bool(hits)
            self._printer.print(hits)
        render.flush()

    def _complain(self, query: object, error: Any) -> None:
        self.has_errors = True
        render.complain(error, as_json=self._printer.as_json)


def _blocks(files: list[str]) -> Iterator[list[str]]:
    """The pictures, some at a time; of standard input as they come."""
    if files != ["-"]:
        for start in range(0, len(files), PICTURES_AT_ONCE):
            yield files[start : start + PICTURES_AT_ONCE]
        return
    for lines in typed_lines(PICTURES_AT_ONCE):
        yield [os.fsdecode(line) for line in lines if line.strip()]
