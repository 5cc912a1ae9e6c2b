"""The photos as search shows them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from imgsearch.core.paths import MAX_INTEGER
from imgsearch.core.photos.regions import WHOLE
from imgsearch.core.types import CarriedText

from .database import Database
from .records import Place, as_region, is_inside, join, leads_out, parsed_json, split
from .root_table import RootTable
from .schema import FACT_COLUMNS, PLACE_COLUMNS, TEXT_FACTS, TRUTH_FACTS, WHOLE_FACTS

_PLACE_COLUMNS = (
    "id",
    "folder",
    "name",
    "content_hash",
    "size",
    "mtime_ns",
    "state",
    "keywords",
    "pair",
    *FACT_COLUMNS,
    *PLACE_COLUMNS,
)

_FACTS = (*FACT_COLUMNS, *PLACE_COLUMNS)
_FIRST_FACT = len(_PLACE_COLUMNS) - len(_FACTS)

_COLUMNS = ", ".join(f"p.{column}" for column in _PLACE_COLUMNS)

_DAY = (
    "case when typeof(p.taken_at) = 'text' and p.taken_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T*' "
    "then substr(p.taken_at, 1, 10) end"
)


class PlaceTable:
    """Reads photos together with their root, facts and text."""

    def __init__(self, database: Database, roots: RootTable) -> None:
        self._db = database
        self._roots = roots

    def by_id(self, ids: Sequence[int]) -> list[Place]:
        rows = self._db.rows(
            f"""
            select {_COLUMNS}, r.path, -1, -1, null, null, null
            from json_each(:ids) i cross join photos p on p.id = i.value cross join roots r on r.id = p.root_id
            """,  # noqa: S608 - column names of ours
            ids=json.dumps(list(ids)),
        )
        return [self._place(row) for row in rows]

    def at(self, root_id: int, relpath: str) -> Place | None:
        folder, name = split(relpath)
        row = self._db.row(
            f"""
            select {_COLUMNS}, r.path, -1, -1, null, null, null
            from photos p join roots r on r.id = p.root_id
            where p.root_id = :root and p.folder = :folder and p.name = :name
            """,  # noqa: S608 - column names of ours
            root=root_id,
            folder=folder,
            name=name,
        )
        return None if row is None else self._place(row)

    def of_content(self, content_hash: bytes) -> list[Place]:
        """The present photos with that content."""
        ids = "select id from photos where content_hash = :content and state = 'present'"
        return self.by_id(self._db.column(ids, content=content_hash))

    def of_slots(
        self, space_id: str, slots: Sequence[int], *, include_offline: bool, where: str = "", **parameters: Any
    ) -> list[Place]:
        """The photos of these slots. One of a text slot carries its text, one of a region's slot the region."""
        online = "" if include_offline else "and r.state = 'online'"
        condition = f"and ({where})" if where else ""
        rows = self._db.rows(
            f"""
            select {_COLUMNS}, r.path, v.slot, -1, null, null, null
            from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value and v.modality = 'image'
            cross join photos p on p.content_hash = v.key and p.state = 'present'
            cross join roots r on r.id = p.root_id {online}
            where not exists (select 1 from regions g where g.space_id = :space and g.key = v.key) {condition}
            union all
            select {_COLUMNS}, r.path, v.slot, ifnull(m.slot, -1), null, null,
                json_array(g.x, g.y, g.width, g.height, g.seconds)
            from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value and v.modality = 'image'
            cross join regions g on g.space_id = :space and g.key = v.key
            cross join photos p on p.content_hash = g.content_hash and p.state = 'present'
            cross join roots r on r.id = p.root_id {online}
            left join vectors m on m.space_id = :space and m.modality = 'image' and m.key = g.content_hash
            where true {condition}
            union all
            select {_COLUMNS}, r.path, v.slot, -1, x.text, t.source, null
            from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value and v.modality = 'text'
            cross join photo_texts t on t.key = v.key
            cross join texts x on x.key = v.key
            cross join photos p on p.id = t.photo_id and p.state = 'present'
            cross join roots r on r.id = p.root_id {online}
            where true {condition}
            """,  # noqa: S608 - column names and conditions of ours, values by parameter
            space=space_id,
            slots=json.dumps([int(slot) for slot in slots]),
            **parameters,
        )
        return [self._place(row) for row in rows]

    def slots_where(self, space_id: str, where: str, **parameters: Any) -> list[int]:
        """The slots, of pictures, regions and texts, of the present photos that match a condition on `p` and `r`."""
        return self._db.column(
            f"""
            with chosen as materialized (
                select p.id, p.content_hash from photos p cross join roots r on r.id = p.root_id
                where p.state = 'present' and ({where})
            )
            select v.slot from chosen c
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = c.content_hash
            union
            select v.slot from chosen c
            cross join regions g on g.space_id = :space and g.content_hash = c.content_hash
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
            union
            select v.slot from chosen c
            cross join photo_texts t on t.photo_id = c.id
            cross join vectors v on v.space_id = :space and v.modality = 'text' and v.key = t.key
            """,  # noqa: S608 - conditions of ours, values by parameter
            space=space_id,
            **parameters,
        )

    def newest(self, where: str, *, limit: int, offset: int, **parameters: Any) -> list[int]:
        """Ids of the present photos of online roots that match an SQL condition on `p` and `r`, newest first."""
        return self._db.column(
            f"""
            select p.id from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online' and ({where})
            order by {_DAY} is null, p.taken_at desc, p.folder, p.name limit :limit offset :offset
            """,  # noqa: S608 - conditions of ours, values by parameter
            limit=limit,
            offset=offset,
            **parameters,
        )

    def by_time(
        self,
        space_id: str,
        where: str,
        *,
        limit: int,
        newest_first: bool,
        include_offline: bool,
        **parameters: Any,
    ) -> list[Place]:
        """The present photos that match an SQL condition on `p` and `r` and have a vector, undated ones last."""
        online = "" if include_offline else "and r.state = 'online'"
        rows = self._db.rows(
            f"""
            select {_COLUMNS}, r.path, v.slot, -1, null, null, null
            from photos p
            join roots r on r.id = p.root_id {online}
            join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
            where p.state = 'present' and ({where})
            order by {_DAY} is null, p.taken_at {"desc" if newest_first else ""}, r.path, p.folder, p.name limit :limit
            """,  # noqa: S608 - column names and conditions of ours, values by parameter
            space=space_id,
            limit=limit,
            **parameters,
        )
        return [self._place(row) for row in rows]

    def count_by_day(self, where: str, **parameters: Any) -> list[tuple[str, int]]:
        """How many of the present photos of online roots that match were taken on each day, the last day first."""
        return self._db.rows(
            f"""
            select {_DAY} as day, count(*) from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online' and ({where}) and day is not null
            group by day order by day desc
            """,  # noqa: S608 - conditions of ours, values by parameter
            **parameters,
        )

    def cameras(self, limit: int) -> list[tuple[str, int]]:
        """The cameras of the most present photos of online roots, with their numbers."""
        return self._db.rows(
            """
            select p.camera, count(*) from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online' and typeof(p.camera) = 'text'
            group by 1 order by 2 desc, 1 limit :limit
            """,
            limit=limit,
        )

    def rows_where(self, where: str = "", **parameters: Any) -> list[tuple[Any, ...]]:
        """(id, root id, relpath, content hash, size, mtime_ns, inode, taken_at, width, height) of the present photos
        that match an SQL condition on `p` and `r`."""
        rows = self._db.rows(
            f"""
            select p.id, p.root_id, p.folder, p.name, p.content_hash, p.size, p.mtime_ns, p.inode,
                p.taken_at, p.width, p.height
            from photos p cross join roots r on r.id = p.root_id
            where p.state = 'present' and ({where or "true"})
            """,  # noqa: S608 - conditions of ours, values by parameter
            **parameters,
        )
        return [(row[0], row[1], join(row[2], row[3]), *row[4:]) for row in rows]

    def with_vectors(self, space_id: str, batch_size: int) -> Iterator[list[Place]]:
        """Batches of the present photos that have a vector in that space, with its slot, by root, folder and name."""
        last: tuple[int, bytes, bytes] = (-1, b"", b"")
        while True:
            rows = self._db.rows(
                f"""
                select {_COLUMNS}, r.path, v.slot, -1, null, null, null, p.root_id
                from photos p
                cross join roots r on r.id = p.root_id
                cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
                where (p.root_id, p.folder, p.name) > (:root, :folder, :name) and p.state = 'present'
                order by p.root_id, p.folder, p.name limit :batch_size
                """,  # noqa: S608 - column names of ours
                space=space_id,
                root=last[0],
                folder=last[1],
                name=last[2],
                batch_size=batch_size,
            )
            if not rows:
                return
            yield [self._place(row[:-1]) for row in rows]
            names = dict(zip(_PLACE_COLUMNS, rows[-1], strict=False))
            last = rows[-1][-1], names["folder"], names["name"]

    def texts_of(self, photo_ids: Sequence[int]) -> dict[int, list[CarriedText]]:
        """The texts of photos, notes included, by the id of the photo."""
        rows = self._db.rows(
            """
            select t.photo_id, x.text, t.source from json_each(:ids) i
            cross join photo_texts t on t.photo_id = i.value
            cross join texts x on x.key = t.key
            order by t.photo_id, t.source, x.text
            """,
            ids=json.dumps(list(photo_ids)),
        )
        texts: dict[int, list[CarriedText]] = {}
        for photo_id, text, source in rows:
            texts.setdefault(photo_id, []).append(CarriedText(str(text), str(source)))
        return texts

    def _place(self, row: Sequence[Any]) -> Place:
        number, folder, name, content_hash, size, mtime_ns, state, keywords, pair = row[:_FIRST_FACT]
        root, slot, whole_slot, text, source, part = row[len(_PLACE_COLUMNS) :]
        region = None if part is None else as_region(parsed_json(part, list) or ())
        relpath = join(folder, name)
        if not is_inside(relpath):
            raise leads_out(os.fsdecode(root), relpath)
        return Place(
            id=number,
            root=self._roots.absolute(root),
            relpath=relpath,
            content_hash=content_hash,
            size=_whole(size),
            mtime_ns=_whole(mtime_ns),
            state=state,
            facts=_facts(row[_FIRST_FACT:]),
            keywords=() if keywords is None else tuple(map(str, parsed_json(keywords, list) or ())),
            pair=self._pair(folder, pair),
            slot=slot,
            whole_slot=whole_slot,
            region=None if region is None or replace(region, at=None) == WHOLE else region,
            at=None if region is None else region.at,
            text=text,
            text_source=source,
        )

    def _pair(self, folder: bytes, name: bytes | None) -> str | None:
        relpath = None if name is None else join(folder, name)
        return relpath if relpath is not None and is_inside(relpath) else None


def _fact(column: str, value: object) -> Any:
    """A fact if it has the right type, else None: the catalogue may come from another person."""
    if column in TRUTH_FACTS:
        return value == 1
    if column in TEXT_FACTS:
        return value if isinstance(value, str) else None
    if isinstance(value, float):
        return value if math.isfinite(value) and column not in WHOLE_FACTS else None
    return value if isinstance(value, int) and abs(value) <= MAX_INTEGER else None


def _facts(values: Sequence[Any]) -> dict[str, Any]:
    known = zip(_FACTS, values, strict=False)
    return _NO_FACTS | {column: _fact(column, value) for column, value in known if value is not None}


_NO_FACTS = {column: _fact(column, None) for column in _FACTS}
"""What a photo without any has: most of them are unknown for most photos, and need no look."""


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
