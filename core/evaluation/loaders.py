"""Benchmarks as questions: the annotation files that papers use, each with the protocol its numbers mean.

A benchmark names its pictures as its files do; runs.py finds the photos. What makes numbers comparable, or not, stands
in `protocol`, and goes into every result.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import printable

Gallery = Literal["original", "union"]
Join = Literal["mean", "and", "reversed", "comma"]
SharedConcept = Literal["none", "magiclens", "bge"]

CATEGORIES = ("dress", "shirt", "toptee")
CIRCO_ANSWERS = 50
CIRCO_GALLERY = 123_403
CIRR_ANSWERS = {"recall": 50, "recall_subset": 3}
FASHIONIQ_ANSWERS = 50
LONGEST_SUBMISSION = 50
EVERYTHING = ""
"""The part of a benchmark that is not divided."""

_JOINED: dict[Join, tuple[str, ...]] = {
    "mean": ("{a} and {b}", "{b} and {a}"),
    "and": ("{a} and {b}",),
    "reversed": ("{b} and {a}",),
    "comma": ("{a}, and {b}",),
}
_CONCEPTS: dict[SharedConcept, str] = {
    "none": "{change}",
    "magiclens": "find {concept} but {change}",
    "bge": "Find a picture that also {concept}, but {change}",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a benchmark, with what is right. Pictures go by the benchmark's names for them."""

    id: str
    texts: tuple[str, ...] = ()
    """Several are averaged: the normalised sum of their vectors."""
    image: str | None = None
    relevant: Mapping[str, float] = field(default_factory=dict)
    """Grades by name; empty where the answers are held back."""
    target: str | None = None
    """The one name that `recall` looks for, where more are relevant (CIRCO)."""
    exclude: frozenset[str] = frozenset()
    """Names that no ranking of this question holds."""
    subset: tuple[str, ...] = ()
    """The few names that are ranked once more among themselves (CIRR)."""
    group: str = ""
    """Questions that share it are drawn together when intervals are made."""
    part: str = EVERYTHING
    """The gallery it is asked of, and the heading its figures stand under."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The annotation as it was read, where a submission repeats it."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Questions, what they are asked of, and what is measured unless something else is asked for."""

    name: str
    protocol: dict[str, Any]
    questions: tuple[Question, ...]
    galleries: Mapping[str, tuple[str, ...] | None]
    """By part, the names to rank; None: every photo there is."""
    measures: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Where a picture may lie, best first, for names that do not say it."""
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By picture, the texts that are a gallery of their own: each picture is asked with too (image -> text)."""
    is_numbered: bool = False
    """Photos go by the number that is their file name; others are none of the gallery."""
    folder: str | None = None
    """Where pictures that are only asked with may lie."""

    @property
    def has_answers(self) -> bool:
        return any(question.relevant for question in self.questions)

    @property
    def is_composed(self) -> bool:
        return any(question.texts and question.image for question in self.questions)


# ------------------------------------------------------------------------------------------ text <-> picture


def captions(
    name: str, path: str, *, split: str | None = None, per_image: int | None = 5, prompt: str = "{}"
) -> Benchmark:
    """COCO and Flickr: every caption asks for its picture, and every picture for one of its captions.

    `path` is a Karpathy `dataset_*.json`, a COCO captions file (`coco_test_karpathy.json`), lines `picture,caption`
    (`flickr30k_test_karpathy.txt`) or JSON Lines of {file, captions}: told by what they hold. `per_image` keeps that
    many captions of each picture, None all of them. Only Karpathy's files have splits, and "test" is what is taken of
    them. Raises UsageError, QueryError.
    """
    if prompt.count("{}") != 1:
        raise UsageError(f"--prompt {prompt!r}: say once where the caption goes", hint="--prompt 'a photo of {}'")
    found, aliases, whose = _captions_in(path, split)
    kept = {
        picture: tuple(prompt.replace("{}", text) for text in texts[:per_image])
        for picture, texts in found.items()
        if texts
    }
    if not kept:
        raise QueryError(f"{printable(path)}: no captions in it", hint="is it the right file?")
    questions = (
        Question(f"{picture}#{number}", (text,), relevant={picture: 1.0}, group=picture, part="t2i")
        for picture, texts in kept.items()
        for number, text in enumerate(texts)
    )
    protocol = {
        "split": whose,
        "captions_per_image": "all" if per_image is None else per_image,
        "prompt": prompt,
        "image_to_text": "hit if any of the picture's captions is among the first K",
    }
    return Benchmark(
        name,
        protocol,
        tuple(questions),
        {"t2i": tuple(kept)},
        ("recall@1", "recall@5", "recall@10"),
        aliases=aliases,
        captions=kept,
    )


Captions = dict[str, list[str]]
Aliases = dict[str, tuple[str, ...]]


def _captions_in(path: str, split: str | None) -> tuple[Captions, Aliases, str]:
    """Captions by picture, where pictures lie, and the split that they are of."""
    text = _text(path)
    first = text.lstrip()[:1]
    data = _json_or_none(text) if first in ("{", "[") else None
    aliases: Aliases = {}
    if isinstance(data, dict) and "annotations" in data:
        found = _coco_captions(data, path)
        aliases = {name: (name, os.path.basename(name)) for name in found}
    elif isinstance(data, dict) and "images" in data:
        split = "test" if split is None else split
        return (*_karpathy_captions(data, path, split), split)
    elif first == "{" and (data is None or "captions" in data):
        found = _listed_captions(text, path)
    elif first not in ("{", "[", ""):
        found = _tabled_captions(text, path)
    else:
        raise _unknown(path)
    if split is not None:
        raise UsageError(f"--split {split!r}: {printable(path)} has no splits", hint="leave out --split")
    return found, aliases, "that of the file"


def _unknown(path: str) -> QueryError:
    return QueryError(
        f"{printable(path)}: no captions file that is known here",
        hint="taken are Karpathy's dataset_*.json, COCO captions JSON (coco_test_karpathy.json), lines "
        "`picture.jpg,caption` (flickr30k_test_karpathy.txt) and JSON Lines of {file, captions}",
    )


def _karpathy_captions(data: dict[str, Any], path: str, split: str) -> tuple[Captions, Aliases]:
    found: Captions = {}
    aliases: Aliases = {}
    splits: set[str] = set()
    with _reading(path):
        for image in data["images"]:
            splits.add(_words(image, "split"))
            if image["split"] == split:
                name = _words(image, "filename")
                found[name] = [_words(sentence, "raw") for sentence in image["sentences"]]
                folder = _words(image, "filepath") if "filepath" in image else ""
                aliases[name] = os.path.join(folder, name), name
    if not found:
        raise QueryError(
            f"{printable(path)}: no split {split!r}", hint=f"it has: {', '.join(sorted(map(printable, splits)))}"
        )
    return found, aliases


def _coco_captions(data: dict[str, Any], path: str) -> Captions:
    with _reading(path):
        names = {image["id"]: _words(image, "file_name") for image in data["images"]}
        found: Captions = {name: [] for name in names.values()}
        for annotation in data["annotations"]:
            found[names[annotation["image_id"]]].append(_words(annotation, "caption"))
    return found


def _listed_captions(text: str, path: str) -> Captions:
    found: Captions = {}
    for number, record in _records(text, path):
        name, texts = record.get("file"), record.get("captions")
        if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise QueryError(
                f"{printable(path)}:{number}: neither a file with its captions",
                hint='a line is {"file": "a.jpg", "captions": ["a dog", ...]}',
            )
        found.setdefault(name, []).extend(texts)
    return found


# `1000.jpg,two men`, and as Flickr's own token files have it, `1000.jpg#0<TAB>two men`.
_TABLED = re.compile(r"(?P<name>.+?\.(?:jpe?g|png))(?:#\d+)?[,\t](?P<caption>.+)", re.IGNORECASE)


def _tabled_captions(text: str, path: str) -> Captions:
    found: Captions = {}
    for number, line in enumerate(text.split("\n"), start=1):
        match = _TABLED.fullmatch(line.strip())
        if match:
            found.setdefault(match["name"], []).append(match["caption"].strip())
        elif line.strip() and number > 1:  # the first may be a heading
            raise (
                _unknown(path)
                if not found
                else QueryError(f"{printable(path)}:{number}: no `picture.jpg,caption`", hint="mend or remove the line")
            )
    if not found:
        raise _unknown(path)
    return found


# ------------------------------------------------------------------------------------- a picture plus a change


def cirr(path: str, *, split: str = "val") -> Benchmark:
    """CIRR: the reference is no answer to its own query; R_subset ranks the five others of its set.

    `path` is the folder that holds `captions/` and `image_splits/` (branch `cirr_dataset`).
    """
    split = "test1" if split == "test" else split
    asked = _inside(path, "captions", f"cap.rc2.{split}.json")
    listed = _inside(path, "image_splits", f"split.rc2.{split}.json")
    records, pictures = _json(asked), _json(listed)
    with _reading(asked):
        questions = tuple(map(_cirr_question, records))
    _refuse_repeated(asked, "pairid", questions)
    with _reading(listed):
        aliases = {name: (os.path.normpath(_words(pictures, name)), name) for name in pictures}
    protocol = {
        "split": split,
        "gallery": "all pictures of the split",
        "reference": "taken out of every ranking",
        "captions": "runs of spaces as one",
        "right": "target_hard",
    }
    measures = [f"recall@{k}" for k in (1, 5, 10, 50)] + [f"recall_subset@{k}" for k in (1, 2, 3)]
    return Benchmark("cirr", protocol, questions, {EVERYTHING: tuple(aliases)}, tuple(measures), aliases=aliases)


def _cirr_question(record: dict[str, Any]) -> Question:
    reference = _words(record, "reference")
    return Question(
        id=_id(record, "pairid"),
        texts=(_plain_spaces(_words(record, "caption")),),
        image=reference,
        relevant={_words(record, "target_hard"): 1.0} if "target_hard" in record else {},
        exclude=frozenset([reference]),
        subset=tuple(name for name in _names(record["img_set"], "members") if name != reference),
        group=reference,
    )


def fashioniq(path: str, *, split: str = "val", gallery: Gallery = "original", join: Join = "mean") -> Benchmark:
    """FashionIQ, by category; the reference stays in the gallery, as in published code for zero-shot models.

    `path` is the folder that holds `captions/` and `image_splits/`. `gallery`: the whole split file of a category, or
    the union of its queries' references and targets, which is smaller and gives higher numbers.
    """
    questions: list[Question] = []
    galleries: dict[str, tuple[str, ...] | None] = {}
    for category in CATEGORIES:
        file = _inside(path, "captions", f"cap.{category}.{split}.json")
        records = _json(file)
        with _reading(file):
            asked = [_fashion_question(record, number, category, join) for number, record in enumerate(records)]
        if gallery == "union":
            if not all(question.relevant for question in asked):
                raise UsageError(f"--gallery union: the targets of split {split} are held back", hint="use original")
            names: Iterable[str] = (name for q in asked for name in (q.image or "", *q.relevant))
        else:
            file = _inside(path, "image_splits", f"split.{category}.{split}.json")
            with _reading(file):
                names = _names({"the split": _json(file)}, "the split")
        questions += asked
        galleries[category] = tuple(dict.fromkeys(names))
    ends = ", each without .?, and spaces at its ends" if join == "mean" else ""
    protocol = {
        "split": split,
        "gallery": gallery,
        "join": join,
        "query": " + ".join(form.format(a="c1", b="c2") for form in _JOINED[join])
        + (" (normalised sum of both)" if join == "mean" else "")
        + ends,
        "reference": "stays in the gallery",
        "mean": "of the three categories",
    }
    return Benchmark("fashioniq", protocol, tuple(questions), galleries, ("recall@10", "recall@50"))


def _fashion_question(record: dict[str, Any], number: int, category: str, join: Join) -> Question:
    a, b = (caption.strip(".?, ") if join == "mean" else caption for caption in _names(record, "captions"))
    return Question(
        id=f"{category}/{number}",
        texts=tuple(dict.fromkeys(form.format(a=a, b=b) for form in _JOINED[join])),
        image=_words(record, "candidate"),
        relevant={_words(record, "target"): 1.0} if "target" in record else {},
        group=_words(record, "candidate"),
        part=category,
        record=record,
    )


def circo(path: str, *, split: str | None = None, shared_concept: SharedConcept = "none") -> Benchmark:
    """CIRCO: several pictures are right; the reference stays; the gallery is every photo there is.

    `path` is the folder that holds `annotations/`, or the annotation file, which is named for its split. Of a folder
    "val" is taken.
    """
    file = path if os.path.isfile(path) else _inside(path, "annotations", f"{split or 'val'}.json")
    whose = os.path.splitext(os.path.basename(file))[0]
    if split not in (None, whose):
        raise UsageError(f"--split {split!r}: {printable(path)} has no splits", hint="leave out --split")
    records = _json(file)
    aliases: Aliases = {}
    with _reading(file):
        questions = tuple(_circo_question(record, shared_concept) for record in records)
        for question in questions:
            for name in (question.image, *question.relevant):
                aliases[str(name)] = f"{int(str(name)):012d}.jpg", f"{int(str(name)):012d}"
    _refuse_repeated(file, "id", questions)
    protocol = {
        "split": whose,
        "gallery": "every photo of the folder whose name is a number",
        "comparable": f"only with all {CIRCO_GALLERY:,} pictures of COCO 2017 unlabeled",
        "reference": "stays in the gallery",
        "shared_concept": shared_concept,
        "query": _CONCEPTS[shared_concept].format(concept="{shared_concept}", change="{relative_caption}"),
        "map": "divided by min(number right, K)",
        "recall": "of target_img_id alone",
    }
    measures = [f"{kind}@{k}" for kind in ("map", "recall") for k in (5, 10, 25, 50)]
    return Benchmark(
        "circo", protocol, questions, {EVERYTHING: None}, tuple(measures), aliases=aliases, is_numbered=True
    )


def _circo_question(record: dict[str, Any], shared_concept: SharedConcept) -> Question:
    concept = "" if shared_concept == "none" else _words(record, "shared_concept")
    reference = _number(record, "reference_img_id")
    right = record.get("gt_img_ids", [])
    if not isinstance(right, list):
        raise ValueError("gt_img_ids is no list")
    return Question(
        id=_id(record, "id"),
        texts=(_CONCEPTS[shared_concept].format(concept=concept, change=_words(record, "relative_caption")),),
        image=reference,
        relevant={_number({"gt_img_ids": number}, "gt_img_ids"): 1.0 for number in right},
        target=_number(record, "target_img_id") if record.get("target_img_id") is not None else None,
        group=reference,
    )


# --------------------------------------------------------------------------------------------- one's own queries


def own(path: str, *, include_reference: bool = False) -> Benchmark:
    """JSON Lines of {text and/or image, relevant: [names] or {name: grade}, exclude: [names], id}.

    The picture asked with is left out of the ranking, as `imgsearch query` does, unless it is itself relevant.
    Raises QueryError with the line that is wrong.
    """
    questions = tuple(
        _own_question(record, f"{printable(path)}:{n}", n, include_reference) for n, record in _lines(path)
    )
    if not questions:
        raise QueryError(f"{printable(path)}: no queries in it", hint=_OWN_HINT)
    _refuse_repeated(path, "id", questions)
    protocol = {
        "gallery": "every photo of the folder",
        "reference": "stays in the gallery" if include_reference else "left out, unless it is relevant",
    }
    measures = ("hit_rate@1", "hit_rate@5", "hit_rate@10", "share_found@10", "precision@10", "mrr", "map@10", "ndcg@10")
    return Benchmark(
        "jsonl",
        protocol,
        questions,
        {EVERYTHING: None},
        (*measures, "median_rank"),
        folder=os.path.dirname(os.path.abspath(path)),
    )


_OWN_HINT = 'a line is {"text": "a dog", "relevant": ["a.jpg"]}; see docs/evaluation.md'


def _own_question(record: dict[str, Any], where: str, number: int, include_reference: bool) -> Question:
    def wrong(what: str) -> QueryError:
        return QueryError(f"{where}: {what}", hint=_OWN_HINT)

    text, image, relevant = record.get("text"), record.get("image"), record.get("relevant")
    exclude, own_id = record.get("exclude", []), record.get("id", number)
    for key, value in (("text", text), ("image", image)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise wrong(f"{key} is no words" if key == "text" else "image is no name")
    if text is None and image is None:
        raise wrong("neither text nor image")
    if isinstance(relevant, list):
        relevant = dict.fromkeys(relevant, 1) if _are_names(relevant) else None
    if not isinstance(relevant, dict) or not all(_is_grade(grade) for grade in relevant.values()):
        raise wrong("relevant is neither a list of names nor grades (0 or more) by name")
    if not any(relevant.values()):
        raise wrong("nothing is relevant")
    if not isinstance(exclude, list) or not _are_names(exclude):
        raise wrong("exclude is no list of names")
    if not isinstance(own_id, str | int) or isinstance(own_id, bool):
        raise wrong("id is neither a number nor words")
    hidden = {image} if image is not None and not include_reference and not relevant.get(image) else set()
    both = {name for name in exclude if relevant.get(name)}
    if both:
        raise wrong(f"{printable(min(both))} is relevant and excluded")
    return Question(
        id=str(own_id),
        texts=() if text is None else (text,),
        image=image,
        relevant={name: float(grade) for name, grade in relevant.items()},
        exclude=frozenset(exclude) | hidden,
    )


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _is_grade(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000


# ----------------------------------------------------------------------------------------------- submissions


_ENDINGS = {
    "cirr": tuple(f"-{metric}" for metric in CIRR_ANSWERS),
    "circo": ("",),
    "fashioniq": tuple(f"-{category}" for category in CATEGORIES),
}


def submits(benchmark: Benchmark) -> tuple[str, ...]:
    """What tells a submission's files apart. Raises UsageError for a benchmark whose rankings nobody takes."""
    if benchmark.name not in _ENDINGS:
        raise UsageError(
            f"--submission: {benchmark.name} has no server to submit to", hint="keep the rankings with --out"
        )
    return _ENDINGS[benchmark.name]


def submission(
    benchmark: Benchmark, rankings: Mapping[str, Sequence[str]], subsets: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the benchmark's server takes, by the ending that tells its files apart: rankings by question's id.

    Raises UsageError for a benchmark that has none, or where a ranking is too short for it.
    """
    submits(benchmark)
    if benchmark.name == "cirr":
        return {
            f"-{metric}": {
                "version": "rc2",
                "metric": metric,
                **{q.id: _first(source[q.id], count, exact=False) for q in benchmark.questions},
            }
            for (metric, count), source in zip(CIRR_ANSWERS.items(), (rankings, subsets), strict=True)
        }
    if benchmark.name == "circo":
        return {
            "": {
                q.id: [int(name) for name in _first(rankings[q.id], CIRCO_ANSWERS, exact=True)]
                for q in benchmark.questions
            }
        }
    return {
        f"-{category}": [
            {**q.record, "ranking": _first(rankings[q.id], FASHIONIQ_ANSWERS, exact=False)}
            for q in benchmark.questions
            if q.part == category
        ]
        for category in CATEGORIES
    }


def _first(ranking: Sequence[str], count: int, *, exact: bool) -> list[str]:
    if exact and len(ranking) < count:
        raise UsageError(
            f"--submission: {count} different pictures are needed for each query, and there are {len(ranking)}",
            hint="give --images the whole collection",
        )
    return list(ranking[:count])


# ------------------------------------------------------------------------------------------------ reading files


class _reading:  # noqa: N801 - it reads as a verb
    """Turns what a file lacks into an error that names the file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, LookupError | TypeError | ValueError | AttributeError):
            what = f"no {error}" if isinstance(error, KeyError) else f"not what was expected ({error})"
            raise QueryError(
                f"{printable(self._path)}: {what} in one of the records", hint="is it the benchmark's own file?"
            ) from error


def _words(record: dict[str, Any], key: str) -> str:
    if not isinstance(record[key], str):
        raise ValueError(f"{key} is no words")
    return str(record[key])


def _names(record: dict[str, Any], key: str) -> list[str]:
    if not isinstance(record[key], list) or not all(isinstance(name, str) for name in record[key]):
        raise ValueError(f"{key} is no list of words")
    return list(record[key])


def _number(record: dict[str, Any], key: str) -> str:
    """As photos go by it: without the zeros in front."""
    if not isinstance(record[key], int | str) or isinstance(record[key], bool):
        raise ValueError(f"{key} is no number")
    return str(int(record[key]))


def _id(record: dict[str, Any], key: str) -> str:
    if not isinstance(record[key], int | str) or isinstance(record[key], bool):
        raise ValueError(f"{key} is neither a number nor words")
    return str(record[key])


def _refuse_repeated(path: str, key: str, questions: Iterable[Question]) -> None:
    repeated = _first_repeated(question.id for question in questions)
    if repeated is not None:
        raise QueryError(f"{printable(path)}: the {key} {printable(repeated)} is there twice", hint="give each its own")


def _inside(folder: str, *parts: str) -> str:
    path = os.path.join(folder, *parts)
    if not os.path.isfile(path):
        known = os.path.dirname(path)
        there = sorted(os.listdir(known)) if os.path.isdir(known) else []
        hint = (
            f"there: {', '.join(map(printable, there[:6]))}" if there else f"--annotations is the folder of {parts[0]}/"
        )
        raise UsageError(f"{printable(path)}: no such file", hint=hint)
    return path


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise QueryError(f"{printable(path)}: not UTF-8 text", hint="name the annotations file") from error
    except OSError as error:
        raise UsageError(
            f"{printable(path)}: {(error.strerror or str(error)).lower()}",
            hint="name the annotations with --annotations",
        ) from error


def _json(path: str) -> Any:
    data = _json_or_none(_text(path))
    if not data:
        raise QueryError(f"{printable(path)}: holds no JSON", hint="fetch the file once more")
    return data


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    return _records(_text(path), path)


def _records(text: str, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON Lines with the numbers of their lines, from 1."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            record = _json_or_none(line)
            if not isinstance(record, dict):
                raise QueryError(f"{printable(path)}:{number}: no JSON object", hint="one object a line")
            yield number, record


def _plain_spaces(text: str) -> str:
    return " ".join(text.split())


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
