"""The text in pictures: what OCR has read, by the content of the photo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Literal

from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.types import TextLine

from .database import Database
from .records import as_region, below, now, parsed_json, split, text_key

OCR = "ocr"
"""The source of these texts in `--json`."""

ReadingState = Literal["read", "failed", "unlikely"]
"""`unlikely`: not read, because the picture does not look like text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading the text in a content."""

    content_hash: bytes
    state: ReadingState
    reader: str
    """Identifies the library that read it, or the rules by which it was not read."""
    lines: tuple[TextLine, ...] = ()
    reason: str | None = None
    """Why it failed."""

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True, slots=True)
class Scope:
    """A root, a folder of it, or one file."""

    root_id: int
    relpath: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A content that was not read, and a photo that has it."""

    content_hash: bytes
    photo_id: int


@dataclass(frozen=True, slots=True)
class ReadingCounts:
    """Of present photos."""

    read: int
    with_text: int
    failed: int
    unlikely: int


class ReadingTable:
    """Readings. The text of one is also a text of every photo with that content."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def exist(self) -> bool:
        return self._db.value("select 1 from readings") is not None

    def add(self, reading: Reading) -> None:
        """Add a reading, or replace the one of that content."""
        self.delete([reading.content_hash])
        text = reading.text
        places = [
            [line.region.x, line.region.y, line.region.width, line.region.height, line.score] for line in reading.lines
        ]
        self._db.execute(
            "insert into readings values (:content, :state, :reader, :key, :text, :places, :reason, :at)",
            {
                "content": reading.content_hash,
                "state": reading.state,
                "reader": reading.reader,
                "key": text_key(text) if text else None,
                "text": text or None,
                "places": json.dumps([[round(number, 5) for number in place] for place in places]),
                "reason": reading.reason,
                "at": now(),
            },
        )
        self.attach(reading.content_hash)

    def has(self, content_hash: bytes, state: ReadingState) -> bool:
        found = self._db.value(
            "select 1 from readings where content_hash = :content and state = :state", content=content_hash, state=state
        )
        return found is not None

    def lines(self, content_hash: bytes, key: bytes) -> list[TextLine]:
        """The lines of the reading of a content, if it has the text with that key. Empty if they are not known."""
        row = self._db.row(
            "select text, places from readings where content_hash = :content and key = :key",
            content=content_hash,
            key=key,
        )
        texts, places = (str(row[0]).split("\n"), parsed_json(row[1], list)) if row else ([], None)
        if places is None or len(places) != len(texts):
            return []
        lines = []
        for text, place in zip(texts, places, strict=True):
            region = as_region(place[:4]) if isinstance(place, list) and len(place) == 5 else None
            if region is None or not isinstance(place[4], int | float):
                return []
            lines.append(TextLine(text, float(place[4]), region))
        return lines

    def unread(self, scopes: Sequence[Scope], *, reader: str, rules: str, everything: bool) -> list[Unread]:
        """The contents of present photos of online roots that are still to be read, each with one of its photos.

        Those that failed count only if another `reader` did, and those that did not look like text if that was decided
        by other `rules`, or with `everything`. Videos are not read.
        """
        found: dict[bytes, int] = {}
        for scope in scopes:
            path = os.fsencode(scope.relpath)
            low, high = below(path)
            folder, name = split(scope.relpath)
            rows = self._db.rows(
                """
                select p.content_hash, min(p.id) from photos p cross join roots r on r.id = p.root_id
                where p.root_id = :root and p.state = 'present' and r.state = 'online'
                    and p.duration_seconds is null and (
                    :path = x'' or p.folder = :path or (p.folder >= :low and p.folder < :high)
                    or (p.folder = :folder and p.name = :name)
                ) and not exists (
                    select 1 from readings d where d.content_hash = p.content_hash and (
                        d.state = 'read' or (d.state = 'failed' and d.reader = :reader)
                        or (d.state = 'unlikely' and d.reader = :rules and not :everything)
                    )
                )
                group by p.content_hash order by min(p.id)
                """,
                root=scope.root_id,
                path=path,
                low=low,
                high=high,
                folder=folder,
                name=name,
                reader=reader,
                rules=rules,
                everything=everything,
            )
            for content_hash, photo_id in rows:
                found.setdefault(content_hash, photo_id)
        return [Unread(content_hash, photo_id) for content_hash, photo_id in found.items()]

    def counts(self) -> ReadingCounts:
        row = self._db.row(
            """
            select count(case when d.state = 'read' then 1 end),
                count(case when d.state = 'read' and d.key is not null then 1 end),
                count(case when d.state = 'failed' then 1 end), count(case when d.state = 'unlikely' then 1 end)
            from readings d cross join photos p on p.content_hash = d.content_hash and p.state = 'present'
            """
        )
        return ReadingCounts(*row)

    def failed(self) -> list[tuple[int, str]]:
        """(id, reason) of the present photos whose text could not be read."""
        return self._db.rows(
            """
            select p.id, d.reason from readings d
            cross join photos p on p.content_hash = d.content_hash and p.state = 'present'
            where d.state = 'failed'
            """
        )

    def attach(self, content_hash: bytes | None = None) -> None:
        """Add the texts to the photos with that content, or to all photos."""
        which = "true" if content_hash is None else "d.content_hash = :content"
        for statement in (
            f"""
            insert or ignore into texts
            select d.key, d.text from readings d cross join photos p on p.content_hash = d.content_hash
            where d.key is not null and {which}
            """,  # noqa: S608 - a condition of ours
            f"""
            insert or ignore into photo_texts
            select p.id, d.key, 'ocr' from readings d cross join photos p on p.content_hash = d.content_hash
            where d.key is not null and {which}
            """,  # noqa: S608
        ):
            self._db.execute(statement, {"content": content_hash})

    def delete(self, contents: Iterable[bytes]) -> None:
        """Forget the readings of these contents, so that they are read again."""
        values = [{"content": content} for content in contents]
        self._db.executemany(
            """
            delete from photo_texts
            where source = 'ocr' and photo_id in (select id from photos where content_hash = :content)
            """,
            values,
        )
        self._db.executemany(
            """
            delete from texts
            where key = (select key from readings where content_hash = :content)
                and key not in (select key from photo_texts)
            """,
            values,
        )
        self._db.executemany("delete from readings where content_hash = :content", values)

    def delete_stale(self) -> None:
        """Forget the readings of contents that no photo has."""
        self._db.execute("delete from readings where content_hash not in (select content_hash from photos)")

    def all_texts(self) -> list[tuple[bytes, bytes, object]]:
        """(content hash, key, text) of every reading with a text."""
        return self._db.rows("select content_hash, key, text from readings where key is not null")

    def without_vectors(self, space_id: str) -> dict[bytes, str]:
        """The texts of present photos that have no vector in that space: text by key."""
        rows = self._db.rows(
            """
            select distinct d.key, d.text from readings d
            cross join photos p on p.content_hash = d.content_hash and p.state = 'present'
            where d.key is not null and not exists (
                select 1 from vectors v where v.space_id = :space and v.modality = 'text' and v.key = d.key
            )
            """,
            space=space_id,
        )
        return {row[0]: row[1] for row in rows if isinstance(row[1], str)}
