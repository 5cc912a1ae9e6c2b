"""How good the answers of the built-in model are, through the interface that commands use.

python bench/quality.py recall [--data DIR]      text -> image on Flickr8k's dev split, exact and HNSW
python bench/quality.py composed [--data DIR]    picture plus words on PACS: methods, intervals, weights

DIR holds `flickr8k-dev/` and `pacs/`; by default $IMGSEARCH_TEST_DATA, else ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np

from imgsearch.core import embed, evaluate, indexing, models
from imgsearch.core.compose import METHODS
from imgsearch.core.grammar import Query
from imgsearch.core.search import Options, Searcher
from imgsearch.core.store import Store

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SEED = 0
# What the others are held against: the default unless one of them beats it here with a paired 95 % interval.
BASELINE = "and"
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("recall", "composed"))
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    arguments = parser.parse_args()
    data = os.path.abspath(arguments.data)
    (recall if arguments.part == "recall" else composed)(data)


@contextlib.contextmanager
def indexed(folder: str) -> Iterator[Searcher]:
    """A folder of pictures in an index that goes away afterwards."""
    spec = models.parse("builtin")
    embedder = embed.load(spec, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        index = os.path.join(scratch, "index")
        with Store.writing(index, create=True) as store:
            summary = indexing.run(store, lambda: (embedder, spec.to_json()), indexing.IndexPlan((folder,)))
        if summary.skipped:
            raise SystemExit(f"{summary.skipped} pictures in {folder} could not be indexed")
        with Store.open(index) as store:
            yield Searcher(store, lambda: embedder)


def read_lines(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rankings(searcher: Searcher, queries: Sequence[Query], options: Options) -> list[list[str]]:
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
            strategy: rankings(searcher, queries, Options(limit=10, strategy=strategy)) for strategy in ("exact", "ann")
        }
    print(f"{len(queries)} captions, {len({file for _, file in asked})} photos, model builtin\n")
    print("| search | recall_at_1 | recall_at_5 | recall_at_10 |\n|---|---|---|---|")
    for strategy, ranked in found.items():
        figures = (f"{evaluate.recall_at_k(ranked, relevant, k):.4f}" for k in (1, 5, 10))
        print(f"| {strategy} | {' | '.join(figures)} |")
    agreement = evaluate.share_found_at_k(found["ann"], found["exact"], 10)
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
    return Task(
        queries=[
            Query(line["text"], text=line["text"], images=(os.path.join(images, os.path.basename(line["image"])),))
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
            0.0: precisions(searcher, task, Options(weight=0.0)),
            1.0: precisions(searcher, task, Options(weight=1.0)),
        }
        swept = {
            name: {
                w: ends[w] if w in ends else precisions(searcher, task, Options(method=name, weight=w)) for w in WEIGHTS
            }
            for name in METHODS
        }
    at_default = {name: swept[name][METHODS[name].default_weight] for name in METHODS}
    print_methods(task, {**at_default, "words only": ends[1.0], "picture only": ends[0.0]})
    print_sweep(swept)
    print_best(task, swept)


def precisions(searcher: Searcher, task: Task, options: Options) -> np.ndarray:
    """Average precision of each query over the whole ranking, the reference picture left out of every one."""
    options = Options(limit=task.pictures, strategy="exact", method=options.method, weight=options.weight)
    figures = []
    for query, right, ranking in zip(
        task.queries, task.relevant, rankings(searcher, task.queries, options), strict=True
    ):
        reference = os.path.basename(query.images[0])
        ranked = [name for name in ranking if name != reference]
        if len(ranked) < task.pictures - 2:  # a byte-identical copy may be missing too
            raise SystemExit(f"only {len(ranked)} of {task.pictures} pictures ranked for {query}")
        figures.append(evaluate.average_precision(ranked, right))
    return np.array(figures)


def print_parts(searcher: Searcher, task: Task) -> None:
    """What each half of a query finds by itself, for composition can keep no more than the halves tell apart."""
    pictures = sorted({query.images[0] for query in task.queries})
    ranked = rankings(searcher, [Query(path, images=(path,)) for path in pictures], Options(limit=task.pictures))
    print("| asked with | to find | mAP | chance |\n|---|---|---|---|")
    for at, wanted in enumerate(("the same subject", "the same style")):
        relevant = []
        for path in pictures:
            own = os.path.basename(path)
            mine = task.labels[own][at]
            relevant.append({name for name, label in task.labels.items() if label[at] == mine and name != own})
        figure = evaluate.mean_average_precision(ranked, relevant)
        print(f"| the picture | {wanted} | {figure:.3f} | {chance(relevant, task.pictures - 1):.3f} |")
    styles = {query.text or "": group.split()[1] for query, group in zip(task.queries, task.groups, strict=True)}
    ranked = rankings(searcher, [Query(text, text=text) for text in styles], Options(limit=task.pictures))
    relevant = [{name for name, label in task.labels.items() if label[1] == style} for style in styles.values()]
    for text, ranking, right in zip(styles, ranked, relevant, strict=True):
        figure = evaluate.average_precision(ranking, right)
        print(f'| "{text}" | that style | {figure:.3f} | {chance([right], task.pictures):.3f} |')
    print()


def print_methods(task: Task, figures: dict[str, np.ndarray]) -> None:
    print(f"| method | weight | mAP | minus `{BASELINE}`, 95 % | the same, groups drawn |\n|---|---|---|---|---|")
    for name, values in sorted(figures.items(), key=lambda item: -item[1].mean()):
        weight = f"{METHODS[name].default_weight:.1f}" if name in METHODS else ""
        difference = values - figures[BASELINE]
        print(f"| {name} | {weight} | {values.mean():.4f} | {intervals(task, difference, name == BASELINE)} |")
    print(f"| chance | | {chance(task.relevant, task.pictures - 1):.4f} | | |\n")


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
    print(f"| method | best weight | mAP | minus `{BASELINE}` at its best, 95 % | the same, groups drawn |")
    print("|---|---|---|---|---|")
    for name, w in best.items():
        values = swept[name][w]
        print(f"| {name} | {w:.1f} | {values.mean():.4f} | {intervals(task, values - theirs, name == BASELINE)} |")


def intervals(task: Task, difference: np.ndarray, is_itself: bool) -> str:
    if is_itself:
        return " | "
    both = (
        evaluate.paired_bootstrap(difference, SEED),
        evaluate.paired_bootstrap(difference, SEED, groups=task.groups),
    )
    return (
        f"{both[0].mean:+.4f} ({both[0].low:+.4f} to {both[0].high:+.4f}) | {both[1].low:+.4f} to {both[1].high:+.4f}"
    )


def chance(relevant: Sequence[set[str]], ranked: int) -> float:
    """The average precision that shuffled rankings of so many pictures have in the mean."""
    harmonic = sum(1 / i for i in range(1, ranked + 1))
    expected = [((len(right) - 1) / (ranked - 1) * (ranked - harmonic) + harmonic) / ranked for right in relevant]
    return float(np.mean(expected))


if __name__ == "__main__":
    main()
