"""The folders that the index covers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.paths import printable

from .database import Database
from .records import Root, is_inside, now, parsed_json
from .schema import NOT_YOURS


class RootTable:
    """The roots. With a `base`, those below it are stored relative to it."""

    def __init__(self, database: Database, base: str | None) -> None:
        self._db = database
        self._base = base

    def all(self) -> list[Root]:
        rows = self._db.rows(
            "select id, path, kind, device, state, note, exclude, hidden, video, ocr from roots order by path"
        )
        return [
            Root(
                r[0],
                self.absolute(r[1]),
                r[2],
                r[3],
                r[4],
                r[5],
                tuple(map(str, parsed_json(r[6], list) or ())),
                bool(r[7]),
                bool(r[8]),
                bool(r[9]),
            )
            for r in rows
        ]

    def set_rules(self, root_id: int, exclude: Sequence[str], *, hidden: bool, video: bool, ocr: bool) -> None:
        """Set how later runs index this root."""
        self.update(root_id, exclude=json.dumps(list(exclude)), hidden=int(hidden), video=int(video), ocr=int(ocr))

    def add(self, path: str, kind: str, device: int | None) -> int:
        cursor = self._db.execute(
            "insert into roots (path, kind, device, added_at) values (?, ?, ?, ?) returning id",
            (self._stored(path), kind, device, now()),
        )
        return int(cursor.fetchone()[0])

    def _stored(self, path: str) -> bytes:
        if self._base is not None:
            if path == self._base:
                return b"."
            if path.startswith(self._base.rstrip("/") + "/"):
                return os.fsencode(os.path.relpath(path, self._base))
        return os.fsencode(path)

    def absolute(self, stored: bytes) -> str:
        path = os.fsdecode(stored)
        if self._base is None:
            is_sane = path.startswith("/")
        else:
            is_sane = path == "." or path.startswith("/") or is_inside(path)
            path = os.path.normpath(os.path.join(self._base, path))
        if not is_sane or "\0" in path:
            raise IndexDamaged(
                f"{printable(self._db.path)}: {printable(path)!r} is not a valid path for a root", hint=NOT_YOURS
            )
        return path

    def update(self, root_id: int, **values: Any) -> None:
        self._db.update("roots", root_id, values)

    def set_paths(self, paths: Mapping[int, str]) -> None:
        """Change the paths of roots, all at once: one may take the old path of another."""
        for root_id in paths:
            self.update(root_id, path=b"\0%d" % root_id)
        for root_id, path in paths.items():
            self.update(root_id, path=self._stored(path))

    def merge_into(self, child: Root, parent_id: int, prefix: str) -> None:
        """Make `child` part of another root, in which it is the folder `prefix` ("" if both are the same folder)."""
        values = {"child": child.id, "parent": parent_id, "prefix": os.fsencode(prefix)}
        for table in ("photos", "failures"):
            self._db.execute(
                f"""
                update or replace {table}
                set root_id = :parent,
                    folder = cast(
                        case
                            when :prefix = x'' then folder
                            when folder = x'' then :prefix
                            else :prefix || x'2f' || folder
                        end as blob
                    )
                where root_id = :child
                """,  # noqa: S608 - a table name of ours
                values,
            )
        self._db.execute("delete from roots where id = :child", values)

    def delete(self, root_id: int) -> None:
        """Delete a root with its photos and failures."""
        for table in ("failures", "photos"):
            self._db.execute(f"delete from {table} where root_id = ?", (root_id,))  # noqa: S608
        self._db.execute("delete from roots where id = ?", (root_id,))

    def delete_invalid(self) -> None:
        """Delete the roots with an invalid path."""
        for root_id, path in self._db.rows("select id, path from roots"):
            try:
                self.absolute(path)
            except IndexDamaged:
                self.delete(root_id)
