"""Reads the annotation files of benchmarks into queries, each benchmark with its protocol.

A benchmark names pictures as its files do; gallery.py finds the photos. `protocol` holds everything that decides
whether numbers are comparable, and is part of every result.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from imgsearch.core.errors import QueryError, UsageError
from imgsearch.core.paths import printable

BenchmarkName = Literal["coco", "flickr", "cirr", "fashioniq", "circo", "jsonl"]
Gallery = Literal["original", "union"]
Join = Literal["mean", "and", "reversed", "comma"]
SharedConcept = Literal["none", "magiclens", "bge"]

CATEGORIES = ("dress", "shirt", "toptee")
CIRCO_GALLERY = 123_403
WHOLE = ""
"""The name of the only part of a benchmark that has no parts."""

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
class BenchmarkQuery:
    """One query with its relevant pictures, which have the names that the benchmark gives them."""

    id: str
    texts: tuple[str, ...] = ()
    """Several are combined into one query: the normalised sum of their vectors."""
    image: str | None = None
    relevant: Mapping[str, float] = field(default_factory=dict)
    """Grades by name; empty if the answers are not published."""
    target: str | None = None
    """The only name that `recall` counts, if several are relevant (CIRCO)."""
    exclude: frozenset[str] = frozenset()
    """Names that are left out of the ranking."""
    subset: tuple[str, ...] = ()
    """A few names that are also ranked on their own (CIRR)."""
    group: str = ""
    """Queries of one group are resampled together for the intervals."""
    part: str = WHOLE
    """The gallery it searches, and the prefix of its metrics."""
    record: Mapping[str, object] = field(default_factory=dict)
    """The original annotation, if a submission repeats it."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The queries, the galleries they search, and the metrics that are usually reported."""

    name: str
    protocol: dict[str, str | int]
    queries: tuple[BenchmarkQuery, ...]
    galleries: Mapping[str, tuple[str, ...] | None]
    """By part, the names to rank; None means every photo."""
    metrics: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name, the paths where the picture may be, in order of preference."""
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By picture, its captions. All captions form a second gallery, searched by picture (image to text)."""
    is_numbered: bool = False
    """Photos are identified by the number in their file name; files without one are not in the gallery."""
    folder: str | None = None
    """A folder where reference pictures may be found that are not in the index."""

    @property
    def has_answers(self) -> bool:
        return any(query.relevant for query in self.queries)

    @property
    def is_composed(self) -> bool:
        return any(query.texts and query.image for query in self.queries)


# ------------------------------------------------------------------------------------------ captions


def captions(
    name: str, path: str, *, split: str | None = None, per_image: int | None = 5, prompt: str = "{}"
) -> Benchmark:
    """COCO and Flickr: search for the picture of each caption, and for a caption of each picture.

    `path` is a Karpathy `dataset_*.json`, a COCO captions file (`coco_test_karpathy.json`), lines `picture,caption`
    (`flickr30k_test_karpathy.txt`) or JSON Lines of {file, captions}; the format is detected from the content.
    `per_image` is the maximum number of captions of each picture; None takes all. Only Karpathy's files have splits
    (default: "test"). Raises UsageError, QueryError.
    """
    if prompt.count("{}") != 1:
        raise UsageError(
            f"--prompt {prompt!r} needs exactly one {{}}, where the caption goes", hint="--prompt 'a photo of {}'"
        )
    found, aliases, split = _captions_in(path, split)
    kept = {
        picture: tuple(prompt.replace("{}", text) for text in texts[:per_image])
        for picture, texts in found.items()
        if texts
    }
    if not kept:
        raise QueryError(f"{printable(path)}: no captions found", hint="is it the right file?")
    queries = (
        BenchmarkQuery(f"{picture}#{number}", (text,), relevant={picture: 1.0}, group=picture, part="t2i")
        for picture, texts in kept.items()
        for number, text in enumerate(texts)
    )
    protocol: dict[str, str | int] = {
        "split": split,
        "captions_per_image": "all" if per_image is None else per_image,
        "prompt": prompt,
        "image_to_text": "hit if any of the picture's captions is among the first K",
    }
    return Benchmark(
        name,
        protocol,
        tuple(queries),
        {"t2i": tuple(kept)},
        ("recall@1", "recall@5", "recall@10"),
        aliases=aliases,
        captions=kept,
    )


Captions = dict[str, list[str]]
Aliases = dict[str, tuple[str, ...]]


def _captions_in(path: str, split: str | None) -> tuple[Captions, Aliases, str]:
    """The captions by picture, where the pictures may be, and the name of the split."""
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
        f"{printable(path)}: not a captions file in a known format",
        hint="known formats: Karpathy's dataset_*.json, COCO captions JSON (coco_test_karpathy.json), lines "
        "`picture.jpg,caption` (flickr30k_test_karpathy.txt) and JSON Lines of {file, captions}",
    )


def _karpathy_captions(data: dict[str, Any], path: str, split: str) -> tuple[Captions, Aliases]:
    found: Captions = {}
    aliases: Aliases = {}
    splits: set[str] = set()
    with _reading(path):
        for image in data["images"]:
            splits.add(_string(image, "split"))
            if image["split"] == split:
                name = _string(image, "filename")
                found[name] = [_string(sentence, "raw") for sentence in image["sentences"]]
                folder = _string(image, "filepath") if "filepath" in image else ""
                aliases[name] = os.path.join(folder, name), name
    if not found:
        raise QueryError(
            f"{printable(path)}: no split {split!r}", hint=f"it has: {', '.join(sorted(map(printable, splits)))}"
        )
    return found, aliases


def _coco_captions(data: dict[str, Any], path: str) -> Captions:
    with _reading(path):
        names = {image["id"]: _string(image, "file_name") for image in data["images"]}
        found: Captions = {name: [] for name in names.values()}
        for annotation in data["annotations"]:
            found[names[annotation["image_id"]]].append(_string(annotation, "caption"))
    return found


def _listed_captions(text: str, path: str) -> Captions:
    found: Captions = {}
    for number, record in _records(text, path):
        name, texts = record.get("file"), record.get("captions")
        if not isinstance(name, str) or not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise QueryError(
                f"{printable(path)}:{number}: no file with its captions",
                hint='a line is {"file": "a.jpg", "captions": ["a dog", ...]}',
            )
        found.setdefault(name, []).extend(texts)
    return found


# `1000.jpg,two men`, or as in Flickr's own token files `1000.jpg#0<TAB>two men`.
_TABLED = re.compile(r"(?P<name>.+?\.(?:jpe?g|png))(?:#\d+)?[,\t](?P<caption>.+)", re.IGNORECASE)


def _tabled_captions(text: str, path: str) -> Captions:
    found: Captions = {}
    for number, line in enumerate(text.split("\n"), start=1):
        match = _TABLED.fullmatch(line.strip())
        if match:
            found.setdefault(match["name"], []).append(match["caption"].strip())
        elif line.strip() and number > 1:  # the first line may be a header
            raise (
                _unknown(path)
                if not found
                else QueryError(
                    f"{printable(path)}:{number}: not a `picture.jpg,caption` line", hint="fix or remove the line"
                )
            )
    if not found:
        raise _unknown(path)
    return found


# ------------------------------------------------------------------------------------- composed queries


def cirr(path: str, *, split: str = "val") -> Benchmark:
    """CIRR: the reference is left out of the ranking; R_subset ranks the five others of its set.

    `path` is the folder with `captions/` and `image_splits/` (branch `cirr_dataset`).
    """
    split = "test1" if split == "test" else split
    file = _inside(path, "captions", f"cap.rc2.{split}.json")
    listed = _inside(path, "image_splits", f"split.rc2.{split}.json")
    records, pictures = _json(file), _json(listed)
    with _reading(file):
        queries = tuple(map(_cirr_query, records))
    _refuse_repeated(file, "pairid", queries)
    with _reading(listed):
        aliases = {name: (os.path.normpath(_string(pictures, name)), name) for name in pictures}
    protocol: dict[str, str | int] = {
        "split": split,
        "gallery": "all pictures of the split",
        "reference": "taken out of every ranking",
        "captions": "runs of spaces as one",
        "right": "target_hard",
    }
    metrics = [f"recall@{k}" for k in (1, 5, 10, 50)] + [f"recall_subset@{k}" for k in (1, 2, 3)]
    return Benchmark("cirr", protocol, queries, {WHOLE: tuple(aliases)}, tuple(metrics), aliases=aliases)


def _cirr_query(record: dict[str, Any]) -> BenchmarkQuery:
    reference = _string(record, "reference")
    return BenchmarkQuery(
        id=_id(record, "pairid"),
        texts=(" ".join(_string(record, "caption").split()),),
        image=reference,
        relevant={_string(record, "target_hard"): 1.0} if "target_hard" in record else {},
        exclude=frozenset([reference]),
        subset=tuple(name for name in _strings(record["img_set"], "members") if name != reference),
        group=reference,
    )


def fashioniq(path: str, *, split: str = "val", gallery: Gallery = "original", join: Join = "mean") -> Benchmark:
    """FashionIQ, by category; the reference stays in the gallery, as in published code for zero-shot models.

    `path` is the folder with `captions/` and `image_splits/`. `gallery`: "original" is the whole split
    file of a category; "union" is only the references and targets of its queries, which gives higher numbers.
    """
    queries: list[BenchmarkQuery] = []
    galleries: dict[str, tuple[str, ...] | None] = {}
    for category in CATEGORIES:
        file = _inside(path, "captions", f"cap.{category}.{split}.json")
        records = _json(file)
        with _reading(file):
            own = [_fashioniq_query(record, number, category, join) for number, record in enumerate(records)]
        if gallery == "union":
            if not all(query.relevant for query in own):
                raise UsageError(
                    f"--gallery union: the targets of split {split} are not published", hint="use original"
                )
            names: Iterable[str] = (name for q in own for name in (q.image or "", *q.relevant))
        else:
            file = _inside(path, "image_splits", f"split.{category}.{split}.json")
            with _reading(file):
                names = _strings({"the split": _json(file)}, "the split")
        queries += own
        galleries[category] = tuple(dict.fromkeys(names))
    ends = ", each without .?, and spaces at its ends" if join == "mean" else ""
    protocol: dict[str, str | int] = {
        "split": split,
        "gallery": gallery,
        "join": join,
        "query": " + ".join(form.format(a="c1", b="c2") for form in _JOINED[join])
        + (" (normalised sum of both)" if join == "mean" else "")
        + ends,
        "reference": "stays in the gallery",
        "mean": "of the three categories",
    }
    return Benchmark("fashioniq", protocol, tuple(queries), galleries, ("recall@10", "recall@50"))


def _fashioniq_query(record: dict[str, Any], number: int, category: str, join: Join) -> BenchmarkQuery:
    a, b = (caption.strip(".?, ") if join == "mean" else caption for caption in _strings(record, "captions"))
    return BenchmarkQuery(
        id=f"{category}/{number}",
        texts=tuple(dict.fromkeys(form.format(a=a, b=b) for form in _JOINED[join])),
        image=_string(record, "candidate"),
        relevant={_string(record, "target"): 1.0} if "target" in record else {},
        group=_string(record, "candidate"),
        part=category,
        record=record,
    )


def circo(path: str, *, split: str | None = None, shared_concept: SharedConcept = "none") -> Benchmark:
    """CIRCO: several relevant pictures; the reference stays in the gallery, which is every photo.

    `path` is the folder with `annotations/`, or an annotation file named after its split. Default split of a folder:
    "val".
    """
    file = path if os.path.isfile(path) else _inside(path, "annotations", f"{split or 'val'}.json")
    file_split = os.path.splitext(os.path.basename(file))[0]
    if split not in (None, file_split):
        raise UsageError(f"--split {split!r}: {printable(path)} has no splits", hint="leave out --split")
    records = _json(file)
    aliases: Aliases = {}
    with _reading(file):
        queries = tuple(_circo_query(record, shared_concept) for record in records)
        for query in queries:
            for name in (query.image, *query.relevant):
                aliases[str(name)] = f"{int(str(name)):012d}.jpg", f"{int(str(name)):012d}"
    _refuse_repeated(file, "id", queries)
    protocol: dict[str, str | int] = {
        "split": file_split,
        "gallery": "every photo of the folder whose name is a number",
        "comparable": f"only with all {CIRCO_GALLERY:,} pictures of COCO 2017 unlabeled",
        "reference": "stays in the gallery",
        "shared_concept": shared_concept,
        "query": _CONCEPTS[shared_concept].format(concept="{shared_concept}", change="{relative_caption}"),
        "map": "divided by min(number right, K)",
        "recall": "of target_img_id alone",
    }
    metrics = [f"{kind}@{k}" for kind in ("map", "recall") for k in (5, 10, 25, 50)]
    return Benchmark("circo", protocol, queries, {WHOLE: None}, tuple(metrics), aliases=aliases, is_numbered=True)


def _circo_query(record: dict[str, Any], shared_concept: SharedConcept) -> BenchmarkQuery:
    concept = "" if shared_concept == "none" else _string(record, "shared_concept")
    reference = _number(record, "reference_img_id")
    right = record.get("gt_img_ids", [])
    if not isinstance(right, list):
        raise ValueError("gt_img_ids is not a list")
    return BenchmarkQuery(
        id=_id(record, "id"),
        texts=(_CONCEPTS[shared_concept].format(concept=concept, change=_string(record, "relative_caption")),),
        image=reference,
        relevant={_number({"gt_img_ids": number}, "gt_img_ids"): 1.0 for number in right},
        target=_number(record, "target_img_id") if record.get("target_img_id") is not None else None,
        group=reference,
    )


# --------------------------------------------------------------------------------------------- your own queries


def own(path: str, *, include_reference: bool = False) -> Benchmark:
    """JSON Lines of {text and/or image, relevant: [names] or {name: grade}, exclude: [names], id, group}.

    A query's own picture is left out of its ranking, as in `imgsearch query`, unless it is relevant. QueryError names
    the line that is wrong.
    """
    queries = tuple(
        _own_query(record, f"{printable(path)}:{n}", n, include_reference) for n, record in _records(_text(path), path)
    )
    if not queries:
        raise QueryError(f"{printable(path)}: no queries found", hint=_OWN_HINT)
    _refuse_repeated(path, "id", queries)
    protocol: dict[str, str | int] = {
        "gallery": "every photo of the folder",
        "reference": "stays in the gallery" if include_reference else "left out, unless it is relevant",
    }
    metrics = ("hit_rate@1", "hit_rate@5", "hit_rate@10", "share_found@10", "precision@10", "mrr", "map@10", "ndcg@10")
    return Benchmark(
        "jsonl",
        protocol,
        queries,
        {WHOLE: None},
        (*metrics, "median_rank"),
        folder=os.path.dirname(os.path.abspath(path)),
    )


_OWN_HINT = 'a line is {"text": "a dog", "relevant": ["a.jpg"]}; see docs/evaluation.md'


def _own_query(record: dict[str, Any], where: str, number: int, include_reference: bool) -> BenchmarkQuery:
    def wrong(what: str) -> QueryError:
        return QueryError(f"{where}: {what}", hint=_OWN_HINT)

    text, image, relevant = record.get("text"), record.get("image"), record.get("relevant")
    exclude, own_id = record.get("exclude", []), record.get("id", number)
    for key, value in (("text", text), ("image", image)):
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise wrong(f"{key} is not a string" if key == "text" else "image is not a file name")
    if text is None and image is None:
        raise wrong("neither text nor image")
    if isinstance(relevant, list):
        relevant = dict.fromkeys(relevant, 1) if _are_names(relevant) else None
    if not isinstance(relevant, dict) or not all(_is_grade(grade) for grade in relevant.values()):
        raise wrong("relevant is neither a list of names nor an object of grades (0 or more) by name")
    if not any(relevant.values()):
        raise wrong("nothing is relevant")
    if not isinstance(exclude, list) or not _are_names(exclude):
        raise wrong("exclude is not a list of names")
    if not isinstance(own_id, str | int) or isinstance(own_id, bool):
        raise wrong("id is neither a number nor a string")
    group = record.get("group", "")
    if not isinstance(group, str):
        raise wrong("group is not a string")
    hidden = {image} if image is not None and not include_reference and not relevant.get(image) else set()
    both = {name for name in exclude if relevant.get(name)}
    if both:
        raise wrong(f"{printable(min(both))} is relevant and excluded")
    return BenchmarkQuery(
        id=str(own_id),
        texts=() if text is None else (text,),
        image=image,
        relevant={name: float(grade) for name, grade in relevant.items()},
        exclude=frozenset(exclude) | hidden,
        group=group,
    )


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _is_grade(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1000


# ------------------------------------------------------------------------------------------------ reading files


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns errors about the content of a file into a QueryError that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else f"unexpected content ({error})"
        raise QueryError(
            f"{printable(path)}: {what} in one of the records", hint="is it the benchmark's own file?"
        ) from error


def _string(record: dict[str, Any], key: str) -> str:
    if not isinstance(record[key], str):
        raise ValueError(f"{key} is not a string")
    return str(record[key])


def _strings(record: dict[str, Any], key: str) -> list[str]:
    if not isinstance(record[key], list) or not all(isinstance(name, str) for name in record[key]):
        raise ValueError(f"{key} is not a list of strings")
    return list(record[key])


def _number(record: dict[str, Any], key: str) -> str:
    """The number of a picture, without leading zeros."""
    if not isinstance(record[key], int | str) or isinstance(record[key], bool):
        raise ValueError(f"{key} is not a number")
    return str(int(record[key]))


def _id(record: dict[str, Any], key: str) -> str:
    if not isinstance(record[key], int | str) or isinstance(record[key], bool):
        raise ValueError(f"{key} is neither a number nor a string")
    return str(record[key])


def _refuse_repeated(path: str, key: str, queries: Iterable[BenchmarkQuery]) -> None:
    seen: set[str] = set()
    for query in queries:
        if query.id in seen:
            raise QueryError(
                f"{printable(path)}: the {key} {printable(query.id)} occurs twice", hint="give each query its own"
            )
        seen.add(query.id)


def _inside(folder: str, *parts: str) -> str:
    path = os.path.join(folder, *parts)
    if not os.path.isfile(path):
        known = os.path.dirname(path)
        there = sorted(os.listdir(known)) if os.path.isdir(known) else []
        hint = (
            f"the folder has: {', '.join(map(printable, there[:6]))}"
            if there
            else f"--annotations takes the folder that contains {parts[0]}/"
        )
        raise UsageError(f"{printable(path)}: no such file", hint=hint)
    return path


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise QueryError(f"{printable(path)}: not UTF-8 text", hint="give the annotations file") from error
    except OSError as error:
        raise UsageError(
            f"{printable(path)}: {(error.strerror or str(error)).lower()}",
            hint="give the annotations with --annotations",
        ) from error


def _json(path: str) -> Any:
    data = _json_or_none(_text(path))
    if not data:
        raise QueryError(f"{printable(path)}: not valid JSON", hint="download the file again")
    return data


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _records(text: str, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines text with their line numbers, from 1."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            record = _json_or_none(line)
            if not isinstance(record, dict):
                raise QueryError(f"{printable(path)}:{number}: not a JSON object", hint="one object per line")
            yield number, record
