"""Files that could not be indexed."""

from __future__ import annotations

from imgsearch.core.types import Photo, Skipped, Stage

from .database import Database
from .records import KnownFailure, below, now, split


class FailureTable:
    """Files, and folders, that could not be read."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def in_folder(self, root_id: int, folder: bytes) -> dict[bytes, KnownFailure]:
        rows = self._db.rows(
            """
            select name, size, mtime_ns, codecs, is_silent, reason, stage from failures
            where root_id = :root and folder = :folder
            """,
            root=root_id,
            folder=folder,
        )
        return {row[0]: KnownFailure(*row[1:]) for row in rows}

    def of_walk(self, root_id: int, folder: bytes) -> set[tuple[bytes, bytes]]:
        """(folder, name) of the folders and ignore files at or below `folder` that could not be read."""
        low, high = below(folder)
        rows = self._db.rows(
            """
            select folder, name from failures
            where root_id = :root and stage = 'walk'
                and (folder = :folder or (folder >= :low and folder < :high))
            """,
            root=root_id,
            folder=folder,
            low=low,
            high=high,
        )
        return {(row[0], row[1]) for row in rows}

    def folders_below(self, root_id: int, folder: bytes) -> list[bytes]:
        """The folders at or below `folder` that hold a failure."""
        return self._db.folders_below("failures", root_id, folder)

    def of_root(self, root_id: int) -> list[tuple[bytes, bytes]]:
        """(folder, name) of every failure of a root."""
        return self._db.rows("select folder, name from failures where root_id = :root", root=root_id)

    def reported(self) -> list[tuple[int, bytes, bytes, Stage, str]]:
        """(root id, folder, name, stage, reason) of the failures that users see, by path."""
        return self._db.rows(
            """
            select root_id, folder, name, stage, reason from failures
            where not is_silent order by root_id, folder, name
            """
        )

    def count_reported(self) -> int:
        return self._db.count("select count(*) from failures where not is_silent")

    def count_by_reason(self) -> list[tuple[str, str, int]]:
        """(stage, reason, number) of the failures that users see."""
        return self._db.rows("select stage, reason, count(*) from failures where not is_silent group by 1, 2")

    def write(self, root_id: int, photo: Photo, skipped: Skipped, *, codecs: str, is_silent: bool) -> None:
        folder, name = split(photo.relpath)
        self._db.upsert(
            "failures",
            {
                "root_id": root_id,
                "folder": folder,
                "name": name,
                "size": photo.size,
                "mtime_ns": photo.mtime_ns,
                "stage": skipped.stage,
                "reason": skipped.reason,
                "codecs": codecs,
                "is_silent": int(is_silent),
                "failed_at": now(),
            },
            key=("root_id", "folder", "name"),
        )
        # The photo indexed here had other bytes, which are gone now; or it is the video of a Live Photo, whose picture
        # came later.
        self._db.execute(
            """
            update photos set state = 'gone'
            where root_id = :root and folder = :folder and name = :name
                and (size <> :size or mtime_ns <> :mtime_ns or :is_silent)
            """,
            {
                "root": root_id,
                "folder": folder,
                "name": name,
                "size": photo.size,
                "mtime_ns": photo.mtime_ns,
                "is_silent": is_silent,
            },
        )

    def delete(self, root_id: int, folder: bytes, name: bytes) -> None:
        self._db.execute("delete from failures where root_id = ? and folder = ? and name = ?", (root_id, folder, name))
