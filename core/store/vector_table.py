"""Which slot of which space holds the vector of what content or text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from imgsearch.core.types import Modality

from .database import Database
from .records import NewVector
from .region_table import HAS_PARTS


class VectorTable:
    """The slots of the vectors, by content or text."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def has(self, space_id: str, modality: Modality, key: bytes) -> bool:
        return (
            self._db.value(
                "select 1 from vectors where space_id = :space and modality = :modality and key = :key",
                space=space_id,
                modality=modality,
                key=key,
            )
            is not None
        )

    def slot_of(self, space_id: str, modality: Modality, key: bytes) -> int | None:
        slot: int | None = self._db.value(
            "select slot from vectors where space_id = :space and modality = :modality and key = :key",
            space=space_id,
            modality=modality,
            key=key,
        )
        return slot

    def slots_by_key(self, space_id: str, modality: Modality) -> dict[bytes, int]:
        rows = self._db.rows(
            "select key, slot from vectors where space_id = :space and modality = :modality",
            space=space_id,
            modality=modality,
        )
        return dict(rows)

    def live_slots(self, space_id: str) -> list[tuple[int, str, int]]:
        """(slot, kind, is_online) of every slot that belongs to a present photo, a region or a text of one."""
        return self._db.rows(
            """
            select v.slot, 'image', max(r.state = 'online')
            from vectors v
            cross join photos p on p.content_hash = v.key and p.state = 'present'
            cross join roots r on r.id = p.root_id
            where v.space_id = :space and v.modality = 'image'
            group by v.slot
            union all
            select v.slot, 'region', max(r.state = 'online')
            from regions g
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
            cross join photos p on p.content_hash = g.content_hash and p.state = 'present'
            cross join roots r on r.id = p.root_id
            where g.space_id = :space and g.key <> g.content_hash
            group by v.slot
            union all
            select v.slot, 'text', max(r.state = 'online')
            from vectors v
            cross join photo_texts t on t.key = v.key
            cross join photos p on p.id = t.photo_id and p.state = 'present'
            cross join roots r on r.id = p.root_id
            where v.space_id = :space and v.modality = 'text'
            group by v.slot
            """,
            space=space_id,
        )

    def all(self, space_id: str, *, without_crc: bool = False) -> list[NewVector]:
        """All vectors of a space, or only those without a checksum, by slot."""
        condition = "and crc is null" if without_crc else ""
        rows = self._db.rows(
            f"select slot, modality, key, crc from vectors where space_id = :space {condition} "  # noqa: S608
            "order by slot",
            space=space_id,
        )
        return [NewVector(*row) for row in rows]

    def in_range(self, space_id: str, modality: Modality, first: int, upto: int, limit: int = -1) -> list[int]:
        """The slots from `first` to below `upto` that hold a vector of that modality, in order."""
        return self._db.column(
            """
            select slot from vectors
            where space_id = :space and slot >= :first and slot < :upto and modality = :modality
            order by slot limit :limit
            """,
            space=space_id,
            modality=modality,
            first=first,
            upto=upto,
            limit=limit,
        )

    def in_use(self, space_id: str) -> list[NewVector]:
        """The vectors that a photo in any state, a text, a note or a pending import has, by slot."""
        rows = self._db.rows(
            """
            select slot, modality, key, crc from vectors v where space_id = :space and (
                (modality = 'image' and exists (select 1 from photos p where p.content_hash = v.key))
                or (modality = 'image' and exists (
                    select 1 from regions g where g.space_id = :space and g.key = v.key and (
                        exists (select 1 from photos p where p.content_hash = g.content_hash)
                        or exists (select 1 from awaited a where a.key = g.content_hash)
                    )
                ))
                or (modality = 'text' and exists (select 1 from photo_texts t where t.key = v.key))
                or (modality = 'text' and exists (select 1 from notes n where n.key = v.key))
                or exists (select 1 from awaited a where a.key = v.key)
            ) order by slot
            """,
            space=space_id,
        )
        return [NewVector(*row) for row in rows]

    def count(self, space_id: str, modality: Modality) -> int:
        """The number of vectors of that modality, without those of regions."""
        return self._db.count(
            """
            select count(*) from vectors where space_id = :space and modality = :modality and key not in (
                select key from regions where space_id = :space and key <> content_hash
            )
            """,
            space=space_id,
            modality=modality,
        )

    def count_all(self) -> int:
        """The number of vectors in all spaces."""
        return self._db.count("select count(*) from vectors")

    def replace_all(self, space_id: str, vectors: Iterable[NewVector]) -> None:
        """Give a space these vectors instead of those it has."""
        self._db.execute("delete from vectors where space_id = ?", (space_id,))
        self.add(space_id, vectors)

    def add(self, space_id: str, vectors: Iterable[NewVector]) -> None:
        self._db.executemany(
            "insert into vectors (space_id, slot, modality, key, crc) values (?, ?, ?, ?, ?)",
            [(space_id, vector.slot, vector.modality, vector.key, vector.crc) for vector in vectors],
        )

    def delete(self, space_id: str, slots: Iterable[int]) -> None:
        """Delete the vectors in these slots: their contents will be embedded again."""
        self._db.executemany(
            "delete from vectors where space_id = ? and slot = ?", [(space_id, slot) for slot in slots]
        )

    def checksums(self, space_id: str, slots: Sequence[int]) -> dict[int, int]:
        """The checksums of the vectors in these slots; a vector without one is left out."""
        rows = self._db.rows(
            """
            select v.slot, v.crc from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value
            where v.crc is not null
            """,
            space=space_id,
            slots=json.dumps([int(slot) for slot in slots]),
        )
        return dict(rows)

    def set_checksums(self, space_id: str, crcs: Iterable[tuple[int, int]]) -> None:
        """Add (slot, checksum) to vectors that have no checksum."""
        self._db.executemany(
            "update vectors set crc = ? where space_id = ? and slot = ? and crc is null",
            [(crc, space_id, slot) for slot, crc in crcs],
        )

    def are_complete(self, space_id: str) -> bool:
        """Whether every photo, gone ones included, and every region and text of one has a vector in that space."""
        kinds = (
            ("photos", "content_hash", "image", "true"),
            ("photo_texts", "key", "text", "true"),
            ("regions", "key", "image", "space_id = :space"),
        )
        # `order by` makes SQLite merge two indexes: an eighth of the work of looking up every key.
        lacking = (
            self._db.rows(
                f"""
                select {key} from {table} where {which}
                except
                select key from vectors where space_id = :space and modality = :modality
                order by 1 limit 1
                """,  # noqa: S608 - names of ours
                space=space_id,
                modality=modality,
            )
            for table, key, modality, which in kinds
        )
        without_regions = (
            self._db.rows(
                f"""
                select content_hash from photos p where {condition}
                except
                select content_hash from regions where space_id = :space
                order by 1 limit 1
                """,  # noqa: S608 - a condition of ours
                space=space_id,
            )
            for condition in HAS_PARTS
        )
        return not any(lacking) and not any(without_regions)

    def count_present(self, space_id: str) -> tuple[int, int]:
        """The numbers of present photos and of their texts that have a vector in that space."""
        photos = self._db.value(
            """
            select count(*) from photos p
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
            where p.state = 'present'
            """,
            space=space_id,
        )
        texts = self._db.value(
            f"select count(*) from ({_LIVE_TEXTS})",  # noqa: S608 - a query of ours
            space=space_id,
            after=b"",
            most=-1,
        )
        return int(photos), int(texts)

    def texts(self, space_id: str, batch_size: int) -> Iterator[list[tuple[str, int]]]:
        """Batches of (text, slot), by key, of the texts of present photos that have a vector in that space."""
        last = b""
        while rows := self._db.rows(_LIVE_TEXTS, space=space_id, after=last, most=batch_size):
            yield [(str(row[1]), row[2]) for row in rows]
            last = rows[-1][0]

    def add_pending_imports(self, contents: Iterable[bytes], texts: Iterable[bytes]) -> None:
        """Keep imported vectors of contents and texts that no photo here has yet."""
        for keys, has_it in (
            (contents, "select 1 from photos where content_hash = :key and state = 'present'"),
            (texts, "select 1 from photo_texts where key = :key union all select 1 from notes where key = :key"),
        ):
            self._db.executemany(
                f"insert or ignore into awaited select :key where not exists ({has_it})",
                [{"key": key} for key in keys],
            )

    def clear_pending_imports(self, keys: Iterable[bytes] | None = None) -> None:
        """Photos with these contents or texts were found. Without keys: give up waiting for any."""
        if keys is None:
            self._db.execute("delete from awaited")
        else:
            self._db.executemany("delete from awaited where key = ?", [(key,) for key in keys])

    def count_pending_imports(self) -> int:
        """The number of contents and texts with an imported vector but no photo here yet."""
        return self._db.count("select count(*) from awaited where key in (select key from vectors)")


_LIVE_TEXTS = """
    select x.key, x.text, v.slot from texts x
    cross join vectors v on v.space_id = :space and v.modality = 'text' and v.key = x.key
    where x.key > :after and exists (
        select 1 from photo_texts t cross join photos p on p.id = t.photo_id and p.state = 'present'
        where t.key = x.key
    )
    order by x.key limit :most
"""
"""Texts of present photos that have a vector in a space, by key."""
