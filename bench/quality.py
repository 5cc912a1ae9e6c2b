"""Measures the search quality of the built-in model through the interface that commands use.

python bench/quality.py recall [--data DIR]      text to image on Flickr8k's dev split, exact and HNSW
python bench/quality.py composed [--data DIR]    picture plus text on PACS: methods, weights, halves
python bench/quality.py triplets [--data DIR]    picture plus text on Flickr8k's dev split, one photo wanted
python bench/quality.py clip [--data DIR]        recorded vectors of OpenAI's CLIP ViT-B/32, replayed through the engine

DIR contains `flickr8k-dev/`, `pacs/` and `clip-vectors/`. Default: $IMGSEARCH_TEST_DATA, else ../shared/data beside the
repository.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np

from imgsearch.core.compose.caption_triplets import triplets as triplets_of
from imgsearch.core.compose.composers import SHIPPED_FOR, composer_for
from imgsearch.core.evaluation import metrics
from imgsearch.core.indexing import indexer
from imgsearch.core.models import loading, registry
from imgsearch.core.models.phrases import neutral_phrases
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.search import composition
from imgsearch.core.search.choices import DEFAULT_METHOD, LEARNED_DEFAULT
from imgsearch.core.search.composition import method_named
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store
from imgsearch.core.types import Embedder, Photo, Recipe, SpaceIdentity

# Those that need no weights, or have them.
METHODS = {name: method for name, method in composition.METHODS.items() if not method.is_learned or name in SHIPPED_FOR}
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 0
# What a composed query has to beat: its words alone, its picture alone, and their plain sum.
RIVALS = ("words only", "picture only", "add")
BASELINE = "and"
"""The default, unless another method beats it at weights that were tuned on other groups."""
EARLIER = "lerp"
"""The default before, at its own weight of .8."""
# Queries that are timed, one by one.
TIMED = 50
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("recall", "composed", "triplets", "clip"))
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    arguments = parser.parse_args()
    data = os.path.abspath(arguments.data)
    {"recall": recall, "composed": composed, "triplets": triplets, "clip": clip}[arguments.part](data)


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
            yield Searcher(store, lambda: remembering, composers=composer_for)


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
        ends = {w: precisions(searcher, task, SearchOptions(weight=w)) for w in (0.0, 1.0)}
        swept = {
            name: {
                w: ends[w] if w in ends else precisions(searcher, task, SearchOptions(method=name, weight=w))
                for w in WEIGHTS
            }
            for name in METHODS
        }
        shown = {name: SearchOptions(method=name) for name in METHODS}
        shown |= {"words only": SearchOptions(weight=1.0), "picture only": SearchOptions(weight=0.0)}
        found = {name: ranked(searcher, task, options) for name, options in shown.items()}
    at_default = {
        name: np.array([metrics.average_precision(*pair) for pair in zip(rankings, task.relevant, strict=True)])
        for name, rankings in found.items()
    }
    recalls = {name: metrics.recall_at_k(rankings, task.relevant, 10) for name, rankings in found.items()}
    print_methods(task, at_default, recalls)
    print_sweep(swept)
    print_halves(task, swept, at_default)
    print_every_half(task, swept, at_default)
    print_learned(task, swept, at_default)


def precisions(searcher: Searcher, task: Task, options: SearchOptions) -> np.ndarray:
    """Average precision of each query over the whole ranking, the reference picture left out of every one."""
    return np.array(
        [
            metrics.average_precision(ranking, right)
            for ranking, right in zip(ranked(searcher, task, options), task.relevant, strict=True)
        ]
    )


def ranked(searcher: Searcher, task: Task, options: SearchOptions) -> list[list[str]]:
    """The whole ranking of each query, without the reference picture and nothing else.

    It is the search's own, but only its scores: to name all photos for each of thousands of queries takes minutes.
    """
    options = replace(options, include_reference=True, statistics=False)
    needs_origin = options.method is not None and method_named(options.method).needs_origin
    queries = [query if needs_origin else replace(query, change_from=None) for query in task.queries]
    encoder, scorer = searcher._encoder, searcher._scorer
    live = np.flatnonzero(searcher.view.slots.mask("image"))
    places = searcher.store.catalog.places.of_slots(searcher.view.space.id, live.tolist(), include_offline=False)
    places = sorted(places, key=lambda place: os.fsencode(place.path))
    names = [os.path.basename(place.path) for place in places]
    assert len(names) == task.pictures
    texts = encoder.embed_texts(queries, options, searcher.view.space.identity)
    encoded = [encoder.encode(query, options, texts, searcher.view) for query in queries]
    backgrounds = scorer.backgrounds(encoded, "image", is_wanted=False)
    scored = scorer.candidates(encoded, backgrounds, "image", scorer.allowed(options, None)["image"])
    found = []
    for query, candidates in zip(queries, scored, strict=True):
        of_slot = dict(zip(candidates.slots.tolist(), candidates.scores.tolist(), strict=True))
        order = np.argsort([-of_slot[place.slot] for place in places], kind="stable")
        own = os.path.basename(query.images[0])
        found.append([names[at] for at in order if names[at] != own])
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
    columns = " | ".join(f"minus {rival}" for rival in RIVALS)
    print(f"| method | weight | mAP | recall_at_10 | {columns} |\n|---|---|---|---|---|---|---|")
    for name, values in sorted(figures.items(), key=lambda item: -item[1].mean()):
        weight = f"{METHODS[name].default_weight:g}" if name in METHODS else ""
        cells = " | ".join("" if name == rival else interval(task, values - figures[rival]) for rival in RIVALS)
        print(f"| {name} | {weight} | {values.mean():.4f} | {recalls[name]:.3f} | {cells} |")
    print(f"| chance | | {chance(task.relevant, task.pictures - 1):.4f} | | | | |\n")
    better = interval(task, figures[DEFAULT_METHOD] - figures[EARLIER])
    print(f"{DEFAULT_METHOD}, the default of most models, minus {EARLIER}, the earlier default: {better}\n")


def print_sweep(swept: dict[str, dict[float, np.ndarray]]) -> None:
    print("| method | " + " | ".join(f"{w:.1f}" for w in WEIGHTS) + " |\n|---|" + "---|" * len(WEIGHTS))
    for name, by_weight in swept.items():
        print(f"| {name} | " + " | ".join(f"{by_weight[w].mean():.3f}" for w in WEIGHTS) + " |")
    print()


def print_learned(task: Task, swept: dict[str, dict[float, np.ndarray]], at_default: dict[str, np.ndarray]) -> None:
    """The default of the built-in model against `lerp` at its best weight: whether it deserves to be the default."""
    rival = {w: by_group(task, values) for w, values in swept[EARLIER].items()}
    own = {w: by_group(task, values) for w, values in swept[LEARNED_DEFAULT].items()}
    every = np.ones(len(rival[0.5]), bool)
    first, best = halves(task)[0], best_weight(rival, every)
    over_default = interval(task, at_default[LEARNED_DEFAULT] - at_default[DEFAULT_METHOD])
    print(f"\n{LEARNED_DEFAULT} minus {DEFAULT_METHOD}, the default of other models: {over_default}")
    print(f"{LEARNED_DEFAULT} minus {EARLIER}:\n")
    print("| weights | mAP | both halves | first half | second half |\n|---|---|---|---|---|")
    fixed = by_group(task, at_default[LEARNED_DEFAULT])
    rows = {f"the default, {EARLIER} at {best:.1f}, its best": (fixed, rival[best])}
    rows["each tuned on the other half"] = tuple(
        np.where(first, means[best_weight(means, ~first)], means[best_weight(means, first)]) for means in (own, rival)
    )
    for name, (mine, theirs) in rows.items():
        cells = " | ".join(mean_interval((mine - theirs)[mask]) for mask in (every, first, ~first))
        print(f"| {name} | {mine.mean():.4f} | {cells} |")
    styles = sorted({group.split()[1] for group in task.groups})
    print("\n| style to find | " + " | ".join(styles) + " |\n|---|" + "---|" * len(styles))
    for name, means in ((LEARNED_DEFAULT, fixed), (f"{EARLIER} at {best:.1f}", rival[best])):
        of_style = means.reshape(-1, len(styles)).mean(axis=0)
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in of_style) + " |")
    print()


def halves(task: Task) -> list[np.ndarray]:
    """Every way to put half of the groups of each subject into one half, so that both have as many of each style.

    bool (groups sorted by subject and style,). The first is the one that the tables use: of the i-th subject the
    styles from the i-th on, in alphabetical order, around the end.
    """
    subjects, styles = (sorted({group.split()[at] for group in task.groups}) for at in (0, 1))
    half = len(styles) // 2
    rows = [np.isin(range(len(styles)), chosen) for chosen in itertools.combinations(range(len(styles)), half)]
    every = (np.array(chosen) for chosen in itertools.product(rows, repeat=len(subjects)))
    even = [chosen.ravel() for chosen in every if np.ptp(chosen.sum(axis=0)) <= 1]
    first = [(at - i) % len(styles) < half for i in range(len(subjects)) for at in range(len(styles))]
    return [np.array(first), *even]


def by_group(task: Task, values: np.ndarray) -> np.ndarray:
    """The mean of each group, sorted by subject and style."""
    groups = np.array(task.groups)
    return np.array([values[groups == group].mean() for group in sorted(set(task.groups))])


def best_weight(by_weight: dict[float, np.ndarray], half: np.ndarray) -> float:
    """Between 0 and 1, for at the ends nothing is composed."""
    return max(WEIGHTS[1:-1], key=lambda w: float(by_weight[w][half].mean()))


def print_halves(task: Task, swept: dict[str, dict[float, np.ndarray]], at_default: dict[str, np.ndarray]) -> None:
    """Each method at the weight that suits one half best, on the other half."""
    first = halves(task)[0]
    rivals = {rival: by_group(task, at_default[rival]) for rival in RIVALS}
    columns = " | ".join(f"minus {rival}" for rival in RIVALS)
    print(f"| method | tested on | weight | mAP | {columns} | minus {BASELINE} |\n|---|---|---|---|---|---|---|---|")
    weights, tuned = {}, {}
    for name, by_weight in swept.items():
        means = {w: by_group(task, values) for w, values in by_weight.items()}
        weights[name] = {"second half": best_weight(means, first), "first half": best_weight(means, ~first)}
        tuned[name] = np.where(first, means[weights[name]["first half"]], means[weights[name]["second half"]])
    rivals[f"{BASELINE}, tuned too"] = tuned[BASELINE]
    for name, values in tuned.items():
        for tested, mask in (("second half", ~first), ("first half", first), ("both", np.ones_like(first))):
            weight = f"{weights[name][tested]:.1f}" if tested in weights[name] else ""
            cells = " | ".join(mean_interval((values - theirs)[mask]) for theirs in rivals.values())
            print(f"| {name} | {tested} | {weight} | {values[mask].mean():.4f} | {cells} |")
    print()


def print_every_half(task: Task, swept: dict[str, dict[float, np.ndarray]], at_default: dict[str, np.ndarray]) -> None:
    """In how many ways to halve the groups the interval over the tested half is above 0: words only subtracted."""
    every = halves(task)[1:]
    words = by_group(task, at_default["words only"])
    print(f"| method | of {len(every)} halves above words only: tuned on the other half | at the default weight |")
    print("|---|---|---|")
    for name, by_weight in swept.items():
        means = {w: by_group(task, values) for w, values in by_weight.items()}
        fixed = by_group(task, at_default[name]) - words
        tuned = [means[best_weight(means, half)][~half] - words[~half] for half in every]
        cells = (sum(is_above(values) for values in some) for some in (tuned, [fixed[~half] for half in every]))
        print(f"| {name} | {' | '.join(map(str, cells))} |")


def is_above(differences: np.ndarray) -> bool:
    return metrics.paired_bootstrap(differences, SEED, 2_000).low > 0


# picture plus words, one photo wanted


def caption_task(data: str) -> Task:
    """The triplets of core/compose/caption_triplets.py from the captions of Flickr8k's dev split."""
    folder = os.path.join(data, "flickr8k-dev")
    lines = read_lines(os.path.join(folder, "captions.jsonl"))
    names = [os.path.basename(line["file"]) for line in lines]
    paths = [os.path.join(folder, "images", name) for name in names]
    found = triplets_of([line["captions"] for line in lines])
    return Task(
        queries=[Query(each.change, text=each.change, images=(paths[each.reference],)) for each in found],
        relevant=[{names[each.target]} for each in found],
        groups=[names[each.target] for each in found],
        pictures=len(lines),
        labels={},
    )


def triplets(data: str) -> None:
    task = caption_task(data)
    shown = {name: SearchOptions(method=name) for name, method in METHODS.items() if not method.needs_origin}
    shown |= {"words only": SearchOptions(weight=1.0), "picture only": SearchOptions(weight=0.0)}
    with indexed(os.path.join(data, "flickr8k-dev", "images")) as searcher:
        swept = {w: hits_at(searcher, task, SearchOptions(method=EARLIER, weight=w)) for w in WEIGHTS[1:-1]}
        best = max(swept, key=lambda w: float(swept[w][0].mean()))
        shown[EARLIER] = SearchOptions(method=EARLIER, weight=best)
        found = {name: hits_at(searcher, task, options) for name, options in shown.items()}
        milliseconds = {name: timed(searcher, task, options) for name, options in shown.items()}
    print(f"{len(task.queries)} queries, {task.pictures} photos, model builtin\n")
    rivals = ("words only", EARLIER)
    columns = " | ".join(f"recall_at_1 minus {rival}" for rival in rivals)
    print(f"| method | weight | recall_at_1 | recall_at_5 | {columns} | ms a query |\n|---|---|---|---|---|---|---|")
    for name, (first, five) in sorted(found.items(), key=lambda item: -item[1][0].mean()):
        weight = shown[name].weight if name == EARLIER or name not in METHODS else METHODS[name].default_weight
        cells = " | ".join("" if name == rival else interval(task, first - found[rival][0]) for rival in rivals)
        row = f"{weight:g} | {first.mean():.4f} | {five.mean():.4f} | {cells} | {milliseconds[name]:.1f}"
        print(f"| {name} | {row} |")
    print(f"\n{EARLIER} has the weight that is best here.")


def hits_at(searcher: Searcher, task: Task, options: SearchOptions) -> tuple[np.ndarray, np.ndarray]:
    """For each query, whether the wanted photo is the first one found, and whether it is among the first five."""
    ranks = [
        metrics.first_rank(ranking, right)
        for ranking, right in zip(ranked(searcher, task, options), task.relevant, strict=True)
    ]
    return tuple((np.array(ranks) <= k).astype(np.float64) for k in (1, 5))


def timed(searcher: Searcher, task: Task, options: SearchOptions) -> float:
    """Milliseconds of one whole search, in the middle. The texts' vectors are known, and no model runs."""
    taken = []
    for query in task.queries[:TIMED]:
        started = time.perf_counter()
        rankings(searcher, [query], replace(options, limit=10))
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1000


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
        # The other squares of a panorama, which CLIP has not seen, are like nothing.
        total = np.sum(list(self._images.values()), axis=0)
        nothing = -total / np.linalg.norm(total)
        return np.stack([self._images.get(hashlib.sha256(square.tobytes()).digest(), nothing) for square in squares])

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
    rows = [
        (name, SearchOptions(method=name))
        for name, each in METHODS.items()
        if not (each.is_projected or each.needs_composer)
    ]
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


def interval(task: Task, difference: np.ndarray) -> str:
    """A paired 95 % interval that draws whole groups."""
    found = metrics.paired_bootstrap(difference, SEED, groups=task.groups)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def mean_interval(differences: np.ndarray) -> str:
    """The same of the means of groups."""
    found = metrics.paired_bootstrap(differences, SEED)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def chance(relevant: Sequence[set[str]], ranked: int) -> float:
    """The mean average precision of shuffled rankings of that many pictures."""
    harmonic = sum(1 / i for i in range(1, ranked + 1))
    expected = [((len(right) - 1) / (ranked - 1) * (ranked - harmonic) + harmonic) / ranked for right in relevant]
    return float(np.mean(expected))


if __name__ == "__main__":
    main()
