"""`imgsearch eval`: measure search quality with published benchmarks or your own queries."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from imgsearch.cli.output import render
from imgsearch.core.evaluation.loaders import BenchmarkName, Gallery, Join, SharedConcept
from imgsearch.core.paths import printable
from imgsearch.core.writing import replacing

if TYPE_CHECKING:
    from imgsearch.cli.running import ModelChoice
    from imgsearch.core.evaluation.gallery import Task
    from imgsearch.core.evaluation.loaders import Benchmark
    from imgsearch.core.evaluation.methods import Row
    from imgsearch.core.evaluation.metrics import Metric
    from imgsearch.core.evaluation.results import Header, Run
    from imgsearch.core.evaluation.runs import EvalPlan, QueryResult
    from imgsearch.core.store.records import Space
    from imgsearch.core.store.store import Store, View

CaptionsPerImage = Literal["5", "all"]
BENCHMARKS: tuple[BenchmarkName, ...] = get_args(BenchmarkName)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalArguments:
    """The parameters of `imgsearch eval`, by the names they have there."""

    benchmark: BenchmarkName | None
    annotations: str | None
    images: str | None
    split: str | None
    model: str | None
    compose: str | None
    methods: str | None
    weight: float | None
    exact: bool
    metrics: str | None
    limit: int | None
    captions_per_image: CaptionsPerImage | None
    prompt: str | None
    gallery: Gallery | None
    join: Join | None
    shared_concept: SharedConcept | None
    include_reference: bool
    allow_missing: bool
    out: str | None
    compare: str | None
    submission: str | None
    device: str
    precision: str
    offline: bool
    wait: bool
    as_json: bool
    quiet: bool
    index: str | None


def evaluate(**typed: Any) -> int:
    """Measure search quality with published benchmarks or your own queries.

    The pictures are indexed like any others, and the queries run through the engine of `imgsearch query`. Press ^C to
    stop; finished work is kept. Metrics have 95 % confidence intervals, by bootstrap. The output states what
    the numbers are comparable with: see docs/evaluation.md. Exit code 3 means that --allow-missing left pictures out.

    Examples:

      imgsearch eval flickr --images flickr30k/ -a dataset_flickr30k.json

      imgsearch eval cirr --images cirr/ -a cirr_dataset/ --out lerp.json

      imgsearch eval jsonl -a queries.jsonl --compare yesterday.json

      imgsearch eval circo --images unlabeled2017/ -a CIRCO/ --methods all
    """
    from imgsearch.cli.output.eval_table import print_methods, print_result
    from imgsearch.cli.running import Interrupted, ModelChoice
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation import submissions
    from imgsearch.core.evaluation.gallery import PhotoNames, find_photos
    from imgsearch.core.evaluation.results import Run, read_run

    arguments = EvalArguments(**typed)
    name, annotations = arguments.benchmark, arguments.annotations
    if name is None:
        raise UsageError("no benchmark given", hint=f"one of: {', '.join(BENCHMARKS)}")
    if not annotations:
        raise UsageError(f"{name} needs --annotations", hint="give the file or folder with its queries")
    benchmark = _benchmark(name, annotations, arguments)
    metrics = _metrics(arguments.metrics, benchmark)
    plan = _plan(arguments, metrics, benchmark)
    sent = _submission_paths(arguments.submission, submissions.file_suffixes(benchmark)) if arguments.submission else {}
    _require_writable([*([arguments.out] if arguments.out else ()), *sent.values()], annotations)
    if arguments.images is None and name != "jsonl":
        raise UsageError(f"{name} needs --images", hint="give the folder of its pictures")
    choice = ModelChoice(
        arguments.model, None, None, arguments.device, arguments.precision, arguments.offline, render.say
    )
    try:
        with _indexed_pictures(arguments, choice) as (store, space, folder):
            view = store.view(space)
            task = find_photos(benchmark, PhotoNames.of(store, view, folder), allow_missing=arguments.allow_missing)
            if sent:
                submissions.require_all_queries(task)
            before = read_run(arguments.compare, metrics, task) if arguments.compare else None
            header = _header(benchmark, task, plan, store, space, names_method=arguments.methods is None)
            if arguments.methods is not None:
                rows = _run_methods(store, view, choice, task, plan, header, arguments.methods)
                print_methods(header, rows, as_json=arguments.as_json)
                return 3 if task.missing else 0
            results = _run_queries(store, view, choice, task, plan)
    except Interrupted as stopped:
        return 128 + stopped.signal
    run = Run(header, metrics, tuple(results))
    try:
        print_result(run, before, as_json=arguments.as_json)
    finally:  # the files are written even if stdout is closed
        _write_files(run, arguments.out, task, sent)
    if not benchmark.has_answers:
        render.say(
            f"the answers of split {benchmark.protocol.get('split')} are not published: no metrics, only submissions"
        )
    return 3 if task.missing else 0


def _benchmark(name: BenchmarkName, annotations: str, arguments: EvalArguments) -> Benchmark:
    """Read its files. Raises UsageError for an option of another benchmark, QueryError."""
    from imgsearch.core.evaluation import loaders

    _refuse_other_options(arguments)
    if arguments.methods is not None:
        _refuse_beside_methods(arguments)
    path = os.path.abspath(os.path.expanduser(annotations))
    match name:
        case "coco" | "flickr":
            per_image = None if arguments.captions_per_image == "all" else 5
            prompt = "{}" if arguments.prompt is None else arguments.prompt
            return loaders.captions(name, path, split=arguments.split, per_image=per_image, prompt=prompt)
        case "cirr":
            return loaders.cirr(path, split=arguments.split or "val")
        case "fashioniq":
            return loaders.fashioniq(
                path,
                split=arguments.split or "val",
                gallery=arguments.gallery or "original",
                join=arguments.join or "mean",
            )
        case "circo":
            return loaders.circo(path, split=arguments.split, shared_concept=arguments.shared_concept or "none")
        case "jsonl":
            return loaders.own(path, include_reference=arguments.include_reference)


def _refuse_other_options(arguments: EvalArguments) -> None:
    captions: tuple[BenchmarkName, ...] = ("coco", "flickr")
    owners: dict[str, tuple[object, tuple[BenchmarkName, ...]]] = {
        "--captions-per-image": (arguments.captions_per_image, captions),
        "--prompt": (arguments.prompt, captions),
        "--gallery": (arguments.gallery, ("fashioniq",)),
        "--join": (arguments.join, ("fashioniq",)),
        "--shared-concept": (arguments.shared_concept, ("circo",)),
        "--include-reference": (arguments.include_reference or None, ("jsonl",)),
        "--split": (arguments.split, tuple(name for name in BENCHMARKS if name != "jsonl")),
    }
    for option, (value, benchmarks) in owners.items():
        if value is not None and arguments.benchmark not in benchmarks:
            from imgsearch.core.errors import UsageError

            raise UsageError(
                f"{option} is not an option of {arguments.benchmark}", hint=f"use it with {', '.join(benchmarks)}"
            )


def _refuse_beside_methods(arguments: EvalArguments) -> None:
    from imgsearch.core.errors import UsageError

    beside = {
        "--compose": arguments.compose,
        "--weight": arguments.weight,
        "--out": arguments.out,
        "--compare": arguments.compare,
        "--submission": arguments.submission,
    }
    for option, value in beside.items():
        if value is not None:
            raise UsageError(f"--methods cannot be combined with {option}", hint=f"remove --methods, or {option}")


def _metrics(names: str | None, benchmark: Benchmark) -> tuple[Metric, ...]:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation.metrics import SUBSET, metric_named

    wanted = benchmark.metrics if names is None else [name for name in names.split(",") if name.strip()]
    found = tuple(dict.fromkeys(metric_named(name) for name in wanted))
    if not found:
        raise UsageError("--metrics is empty", hint="--metrics recall@1,recall@10")
    if benchmark.name != "cirr" and any(metric.kind == SUBSET for metric in found):
        raise UsageError(f"only cirr has the metric {SUBSET}", hint=f"{benchmark.name} has no subsets")
    return found


def _plan(arguments: EvalArguments, metrics: tuple[Metric, ...], benchmark: Benchmark) -> EvalPlan:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation.methods import names_in
    from imgsearch.core.evaluation.runs import EvalPlan
    from imgsearch.core.evaluation.submissions import MAX_NAMES
    from imgsearch.core.search.composition import method_named
    from imgsearch.core.search.options import SearchOptions

    method, weight = arguments.compose, arguments.weight
    asked = {"--compose": method, "--weight": weight, "--methods": arguments.methods}
    option = next((name for name, value in asked.items() if value is not None), None)
    if option and not benchmark.is_composed:
        raise UsageError(f"{option}: no query of {benchmark.name} combines a picture and text", hint=f"remove {option}")
    if weight is not None and not 0 <= weight <= 1:
        raise UsageError(f"--weight {weight:g} is not between 0 and 1", hint="0 is the picture alone, 1 the text alone")
    if arguments.methods is not None:
        names_in(arguments.methods)
        if not benchmark.has_answers:
            hint = "use a split with published answers"
            raise UsageError(f"--methods: the answers of {benchmark.name} are not published", hint=hint)
    keep = arguments.limit or max((metric.k or 1 for metric in metrics), default=1)
    has_submission = arguments.submission is not None
    keep = max(keep, MAX_NAMES) if has_submission else keep
    if method and method_named(method).needs_origin:
        raise UsageError(f"--compose {method} needs a starting text", hint="no benchmark has one")
    options = SearchOptions(
        method=method,
        weight=weight,
        strategy="exact" if arguments.exact else "ann",
        include_reference=True,
        statistics=False,
    )
    return EvalPlan(metrics, keep, options, has_submission)


# ------------------------------------------------------------------------------------------------- the pictures


@contextmanager
def _indexed_pictures(arguments: EvalArguments, choice: ModelChoice) -> Iterator[tuple[Store, Space, str | None]]:
    """The index, brought up to date with --images, and that folder. Raises Interrupted."""
    from imgsearch.cli.loading import open_store, waiting
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import on_disk
    from imgsearch.core.places import locate
    from imgsearch.core.store.store import Store

    if arguments.images is None:
        with open_store(arguments.index) as store:
            _require_model(store, choice, arguments.model)
            yield store, store.space_to_search(), None
        return
    folder = on_disk(os.path.abspath(os.path.expanduser(arguments.images)))
    if not os.path.isdir(folder):
        raise UsageError(f"{arguments.images}: no such folder", hint="give the folder of the pictures with --images")
    if arguments.index is None:
        place = _cached_index(str(arguments.benchmark), folder, arguments.model)
        render.say(f"the index of the pictures is {printable(place)}")
    else:
        place = locate(arguments.index)
    with Store.writing(place, create=True, wait=waiting() if arguments.wait else None) as store:
        for line in store.repairs:
            render.say(line)
        _require_model(store, choice, arguments.model)
        _index(store, folder, choice)
    with Store.open(place) as store:
        yield store, store.space_to_search(), folder


def _require_model(store: Store, choice: ModelChoice, name: str | None) -> None:
    from imgsearch.core.errors import UsageError

    active = store.active_space()
    if active is not None and not choice.may_be(active):
        raise UsageError(
            f"the index has model {active.identity.name}, not {name}", hint="remove --model, or give another --index"
        )


def _cached_index(benchmark: str, folder: str, model: str | None) -> str:
    from imgsearch.core.places import cache_folder

    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    slug = re.sub(r"[^\w.-]+", "-", model or "auto")
    place = os.path.join(cache_folder(), "eval", f"{benchmark}-{digest}-{slug}")
    os.makedirs(place, mode=0o700, exist_ok=True)
    return place


def _index(store: Store, folder: str, choice: ModelChoice) -> None:
    from imgsearch.cli.output.progress import Progress, summary_lines
    from imgsearch.cli.running import STOPPED, Interrupted, Received, orderly_stop, run_index
    from imgsearch.core.indexing.indexer import IndexPlan

    stop, received = threading.Event(), Received()
    progress = Progress(as_json=False, quiet=render.is_quiet(), verbose=False, stop=stop)
    with orderly_stop(stop, received):
        try:
            plan = IndexPlan(paths=(folder,))
            summary = run_index(store, choice, plan, store.active_space(), progress, stop, received)
        finally:
            progress.close()
    render.say(summary_lines(summary, dry_run=False)[0])
    if summary.was_stopped:
        render.say(STOPPED)
        raise Interrupted(received.number or signal.SIGINT)


# --------------------------------------------------------------------------------------- queries and their results


def _run_queries(store: Store, view: View, choice: ModelChoice, task: Task, plan: EvalPlan) -> list[QueryResult]:
    """By the whole model: the ONNX towers of `imgsearch query` agree with it only to a cosine of 0.999."""
    from imgsearch.cli.output.progress import Line, bar
    from imgsearch.core.evaluation import runs

    load = choice.embedder(view.space)
    with Line() as line:
        steps = bar(line, total=len(task.queries) + len(task.pictures), unit=" queries", desc="searching")
        try:
            return list(runs.run_queries(store, view, lambda: load()[0], task, plan, steps.update))
        finally:
            steps.close()


def _run_methods(
    store: Store, view: View, choice: ModelChoice, task: Task, plan: EvalPlan, header: Header, asked: str
) -> list[Row]:
    from imgsearch.cli.output.progress import Line, bar
    from imgsearch.core.evaluation import methods

    ways = methods.ways_for(asked, view.space.identity)
    load = choice.embedder(view.space)
    total = methods.runs_needed(ways) * len(task.queries)
    with Line() as line:
        steps = bar(line, total=total, unit=" queries", desc="searching")
        try:
            return methods.compare(store, view, lambda: load()[0], task, plan, header, ways, steps.update)
        finally:
            steps.close()


def _header(
    benchmark: Benchmark, task: Task, plan: EvalPlan, store: Store, space: Space, *, names_method: bool
) -> Header:
    from imgsearch.core.compose.composers import composer_for
    from imgsearch.core.search.choices import DEFAULT_METHOD
    from imgsearch.core.search.composition import method_named
    from imgsearch.core.search.encoding import corrects_hubness

    options = plan.options
    header: Header = {
        "benchmark": benchmark.name,
        "protocol": benchmark.protocol,
        "model": space.identity.name,
        "search": options.strategy,
        "hubness": corrects_hubness(store, space),
        "counts": task.counts,
        "interval": "95 % percentile bootstrap; queries about one picture are resampled together",
        "queries_sha256": task.digest,
    }
    if benchmark.is_composed and names_method:
        composer = composer_for(options.method, space.identity)
        method = composer or method_named(options.method or DEFAULT_METHOD)
        header["method"] = method.name
        header["weight"] = method.default_weight if options.weight is None else options.weight
    return header


# ------------------------------------------------------------------------------------------------------- files


def _submission_paths(submission: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """The path of each file of a submission, by suffix."""
    stem, extension = os.path.splitext(submission)
    return {suffix: f"{stem}{suffix}{extension or '.json'}" for suffix in suffixes}


def _require_writable(paths: Iterable[str], annotations: str) -> None:
    """Before an hour of work, not after it. Raises UsageError."""
    from imgsearch.core.errors import UsageError

    taken = {_real(annotations): "the file of --annotations"}
    for path in paths:
        place = _real(path)
        folder = os.path.dirname(place)
        if place in taken:
            raise UsageError(f"{path}: is also {taken[place]}", hint="give another file")
        taken[place] = "another result"
        if os.path.isdir(place):
            raise UsageError(f"{path}: is a folder", hint="give a file in it")
        if os.path.exists(place) and not os.access(place, os.W_OK):
            raise UsageError(f"{path}: not writable", hint="give another file")
        if _is_replaced(place) and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            raise UsageError(f"{path}: cannot write to {folder}", hint="make the folder, or give another file")


def _real(path: str) -> str:
    """The target of links, except for /dev/stdout and the like, whose target has no name."""
    path = os.path.abspath(os.path.expanduser(path))
    return os.path.realpath(path) if _is_replaced(path) or os.path.isdir(path) else path


def _is_replaced(path: str) -> bool:
    """Whether a new file takes this name: a pipe, a terminal or an open file is written to instead."""
    is_open = path.startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return not is_open and (os.path.isfile(path) or not os.path.exists(path))


def _write_files(run: Run, out: str | None, task: Task, sent: dict[str, str]) -> None:
    from imgsearch.core.evaluation.submissions import submission_files

    if out:
        _write(out, run.file())
    for suffix, content in submission_files(task, run.results).items() if sent else ():
        _write(sent[suffix], content)
        render.say(f"submission written to {printable(sent[suffix])}")


def _write(path: str, data: object) -> None:
    """Completely or not at all: a full disk does not destroy the old file. Raises UsageError."""
    from imgsearch.core.errors import UsageError

    place = _real(path)
    text = json.dumps(data, allow_nan=False).encode() + b"\n"
    try:
        if not _is_replaced(place):
            with open(place, "wb") as file:
                file.write(text)
            return
        with replacing(place, mode=0o666) as new:
            if os.path.exists(place):
                os.fchmod(new.fileno(), os.stat(place).st_mode & 0o777)
            new.write(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{path}: {reason}", hint="the file was not written; free some space, or give another file"
        ) from error
