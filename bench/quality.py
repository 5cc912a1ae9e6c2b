"""Measures the search quality of the built-in model through the interface that commands use.

python bench/quality.py recall [--data DIR]      text to image on Flickr8k's dev split, exact and HNSW
python bench/quality.py composed [--data DIR]    picture plus text on PACS: methods, intervals, weights
python bench/quality.py clip [--data DIR]        recorded vectors of OpenAI's CLIP ViT-B/32, replayed through the engine

DIR contains `flickr8k-dev/`, `pacs/` and `clip-vectors/`. Default: $IMGSEARCH_TEST_DATA, else ../shared/data beside the
repository.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np

from imgsearch.core.evaluation import metrics
from imgsearch.core.indexing import indexer
from imgsearch.core.models import loading, registry
from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.search.composition import METHODS
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store
from imgsearch.core.types import Embedder, Photo, Recipe, SpaceIdentity

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 0
# What the others are held against: the default unless one of them beats it here with a paired 95 % interval.
BASELINE = "and"
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("recall", "composed", "clip"))
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    arguments = parser.parse_args()
    data = os.path.abspath(arguments.data)
    {"recall": recall, "composed": composed, "clip": clip}[arguments.part](data)


@contextlib.contextmanager
def indexed(folder: str) -> Iterator[Searcher]:
    """A folder of pictures in an index that goes away afterwards."""
    spec = registry.parse("builtin")
    embedder = loading.load(spec, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        index = os.path.join(scratch, "index")
        with Store.writing(index, create=True) as store:
            summary = indexer.run(store, lambda: (embedder, spec.to_json()), indexer.IndexPlan((folder,)))
        if summary.skipped:
            raise SystemExit(f"{summary.skipped} pictures in {folder} could not be indexed")
        with Store.open(index) as store:
            remembering = Remembering(embedder)
            yield Searcher(store, lambda: remembering)


class Remembering:
    """A model that embeds no text twice: the same words are asked with at many weights."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, np.ndarray] = {}

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        return self._embedder.embed_images(squares)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._embedder.embed_texts(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])


def read_lines(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rankings(searcher: Searcher, queries: Sequence[Query], options: SearchOptions) -> list[list[str]]:
    """File names of each query's hits, best first."""
    return [[os.path.basename(hit.path) for hit in hits] for hits in searcher.search_many(queries, options)]


# text -> image


def recall(data: str) -> None:
    folder = os.path.join(data, "flickr8k-dev")
    asked = [
        (caption, photo["file"])
        for photo in read_lines(os.path.join(folder, "captions.jsonl"))
        for caption in photo["captions"]
    ]
    queries = [Query(caption, text=caption) for caption, _ in asked]
    relevant = [{os.path.basename(file)} for _, file in asked]
    with indexed(os.path.join(folder, "images")) as searcher:
        found = {
            strategy: rankings(searcher, queries, SearchOptions(limit=10, strategy=strategy))
            for strategy in ("exact", "ann")
        }
    print(f"{len(queries)} captions, {len({file for _, file in asked})} photos, model builtin\n")
    print("| search | recall_at_1 | recall_at_5 | recall_at_10 |\n|---|---|---|---|")
    for strategy, ranked in found.items():
        figures = (f"{metrics.recall_at_k(ranked, relevant, k):.4f}" for k in (1, 5, 10))
        print(f"| {strategy} | {' | '.join(figures)} |")
    agreement = metrics.share_found_at_k(found["ann"], found["exact"], 10)
    print(f"\nrecall_at_10 of HNSW against exact: {agreement:.4f}")


# picture plus words


@dataclass(frozen=True)
class Task:
    """Composed queries with their right answers."""

    queries: list[Query]
    relevant: list[set[str]]
    groups: list[str]
    """Queries of one group have the same right answers, so that they are no independent evidence."""
    pictures: int
    labels: dict[str, tuple[str, str]]
    """(subject, style) of each picture."""


def pacs(data: str) -> Task:
    folder = os.path.join(data, "pacs")
    images = os.path.join(folder, "images")
    lines = read_lines(os.path.join(folder, "composed_queries.jsonl"))
    labels = {
        os.path.basename(line["file"]): (line["label"], line["domain"])
        for line in read_lines(os.path.join(folder, "labels.jsonl"))
    }
    style_of = {line["target_domain"]: line["text"] for line in lines}
    return Task(
        queries=[
            Query(
                line["text"],
                text=line["text"],
                images=(os.path.join(images, os.path.basename(line["image"])),),
                # Only `pdv` reads it: what the picture asked with is, in the words that would ask for it.
                change_from=style_of[labels[os.path.basename(line["image"])][1]],
            )
            for line in lines
        ],
        relevant=[{os.path.basename(name) for name in line["relevant"]} for line in lines],
        groups=[f"{line['label']} {line['target_domain']}" for line in lines],
        pictures=len(labels),
        labels=labels,
    )


def composed(data: str) -> None:
    task = pacs(data)
    with indexed(os.path.join(data, "pacs", "images")) as searcher:
        print(f"{len(task.queries)} queries, {task.pictures} pictures, model builtin\n")
        print_parts(searcher, task)
        ends = {
            0.0: precisions(searcher, task, SearchOptions(weight=0.0)),
            1.0: precisions(searcher, task, SearchOptions(weight=1.0)),
        }
        swept = {
            name: {
                w: ends[w] if w in ends else precisions(searcher, task, SearchOptions(method=name, weight=w))
                for w in WEIGHTS
            }
            for name in METHODS
        }
        at_default = {
            name: swept[name][w] if (w := METHODS[name].default_weight) in swept[name] else None for name in METHODS
        }
        at_default = {
            name: precisions(searcher, task, SearchOptions(method=name)) if figures is None else figures
            for name, figures in at_default.items()
        }
        recalls = {
            name: metrics.recall_at_k(ranked(searcher, task, SearchOptions(method=name)), task.relevant, 10)
            for name in METHODS
        }
        recalls |= {
            name: metrics.recall_at_k(ranked(searcher, task, SearchOptions(weight=weight)), task.relevant, 10)
            for name, weight in (("words only", 1.0), ("picture only", 0.0))
        }
    print_methods(task, {**at_default, "words only": ends[1.0], "picture only": ends[0.0]}, recalls)
    print_sweep(swept)
    print_best(task, swept)


def precisions(searcher: Searcher, task: Task, options: SearchOptions) -> np.ndarray:
    """Average precision of each query over the whole ranking, the reference picture left out of every one."""
    return np.array(
        [
            metrics.average_precision(ranking, right)
            for ranking, right in zip(ranked(searcher, task, options), task.relevant, strict=True)
        ]
    )


def ranked(searcher: Searcher, task: Task, options: SearchOptions) -> list[list[str]]:
    """The whole ranking of each query, without the reference picture and nothing else."""
    options = replace(options, limit=task.pictures, strategy="exact", include_reference=True, statistics=False)
    needs_origin = options.method is not None and METHODS[options.method].needs_origin
    queries = [query if needs_origin else replace(query, change_from=None) for query in task.queries]
    found = []
    for query, ranking in zip(queries, rankings(searcher, queries, options), strict=True):
        if len(ranking) != task.pictures:
            raise SystemExit(f"only {len(ranking)} of {task.pictures} pictures ranked for {query}")
        found.append([name for name in ranking if name != os.path.basename(query.images[0])])
    return found


def print_parts(searcher: Searcher, task: Task) -> None:
    """What each half of a query finds by itself, for composition can keep no more than the halves tell apart."""
    pictures = sorted({query.images[0] for query in task.queries})
    ranked = rankings(searcher, [Query(path, images=(path,)) for path in pictures], SearchOptions(limit=task.pictures))
    print("| query | relevant | mAP | chance |\n|---|---|---|---|")
    for at, wanted in enumerate(("the same subject", "the same style")):
        relevant = []
        for path in pictures:
            own = os.path.basename(path)
            mine = task.labels[own][at]
            relevant.append({name for name, label in task.labels.items() if label[at] == mine and name != own})
        figure = metrics.mean_average_precision(ranked, relevant)
        print(f"| the picture | {wanted} | {figure:.3f} | {chance(relevant, task.pictures - 1):.3f} |")
    styles = {query.text or "": group.split()[1] for query, group in zip(task.queries, task.groups, strict=True)}
    ranked = rankings(searcher, [Query(text, text=text) for text in styles], SearchOptions(limit=task.pictures))
    relevant = [{name for name, label in task.labels.items() if label[1] == style} for style in styles.values()]
    for text, ranking, right in zip(styles, ranked, relevant, strict=True):
        figure = metrics.average_precision(ranking, right)
        print(f'| "{text}" | that style | {figure:.3f} | {chance([right], task.pictures):.3f} |')
    print()


def print_methods(task: Task, figures: dict[str, np.ndarray], recalls: dict[str, float]) -> None:
    print(f"| method | weight | mAP | recall_at_10 | minus `{BASELINE}`, 95 % | same, groups drawn |")
    print("|---|---|---|---|---|---|")
    for name, values in sorted(figures.items(), key=lambda item: -item[1].mean()):
        weight = f"{METHODS[name].default_weight:g}" if name in METHODS else ""
        difference = intervals(task, values - figures[BASELINE], name == BASELINE)
        print(f"| {name} | {weight} | {values.mean():.4f} | {recalls[name]:.3f} | {difference} |")
    print(f"| chance | | {chance(task.relevant, task.pictures - 1):.4f} | | | |\n")


def print_sweep(swept: dict[str, dict[float, np.ndarray]]) -> None:
    print("| method | " + " | ".join(f"{w:.1f}" for w in WEIGHTS) + " |\n|---|" + "---|" * len(WEIGHTS))
    for name, by_weight in swept.items():
        print(f"| {name} | " + " | ".join(f"{by_weight[w].mean():.3f}" for w in WEIGHTS) + " |")
    print()


def print_best(task: Task, swept: dict[str, dict[float, np.ndarray]]) -> None:
    """Each method at the weight that suits this very set best; at the ends nothing is composed."""
    best = {
        name: max(WEIGHTS[1:-1], key=lambda w, by_weight=by_weight: by_weight[w].mean())
        for name, by_weight in swept.items()
    }
    theirs = swept[BASELINE][best[BASELINE]]
    print(f"| method | best weight | mAP | minus `{BASELINE}` at its best weight, 95 % | same, groups drawn |")
    print("|---|---|---|---|---|")
    for name, w in best.items():
        values = swept[name][w]
        print(f"| {name} | {w:.1f} | {values.mean():.4f} | {intervals(task, values - theirs, name == BASELINE)} |")


# real CLIP vectors


class Replay:
    """An encoder that knows the recorded vectors: of these very pictures, and of these very texts."""

    recipe = Recipe((224, 224), (0.481, 0.458, 0.408), (0.269, 0.261, 0.276))

    def __init__(self, folder: str) -> None:
        self._captions = {line["text"] for line in read_lines(os.path.join(folder, "texts.jsonl")) if line["file"]}
        with np.load(os.path.join(folder, "vectors.npz")) as recorded:
            images, texts = recorded["image"], recorded["text"]  # each of these reads and unpacks the whole array
        self.identity = SpaceIdentity("c" * 64, "ViT-B-32/openai, recorded", "ViT-B-32", "openai", 512)
        self.texts = {line["text"]: texts[line["row"]] for line in read_lines(os.path.join(folder, "texts.jsonl"))}
        self._images: dict[bytes, np.ndarray] = {}
        with DecodePool(1) as workers:
            for line in read_lines(os.path.join(folder, "images.jsonl")):
                path = os.path.join(folder, "images", line["file"])
                photo = Photo(os.path.dirname(path), os.path.basename(path), os.path.getsize(path), 0, 0, named=True)
                square = workers.read(photo, self.recipe, draft_side=512).square
                self._images[hashlib.sha256(square.tobytes()).digest()] = images[line["row"]]

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        return np.stack([self._images[hashlib.sha256(square.tobytes()).digest()] for square in squares])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """A neutral phrase is stood for by a class name: what was not recorded cannot be encoded."""
        classes = [text for text in self.texts if text not in self._captions]
        neutral = dict(zip(neutral_phrases(), classes, strict=False))
        return np.stack([self.texts[neutral.get(text, text)] for text in texts])


def clip(data: str) -> None:
    folder = os.path.join(data, "clip-vectors")
    replay = Replay(folder)
    captions = [line for line in read_lines(os.path.join(folder, "texts.jsonl")) if line["file"]]
    with tempfile.TemporaryDirectory() as scratch:
        index = os.path.join(scratch, "index")
        with Store.writing(index, create=True) as store:
            plan = indexer.IndexPlan((os.path.join(folder, "images"),), decode="fast")
            indexer.run(store, lambda: (replay, "{}"), plan)
        with Store.open(index) as store:
            searcher = Searcher(store, lambda: replay)
            print_captions(searcher, captions)
            print_toys(searcher, folder, captions)


def print_captions(searcher: Searcher, captions: Sequence[dict]) -> None:
    queries = [Query(line["text"], text=line["text"]) for line in captions]
    relevant = [{os.path.basename(line["file"])} for line in captions]
    print("| text -> image | recall_at_1 | recall_at_5 | recall_at_10 |\n|---|---|---|---|")
    view = searcher.view
    live = np.flatnonzero(view.slots.mask("image"))
    places = searcher.store.catalog.places.of_slots(view.space.id, live.tolist(), include_offline=False)
    names = [os.path.basename(place.path) for place in places]
    rows = np.stack([view.rows[place.slot] for place in places])
    words = searcher._encoder._embedder().embed_texts([line["text"] for line in captions])
    bare = [[names[at] for at in np.argsort(-scores)[:10]] for scores in words @ rows.T]
    for label, ranking in (
        ("cosines alone", bare),
        ("engine", rankings(searcher, queries, SearchOptions(statistics=False))),
    ):
        figures = (f"{metrics.recall_at_k(ranking, relevant, k):.4f}" for k in (1, 5, 10))
        print(f"| {label} | {' | '.join(figures)} |")
    print()


def print_toys(searcher: Searcher, folder: str, captions: Sequence[dict]) -> None:
    """A photo and another's caption: the other is to be found. The photo is its nearest neighbour, or a chance one.

    With the neighbour the picture half helps, with the chance one it only distracts.
    """
    view = searcher.view
    live = np.flatnonzero(view.slots.mask("image"))
    places = searcher.store.catalog.places.of_slots(view.space.id, live.tolist(), include_offline=False)
    paths = {os.path.basename(place.path): place.path for place in places}
    vectors = {os.path.basename(place.path): view.rows[place.slot] for place in places}
    first_caption = {os.path.basename(line["file"]): line["text"] for line in reversed(captions)}
    captioned = sorted(first_caption)
    matrix = np.stack([vectors[name] for name in captioned])
    likeness = matrix @ matrix.T - 2 * np.eye(len(captioned))
    drawn = np.random.default_rng(SEED).integers(1, len(captioned), len(captioned))
    kinds = {
        "the nearest photo": {name: captioned[int(likeness[at].argmax())] for at, name in enumerate(captioned)},
        "a chance photo": {
            name: captioned[(at + int(drawn[at])) % len(captioned)] for at, name in enumerate(captioned)
        },
    }
    print("| method | weight | mAP, with the nearest photo | recall_at_1 | mAP, with a chance photo | recall_at_1 |")
    print("|---|---|---|---|---|---|")
    rows = [(name, SearchOptions(method=name)) for name in METHODS if not METHODS[name].is_projected]
    rows += [("words only", SearchOptions(weight=1.0)), ("picture only", SearchOptions(weight=0.0))]
    for name, options in rows:
        cells = []
        for reference_of in kinds.values():
            targets = [os.path.basename(line["file"]) for line in captions]
            task = Task(
                queries=[
                    Query(
                        line["text"],
                        text=line["text"],
                        images=(paths[reference_of[target]],),
                        change_from=first_caption[reference_of[target]],
                    )
                    for line, target in zip(captions, targets, strict=True)
                ],
                relevant=[{target} for target in targets],
                groups=targets,
                pictures=len(places),
                labels={},
            )
            found = ranked(searcher, task, options)
            cells.append(f"{metrics.mean_average_precision(found, task.relevant):.3f}")
            cells.append(f"{metrics.recall_at_k(found, task.relevant, 1):.3f}")
        weight = f"{METHODS[name].default_weight:g}" if name in METHODS else ""
        print(f"| {name} | {weight} | {' | '.join(cells)} |")


def intervals(task: Task, difference: np.ndarray, is_itself: bool) -> str:
    if is_itself:
        return " | "
    both = (
        metrics.paired_bootstrap(difference, SEED),
        metrics.paired_bootstrap(difference, SEED, groups=task.groups),
    )
    return (
        f"{both[0].mean:+.4f} ({both[0].low:+.4f} to {both[0].high:+.4f}) | {both[1].low:+.4f} to {both[1].high:+.4f}"
    )


def chance(relevant: Sequence[set[str]], ranked: int) -> float:
    """The mean average precision of shuffled rankings of that many pictures."""
    harmonic = sum(1 / i for i in range(1, ranked + 1))
    expected = [((len(right) - 1) / (ranked - 1) * (ranked - harmonic) + harmonic) / ranked for right in relevant]
    return float(np.mean(expected))


if __name__ == "__main__":
    main()
