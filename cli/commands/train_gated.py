"""`imgsearch train-composer gated`: weights of a composition method from captions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.evaluation.trained_gate import Figures, Trained


def gated(
    *,
    captions: str | None,
    split: str | None,
    out: str,
    device: str,
    precision: str,
    offline: bool,
    as_json: bool,
    quiet: bool,
    index: str | None,
) -> int:
    """Train `gated` for the model of your index, from captions of its photos.

    It learns how much the picture and how much the words count, from triplets made of the captions: a photo, the words
    that tell another one from it, and that other photo. The photos must be in the index already; captions of other
    photos are left out. The table says what the weights find on photos that were held out. If that is not better than
    `--compose lerp` at its best weight, the file says that the weights are no default.

    The same captions and the same index make the same file.

    Examples:

      imgsearch train-composer gated --captions captions.jsonl

      imgsearch query "on a red leash like dog.jpg" --compose gated:gated.safetensors
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.cli.output.progress import Line, bar
    from imgsearch.cli.running import ModelChoice
    from imgsearch.core.compose.composer_file import write
    from imgsearch.core.errors import UsageError
    from imgsearch.core.evaluation import loaders
    from imgsearch.core.evaluation.runs import CachingEmbedder
    from imgsearch.core.evaluation.trained_gate import captioned, train
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.writing import replacing

    if not captions:
        raise UsageError("gated needs --captions", hint="give a file with captions of photos in the index")
    target = os.path.abspath(os.path.expanduser(out))
    if not out or os.path.isdir(target) or not os.path.isdir(os.path.dirname(target)):
        raise UsageError(f"--out {printable(out)}: not a file in an existing folder", hint="give the name of a file")
    if os.path.realpath(captions) == os.path.realpath(target):
        raise UsageError(f"--out {printable(out)}: is also the file of --captions", hint="give it another name")
    render.set_quiet(quiet)
    known = loaders.captions("flickr", captions, split=split, per_image=None)
    choice = ModelChoice(None, None, None, device, precision, offline, render.say)
    with open_store(index) as store, Line(is_wanted=not quiet) as line:
        space = store.space_to_search()
        view = store.view(space)
        pictures, texts = captioned(store, view, known)
        load = choice.embedder(space)
        caching = CachingEmbedder(lambda: load()[0])
        line.draw(f"embedding what tells {len(texts):,} photos apart")
        drawn = bar(line, desc="training", unit=" epochs", total=None)
        try:
            trained = train(pictures, texts, caching.embed_texts, space.identity, on_epoch=lambda: drawn.update(1))
        finally:
            drawn.close()
    with replacing(target, mode=0o666) as file:
        write(file, trained.metadata, trained.tensors)
    left_out = len(known.captions) - len(texts)
    if as_json:
        render.emit_json({**path_fields(target), **_record(trained, len(texts), left_out)})
    else:
        for text in _table(trained.by_method):
            render.emit(text)
    render.flush()
    if not as_json:
        render.say(_summary(trained, len(texts), left_out, printable(target)))
    return 0


def _record(trained: Trained, photos: int, left_out: int) -> dict[str, object]:
    return {
        "method": trained.metadata["method"],
        "is_default": trained.wins,
        "photos": photos,
        "left_out": left_out,
        "triplets": trained.triplets,
        "held_out": {"photos": trained.photos, "queries": trained.queries},
        "found": {
            name: {
                "weight": figures.weight,
                "recall_at_1": round(figures.recall_at_1, 4),
                "recall_at_10": round(figures.recall_at_10, 4),
                "mrr": round(figures.reciprocal_rank, 4),
                "mrr_minus_lerp": [round(value, 4) for value in figures.minus_lerp],
            }
            for name, figures in trained.by_method.items()
        },
    }


def _table(by_method: Mapping[str, Figures]) -> Iterator[str]:
    form = "{:<13} {:>6} {:>11} {:>12} {:>6}  {}"
    yield form.format("method", "weight", "recall_at_1", "recall_at_10", "mrr", "mrr minus lerp")
    for name, figures in by_method.items():
        better = figures.minus_lerp
        difference = "" if name == "lerp" else f"{better.mean:+.3f} ({better.low:+.3f} to {better.high:+.3f})"
        weight = "" if figures.weight is None else f"{figures.weight:g}"
        cells = (f"{value:.3f}" for value in (figures.recall_at_1, figures.recall_at_10, figures.reciprocal_rank))
        yield form.format(name, weight, *cells, difference).rstrip()


def _summary(trained: Trained, photos: int, left_out: int, path: str) -> str:
    missing = f", {left_out:,} not in the index" if left_out else ""
    held_out = f"{render.count(trained.queries, 'query', 'queries')} on {trained.photos:,} held-out photos"
    verdict = "" if trained.wins else "; not better than lerp, so these weights are no default"
    return (
        f"trained with {render.count(trained.triplets, 'change')} from the captions of "
        f"{render.count(photos, 'photo')}{missing}; {held_out}; wrote {path}{verdict}"
    )
