"""The catalogue: the photos of an index, their texts, and the slots of their vectors.

One SQLite file is the only place that says what is true. File names are stored as bytes, split into folder and name, so
that any name works, a folder is one look-up, and a library can move by changing one root.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from imgsearch.core.errors import IndexNotFound, IndexTooOld
from imgsearch.core.paths import printable

from .connection import as_index_error, open_for_reading, open_for_writing, set_durability
from .consistency import Consistency
from .database import Database
from .failure_table import FailureTable
from .note_table import NoteTable
from .photo_table import PhotoTable
from .place_names import PlaceNameTable
from .place_table import PlaceTable
from .reading_table import ReadingTable
from .region_table import RegionTable
from .root_table import RootTable
from .schema import MIGRATIONS, check_tables, check_version, migrate
from .space_table import SpaceTable
from .text_table import TextTable
from .vector_table import VectorTable


class Catalog(Database):
    """An open catalogue, with one attribute for each table.

    `cross join` fixes the order of a join: left to itself, SQLite reads all vectors to find a few (at 100,000 photos
    8 s instead of 0.02 for the slots of one folder).
    """

    def __init__(self, path: str, *, write: bool, base: str | None = None) -> None:
        """Open the file or, for writing, create it. Roots below `base`, if given, are stored relative to it."""
        try:
            super().__init__(open_for_writing(path) if write else open_for_reading(path), path)
        except sqlite3.Error as error:
            raise as_index_error(error, path) from error
        try:
            self._prepare(path, write=write)
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise as_index_error(error, path) from error
            raise
        self.roots = RootTable(self, base)
        self.failures = FailureTable(self)
        self.notes = NoteTable(self)
        self.readings = ReadingTable(self)
        self.photos = PhotoTable(self, self.failures, self.notes, self.readings)
        self.texts = TextTable(self)
        self.places = PlaceTable(self, self.roots)
        self.place_names = PlaceNameTable(self)
        self.spaces = SpaceTable(self)
        self.vectors = VectorTable(self)
        self.regions = RegionTable(self)
        self.consistency = Consistency(self)

    def _prepare(self, path: str, *, write: bool) -> None:
        self.execute("pragma foreign_keys = on")
        if write:
            migrate(self._connection, path)
            set_durability(self._connection, path)
        elif (version := check_version(self._connection, path)) == 0:
            raise IndexNotFound(
                f"nothing indexed yet in {printable(path)}", hint="fill it with: imgsearch index FOLDER"
            )
        elif version < len(MIGRATIONS):
            raise IndexTooOld(
                f"{printable(path)}: made by an older imgsearch (catalogue version {version})",
                hint="bring it up to date with: imgsearch index",
            )
        check_tables(self._connection, path)

    # repair

    def insert_salvaged(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> bool:
        """Insert a row of a damaged catalogue. False if it breaks a constraint or exists already."""
        marks = ", ".join("?" for _ in columns)
        on_conflict = "replace" if table == "info" else "ignore"
        try:
            self.execute(
                f"insert or {on_conflict} into {table} ({', '.join(columns)}) values ({marks})",  # noqa: S608
                row,
            )
        except sqlite3.Error:
            return False
        return True

    def delete_invalid(self) -> None:
        """Delete spaces and roots with impossible values, and everything that belongs to them."""
        self.spaces.delete_invalid()
        self.roots.delete_invalid()

    def delete_orphans(self) -> None:
        """Delete rows that refer to a row that does not exist."""
        for _ in range(len(MIGRATIONS) + 3):  # a deleted row may leave orphans of its own
            broken = self.rows('select distinct "table", parent from pragma_foreign_key_check')
            if not broken:
                return
            for table, parent in broken:
                for column, key in self.rows(
                    'select "from", "to" from pragma_foreign_key_list(:table) where "table" = :parent',
                    table=table,
                    parent=parent,
                ):
                    self.execute(
                        f"delete from {table} where {column} not in (select {key} from {parent})"  # noqa: S608
                    )
