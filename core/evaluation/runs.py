"""A run: what this engine answers to the questions of a benchmark, in figures that another run can be held against.

The rankings are those of `Searcher`, asked deep enough and with nothing left out; what a protocol takes out of a
ranking is taken out here. Only the texts of image -> text are ranked here as well: they are no photos of an index.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np  # noqa: TID253

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import has_picture_extension, on_disk, printable
from imgsearch.core.search.grammar import Query, Term
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.catalog import Place
from imgsearch.core.store.store import Store, View
from imgsearch.core.types import Embedder

from .loaders import Benchmark, Question, submission
from .metrics import SUBSET, Interval, Measure, Resampled, Sample, resampled

if TYPE_CHECKING:
    from imgsearch.core.types import Recipe, SpaceIdentity, Vectors

# Questions asked together: enough to share passes over the vectors, few enough to see progress.
QUESTIONS_AT_ONCE = 256
# Asked for beside the depth that is needed, for what a protocol takes out; and how much deeper the next look goes.
SPARE = 8
DEEPER = 8
# Pictures ranked against all texts at once.
PICTURES_AT_ONCE = 256
NAMED = 3
"""Of what is missing, in an error."""
SEED = 0
IMAGE_TO_TEXT = "i2t"
MEAN = "mean"

Step = Callable[[int], None]
Item = TypeVar("Item")


class Shelf:
    """Photos of an index, found by the names that annotations give them."""

    def __init__(self, places: Iterable[Place], folder: str | None = None) -> None:
        """Those at or below `folder`, an absolute path, by their paths below it; without one, all by their roots'."""
        self.total = 0
        """Photos in the index, those elsewhere included."""
        self.places: dict[str, Place] = {}
        self.tails: dict[str, str] = {}
        """By path, the path below the folder; the whole path where two would be alike."""
        self._paths: dict[str, list[str]] = {}
        """By the file's name, with its extension and without, accents as one character."""
        tops = () if folder is None else tuple({f"{top.rstrip('/')}/" for top in (folder, os.path.realpath(folder))})
        by_tail: dict[str, list[str]] = {}
        for place in places:
            self.total += 1
            top = next((top for top in tops if place.path.startswith(top)), None)
            if folder is None or top:
                self.places[place.path] = place
                by_tail.setdefault(place.relpath if top is None else place.path[len(top) :], []).append(place.path)
        for tail, paths in by_tail.items():
            name = _composed(os.path.basename(tail))
            for path in paths:
                self.tails[path] = tail if len(paths) == 1 else path
                for key in {name, _bare(name)}:
                    self._paths.setdefault(key, []).append(path)

    @classmethod
    def of(cls, store: Store, view: View, folder: str | None) -> Shelf:
        slots = np.flatnonzero(view.slots.mask("image")).tolist()
        return cls(store.catalog.places_of_slots(view.space.id, slots, include_offline=False), folder)

    def path_of(self, name: str) -> str | None:
        """By the path below the folder, or else by its end; without its extension if `name` has none.

        As it is spelled, or else with accents as one character where the disk has two, and the other way round.
        Raises QueryError where a name could be one photo as well as another.
        """
        name = os.path.normpath(name)
        paths = self._called(name, _same) or self._called(_composed(name), _composed)
        if len(paths) > 1:
            first, second = sorted(paths)[:2]
            raise QueryError(
                f"{printable(name)} may be {printable(first)} or {printable(second)}",
                hint="give --images a folder where the name is there once",
            )
        return paths[0] if paths else None

    def _called(self, name: str, spelled: Callable[[str], str]) -> list[str]:
        ending = _same if has_picture_extension(name) else _bare
        called = [
            path
            for path in self._paths.get(_composed(os.path.basename(name)), ())
            if f"/{spelled(ending(path))}".endswith(f"/{name.lstrip('/')}")
        ]
        return [path for path in called if name in (spelled(path), spelled(ending(self.tails[path])))] or called


def _same(path: str) -> str:
    return path


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _bare(path: str) -> str:
    return os.path.splitext(path)[0]


@dataclass(frozen=True, slots=True)
class Asked:
    """A benchmark with its photos: what will be asked, in the names that rankings hold."""

    benchmark: Benchmark
    questions: tuple[Question, ...]
    names: Mapping[str, Mapping[str, str]]
    """By part, the name of each photo of the gallery, by path."""
    references: Mapping[str, str]
    """The paths of pictures asked with, by name."""
    pictures: Mapping[str, Place]
    """By name, those that ask for texts."""
    missing: int
    """Pictures that were named and are not there."""
    left_out: int
    """Questions that need one of those."""
    total: int
    """Photos in the index; a ranking of so many leaves none out."""

    @property
    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"queries": len(self.questions)}
        if self.pictures:
            counts["pictures_as_queries"] = len(self.pictures)
        sizes = {part: len(names) for part, names in self.names.items()}
        counts["gallery"] = sizes if len(sizes) > 1 else next(iter(sizes.values()))
        return counts | {"missing_pictures": self.missing, "left_out_queries": self.left_out}

    @property
    def digest(self) -> str:
        """Of the questions and what is right for each: runs that share it can be compared query by query.

        One's own queries may change under their ids, so what they ask counts too. Elsewhere the protocol says it.
        """
        parts: list[list[Any]] = [[q.id, q.part, sorted(q.relevant.items())] for q in self.questions]
        if self.benchmark.name == "jsonl":
            parts = [[*part, *self._typed(q)] for part, q in zip(parts, self.questions, strict=True)]
        return hashlib.sha256(json.dumps([parts, sorted(self.pictures)]).encode()).hexdigest()

    def _typed(self, question: Question) -> list[Any]:
        """Without the picture asked with among what is left out: whether it is belongs to the protocol."""
        itself = self.names[question.part].get(self.references.get(question.image or "", ""))
        return [question.texts, question.image, sorted(question.exclude - {itself})]

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Part, id and group of every answer there will be, sorted."""
        asked = [(q.part, q.id, q.group or q.id) for q in self.questions]
        return sorted(asked + [(IMAGE_TO_TEXT, f"{IMAGE_TO_TEXT}/{name}", name) for name in self.pictures])


def asked_of(benchmark: Benchmark, shelf: Shelf, *, allow_missing: bool = False) -> Asked:
    """Find the photos that a benchmark names. Raises QueryError where some are not there, unless that is allowed:
    then a gallery goes without them, and so do questions that need one."""
    finder = _Finder(benchmark, shelf)
    names = {part: finder.gallery(part, wanted) for part, wanted in benchmark.galleries.items()}
    questions, left_out = [], 0
    for question in benchmark.questions:
        found = finder.question(question, names[question.part])
        left_out += found is None
        if found is not None:
            questions.append(found)
    finder.complain(allow_missing=allow_missing)
    if not questions:
        raise QueryError(
            f"{benchmark.name}: none of the pictures that its queries need is there", hint="check --images"
        )
    pictures = {name: shelf.places[path] for path, name in names.get("t2i", {}).items() if name in benchmark.captions}
    return Asked(
        benchmark, tuple(questions), names, finder.references, pictures, len(finder.missing), left_out, shelf.total
    )


class _Finder:
    """Looks names up, and remembers which were not there."""

    def __init__(self, benchmark: Benchmark, shelf: Shelf) -> None:
        self._benchmark, self._shelf = benchmark, shelf
        self._known: dict[str, str | None] = {}
        self.references: dict[str, str] = {}
        self.missing: dict[str, None] = {}

    def path_of(self, name: str) -> str | None:
        if name not in self._known:
            self._known[name] = self._path_of(name)
            if self._known[name] is None:
                self.missing[name] = None
        return self._known[name]

    def _path_of(self, name: str) -> str | None:
        places = self._benchmark.aliases.get(name, (name,))
        return next((path for place in places if (path := self._shelf.path_of(place)) is not None), None)

    def _reference(self, name: str) -> str | None:
        """A picture that is only asked with need not be in the index."""
        beside = None if self._benchmark.folder is None else on_disk(os.path.join(self._benchmark.folder, name))
        if beside is not None and self._path_of(name) is None and os.path.isfile(beside):
            return beside
        return self.path_of(name)

    def gallery(self, part: str, wanted: tuple[str, ...] | None) -> dict[str, str]:
        if wanted is None:
            return self._numbered() if self._benchmark.is_numbered else dict(self._shelf.tails)
        names: dict[str, str] = {}
        for name in wanted:
            path = self.path_of(name)
            if path is not None and names.setdefault(path, name) != name:
                raise QueryError(
                    f"{printable(name)} and {printable(names[path])} are both {printable(path)}",
                    hint="a gallery holds each picture once",
                )
        return names

    def _numbered(self) -> dict[str, str]:
        stems = {path: os.path.splitext(os.path.basename(path))[0] for path in self._shelf.places}
        names = {path: str(int(stem)) for path, stem in stems.items() if stem.isascii() and stem.isdigit()}
        paths: dict[str, str] = {}
        for path, name in names.items():
            if paths.setdefault(name, path) != path:
                raise QueryError(
                    f"{printable(paths[name])} and {printable(path)} are both picture {name}",
                    hint="a gallery holds each picture once",
                )
        return names

    def question(self, question: Question, names: Mapping[str, str]) -> Question | None:
        """The question in the names of the gallery; None if a picture that it needs is not there."""
        image = None if question.image is None else self._reference(question.image)
        if image is not None and question.image is not None:
            self.references[question.image] = image
        grades: dict[str, float] = {}
        is_whole = question.image is None or image is not None
        for name, grade in question.relevant.items():
            path = self.path_of(name)
            if path is None:
                is_whole = is_whole and grade == 0
            elif path not in names:
                raise QueryError(
                    f"{printable(name)} is right for query {printable(question.id)} and no picture of its gallery",
                    hint="check --gallery and --images",
                )
            else:
                grades[names[path]] = max(grade, grades.get(names[path], 0.0))
        if not is_whole:
            return None
        hidden = self._named(question.exclude, names, self._path_of)
        return replace(
            question,
            relevant=grades,
            exclude=frozenset(hidden) - {name for name, grade in grades.items() if grade > 0},
            subset=tuple(self._named(question.subset, names, self.path_of)),
        )

    @staticmethod
    def _named(wanted: Iterable[str], names: Mapping[str, str], path_of: Callable[[str], str | None]) -> list[str]:
        """As the gallery names them; what is not there need not be left out."""
        paths = (path_of(name) for name in wanted)
        return [names[path] for path in paths if path is not None and path in names]

    def complain(self, *, allow_missing: bool) -> None:
        if self.missing and not allow_missing:
            first = ", ".join(printable(name) for name in list(self.missing)[:NAMED])
            more = ", ..." if len(self.missing) > NAMED else ""
            there = len(self._known) - len(self.missing)
            raise QueryError(
                f"{len(self.missing):,} of {there + len(self.missing):,} pictures that {self._benchmark.name} names "
                f"are not in the index: {first}{more}",
                hint="check --images (`imgsearch failures --index DIR` lists what could not be read), or go without "
                "them by --allow-missing: the figures are then comparable to no others",
            )


# ------------------------------------------------------------------------------------------------------ asking


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how to ask."""

    measures: tuple[Measure, ...]
    keep: int
    """So many names of each ranking are kept."""
    options: SearchOptions
    """For every question. `limit` and what is left out are the run's own."""
    is_submitted: bool = False
    """A server wants the subsets too."""

    @property
    def needs_subsets(self) -> bool:
        return self.is_submitted or any(measure.kind == SUBSET for measure in self.measures)

    @property
    def depth(self) -> int:
        return max([self.keep, *(measure.k or 0 for measure in self.measures)])


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question."""

    id: str
    part: str
    group: str
    figures: dict[str, float]
    ranking: tuple[str, ...]
    subset: tuple[str, ...] = ()


class Remembering:
    """An embedder that reads each text once: captions are asked with, and then are what is asked for."""

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self._load = embedder
        self._vectors: dict[str, Vectors] = {}

    @property
    def identity(self) -> SpaceIdentity:
        return self._load().identity

    @property
    def recipe(self) -> Recipe:
        return self._load().recipe

    def embed_images(self, squares: Any) -> Vectors:
        return self._load().embed_images(squares)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._load().embed_texts(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])


def answers(
    store: Store, view: View, embedder: Callable[[], Embedder], asked: Asked, plan: Plan, on_step: Step = lambda n: None
) -> Iterator[Answer]:
    """Ask everything, part by part. `on_step` is told of questions as they are answered."""
    remembering = Remembering(embedder)
    searcher = Searcher(store, lambda: remembering, view)
    for _, questions in groupby(asked.questions, lambda question: question.part):
        part, found = list(questions), {}
        for question, ranking in _rankings(searcher, part, asked, plan):
            found[question.id] = answer(question, ranking, plan)
            on_step(1)
        yield from (found[question.id] for question in part)
    if asked.pictures:
        yield from _texts_of_pictures(remembering, view, asked, plan, on_step)


def _rankings(
    searcher: Searcher, questions: list[Question], asked: Asked, plan: Plan
) -> Iterator[tuple[Question, list[str]]]:
    """Each question with its ranking of the gallery, as deep as is needed; not in order.

    Photos that are none of the gallery stand between the others, and what is looked for may stand far down: what has
    not enough is asked once more, deeper.
    """
    total = max(1, asked.total)
    names = asked.names[questions[0].part]
    limit = SPARE + math.ceil(plan.depth * total / max(1, len(names)))
    while questions:
        is_last = limit >= total
        limit = min(limit, total)
        short = []
        for block in _batched(questions, QUESTIONS_AT_ONCE):
            queries = [_query(question, asked.references) for question in block]
            hits_of = searcher.search_many(queries, replace(plan.options, limit=limit))
            for question, hits in zip(block, hits_of, strict=True):
                ranked = [names[hit.path] for hit in hits if hit.path in names]
                ranking = [name for name in ranked if name not in question.exclude]
                if is_last or _is_enough(question, ranking, plan, len(names)):
                    yield question, ranking
                else:
                    short.append(question)
        questions, limit = short, limit * DEEPER


def _query(question: Question, references: Mapping[str, str]) -> Query:
    images = () if question.image is None else (references[question.image],)
    if len(question.texts) > 1:
        return Query(question.id, images=images, terms=tuple(Term(text=text) for text in question.texts))
    return Query(question.id, text=question.texts[0] if question.texts else None, images=images)


def _is_enough(question: Question, ranking: Sequence[str], plan: Plan, size: int) -> bool:
    if len(ranking) < min(plan.depth, size - len(question.exclude)):
        return False
    if plan.needs_subsets and not set(question.subset) <= set(ranking):
        return False
    if question.relevant and any(measure.needs_first for measure in plan.measures):
        return not {name for name, grade in question.relevant.items() if grade > 0}.isdisjoint(ranking)
    return True


def answer(question: Question, ranking: list[str], plan: Plan) -> Answer:
    """The figures of a ranking, from which is taken already what the protocol takes out."""
    own = set(question.subset)
    subset = [name for name in ranking if name in own]
    figures = {}
    for measure in plan.measures if question.relevant else ():
        is_target = measure.kind == "recall" and question.target is not None
        grades = {str(question.target): 1.0} if is_target else question.relevant
        figures[measure.name] = measure.of(subset if measure.kind == SUBSET else ranking, grades)
    group = question.group or question.id
    return Answer(question.id, question.part, group, figures, tuple(ranking[: plan.keep]), tuple(subset))


def _texts_of_pictures(embedder: Remembering, view: View, asked: Asked, plan: Plan, on_step: Step) -> Iterator[Answer]:
    """For each picture the texts of all pictures by cosine, ties in the order of the file."""
    texts = [
        (f"{picture}#{number}", picture, text)
        for picture in asked.pictures
        for number, text in enumerate(asked.benchmark.captions[picture])
    ]
    ids, owners = [name for name, _, _ in texts], [picture for _, picture, _ in texts]
    own: dict[str, dict[str, float]] = {picture: {} for picture in owners}
    for name, picture, _ in texts:
        own[picture][name] = 1.0
    wanted = np.concatenate(
        [embedder.embed_texts([text for _, _, text in block]) for block in _batched(texts, QUESTIONS_AT_ONCE)]
    )
    deepest = len(ids) if any(measure.needs_first for measure in plan.measures) else plan.depth
    for block in _batched(asked.pictures.items(), PICTURES_AT_ONCE):
        rows = view.rows[[place.slot for _, place in block]]
        for (picture, _), scores in zip(block, rows @ wanted.T, strict=True):
            ranking = [ids[i] for i in _best(scores, deepest)]
            question = Question(f"{IMAGE_TO_TEXT}/{picture}", relevant=own[picture], group=picture, part=IMAGE_TO_TEXT)
            yield answer(question, ranking, plan)
            on_step(1)


def _best(scores: Any, count: int) -> Any:
    """Indices of the `count` best scores, ties in order."""
    if count < len(scores):
        cut = np.partition(scores, len(scores) - count)[len(scores) - count]
        near = np.flatnonzero(scores >= cut)
        return near[np.argsort(-scores[near], kind="stable")][:count]
    return np.argsort(-scores, kind="stable")


# ----------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Run:
    """A run that is over. `head` says what was asked of what, and how: it goes into every result."""

    head: dict[str, Any]
    measures: tuple[Measure, ...]
    answers: tuple[Answer, ...]

    @cached_property
    def metrics(self) -> dict[str, Interval]:
        """The figures by name, under their part (`t2i/recall@1`), and over all galleries their mean."""
        return {name: figures.interval for name, figures in self._resampled.items()}

    def record(self) -> dict[str, Any]:
        """The result as `--json` shows it: docs/evaluation.md."""
        return self.head | {
            "metrics": {
                name: {"value": plain(i.mean), "low": plain(i.low), "high": plain(i.high)}
                for name, i in self.metrics.items()
            }
        }

    def file(self) -> dict[str, Any]:
        """The result with what came of every query, for another run to be compared with."""
        return self.record() | {
            "queries": [
                {
                    "id": answer.id,
                    "part": answer.part,
                    "group": answer.group,
                    "figures": {name: plain(figure) for name, figure in answer.figures.items()},
                    "ranking": list(answer.ranking),
                }
                for answer in self.answers
            ]
        }

    def differences(self, other: Run) -> dict[str, Interval]:
        """By metric that both have, this run's figure minus the other's with the interval of the paired difference."""
        mine, theirs = self._resampled, other._resampled
        return {name: (mine[name] - theirs[name]).interval for name in mine if name in theirs}

    @cached_property
    def _resampled(self) -> dict[str, Resampled]:
        by_part: dict[str, list[Answer]] = {}
        for answer in sorted(self.answers, key=lambda answer: (answer.part, answer.id)):
            if answer.figures:
                by_part.setdefault(answer.part, []).append(answer)
        galleries = self.head["counts"]["gallery"]
        found: dict[str, Resampled] = {}
        for part in dict.fromkeys(answer.part for answer in self.answers if answer.figures):
            for measure in self.measures:
                if all(measure.name in answer.figures for answer in by_part[part]):
                    name = f"{part}/{measure.name}" if part else measure.name
                    found[name] = _over([by_part[part]], measure)
        for measure in self.measures if isinstance(galleries, dict) else ():
            if all(f"{part}/{measure.name}" in found for part in galleries):
                found[f"{MEAN}/{measure.name}"] = _over(list(by_part.values()), measure)
        return found


def _over(parts: Sequence[Sequence[Answer]], measure: Measure) -> Resampled:
    samples = [
        Sample([answer.figures[measure.name] for answer in part], [answer.group for answer in part]) for part in parts
    ]
    return resampled(samples, SEED, statistic=measure.statistic)


def plain(figure: float) -> float | None:
    """JSON knows no infinity: null says that nothing relevant was found."""
    return figure if math.isfinite(figure) else None


_HINT = "--compare takes a file that --out wrote"


def read_run(path: str, measures: tuple[Measure, ...], asked: Asked) -> Run:
    """A run that was written before, of the very same queries. Raises UsageError, QueryError."""
    try:
        with open(path, encoding="utf-8") as file:
            run = _run(json.load(file, parse_constant=_finite, parse_float=_finite), measures)
        digest = run.head["queries_sha256"]
    except OSError as error:
        raise UsageError(f"{printable(path)}: {(error.strerror or str(error)).lower()}", hint=_HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise QueryError(f"{printable(path)}: no run", hint=_HINT) from error
    if digest != asked.digest:
        raise UsageError(
            f"{printable(path)}: a run of other queries ({printable(str(run.head.get('benchmark')))})",
            hint="only runs of the same queries and the same right answers can be compared",
        )
    if sorted((answer.part, answer.id, answer.group) for answer in run.answers) != asked.keys:
        raise QueryError(f"{printable(path)}: its queries are not those that its digest is of", hint=_HINT)
    if not any(measure.name in answer.figures for measure in measures for answer in run.answers):
        raise UsageError(f"{printable(path)}: no metric in common", hint="give both runs the same --metrics")
    return run


def _run(record: dict[str, Any], measures: tuple[Measure, ...]) -> Run:
    """From what `Run.file` gave. What is none raises one of a file's many errors."""
    if not isinstance(record["protocol"], dict) or not isinstance(record["counts"]["gallery"], int | dict):
        raise TypeError("neither a protocol nor a gallery")
    answers = tuple(
        Answer(
            str(query["id"]),
            str(query["part"]),
            str(query["group"]),
            {str(name): _figure(str(name), figure) for name, figure in query["figures"].items()},
            tuple(query["ranking"]),
        )
        for query in record.pop("queries")
    )
    return Run(record, measures, answers)


def _figure(name: str, figure: Any) -> float:
    """A rank alone may be null: nothing was found."""
    if figure is None and name == "median_rank":
        return math.inf
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        raise TypeError(f"{name} is no number")
    return float(figure)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"{digits} is no figure")
    return float(digits)


def can_be_submitted(asked: Asked) -> None:
    """Before an hour of asking. Raises UsageError."""
    if asked.left_out:
        raise UsageError(f"--submission: {asked.left_out:,} queries have no answer", hint="leave out --allow-missing")


def submission_files(asked: Asked, found: Iterable[Answer]) -> dict[str, Any]:
    """What goes to the benchmark's server, by the ending of the file's name. Raises UsageError."""
    rankings, subsets = {}, {}
    for answer in found:
        rankings[answer.id], subsets[answer.id] = answer.ranking, answer.subset
    return submission(asked.benchmark, rankings, subsets)


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    source = iter(items)
    while block := list(islice(source, size)):
        yield block
