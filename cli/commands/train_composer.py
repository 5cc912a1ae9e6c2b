"""`imgsearch train-composer`: weights of a composition method for your own model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from imgsearch.cli.output import render
from imgsearch.cli.running import ModelChoice, Received, absolute, orderly_stop

if TYPE_CHECKING:
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.compose.changed_photos import ChangedPhotos, Training
    from imgsearch.core.evaluation.trained_composer import Figures, Report, Trained
    from imgsearch.core.models.embedding import OpenClipEmbedder
    from imgsearch.core.store.records import Space
    from imgsearch.core.types import Embedder, Photo, Skipped

TEXTS_AT_ONCE = 1_000
STOPPED = "stopped; what is done is kept. To continue, run the same command again"


def restyle(
    *,
    paths: tuple[str, ...],
    out: str,
    max_photos: int,
    model: str | None,
    workers: int | None,
    device: str,
    precision: str,
    offline: bool,
    as_json: bool,
    quiet: bool,
    index: str | None,
) -> int:
    """Train `restyle` for your model, from your own photos.

    It learns from photos and from changed copies of them: as a sketch, as a cartoon, at night, 21 styles in all. No
    captions are needed, and the photos are only read. The table says what the weights find on photos and phrases that
    were held out. If that is not better than `--compose lerp`, the file says that the weights are no default.

    Press ^C to stop. What is done so far is kept, and the same command continues there. The same photos make the same
    file.

    Examples:

      imgsearch train-composer restyle

      imgsearch train-composer restyle ~/Photos/2024 --out mine.safetensors

      imgsearch query "as a sketch like dog.jpg" --compose restyle:mine.safetensors
    """
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.compose.changed_photos import Training, check_number
    from imgsearch.core.compose.composer_file import write
    from imgsearch.core.evaluation.runs import CachingEmbedder
    from imgsearch.core.evaluation.trained_composer import train
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.writing import replacing

    target = _target(out)
    render.set_quiet(quiet)
    stop, received = threading.Event(), Received()
    choice = ModelChoice(model, None, None, device, precision, offline, render.say)
    with orderly_stop(stop, received), Line(is_wanted=not quiet) as line:
        photos, skipped, embedder = _chosen(absolute(paths), max_photos, choice, index)
        for each in skipped:
            _warn(each)
        with Training(photos, embedder) as training:
            changed = _changed(training, workers, line, stop, received)
            if changed is None:
                render.say(STOPPED)
                return 128 + (received.number or signal.SIGINT)
            check_number(len(changed.plain))
            line.draw("computing the weights")
            trained = train(changed, CachingEmbedder(lambda: embedder).embed_texts, embedder.identity)
            with replacing(target, mode=0o666) as file:
                write(file, trained.metadata, trained.tensors)
            training.forget()
        line.clear()
        count = len(skipped) + changed.skipped
        if as_json:
            render.emit_json({**path_fields(target), **_record(trained, changed, count)})
        else:
            for text in _table(trained.report):
                render.emit(text)
        render.flush()
        if not as_json:
            render.say(_summary(trained, changed, count, printable(target)))
    return 3 if count else 0


def lincir(
    *,
    captions: str | None,
    out: str,
    seed: int,
    rounds: int,
    model: str | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
    index: str | None,
) -> int:
    """Train `lincir` for your model, from texts alone.

    It learns a network that turns a picture into a word of a text. In each text, noun phrases are replaced by such a
    word, as far as English words show them, and the network learns to give the text its vector back. The model's text
    tower must be a causal one of CLIP, and training needs torch. A twentieth of the texts is held out: training ends
    when they are no longer found better, and the table says how well they are found.

    Press ^C to stop. What is done so far is kept, and the same command continues there. The same texts and seed make
    the same file on the same machine.

    Examples:

      imgsearch train-composer lincir

      imgsearch train-composer lincir --captions captions.txt --out mine.safetensors

      imgsearch query "in the snow like dog.jpg" --compose lincir:mine.safetensors
    """
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.compose.composer_file import write
    from imgsearch.core.compose.train_lincir import LincirTraining
    from imgsearch.core.errors import UsageError
    from imgsearch.core.models.onnx_embedder import has_torch
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.writing import replacing

    target = _target(out)
    if not has_torch():
        raise UsageError("training needs torch, which is not installed", hint="do it on a machine with torch")
    render.set_quiet(quiet)
    stop, received = threading.Event(), Received()
    choice = ModelChoice(model, None, None, "cpu", "fp32", offline, render.say)
    with orderly_stop(stop, received), Line(is_wanted=not quiet) as line:
        texts, embedder = _texts(captions, choice, index)
        line.draw("embedding the texts")
        training = LincirTraining(cast("OpenClipEmbedder", embedder), texts, seed=seed, rounds=rounds)
        received.is_working = True
        trained = training.run(
            lambda number, cosine: line.draw(f"round {number} of at most {rounds}, cosine {cosine:.3f}"), stop
        )
        received.is_working = False
        if trained is None:
            line.clear()
            render.say(STOPPED)
            return 128 + (received.number or signal.SIGINT)
        with replacing(target, mode=0o666) as file:
            write(file, trained.metadata, trained.learned.tensors)
        training.forget()
        line.clear()
    learned = trained.learned
    found = {"pseudo-word": learned.recall_at_1, "something": learned.recall_of_something}
    if as_json:
        render.emit_json(
            {
                **path_fields(target),
                "method": "lincir",
                "is_default": False,
                "texts": learned.texts,
                "held_out": learned.held_out,
                "rounds": learned.rounds,
                "cosine": round(learned.cosine, 4),
                "recall_at_1": {name: round(figure, 4) for name, figure in found.items()},
            }
        )
    else:
        render.emit("in place of the words  recall_at_1")
        for name, figure in found.items():
            render.emit(f"{name:<21}  {figure:>11.3f}")
        render.say(
            f"trained with {render.count(learned.texts, 'text')}, {learned.held_out:,} held out, in "
            f"{render.count(learned.rounds, 'round')}; wrote {printable(target)}"
        )
    render.flush()
    return 0


def _target(out: str) -> str:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import printable

    target = os.path.abspath(os.path.expanduser(out))
    if not out or os.path.isdir(target) or not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"--out {printable(out)}: not a file in an existing folder", hint="give the name of a file")
    return target


def _texts(captions: str | None, choice: ModelChoice, index: str | None) -> tuple[list[str], Embedder]:
    """The texts to train with, and the model."""
    from imgsearch.cli.loading import open_store
    from imgsearch.core.compose.captions import read
    from imgsearch.core.errors import IndexNotFound

    space: Space | None = None
    texts = read(captions) if captions else []
    try:
        with open_store(index) as store:
            space = choice.known_space(store)
            if not captions:
                batches = store.catalog.vectors.texts(store.space_to_search().id, TEXTS_AT_ONCE)
                texts = sorted(text for batch in batches for text, _ in batch)
    except IndexNotFound:
        if not captions:
            raise
    return texts, choice.embedder(space)()[0]


def _chosen(
    paths: Sequence[str], most: int, choice: ModelChoice, index: str | None
) -> tuple[list[Photo], list[Skipped], Embedder]:
    """The photos to train with, those that could not be found, and the model."""
    from imgsearch.cli.loading import open_store
    from imgsearch.core.compose.changed_photos import check_number, photos_of_index, photos_of_paths
    from imgsearch.core.errors import IndexNotFound

    space: Space | None = None
    photos: list[Photo] = []
    skipped: list[Skipped] = []
    try:
        with open_store(index) as store:
            space = choice.known_space(store)
            if not paths:
                photos = photos_of_index(store, store.space_to_search(), most)
    except IndexNotFound:
        if not paths:
            raise
    if paths:
        photos, skipped = photos_of_paths(paths, most)
    check_number(len(photos))
    return photos, skipped, choice.embedder(space)()[0]


def _changed(
    training: Training, workers: int | None, line: Line, stop: threading.Event, received: Received
) -> ChangedPhotos | None:
    """The vectors of the photos and of their changes. None if a signal came."""
    from imgsearch.cli.output.progress import bar
    from imgsearch.core.photos.decode_pool import DecodePool

    drawn = bar(line, desc="changing photos", unit=" photos", total=len(training.photos))
    drawn.initial = drawn.n = training.done

    def on_photo(skipped: Skipped | None) -> None:
        if skipped:
            line.clear()
            _warn(skipped)
        drawn.update(1)

    received.is_working = True
    try:
        with DecodePool(workers) as pool:
            return training.run(pool, on_photo, stop)
    finally:
        received.is_working = False
        drawn.close()


def _warn(skipped: Skipped) -> None:
    from imgsearch.core.paths import printable

    render.warn(f"{printable(skipped.path)}: {printable(skipped.reason)} ({skipped.stage})")


def _record(trained: Trained, changed: ChangedPhotos, skipped: int) -> dict[str, object]:
    report = trained.report
    return {
        "method": trained.metadata["method"],
        "is_default": report.wins,
        "photos": len(changed.plain),
        "skipped": skipped,
        "held_out": {"photos": report.photos, "pictures": report.pictures, "queries": report.queries},
        "declined": round(report.declined, 4),
        "found": {name: _figures_record(figures) for name, figures in report.by_method.items()},
    }


def _figures_record(figures: Figures) -> dict[str, object]:
    return {
        "weight": figures.weight,
        "recall_at_1": round(figures.recall_at_1, 4),
        "recall_at_10": round(figures.recall_at_10, 4),
        "map": round(figures.map, 4),
        "map_minus_lerp": [round(value, 4) for value in figures.minus_lerp],
    }


def _table(report: Report) -> Iterator[str]:
    header = ("method", "weight", "recall_at_1", "recall_at_10", "map", "map minus lerp")
    form = "{:<13} {:>6} {:>11} {:>12} {:>6}  {}"
    yield form.format(*header).rstrip()
    for name, figures in report.by_method.items():
        better = figures.minus_lerp
        difference = "" if name == "lerp" else f"{better.mean:+.3f} ({better.low:+.3f} to {better.high:+.3f})"
        weight = "" if figures.weight is None else f"{figures.weight:g}"
        cells = (f"{value:.3f}" for value in (figures.recall_at_1, figures.recall_at_10, figures.map))
        yield form.format(name, weight, *cells, difference).rstrip()


def _summary(trained: Trained, changed: ChangedPhotos, skipped: int, path: str) -> str:
    report = trained.report
    held_out = f"{render.count(report.queries, 'query', 'queries')} on {report.photos:,} held-out photos"
    left_out = f", {skipped:,} skipped" if skipped else ""
    verdict = "" if report.wins else "; not better than lerp, so these weights are no default"
    return f"trained with {render.count(len(changed.plain), 'photo')}{left_out}; {held_out}; wrote {path}{verdict}"
