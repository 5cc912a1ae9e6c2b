"""The queries of `check`: rows that contradict each other, and how to repair them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .database import Database

CheckedTable = Literal["photos", "failures"]
_KEYS = {"photos": "id", "failures": "cast(root_id as text) || ':' || hex(folder) || ':' || hex(name)"}
UNREAD = "?"
"""Written in place of a photo's sidecars: it matches none, so the next run reads the photo again."""


class Consistency:
    """Finds inconsistent rows of all tables, and deletes them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def file_errors(self, *, deep: bool) -> list[str]:
        """The first errors that SQLite finds in the file."""
        pragma = "integrity_check" if deep else "quick_check"
        return [text for (text,) in self._db.rows(f"pragma {pragma}(10)") if text != "ok"]

    def count_orphans(self) -> list[tuple[str, int]]:
        """(table, number) of the rows that refer to a row that does not exist."""
        return self._db.rows('select "table", count(*) from pragma_foreign_key_check group by 1')

    def file_names(self, table: CheckedTable) -> list[tuple[int | str, object, object]]:
        """(key, folder, name) of every row."""
        return self._db.rows(f"select {_KEYS[table]}, folder, name from {table}")  # noqa: S608 - names of ours

    def photos_with_impossible_facts(self) -> list[int]:
        return self._db.column(
            """
            select id from photos
            where typeof(content_hash) <> 'blob' or length(content_hash) <> 32
                or typeof(size) <> 'integer' or size < 0 or typeof(mtime_ns) <> 'integer'
                or typeof(width) <> 'integer' or typeof(height) <> 'integer' or width < 1 or height < 1
                or state not in ('present', 'gone', 'excluded') or not json_valid(keywords)
                or duration_seconds not between 0 and 1000000
            """
        )

    def texts(self) -> list[tuple[bytes, object]]:
        """(key, text) of every text."""
        return self._db.rows("select key, text from texts")

    def count_unattached_notes(self) -> int:
        """The number of times that a photo lacks a note about its content."""
        return self._db.count(
            """
            select count(*) from notes n cross join photos p on p.content_hash = n.content_hash
            where not exists (select 1 from photo_texts t where t.photo_id = p.id and t.key = n.key)
            """
        )

    def count_unattached_readings(self) -> int:
        """The number of photos that lack the text that was read in their content."""
        return self._db.count(
            """
            select count(*) from readings d cross join photos p on p.content_hash = d.content_hash
            where d.key is not null
                and not exists (select 1 from photo_texts t where t.photo_id = p.id and t.key = d.key)
            """
        )

    def reachable_photos(self) -> list[tuple[int, str]]:
        """(id, sidecars) of the present photos of online roots."""
        return self._db.rows(
            """
            select p.id, p.sidecars from photos p join roots r on r.id = p.root_id
            where p.state = 'present' and r.state = 'online' order by p.id
            """
        )

    def text_keys(self, photo_id: int) -> set[bytes]:
        """The keys of the texts of a photo, without notes and what OCR read."""
        return set(
            self._db.column(
                "select key from photo_texts where photo_id = :id and source not in ('note', 'ocr')", id=photo_id
            )
        )

    def texts_with_slots(self, space_id: str) -> list[tuple[int, str]]:
        """(slot, text) of every text that has a vector in that space."""
        return self._db.rows(
            """
            select v.slot, x.text from texts x
            cross join vectors v on v.space_id = :space and v.modality = 'text' and v.key = x.key
            """,
            space=space_id,
        )

    def delete_rows(self, table: CheckedTable, keys: Iterable[int | str]) -> None:
        self._db.executemany(
            f"delete from {table} where {_KEYS[table]} = ?",  # noqa: S608 - names of ours
            [(key,) for key in keys],
        )

    def delete_texts(self, keys: Iterable[bytes]) -> None:
        """Delete texts and their vectors, and let the next run read their photos again."""
        values = [{"key": key, "unread": UNREAD} for key in keys]
        for statement in (
            "update photos set sidecars = :unread where id in (select photo_id from photo_texts where key = :key)",
            "delete from photo_texts where key = :key",
            "delete from texts where key = :key",
            "delete from vectors where modality = 'text' and key = :key",
        ):
            self._db.executemany(statement, values)

    def set_unread(self, photo_id: int) -> None:
        """Let the next run read a photo again."""
        self._db.execute("update photos set sidecars = ?, mtime_ns = -1 where id = ?", (UNREAD, photo_id))

    def set_new_edition(self) -> None:
        """An edition that no file of the index has."""
        self._db.execute("insert or replace into info values ('edition', cast(strftime('%s', 'now') as text))")

    def clear_active_space(self) -> None:
        self._db.execute("delete from info where key = 'active_space'")
