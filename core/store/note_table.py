"""Notes: the texts that the user adds to photos."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from .database import Database
from .records import text_key


class NoteTable:
    """Notes, by the content of the photo."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[tuple[bytes, bytes, str, str]]:
        """(content hash, key, text, time added) of every note, the oldest first."""
        return self._db.rows("select content_hash, key, text, added_at from notes order by added_at, content_hash, key")

    def exist(self, content_hash: bytes | None = None) -> bool:
        """Whether there is a note, of that content or of any."""
        which = "true" if content_hash is None else "content_hash = :content"
        return self._db.row(f"select 1 from notes where {which}", content=content_hash) is not None  # noqa: S608

    def add(self, content_hash: bytes, text: str) -> bool:
        """Add a note to all photos with that content. False if they have it already."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")  # orders two in one second
        values = {"content": content_hash, "key": text_key(text), "text": text, "at": at}
        cursor = self._db.execute("insert or ignore into notes values (:content, :key, :text, :at)", values)
        self.attach(content_hash)
        return cursor.rowcount > 0

    def remove(self, content_hash: bytes, keys: Iterable[bytes]) -> int:
        """Delete these notes of a content; returns how many there were."""
        removed = 0
        for key in keys:
            values = {"content": content_hash, "key": key}
            removed += self._db.execute(
                "delete from notes where content_hash = :content and key = :key", values
            ).rowcount
            self._db.execute(
                """
                delete from photo_texts where key = :key and source = 'note'
                    and photo_id in (select id from photos where content_hash = :content)
                """,
                values,
            )
        self._db.execute("delete from texts where key not in (select key from photo_texts)")
        return removed

    def attach(self, content_hash: bytes | None = None) -> None:
        """Add the notes to the texts of the photos with that content, or of all photos."""
        which = "true" if content_hash is None else "n.content_hash = :content"
        for statement in (
            f"""
            insert or ignore into texts
            select n.key, n.text from notes n cross join photos p on p.content_hash = n.content_hash where {which}
            """,  # noqa: S608 - a condition of ours
            f"""
            insert or ignore into photo_texts
            select p.id, n.key, 'note' from notes n
            cross join photos p on p.content_hash = n.content_hash where {which}
            """,  # noqa: S608
        ):
            self._db.execute(statement, {"content": content_hash})

    def copy(self, old: bytes, new: bytes) -> None:
        """Copy the notes of one content to another."""
        self._db.execute(
            "insert or ignore into notes select ?, key, text, added_at from notes where content_hash = ?", (new, old)
        )

    def without_vectors(self, space_id: str) -> dict[bytes, str]:
        """The notes that have no vector in that space: text by key."""
        rows = self._db.rows(
            """
            select distinct key, text from notes n where not exists (
                select 1 from vectors v where v.space_id = :space and v.modality = 'text' and v.key = n.key
            )
            """,
            space=space_id,
        )
        return {row[0]: row[1] for row in rows if isinstance(row[1], str)}
