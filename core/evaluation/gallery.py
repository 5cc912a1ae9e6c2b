"""Finds the pictures that a benchmark names among the photos of an index."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import numpy as np  # noqa: TID253

from imgsearch.core.errors import QueryError
from imgsearch.core.paths import has_picture_extension, on_disk, printable
from imgsearch.core.store.records import Place
from imgsearch.core.store.store import Store, View

from .loaders import Benchmark, BenchmarkQuery

MAX_NAMED = 3
"""Maximum number of missing pictures that an error names."""
TEXT_TO_IMAGE, IMAGE_TO_TEXT = "t2i", "i2t"


class Counts(TypedDict):
    """How much was evaluated, as it stands in the JSON."""

    queries: int
    pictures_as_queries: NotRequired[int]
    gallery: int | dict[str, int]
    missing_pictures: int
    left_out_queries: int


class PhotoNames:
    """The photos of an index, found by the names that annotations use."""

    def __init__(self, places: Iterable[Place], folder: str | None = None) -> None:
        """Take photos below `folder`, an absolute path, or all. Names are relative to the folder, or to the root."""
        self.total = 0
        """Photos in the index, including those outside the folder."""
        self.places: dict[str, Place] = {}
        self.short_names: dict[str, str] = {}
        """By path, the path relative to the folder, or the whole path if two photos would have the same name."""
        self._paths: dict[str, list[str]] = {}
        """Paths by file name (NFC), both with and without the extension."""
        tops = () if folder is None else tuple({f"{top.rstrip('/')}/" for top in (folder, os.path.realpath(folder))})
        by_short_name: dict[str, list[str]] = {}
        for place in places:
            self.total += 1
            top = next((top for top in tops if place.path.startswith(top)), None)
            if folder is None or top:
                self.places[place.path] = place
                by_short_name.setdefault(place.relpath if top is None else place.path[len(top) :], []).append(
                    place.path
                )
        for short_name, paths in by_short_name.items():
            name = _nfc(os.path.basename(short_name))
            for path in paths:
                self.short_names[path] = short_name if len(paths) == 1 else path
                for key in {name, _without_extension(name)}:
                    self._paths.setdefault(key, []).append(path)

    @classmethod
    def of(cls, store: Store, view: View, folder: str | None) -> PhotoNames:
        slots = np.flatnonzero(view.slots.mask("image")).tolist()
        return cls(store.catalog.places.of_slots(view.space.id, slots, include_offline=False), folder)

    def path_of(self, name: str) -> str | None:
        """The photo with this path below the folder, or else whose path ends with it; the extension is optional.

        An exact spelling is preferred to one that is only the same in NFC. Raises QueryError if two photos match.
        """
        name = os.path.normpath(name)
        paths = self._matches(name, _as_is) or self._matches(_nfc(name), _nfc)
        if len(paths) > 1:
            first, second = sorted(paths)[:2]
            raise QueryError(
                f"{printable(name)} may be {printable(first)} or {printable(second)}",
                hint="give --images a folder where the name occurs once",
            )
        return paths[0] if paths else None

    def _matches(self, name: str, normalised: Callable[[str], str]) -> list[str]:
        trimmed = _as_is if has_picture_extension(name) else _without_extension
        matches = [
            path
            for path in self._paths.get(_nfc(os.path.basename(name)), ())
            if f"/{normalised(trimmed(path))}".endswith(f"/{name.lstrip('/')}")
        ]
        exact = [path for path in matches if name in (normalised(path), normalised(trimmed(self.short_names[path])))]
        return exact or matches


def _as_is(path: str) -> str:
    return path


def _nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _without_extension(path: str) -> str:
    return os.path.splitext(path)[0]


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark whose pictures have been found, ready to run."""

    benchmark: Benchmark
    queries: tuple[BenchmarkQuery, ...]
    names: Mapping[str, Mapping[str, str]]
    """By part, the name of each photo of the gallery, by path."""
    references: Mapping[str, str]
    """The paths of the queries' own pictures, by name."""
    pictures: Mapping[str, Place]
    """By name, the pictures to search captions with (image to text)."""
    missing: int
    """Pictures that the benchmark names and the index lacks."""
    left_out: int
    """Queries that need a missing picture."""
    total: int
    """Photos in the index; a ranking of this length is complete."""

    @property
    def counts(self) -> Counts:
        sizes = {part: len(names) for part, names in self.names.items()}
        gallery = sizes if len(sizes) > 1 else next(iter(sizes.values()))
        if not self.pictures:
            return {
                "queries": len(self.queries),
                "gallery": gallery,
                "missing_pictures": self.missing,
                "left_out_queries": self.left_out,
            }
        return {
            "queries": len(self.queries),
            "pictures_as_queries": len(self.pictures),
            "gallery": gallery,
            "missing_pictures": self.missing,
            "left_out_queries": self.left_out,
        }

    @property
    def digest(self) -> str:
        """Of the queries and their relevant pictures: runs with the same digest can be compared query by query.

        For `jsonl` it covers the text, picture and `exclude` of each query too, because they can change under one id.
        """
        parts: list[list[object]] = [[q.id, q.part, sorted(q.relevant.items())] for q in self.queries]
        if self.benchmark.name == "jsonl":
            parts = [[*part, *self._content(q)] for part, q in zip(parts, self.queries, strict=True)]
        return hashlib.sha256(json.dumps([parts, sorted(self.pictures)]).encode()).hexdigest()

    def _content(self, query: BenchmarkQuery) -> list[object]:
        """Whether the query's own picture is left out is a matter of the protocol, so it is not part of this."""
        own = self.names[query.part].get(self.references.get(query.image or "", ""))
        return [query.texts, query.image, sorted(query.exclude - {own})]

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Part, id and group of every result that a run has, sorted."""
        keys = [(q.part, q.id, q.group or q.id) for q in self.queries]
        return sorted(keys + [(IMAGE_TO_TEXT, f"{IMAGE_TO_TEXT}/{name}", name) for name in self.pictures])


def find_photos(benchmark: Benchmark, photo_names: PhotoNames, *, allow_missing: bool = False) -> Task:
    """Find the photos that a benchmark names.

    Raises QueryError if some are missing. With `allow_missing` they are left out of the galleries instead, and so are
    the queries that need them.
    """
    finder = _Finder(benchmark, photo_names)
    names = {part: finder.gallery(part_names) for part, part_names in benchmark.galleries.items()}
    queries, left_out = [], 0
    for query in benchmark.queries:
        found = finder.query(query, names[query.part])
        left_out += found is None
        if found is not None:
            queries.append(found)
    if finder.missing and not allow_missing:
        raise finder.missing_error()
    if not queries:
        raise QueryError(
            f"{benchmark.name}: the index has none of the pictures that the queries need", hint="check --images"
        )
    pictures = {
        name: photo_names.places[path]
        for path, name in names.get(TEXT_TO_IMAGE, {}).items()
        if name in benchmark.captions
    }
    return Task(
        benchmark, tuple(queries), names, finder.references, pictures, len(finder.missing), left_out, photo_names.total
    )


class _Finder:
    """Looks names up and remembers which are missing."""

    def __init__(self, benchmark: Benchmark, photo_names: PhotoNames) -> None:
        self._benchmark, self._photo_names = benchmark, photo_names
        self._paths: dict[str, str | None] = {}
        self.references: dict[str, str] = {}
        self.missing: list[str] = []

    def path_of(self, name: str) -> str | None:
        if name not in self._paths:
            self._paths[name] = self._indexed_path(name)
            if self._paths[name] is None:
                self.missing.append(name)
        return self._paths[name]

    def _indexed_path(self, name: str) -> str | None:
        candidates = self._benchmark.aliases.get(name, (name,))
        return next((path for each in candidates if (path := self._photo_names.path_of(each)) is not None), None)

    def _reference(self, name: str) -> str | None:
        """The path of a query's own picture, which need not be in the index."""
        folder = self._benchmark.folder
        beside = None if folder is None else on_disk(os.path.join(folder, name))
        if beside is not None and self._indexed_path(name) is None and os.path.isfile(beside):
            return beside
        return self.path_of(name)

    def gallery(self, part_names: tuple[str, ...] | None) -> dict[str, str]:
        if part_names is None:
            return self._numbered() if self._benchmark.is_numbered else dict(self._photo_names.short_names)
        names: dict[str, str] = {}
        for name in part_names:
            path = self.path_of(name)
            if path is not None and names.setdefault(path, name) != name:
                raise QueryError(
                    f"{printable(name)} and {printable(names[path])} are both {printable(path)}",
                    hint="a gallery holds each picture once",
                )
        return names

    def _numbered(self) -> dict[str, str]:
        stems = {path: os.path.splitext(os.path.basename(path))[0] for path in self._photo_names.places}
        names = {path: str(int(stem)) for path, stem in stems.items() if stem.isascii() and stem.isdigit()}
        paths: dict[str, str] = {}
        for path, name in names.items():
            if paths.setdefault(name, path) != path:
                raise QueryError(
                    f"{printable(paths[name])} and {printable(path)} are both picture {name}",
                    hint="a gallery holds each picture once",
                )
        return names

    def query(self, query: BenchmarkQuery, names: Mapping[str, str]) -> BenchmarkQuery | None:
        """The query with the names of the gallery; None if a picture that it needs is missing."""
        image = None if query.image is None else self._reference(query.image)
        if image is not None and query.image is not None:
            self.references[query.image] = image
        grades: dict[str, float] = {}
        is_complete = query.image is None or image is not None
        for name, grade in query.relevant.items():
            path = self.path_of(name)
            if path is None:
                is_complete = is_complete and grade == 0
            elif path not in names:
                raise QueryError(
                    f"{printable(name)} is relevant to query {printable(query.id)} but not in its gallery",
                    hint="check --gallery and --images",
                )
            else:
                grades[names[path]] = max(grade, grades.get(names[path], 0.0))
        if not is_complete:
            return None
        excluded = self._gallery_names(query.exclude, names, self._indexed_path)
        return replace(
            query,
            relevant=grades,
            exclude=frozenset(excluded) - {name for name, grade in grades.items() if grade > 0},
            subset=tuple(self._gallery_names(query.subset, names, self.path_of)),
        )

    @staticmethod
    def _gallery_names(
        wanted: Iterable[str], names: Mapping[str, str], path_of: Callable[[str], str | None]
    ) -> list[str]:
        """The names that the gallery has for these pictures, without those that it lacks."""
        paths = (path_of(name) for name in wanted)
        return [names[path] for path in paths if path is not None and path in names]

    def missing_error(self) -> QueryError:
        first = ", ".join(map(printable, self.missing[:MAX_NAMED]))
        more = ", ..." if len(self.missing) > MAX_NAMED else ""
        return QueryError(
            f"{len(self.missing):,} of {len(self._paths):,} pictures that {self._benchmark.name} names "
            f"are not in the index: {first}{more}",
            hint="check --images (`imgsearch failures --index DIR` lists unreadable files), or use --allow-missing to "
            "leave them out: the numbers are then not comparable to any others",
        )
