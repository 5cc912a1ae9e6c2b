"""The photos as indexing sees them: which ones there are, and what has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from imgsearch.core.types import CarriedText, Photo

from .database import Database
from .failure_table import FailureTable
from .note_table import NoteTable
from .reading_table import ReadingTable
from .records import FolderColumns, KnownPhoto, NewPhoto, at_or_below, below, now, pair_name, sidecar_stamp, split
from .region_table import HAS_REGIONS, IS_VIDEO
from .schema import FACT_COLUMNS, PLACE_COLUMNS

# Read at once, so that no read transaction is open while the caller works on them.
FOLDERS_AT_ONCE = 256


class PhotoTable:
    """The photos and the texts they carry."""

    def __init__(self, database: Database, failures: FailureTable, notes: NoteTable, readings: ReadingTable) -> None:
        self._db = database
        self._failures = failures
        self._notes = notes
        self._readings = readings

    def in_folder(self, root_id: int, folder: bytes, space_id: str | None) -> dict[bytes, KnownPhoto]:
        """The photos of one folder by name. `has_vectors` is about that space: the picture, its regions and its
        texts."""
        rows = self._db.rows(
            f"""
            select p.name, p.id, p.size, p.mtime_ns, p.inode, p.sidecars, p.pair, p.content_hash, p.state, p.named,
                {HAS_VECTORS} and {HAS_REGIONS}
            from photos p
            where p.root_id = :root and p.folder = :folder
            """,  # noqa: S608 - a condition of ours
            root=root_id,
            folder=folder,
            space=space_id,
        )
        return {row[0]: KnownPhoto(*row[1:]) for row in rows}

    def columns_by_folder(self, root_id: int, folder: bytes) -> Iterator[FolderColumns]:
        """The folders at or below `folder`, in the order of their names. Files with a failure are left out."""
        has_failed = """
            and not exists (
                select 1 from failures f
                where f.root_id = p.root_id and f.folder = p.folder and f.name = p.name
            )
        """
        without_failed = has_failed if self._failures.folders_below(root_id, folder) else ""
        for low, high in at_or_below(folder):
            # Without `order by`, `group by` follows the index, in which the names are in order as well.
            sql = f"""
                select folder,
                    min(sidecars = '[]' and pair is null),
                    cast(ifnull(group_concat(name, '/'), '') as blob),
                    group_concat(size, ', '),
                    group_concat(mtime_ns, ', '),
                    group_concat(inode, ', ')
                from photos p
                where root_id = :root and folder >= :low and folder < :high and state = 'present' {without_failed}
                group by folder limit :limit
            """  # noqa: S608 - a condition of ours
            while rows := self._db.rows(sql, root=root_id, low=low, high=high, limit=FOLDERS_AT_ONCE):
                yield from (FolderColumns(*row) for row in rows)
                low = rows[-1][0] + b"\0"

    def folders_below(self, root_id: int, folder: bytes) -> list[bytes]:
        """Every folder at or below `folder` that holds a photo or a failure."""
        return list(
            dict.fromkeys(
                self._db.folders_below("photos", root_id, folder) + self._failures.folders_below(root_id, folder)
            )
        )

    def any_below(self, root_id: int, folder: bytes) -> bool:
        """Whether there is a present photo at or below that folder."""
        low, high = below(folder)
        row = self._db.row(
            """
            select 1 from photos
            where root_id = :root and (folder = :folder or (folder >= :low and folder < :high))
                and state = 'present'
            """,
            root=root_id,
            folder=folder,
            low=low,
            high=high,
        )
        return row is not None

    def count_present(self, root_id: int | None = None) -> int:
        """The number of present photos, of one root or of all."""
        which = "true" if root_id is None else "root_id = :root"
        return self._db.count(f"select count(*) from photos where state = 'present' and {which}", root=root_id)  # noqa: S608

    def count_by_state(self) -> dict[str, int]:
        """The number of photos in each state; those of offline roots count as 'offline'."""
        return dict(
            self._db.rows(
                """
                select case when r.state = 'offline' then 'offline' else p.state end, count(*)
                from photos p join roots r on r.id = p.root_id group by 1
                """
            )
        )

    def count_texts(self) -> int:
        """The number of different texts of present photos."""
        return self._db.count(
            """
            select count(distinct t.key) from photo_texts t
            join photos p on p.id = t.photo_id and p.state = 'present'
            """
        )

    def any_in_root(self, root_id: int) -> bool:
        """Whether the root has a photo in any state."""
        return self._db.value("select 1 from photos where root_id = :root", root=root_id) is not None

    def of_root(self, root_id: int) -> list[tuple[int, bytes, bytes, str]]:
        """(id, folder, name, state) of every photo of a root."""
        return self._db.rows("select id, folder, name, state from photos where root_id = :root", root=root_id)

    def not_present(self, root_id: int) -> list[tuple[int, bytes, bytes, str]]:
        """(id, folder, name, state) of the gone and excluded photos of a root."""
        return self._db.rows(
            "select id, folder, name, state from photos where root_id = :root and state <> 'present'", root=root_id
        )

    def sample(self, root_ids: Iterable[int], size: int) -> list[tuple[int, bytes, bytes, int]]:
        """(root id, folder, name, size) of at most `size` present photos of these roots, evenly spread; of gone ones if
        none is present."""
        for state in ("present", "gone"):
            rows = self._db.rows(
                """
                select root_id, folder, name, size from (
                    select root_id, folder, name, size,
                        row_number() over (order by id) - 1 as n, count(*) over () as photos
                    from photos where state = :state and root_id in (select value from json_each(:roots))
                ) where n % ((photos - 1) / :size + 1) = 0
                """,
                state=state,
                roots=json.dumps(list(root_ids)),
                size=size,
            )
            if rows:
                return rows
        return []

    def known_to_both(self, upper_id: int, lower_id: int, prefix: str) -> list[tuple[Any, ...]]:
        """The files that two roots know, one of which is the folder `prefix` of the other: folder and name in the lower
        root, then (id, size, mtime_ns, state, named) of the photo in the lower and in the upper root."""
        return self._db.rows(
            """
            select l.folder, l.name,
                l.id, l.size, l.mtime_ns, l.state, l.named,
                u.id, u.size, u.mtime_ns, u.state, u.named
            from photos l
            cross join photos u on u.root_id = :upper and u.name = l.name and u.folder = cast(
                case
                    when :prefix = x'' then l.folder
                    when l.folder = x'' then :prefix
                    else :prefix || x'2f' || l.folder
                end as blob
            )
            where l.root_id = :lower
            """,
            upper=upper_id,
            lower=lower_id,
            prefix=os.fsencode(prefix),
        )

    def content_at(self, root_id: int, folder: bytes, name: bytes) -> bytes | None:
        """The content hash of the photo at that path."""
        content: bytes | None = self._db.value(
            "select content_hash from photos where root_id = :root and folder = :folder and name = :name",
            root=root_id,
            folder=folder,
            name=name,
        )
        return content

    def has_copy(self, photo_id: int, but: Iterable[int]) -> bool:
        """Whether another present photo of an online root has the same content; the ids `but` do not count."""
        ids = self._db.column(
            """
            select o.id from photos p
            cross join photos o on o.content_hash = p.content_hash and o.state = 'present' and o.id <> p.id
            cross join roots r on r.id = o.root_id and r.state = 'online'
            where p.id = :id
            """,
            id=photo_id,
        )
        return not set(ids).issubset(but)

    def paired_contents(self) -> set[bytes]:
        """The content hashes of RAW files that have the same shot beside them in another format."""
        return set(self._db.column("select distinct content_hash from photos where pair is not null"))

    def video_contents(self) -> set[bytes]:
        """The content hashes of the videos."""
        return set(self._db.column(f"select distinct content_hash from photos p where {IS_VIDEO}"))  # noqa: S608

    def without_vectors(self, space_id: str) -> list[int]:
        """Ids of the present photos that have no vector in a space, or a text without one. Files with a failure are
        left out."""
        return self._db.column(
            f"""
            select p.id from photos p
            where p.state = 'present' and not {HAS_VECTORS} and not exists (
                select 1 from failures f
                where f.root_id = p.root_id and f.folder = p.folder and f.name = p.name
            )
            """,  # noqa: S608 - a condition of ours
            space=space_id,
        )

    def folders_without_vectors(self, root_id: int, folder: bytes, space_id: str) -> set[bytes]:
        """The folders at or below `folder` with a present photo that has no vector in that space, or a region or text
        of it."""
        return {
            found
            for low, high in at_or_below(folder)
            for found in self._db.column(
                f"""
                select distinct p.folder from photos p
                where p.root_id = :root and p.folder >= :low and p.folder < :high and p.state = 'present'
                    and not ({HAS_VECTORS} and {HAS_REGIONS})
                """,  # noqa: S608 - a condition of ours
                root=root_id,
                low=low,
                high=high,
                space=space_id,
            )
        }

    def videos_of(self, root_id: int) -> dict[bytes, set[str]]:
        """The names of a root's videos that were not given by name, by folder."""
        rows = self._db.rows(
            f"select folder, name from photos p where root_id = :root and {IS_VIDEO} and not named",  # noqa: S608
            root=root_id,
        )
        found: dict[bytes, set[str]] = {}
        for folder, name in rows:
            found.setdefault(folder, set()).add(os.fsdecode(name))
        return found

    def damaged(self) -> list[int]:
        """Ids of the present photos that are damaged, by path."""
        rows = self._db.rows(
            "select id from photos where is_damaged = 1 and state = 'present' order by root_id, folder, name"
        )
        return [row[0] for row in rows]

    def write(self, root_id: int, new: NewPhoto, text_keys: Sequence[tuple[bytes, CarriedText]]) -> None:
        folder, name = split(new.photo.relpath)
        row: dict[str, Any] = {
            "root_id": root_id,
            "folder": folder,
            "name": name,
            "size": new.size,
            "mtime_ns": new.mtime_ns,
            "inode": new.photo.inode,
            "sidecars": sidecar_stamp(new.photo),
            "pair": pair_name(new.photo),
            "content_hash": new.content_hash,
            "state": "present",
            "named": int(new.photo.named),
            "indexed_at": now(),
            "keywords": json.dumps(new.facts.keywords, ensure_ascii=False),
            **{column: getattr(new.facts, column) for column in FACT_COLUMNS},
        }
        columns = ", ".join(row)
        values = ", ".join(f":{column}" for column in row)
        changes = ", ".join(f"{column} = excluded.{column}" for column in row if column != "named")
        changes += ", named = max(photos.named, excluded.named)"
        changes += "".join(f", {column} = case when {_IS_AT_SAME_PLACE} then {column} end" for column in _PLACE)
        cursor = self._db.execute(
            f"insert into photos ({columns}) values ({values}) "  # noqa: S608 - column names of ours
            f"on conflict (root_id, folder, name) do update set {changes} returning id",
            row,
        )
        photo_id = cursor.fetchone()[0]
        self._db.execute("delete from photo_texts where photo_id = ?", (photo_id,))
        for key, carried in text_keys:
            self._db.execute("insert or ignore into texts values (?, ?)", (key, carried.text))
            self._db.execute("insert or ignore into photo_texts values (?, ?, ?)", (photo_id, key, carried.source))
        if self._notes.exist(new.content_hash):
            self._notes.attach(new.content_hash)
        if self._readings.has(new.content_hash, "read"):
            self._readings.attach(new.content_hash)
        self._failures.delete(root_id, folder, name)

    def mark_present(self, photo_id: int, photo: Photo) -> None:
        """The photo was found again: set it present, with the inode and pair it has now."""
        found = {"state": "present", "inode": photo.inode, "pair": pair_name(photo)}
        self._db.update("photos", photo_id, found | {"named": 1} if photo.named else found)
        self._db.execute(
            """
            delete from failures
            where (root_id, folder, name) = (select root_id, folder, name from photos where id = ?)
            """,
            (photo_id,),
        )

    def set_state(self, ids: Iterable[int], state: str) -> None:
        self._db.executemany("update photos set state = ? where id = ?", [(state, photo_id) for photo_id in ids])

    def set_named(self, ids: Iterable[int]) -> None:
        """Record that these photos were given by name."""
        self._db.executemany("update photos set named = 1 where id = ?", [(photo_id,) for photo_id in ids])

    def delete(self, ids: Iterable[int]) -> None:
        """Delete photos, and the texts that only they carried."""
        self._db.executemany("delete from photos where id = ?", [(photo_id,) for photo_id in ids])
        self._db.execute("delete from texts where key not in (select key from photo_texts)")


_PLACE = (*PLACE_COLUMNS, "place_data")
_IS_AT_SAME_PLACE = (
    "photos.latitude is excluded.latitude and photos.longitude is excluded.longitude "
    "and coalesce(excluded.date_from, '') not in ('takeout', 'video')"  # else made local with the name
)

HAS_VECTORS = """
    (
        exists (
            select 1 from vectors v
            where v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
        ) and not exists (
            select 1 from photo_texts t
            where t.photo_id = p.id and t.source not in ('note', 'ocr') and not exists (
                select 1 from vectors v
                where v.space_id = :space and v.modality = 'text' and v.key = t.key
            )
        )
    )
"""
"""Whether the picture of a photo `p` and all its texts have vectors in that space. Notes and what OCR read do not
count: embedding them does not need the photo."""
