"""`imgsearch eval`: how well it finds, by the benchmarks that papers use or by queries of one's own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from imgsearch.cli import options
from imgsearch.cli.output import render

if TYPE_CHECKING:
    from types import FrameType

    from imgsearch.core.evaluation.loaders import Benchmark
    from imgsearch.core.evaluation.metrics import Interval
    from imgsearch.core.evaluation.runs import Answer, Asked, Plan, Run
    from imgsearch.core.models.registry import ModelSpec
    from imgsearch.core.search.options import SearchOptions
    from imgsearch.core.store.catalog import Space
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder


OF_THE_OTHER = ("benchmark", "protocol", "model", "method", "weight", "search", "hubness")
"""What a comparison says of the run before."""


class BenchmarkName(StrEnum):
    coco = "coco"
    flickr = "flickr"
    cirr = "cirr"
    fashioniq = "fashioniq"
    circo = "circo"
    jsonl = "jsonl"


class CaptionsPerImage(StrEnum):
    five = "5"
    all = "all"


class GalleryName(StrEnum):
    original = "original"
    union = "union"


class JoinName(StrEnum):
    mean = "mean"
    both = "and"
    reversed = "reversed"
    comma = "comma"


class SharedConceptName(StrEnum):
    none = "none"
    magiclens = "magiclens"
    bge = "bge"


def evaluate(
    benchmark: Annotated[
        Optional[BenchmarkName],  # noqa: UP045 - typer reads this at run time
        typer.Argument(
            metavar="BENCHMARK",
            help="coco, flickr, cirr, fashioniq, circo, or jsonl for queries of your own.",
            show_default=False,
        ),
    ] = None,
    annotations: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--annotations",
            "-a",
            metavar="PATH",
            help="Its file, or for cirr, fashioniq and circo the folder its files lie in.",
        ),
    ] = None,
    images: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--images",
            metavar="DIR",
            help="The pictures; indexed first, as far as they are not. jsonl may leave it out: what the index has.",
        ),
    ] = None,
    split: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--split", metavar="SPLIT", help="Default: test for coco and flickr, else val."),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--model", "-m", metavar="NAME", help="As for `imgsearch index`. Default: that of the index."),
    ] = None,
    compose: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--compose", metavar="METHOD", help="How a picture and words go together, as for a query."),
    ] = None,
    weight: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--weight",
            "-w",
            min=0,
            max=1,
            metavar="W",
            help="Of the words: 0 is the picture alone, 1 the words alone.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact/--ann", help="Rank by a scan of every vector, or with the HNSW graphs there are.")
    ] = True,
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--metrics",
            metavar="LIST",
            help="With commas: recall@K, hit_rate@K, share_found@K, precision@K, mrr, mrr@K, map@K, ndcg@K, "
            "median_rank. Default: those the benchmark is known for.",
        ),
    ] = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--limit", "-n", min=1, metavar="K", help="Names of each ranking that --out keeps."),
    ] = None,
    captions_per_image: Annotated[
        Optional[CaptionsPerImage],  # noqa: UP045
        typer.Option("--captions-per-image", help="coco, flickr: the first five of each picture, or all. Default: 5."),
    ] = None,
    prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--prompt", metavar="TEXT", help="coco, flickr: what is asked, {} being the caption. Default: {}."
        ),
    ] = None,
    gallery: Annotated[
        Optional[GalleryName],  # noqa: UP045
        typer.Option("--gallery", help="fashioniq: the whole split, or only its references and targets."),
    ] = None,
    join: Annotated[
        Optional[JoinName],  # noqa: UP045
        typer.Option("--join", help="fashioniq: how its two captions become one query. Default: mean."),
    ] = None,
    shared_concept: Annotated[
        Optional[SharedConceptName],  # noqa: UP045
        typer.Option("--shared-concept", help="circo: whether the query names it too, and in whose words."),
    ] = None,
    include_reference: Annotated[
        bool, typer.Option("--include-reference", help="jsonl: rank the picture asked with among the others.")
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Go without pictures that are not there: comparable to no other result."),
    ] = False,
    out: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--out", metavar="RUN.json", help="Write the result with every query's ranking and figures."),
    ] = None,
    compare: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--compare", metavar="RUN.json", help="Say how far this run is from one that --out wrote."),
    ] = None,
    submission: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--submission", metavar="FILE", help="cirr, circo, fashioniq: write what their server takes."),
    ] = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    offline: options.Offline = False,
    wait: options.Wait = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
    quiet: options.Quiet = False,
    index: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--index",
            metavar="DIR",
            help="Where the pictures' index is, or is made. Default: one in your cache folder; without --images, as "
            "for a query.",
        ),
    ] = None,
) -> int:
    """Measure how well imgsearch finds, with a benchmark or with queries of your own.

    The pictures are indexed like any others, and asked by the engine that answers `imgsearch query`; ^C keeps what
    was indexed. Figures come with 95 % bootstrap intervals. What makes them comparable to papers, and what does
    not, is printed with them: see docs/evaluation.md. Exit code 3: pictures were missing and --allow-missing given.

    Examples:

      imgsearch eval flickr --images flickr30k/ -a dataset_flickr30k.json

      imgsearch eval cirr --images cirr/ -a cirr_dataset/ --out lerp.json

      imgsearch eval jsonl -a queries.jsonl --compare yesterday.json
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation import loaders, runs

    if benchmark is None:
        raise UsageError("no benchmark named", hint=f"one of: {', '.join(BenchmarkName)}")
    if not annotations:
        raise UsageError(f"{benchmark} needs its queries", hint="name their file or folder with --annotations")
    said = _Said(quiet)
    chosen = _Chosen(captions_per_image, prompt, gallery, join, shared_concept, include_reference, split)
    asked_for = chosen.benchmark(benchmark, annotations)
    measures = _measures(metrics, asked_for)
    plan = _plan(measures, limit, asked_for, compose, weight, exact=exact, has_submission=submission is not None)
    sent = _names_of(submission, loaders.submits(asked_for)) if submission else {}
    _can_be_written([out, *sent.values()] if out else sent.values(), annotations)
    if images is None and benchmark != BenchmarkName.jsonl:
        raise UsageError(f"{benchmark} needs its pictures", hint="name their folder with --images")
    choice = _Model(model, device, precision.value, offline, said)
    with _gallery(benchmark, images, index, choice, wait=wait, said=said) as ready:
        if ready is None:
            return 128 + (choice.received or signal.SIGINT)
        store, space, folder = ready
        view = store.view(space)
        shelf = runs.Shelf.of(store, view, folder)
        asked = runs.asked_of(asked_for, shelf, allow_missing=allow_missing)
        if sent:
            runs.can_be_submitted(asked)
        before = runs.read_run(compare, measures, asked) if compare else None
        head = _head(asked_for, asked, plan, store, space)
        found = _answers(store, view, choice.embedder(space), asked, plan)
    run = runs.Run(head, measures, tuple(found))
    try:
        _print(run, before, as_json=as_json)
    finally:  # a reader that has gone away takes no file along
        if out:
            _write(out, run.file())
        if sent:
            for ending, content in runs.submission_files(asked, found).items():
                _write(sent[ending], content)
                said(f"submission written to {sent[ending]}")
    if not asked_for.has_answers:
        said(f"the answers of split {asked_for.protocol.get('split')} are held back: no figures, only submissions")
    return 3 if asked.missing else 0


class _Said:
    """Lines to the person, unless they want none."""

    def __init__(self, quiet: bool) -> None:
        self.is_quiet = quiet

    def __call__(self, message: str) -> None:
        if not self.is_quiet:
            from imgsearch.core.paths import printable

            render.say(printable(message))


class _Chosen:
    """The options that only some benchmarks have."""

    def __init__(
        self,
        captions_per_image: CaptionsPerImage | None,
        prompt: str | None,
        gallery: GalleryName | None,
        join: JoinName | None,
        shared_concept: SharedConceptName | None,
        include_reference: bool,
        split: str | None,
    ) -> None:
        self._captions_per_image = captions_per_image
        self._prompt, self._gallery, self._join = prompt, gallery, join
        self._shared_concept, self._include_reference, self._split = shared_concept, include_reference, split

    def benchmark(self, name: BenchmarkName, path: str) -> Benchmark:
        """Read its files. Raises UsageError for an option that is another benchmark's, QueryError."""
        from imgsearch.core.evaluation import loaders

        self._refuse_others(name)
        path = os.path.abspath(os.path.expanduser(path))
        match name:
            case BenchmarkName.coco | BenchmarkName.flickr:
                per_image = None if self._captions_per_image == CaptionsPerImage.all else 5
                return loaders.captions(
                    name.value,
                    path,
                    split=self._split,
                    per_image=per_image,
                    prompt="{}" if self._prompt is None else self._prompt,
                )
            case BenchmarkName.cirr:
                return loaders.cirr(path, split=self._split or "val")
            case BenchmarkName.fashioniq:
                return loaders.fashioniq(
                    path,
                    split=self._split or "val",
                    gallery=(self._gallery or GalleryName.original).value,
                    join=(self._join or JoinName.mean).value,
                )
            case BenchmarkName.circo:
                return loaders.circo(
                    path,
                    split=self._split,
                    shared_concept=(self._shared_concept or SharedConceptName.none).value,
                )
            case BenchmarkName.jsonl:
                return loaders.own(path, include_reference=self._include_reference)

    def _refuse_others(self, name: BenchmarkName) -> None:
        captions = (BenchmarkName.coco, BenchmarkName.flickr)
        owners: dict[str, tuple[object, tuple[BenchmarkName, ...]]] = {
            "--captions-per-image": (self._captions_per_image, captions),
            "--prompt": (self._prompt, captions),
            "--gallery": (self._gallery, (BenchmarkName.fashioniq,)),
            "--join": (self._join, (BenchmarkName.fashioniq,)),
            "--shared-concept": (self._shared_concept, (BenchmarkName.circo,)),
            "--include-reference": (self._include_reference or None, (BenchmarkName.jsonl,)),
            "--split": (self._split, tuple(each for each in BenchmarkName if each != BenchmarkName.jsonl)),
        }
        for option, (value, whose) in owners.items():
            if value is not None and name not in whose:
                from imgsearch.core.errors import UsageError

                raise UsageError(f"{option} is no option of {name}", hint=f"it goes with {', '.join(whose)}")


def _measures(names: str | None, benchmark: Benchmark) -> tuple[Any, ...]:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation.metrics import SUBSET, measure_named

    wanted = benchmark.measures if names is None else [name for name in names.split(",") if name.strip()]
    found = tuple(dict.fromkeys(measure_named(name) for name in wanted))
    if not found:
        raise UsageError("--metrics is empty", hint="--metrics recall@1,recall@10")
    if benchmark.name != "cirr" and any(measure.kind == SUBSET for measure in found):
        raise UsageError(f"{SUBSET} is a metric of cirr alone", hint=f"{benchmark.name} has no subsets")
    return found


def _plan(
    measures: tuple[Any, ...],
    limit: int | None,
    benchmark: Benchmark,
    method: str | None,
    weight: float | None,
    *,
    exact: bool,
    has_submission: bool,
) -> Plan:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation.loaders import LONGEST_SUBMISSION
    from imgsearch.core.evaluation.runs import Plan

    if (method or weight is not None) and not benchmark.is_composed:
        option = "--compose" if method else "--weight"
        raise UsageError(f"{option}: {benchmark.name} asks by words alone, or by pictures alone", hint="leave it out")
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"--weight {weight:g}: no share", hint="0 is the picture alone, 1 the words alone")
    keep = limit or max((measure.k or 1 for measure in measures), default=1)
    keep = max(keep, LONGEST_SUBMISSION) if has_submission else keep
    return Plan(measures, keep, _search_options(method, weight, exact=exact), is_submitted=has_submission)


def _search_options(method: str | None, weight: float | None, *, exact: bool) -> SearchOptions:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.search.composition import DEFAULT_METHOD, method_named
    from imgsearch.core.search.options import SearchOptions

    chosen = method_named(method or DEFAULT_METHOD)
    if chosen.needs_origin:
        raise UsageError(f"--compose {chosen.name} needs the words it starts from", hint="no benchmark gives them")
    return SearchOptions(
        method=chosen.name,
        weight=weight,
        strategy="exact" if exact else "ann",
        include_reference=True,
        statistics=False,
    )


def _names_of(submission: str, endings: tuple[str, ...]) -> dict[str, str]:
    """The files of a submission by what tells them apart."""
    stem, extension = os.path.splitext(submission)
    return {ending: f"{stem}{ending}{extension or '.json'}" for ending in endings}


def _can_be_written(paths: Iterable[str], annotations: str) -> None:
    """Before an hour of work, not after it."""
    from imgsearch.core.errors import UsageError

    taken = {_real(annotations): "--annotations"}
    for path in paths:
        place = _real(path)
        folder = os.path.dirname(place)
        if place in taken:
            raise UsageError(f"{path}: is {taken[place]} too", hint="name another file")
        taken[place] = "the name of another result"
        if os.path.isdir(place):
            raise UsageError(f"{path}: is a folder", hint="name a file in it")
        if os.path.exists(place) and not os.access(place, os.W_OK):
            raise UsageError(f"{path}: may not be written", hint="name another file")
        if _is_replaced(place) and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise UsageError(f"{path}: nothing can be written in {folder}", hint="make the folder, or name another")


def _real(path: str) -> str:
    """Where links lead; but what /dev/stdout leads to has no name."""
    path = os.path.abspath(os.path.expanduser(path))
    return os.path.realpath(path) if _is_replaced(path) or os.path.isdir(path) else path


def _is_replaced(path: str) -> bool:
    """Not so a pipe, a terminal or an open file, which are written to as they are."""
    is_open = path.startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return not is_open and (os.path.isfile(path) or not os.path.exists(path))


# ------------------------------------------------------------------------------------------------- the gallery


class _Model:
    """The model asked for, for pictures and for queries alike: loaded once, when first needed."""

    def __init__(
        self, name: str | None, device: str, precision: str, offline: bool, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.received: int | None = None
        """The signal that ended the indexing, if one did."""
        self._device, self._precision, self._offline, self._say = device, precision, offline, say
        self._loaded: Embedder | None = None

    def space(self, store: Store) -> Space | None:
        """The space to fill and to ask, if there is one. Raises UsageError where the index is of another model."""
        active = store.active_space()
        if active is None or self.name in (None, "auto") or active.model == self._spec().to_json():
            return active
        from imgsearch.core.errors import UsageError

        raise UsageError(
            f"the index is of model {active.identity.name}, not {self.name}",
            hint="leave out --model, or name another --index",
        )

    def embedder(self, space: Space) -> Callable[[], Embedder]:
        """Of that space. The whole model, not the light towers of `imgsearch query`, which are it to 0.999."""
        from imgsearch.cli.loading import embedder_of

        load = embedder_of(space, device=self._device, precision=self._precision, offline=self._offline, say=self._say)
        return lambda: self._loaded or load()

    def to_index(self, space: Space | None) -> Callable[[], tuple[Embedder, str]]:
        def load() -> tuple[Embedder, str]:
            if space is not None:
                self._loaded = self.embedder(space)()
                return self._loaded, space.model
            from imgsearch.cli.loading import load_model

            spec = self._spec()
            self._loaded = load_model(
                spec, device=self._device, precision=self._precision, offline=self._offline, say=self._say
            )
            return self._loaded, spec.to_json()

        return load

    def _spec(self) -> ModelSpec:
        from imgsearch.cli.output.progress import Download
        from imgsearch.core.models import registry

        if self.name in (None, "auto"):
            with Download() as progress:
                return registry.resolve_auto(self._say, offline=self._offline, progress=progress)
        assert self.name is not None
        return registry.parse(self.name, None, None)


@contextmanager
def _gallery(
    benchmark: BenchmarkName, images: str | None, index: str | None, choice: _Model, *, wait: bool, said: _Said
) -> Iterator[tuple[Store, Space, str | None] | None]:
    """The index with the benchmark's pictures, brought up to date; None if that was interrupted."""
    if images is None:
        from imgsearch.cli.loading import open_store

        with open_store(index) as store:
            choice.space(store)
            yield store, store.space_to_search(), None
        return
    from imgsearch.cli.loading import waiting
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import on_disk
    from imgsearch.core.places import locate
    from imgsearch.core.store.store import Store

    folder = on_disk(os.path.abspath(os.path.expanduser(images)))
    if not os.path.isdir(folder):
        raise UsageError(f"{images}: no such folder", hint="--images is the folder that the pictures lie in")
    place = locate(index) if index is not None else _own_index(benchmark, folder, choice.name)
    if index is None:
        said(f"the pictures' index is {place}")
    with Store.writing(place, create=True, wait=waiting(said) if wait else None) as store:
        for line in store.repairs:
            said(line)
        is_whole = _indexed(store, folder, choice, said)
    if not is_whole:
        yield None
        return
    with Store.open(place) as store:
        yield store, store.space_to_search(), folder


def _own_index(benchmark: BenchmarkName, folder: str, model: str | None) -> str:
    from imgsearch.core.paths import cache_folder

    which = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    slug = re.sub(r"[^\w.-]+", "-", model or "auto")
    place = os.path.join(cache_folder(), "eval", f"{benchmark}-{which}-{slug}")
    os.makedirs(place, mode=0o700, exist_ok=True)
    return place


def _indexed(store: Store, folder: str, choice: _Model, said: _Said) -> bool:
    """Index the pictures below `folder`. Whether that came to its end."""
    from imgsearch.cli.output.progress import Progress, summary_lines
    from imgsearch.core.indexing import indexer

    stop = threading.Event()
    progress = Progress(as_json=False, quiet=said.is_quiet, verbose=False, stop=stop)
    space = choice.space(store)
    with _orderly_stop(stop, choice):
        try:
            plan = indexer.IndexPlan(paths=(folder,))
            summary = indexer.run(store, choice.to_index(space), plan, space=space, on_event=progress, stop=stop)
        finally:
            progress.close()
    said(summary_lines(summary, dry_run=False)[0])
    if summary.was_stopped:
        said("stopped; what was indexed is kept. Go on with the same command")
    return not summary.was_stopped


@contextmanager
def _orderly_stop(stop: threading.Event, choice: _Model) -> Iterator[None]:
    """The first ^C ends the indexing after its batch, a second one at once."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        choice.received = number
        stop.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# --------------------------------------------------------------------------------------- asking, and what came


def _answers(store: Store, view: Any, embedder: Callable[[], Embedder], asked: Asked, plan: Plan) -> list[Answer]:
    from imgsearch.cli.output.progress import Line, bar
    from imgsearch.core.evaluation import runs

    with Line() as line:
        steps = bar(line, total=len(asked.questions) + len(asked.pictures), unit=" queries", desc="asking")
        try:
            return list(runs.answers(store, view, embedder, asked, plan, steps.update))
        finally:
            steps.close()


def _head(benchmark: Benchmark, asked: Asked, plan: Plan, store: Store, space: Space) -> dict[str, Any]:
    """What was asked of what, and how."""
    from imgsearch.core.search.encoding import corrects_hubness

    options = plan.options
    head: dict[str, Any] = {"benchmark": benchmark.name, "protocol": benchmark.protocol, "model": space.identity.name}
    if benchmark.is_composed:
        from imgsearch.core.search.composition import method_named

        method = method_named(options.method or "")
        weight = method.default_weight if options.weight is None else options.weight
        head |= {"method": method.name, "weight": weight}
    return head | {
        "search": options.strategy,
        "hubness": corrects_hubness(store, space),
        "counts": asked.counts,
        "interval": "95 % percentile bootstrap; queries about one picture are drawn together",
        "queries_sha256": asked.digest,
    }


def _write(path: str, data: Any) -> None:
    """Whole or not at all: what was there outlives a disk that fills up. Raises UsageError."""
    from imgsearch.core.errors import UsageError

    place = _real(path)
    unfinished = os.path.join(os.path.dirname(place), f".imgsearch-{os.getpid()}.part")
    try:
        if not _is_replaced(place):
            _write_to(place, data)
            return
        try:
            _write_to(unfinished, data)
            if os.path.exists(place):
                shutil.copymode(place, unfinished)
            os.replace(unfinished, place)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{path}: {reason}", hint="nothing of it was written; free some space, or name another file"
        ) from error


def _write_to(place: str, data: Any) -> None:
    with open(place, "w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)
        file.write("\n")
        file.flush()
        if os.path.isfile(place):
            os.fsync(file.fileno())


def _print(run: Run, before: Run | None, *, as_json: bool) -> None:
    differences = run.differences(before) if before else {}
    if as_json:
        record = run.record()
        if before:
            record["compared"] = _compared(run, before, differences)
        render.emit_json(record)
    else:
        for line in _table(run):
            render.emit(line)
        if before:
            for line in _comparison(run, before, differences):
                render.emit(line)
    render.flush()


def _compared(run: Run, before: Run, differences: dict[str, Interval]) -> dict[str, Any]:
    from imgsearch.core.evaluation.runs import plain

    return {
        "with": {key: before.head.get(key) for key in OF_THE_OTHER} | {"gallery": before.head["counts"]["gallery"]},
        "protocols_differ": _protocol_differences(run, before),
        "metrics": {
            name: {"difference": plain(i.mean), "low": plain(i.low), "high": plain(i.high)}
            for name, i in differences.items()
        },
    }


def _protocol_differences(run: Run, before: Run) -> list[str]:
    """A gallery of another size is another gallery, whatever they call it."""
    mine, theirs = ({**each.head["protocol"]} for each in (run, before))
    for protocol, head in ((mine, run.head), (theirs, before.head)):
        protocol["gallery"] = protocol.get("gallery"), head["counts"]["gallery"]
    return [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]


def _table(run: Run) -> Iterator[str]:
    """What was asked, then a line a figure: percent, but for ranks."""
    head = run.head
    named = {"benchmark": head["benchmark"], "model": head["model"]}
    if "method" in head:
        named["compose"] = f"{head['method']}, weight {head['weight']:g}"
    named |= {"search": f"{head['search']}, corrected for hubness" if head["hubness"] else head["search"]}
    named |= head["protocol"]
    for key, count in head["counts"].items():
        if count or not key.startswith(("missing", "left_out")):
            named["pictures ranked" if key == "gallery" else key] = _counted(count)
    width = max(map(len, named))
    yield from (f"{key.replace('_', ' '):{width}}  {_shown(value)}" for key, value in named.items())
    if head["counts"]["missing_pictures"]:
        yield "pictures are missing: these figures are comparable to no others"
    if run.metrics:
        yield ""
        width = max(map(len, run.metrics))
        yield f"{'metric':{width}}  {'value':>8}   95 % interval   (percent; ranks as they are)"
        for name, interval in run.metrics.items():
            value, low, high = (_figure(name, figure) for figure in interval)
            yield f"{name:{width}}  {value:>8}   {low:>6} to {high:>6}"


def _comparison(run: Run, before: Run, differences: dict[str, Interval]) -> Iterator[str]:
    head = before.head
    yield ""
    weighed = (head.get("method"), f"weight {head.get('weight')}") if "method" in head else ()
    corrected = ("corrected for hubness",) if head.get("hubness") else ()
    yield f"beside {', '.join(map(_shown, (head.get('model'), *weighed, head.get('search'), *corrected)))}"
    changed = _protocol_differences(run, before)
    if changed:
        yield f"the protocols differ: {', '.join(changed)}"
    width = max(map(len, [*differences, "metric"]))
    yield f"{'metric':{width}}  {'this':>8}  {'that':>8}  {'difference':>10}   95 % interval, paired"
    for name, interval in differences.items():
        this, that = _figure(name, run.metrics[name].mean), _figure(name, before.metrics[name].mean)
        value, low, high = (_figure(name, figure, sign="+") for figure in interval)
        yield f"{name:{width}}  {this:>8}  {that:>8}  {value:>10}   {low:>6} to {high:>6}"


def _figure(name: str, figure: float, sign: str = "") -> str:
    if name.endswith("median_rank"):
        return f"{figure:{sign}.1f}"
    return f"{100 * figure:{sign}.2f}"


def _counted(count: Any) -> str:
    if isinstance(count, dict):
        return ", ".join(f"{part} {number:,}" for part, number in count.items())
    return f"{count:,}"


def _shown(value: object) -> str:
    from imgsearch.core.paths import printable

    return printable(str(value))
