"""The catalogue: which photos there are, what they say, and which slot of which space holds their vector.

One SQLite file is the only place that says what is true. Names are stored as bytes, split into folder and name, so
that any name works, a folder is one look-up, and a library can move by changing one root.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.core.errors import IndexDamaged, IndexNotFound, IndexTooOld
from imgsearch.core.paths import MOST_INTEGER, printable
from imgsearch.core.types import CarriedText, Facts, Modality, Photo, Skipped, SpaceIdentity

from .connection import as_index_error, open_for_reading, open_for_writing, set_durability
from .schema import (
    FACT_COLUMNS,
    MAX_DIM,
    MIGRATIONS,
    NOT_YOURS,
    TEXT_FACTS,
    WHOLE_FACTS,
    check_tables,
    check_version,
    migrate,
)

if TYPE_CHECKING:
    import sqlite_utils

MAX_SLOTS = 1 << 31


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def split(relpath: str) -> tuple[bytes, bytes]:
    """A relpath as the catalogue keeps it: (folder, name), bytes; the root's own folder is empty."""
    folder, _, name = os.fsencode(relpath).rpartition(b"/")
    return folder, name


def join(folder: bytes, name: bytes) -> str:
    if not (isinstance(folder, bytes) and isinstance(name, bytes)):
        raise IndexDamaged(f"the catalogue holds a name that is none: {folder!r:.40}, {name!r:.40}", hint=NOT_YOURS)
    return os.fsdecode(folder + b"/" + name if folder else name)


def is_inside(relpath: str) -> bool:
    """Whether a relpath names a file below its root, whatever that is: the catalogue may be somebody else's."""
    return bool(relpath) and "\0" not in relpath and not {"", ".", ".."} & set(relpath.split("/"))


def _leads_out(root: str, relpath: str) -> IndexDamaged:
    return IndexDamaged(
        f"the catalogue names {printable(relpath)!r} in {printable(root)}, which is no path inside it",
        hint=NOT_YOURS,
    )


def _json(text: object, kind: type) -> Any:
    """A value kept as JSON, if it is of that kind; else None."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def below(folder: bytes) -> tuple[bytes, bytes]:
    """The half-open range of folder names that lie below `folder`, for an index look-up."""
    return (folder + b"/", folder + b"0") if folder else (b"", b"\xff" * 4097)


def _at_or_below(folder: bytes) -> list[tuple[bytes, bytes]]:
    """The same and the folder itself, in ranges that an index can be gone along."""
    return [(folder, folder + b"\0"), below(folder)] if folder else [below(folder)]


@dataclass(frozen=True, slots=True)
class Root:
    id: int
    path: str
    kind: Literal["folder", "files"]
    device: int | None
    state: Literal["online", "offline"]
    note: str | None = None
    exclude: tuple[str, ...] = ()
    hidden: bool = False

    def path_of(self, relpath: str) -> str:
        """The absolute path of what lies there in this root. Raises IndexDamaged where that leads out of it."""
        if not is_inside(relpath):
            raise _leads_out(self.path, relpath)
        return f"{self.path.rstrip('/')}/{relpath}"


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue says of one place, as far as finding changes needs it."""

    id: int
    size: int
    mtime_ns: int
    inode: int
    sidecars: str
    pair: bytes | None
    content_hash: bytes
    state: str
    named: int
    """Given by name once, so that a walk that passes it over does not hide it."""
    has_vectors: int


@dataclass(frozen=True, slots=True)
class FolderColumns:
    """The present photos of one folder, in the order of their names, each column strung together."""

    folder: bytes
    is_plain: int
    """None of them has a sidecar or a pair."""
    names: bytes
    """With a slash between them."""
    sizes: str
    """As Python shows a list of them, without the brackets; so are the next two."""
    mtimes_ns: str
    inodes: str


@dataclass(frozen=True, slots=True)
class KnownFailure:
    size: int
    mtime_ns: int
    codecs: str
    is_silent: int
    reason: str
    stage: str


@dataclass(frozen=True, slots=True)
class Space:
    id: str
    identity: SpaceIdentity
    model: str
    """The `ModelSpec` that loads it, as JSON."""
    state: Literal["building", "complete"]
    generation: int
    slots: int


@dataclass(frozen=True, slots=True)
class Place:
    """A photo as search shows it."""

    id: int
    root: str
    relpath: str
    content_hash: bytes
    size: int
    mtime_ns: int
    state: str
    facts: dict[str, Any]
    keywords: tuple[str, ...]
    pair: str | None
    slot: int = -1
    text: str | None = None
    text_source: str | None = None

    @property
    def path(self) -> str:
        return f"{self.root.rstrip('/')}/{self.relpath}"


@dataclass(frozen=True, slots=True)
class NewVector:
    slot: int
    modality: Modality
    key: bytes
    crc: int | None
    """Of the vector's bytes; None where an old catalogue had none."""


@dataclass(frozen=True, slots=True)
class NewPhoto:
    """A photo ready to be written: the place, the hash of the bytes that were read there, and their facts."""

    photo: Photo
    content_hash: bytes
    size: int
    mtime_ns: int
    facts: Facts


class Catalog:
    """An open catalogue. Reads are plain SQL; writes go through sqlite-utils inside `transaction()`.

    `cross join` fixes the order of a join: left to itself, SQLite walks all vectors to find a few (at 100,000 photos
    8 s instead of 0.02 for the slots of one folder).
    """

    def __init__(self, path: str, *, write: bool, base: str | None = None) -> None:
        """Open or, for writing, make the file. Roots below `base`, if given, are kept relative to it."""
        self.path = path
        self._base = base
        self._functions: set[str] = set()
        try:
            self._connection = open_for_writing(path) if write else open_for_reading(path)
        except sqlite3.Error as error:
            raise as_index_error(error, path) from error
        try:
            self._prepare(path, write=write)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.Error):
                raise as_index_error(error, path) from error
            raise

    @functools.cached_property
    def _db(self) -> sqlite_utils.Database:
        """For writing rows. Most runs write none, and importing it takes as long as reading 50,000 of them."""
        import sqlite_utils

        return sqlite_utils.Database(self._connection)

    def _prepare(self, path: str, *, write: bool) -> None:
        self._connection.execute("pragma foreign_keys = on")
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

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Each one moves `edition()` on, by which readers tell that derived files are stale."""
        with self._named_errors():
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("update info set value = cast(value as integer) + 1 where key = 'edition'")
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Errors of the disk and of the file as errors of ours that name the catalogue; a wrong statement is a bug."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", None) == "SQLITE_ERROR":
                raise
            raise as_index_error(error, self.path) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent view over several reads, whatever a writer commits meanwhile."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("begin")
        try:
            yield
        finally:
            self._connection.execute("rollback")

    def rows(self, sql: str, /, **parameters: Any) -> list[Any]:
        with self._named_errors():
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, /, **parameters: Any) -> Any:
        with self._named_errors():
            return self._connection.execute(sql, parameters).fetchone()

    def value(self, sql: str, /, **parameters: Any) -> Any:
        row = self.row(sql, **parameters)
        return None if row is None else row[0]

    def define(self, name: str, function: Callable[..., Any]) -> None:
        """Let SQL call a function by that name, which stays as it was first defined. It is handed whatever the
        catalogue holds, and must not raise."""
        if name not in self._functions:
            self._connection.create_function(name, -1, function, deterministic=True)
            self._functions.add(name)

    def upsert(self, table: str, row: dict[str, Any], *, pk: str) -> None:
        self._db.table(table).upsert(row, pk=pk)

    # info

    def get_info(self, key: str) -> str | None:
        value: str | None = self.value("select value from info where key = :key", key=key)
        return value

    def set_info(self, key: str, value: str) -> None:
        self.upsert("info", {"key": key, "value": value}, pk="key")

    def edition(self) -> int:
        return int(self.get_info("edition") or 0)

    # roots

    def roots(self) -> list[Root]:
        rows = self.rows("select id, path, kind, device, state, note, exclude, hidden from roots order by path")
        return [
            Root(
                r[0], self._absolute(r[1]), r[2], r[3], r[4], r[5], tuple(map(str, _json(r[6], list) or ())), bool(r[7])
            )
            for r in rows
        ]

    def set_rules(self, root_id: int, exclude: Sequence[str], hidden: bool) -> None:
        """What a walk of this root passes over when it is not named again."""
        self.update_root(root_id, exclude=json.dumps(list(exclude)), hidden=int(hidden))

    def add_root(self, path: str, kind: str, device: int | None) -> int:
        row = {"path": self._stored(path), "kind": kind, "device": device, "added_at": now()}
        return int(
            self._connection.execute(
                """
            insert into roots (path, kind, device, added_at)
            values (:path, :kind, :device, :added_at) returning id
            """,
                row,
            ).fetchone()[0]
        )

    def _stored(self, path: str) -> bytes:
        if self._base is not None:
            if path == self._base:
                return b"."
            if path.startswith(self._base.rstrip("/") + "/"):
                return os.fsencode(os.path.relpath(path, self._base))
        return os.fsencode(path)

    def _absolute(self, stored: bytes) -> str:
        path = os.fsdecode(stored)
        if self._base is None:
            is_sane = path.startswith("/")
        else:
            is_sane = path == "." or path.startswith("/") or is_inside(path)
            path = os.path.normpath(os.path.join(self._base, path))
        if not is_sane or "\0" in path:
            raise IndexDamaged(f"{printable(self.path)}: {printable(path)!r} cannot be a root", hint=NOT_YOURS)
        return path

    def update_root(self, root_id: int, **values: Any) -> None:
        self._db.table("roots").update(root_id, values)

    def move_roots(self, paths: Mapping[int, str]) -> None:
        """Give roots other paths, all at once: one may take the place that another leaves."""
        for root_id in paths:
            self.update_root(root_id, path=b"\0%d" % root_id)
        for root_id, path in paths.items():
            self.update_root(root_id, path=self._stored(path))

    def move_into(self, child: Root, parent_id: int, prefix: str) -> None:
        """Make `child`, which lies at `prefix` below another root ("" in the very same folder), a part of that root."""
        values = {"child": child.id, "parent": parent_id, "prefix": os.fsencode(prefix)}
        for table in ("photos", "failures"):
            self._connection.execute(
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
        self._connection.execute("delete from roots where id = :child", values)

    # photos

    def known_in_folder(self, root_id: int, folder: bytes, space_id: str | None) -> dict[bytes, Known]:
        """All places of one folder by name; `has_vectors` speaks of the picture and its texts in that space."""
        rows = self.rows(
            f"""
            select p.name, p.id, p.size, p.mtime_ns, p.inode, p.sidecars, p.pair, p.content_hash, p.state, p.named,
                {_HAS_VECTORS}
            from photos p
            where p.root_id = :root and p.folder = :folder
            """,  # noqa: S608 - a condition of ours
            root=root_id,
            folder=folder,
            space=space_id,
        )
        return {row[0]: Known(*row[1:]) for row in rows}

    def failures_in_folder(self, root_id: int, folder: bytes) -> dict[bytes, KnownFailure]:
        rows = self.rows(
            "select name, size, mtime_ns, codecs, is_silent, reason, stage from failures "
            "where root_id = :root and folder = :folder",
            root=root_id,
            folder=folder,
        )
        return {row[0]: KnownFailure(*row[1:]) for row in rows}

    def columns_by_folder(self, root_id: int, folder: bytes) -> Iterator[FolderColumns]:
        """At or below `folder`, in the order of the folders' names. A place with a failure is left out."""
        has_failed = """
            and not exists (
                select 1 from failures f
                where f.root_id = p.root_id and f.folder = p.folder and f.name = p.name
            )
        """
        but_failed = has_failed if self.folders_with_failures(root_id, folder) else ""
        for low, high in _at_or_below(folder):
            # `group by` without `order by` goes along the index, which has the names in order as well.
            cursor = self._connection.execute(
                f"""
                select folder,
                    min(sidecars = '[]' and pair is null),
                    cast(ifnull(group_concat(name, '/'), '') as blob),
                    group_concat(size, ', '),
                    group_concat(mtime_ns, ', '),
                    group_concat(inode, ', ')
                from photos p
                where root_id = :root and folder >= :low and folder < :high and state = 'present' {but_failed}
                group by folder
                """,  # noqa: S608 - a condition of ours
                {"root": root_id, "low": low, "high": high},
            )
            yield from (FolderColumns(*row) for row in cursor)

    def folders_lacking_vectors(self, root_id: int, folder: bytes, space_id: str) -> set[bytes]:
        """Folders at or below `folder` with a present photo of which the picture, or a text, has no vector there."""
        return {
            row[0]
            for low, high in _at_or_below(folder)
            for row in self.rows(
                f"""
                select distinct p.folder from photos p
                where p.root_id = :root and p.folder >= :low and p.folder < :high and p.state = 'present'
                    and not {_HAS_VECTORS}
                """,  # noqa: S608 - a condition of ours
                root=root_id,
                low=low,
                high=high,
                space=space_id,
            )
        }

    def is_whole(self, space_id: str) -> bool:
        """Whether every photo, and every text of one, has a vector in that space; also those that are gone."""
        kinds = (("photos", "content_hash", "image"), ("photo_texts", "key", "text"))
        # `order by` makes SQLite go along two indexes side by side: an eighth of the work of looking up every one.
        lacking = (
            self.rows(
                f"""
                select {key} from {table}
                except
                select key from vectors where space_id = :space and modality = :modality
                order by 1 limit 1
                """,  # noqa: S608 - names of ours
                space=space_id,
                modality=modality,
            )
            for table, key, modality in kinds
        )
        return not any(lacking)

    def has_photos_below(self, root_id: int, folder: bytes) -> bool:
        """Whether a present photo lies at or below that folder."""
        low, high = below(folder)
        row = self.row(
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

    def walk_failures(self, root_id: int, folder: bytes) -> set[tuple[bytes, bytes]]:
        """(folder, name) of folders and ignore files at or below `folder` that gave trouble."""
        low, high = below(folder)
        rows = self.rows(
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

    def is_elsewhere(self, photo_id: int, but: Iterable[int]) -> bool:
        """Whether the bytes of that photo are present at another place that can be reached, beside those given."""
        rows = self.rows(
            """
            select o.id from photos p
            cross join photos o on o.content_hash = p.content_hash and o.state = 'present' and o.id <> p.id
            cross join roots r on r.id = o.root_id and r.state = 'online'
            where p.id = :id
            """,
            id=photo_id,
        )
        return any(row[0] not in but for row in rows)

    def folders_below(self, root_id: int, folder: bytes) -> list[bytes]:
        """Every folder at or below `folder` of which the catalogue knows a photo or a failure."""
        return list(
            dict.fromkeys(self._folders("photos", root_id, folder) + self.folders_with_failures(root_id, folder))
        )

    def folders_with_failures(self, root_id: int, folder: bytes) -> list[bytes]:
        return self._folders("failures", root_id, folder)

    def _folders(self, table: str, root_id: int, folder: bytes) -> list[bytes]:
        """With one look-up for each: `distinct` would go through all their files."""
        return [
            row[0]
            for low, high in _at_or_below(folder)
            for row in self.rows(
                f"""
                with recursive found (folder) as (
                    select min(folder) from {table} where root_id = :root and folder >= :low and folder < :high
                    union all
                    select (
                        select min(t.folder) from {table} t
                        where t.root_id = :root and t.folder > found.folder and t.folder < :high
                    )
                    from found where found.folder is not null
                )
                select folder from found where folder is not null
                """,  # noqa: S608 - a table name of ours
                root=root_id,
                low=low,
                high=high,
            )
        ]

    def without_vectors(self, space_id: str) -> list[int]:
        """Ids of present photos that have no vector in a space, or a text that has none. Those that failed with this
        installation are not among them."""
        rows = self.rows(
            f"""
            select p.id from photos p
            where p.state = 'present' and not {_HAS_VECTORS} and not exists (
                select 1 from failures f
                where f.root_id = p.root_id and f.folder = p.folder and f.name = p.name
            )
            """,  # noqa: S608 - a condition of ours
            space=space_id,
        )
        return [row[0] for row in rows]

    def has_vector(self, space_id: str, modality: Modality, key: bytes) -> bool:
        return (
            self.value(
                "select 1 from vectors where space_id = :space and modality = :modality and key = :key",
                space=space_id,
                modality=modality,
                key=key,
            )
            is not None
        )

    def set_photo_state(self, ids: Iterable[int], state: str) -> None:
        self._connection.executemany(
            "update photos set state = ? where id = ?", [(state, photo_id) for photo_id in ids]
        )

    def delete_photos(self, ids: Iterable[int]) -> None:
        """Forget photos, and the texts that only they carried."""
        self._connection.executemany("delete from photos where id = ?", [(photo_id,) for photo_id in ids])
        self._connection.execute("delete from texts where key not in (select key from photo_texts)")

    def delete_root(self, root_id: int) -> None:
        """Forget a root with everything in it."""
        for table in ("failures", "photos"):
            self._connection.execute(f"delete from {table} where root_id = ?", (root_id,))  # noqa: S608
        self._connection.execute("delete from roots where id = ?", (root_id,))

    # mending

    def keep(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> bool:
        """Take over a row from a damaged catalogue, unless it breaks a rule or is there already."""
        marks = ", ".join("?" for _ in columns)
        on_conflict = "replace" if table == "info" else "ignore"
        try:
            self._connection.execute(
                f"insert or {on_conflict} into {table} ({', '.join(columns)}) values ({marks})",  # noqa: S608
                row,
            )
        except sqlite3.Error:
            return False
        return True

    def drop_insane(self) -> None:
        """Forget spaces and roots that cannot be, with all that is theirs."""
        for (space_id,) in self.rows("select id from spaces"):
            try:
                self._space(self.row(f"{_SPACE_ROWS} where id = :id", id=space_id))
            except IndexDamaged:
                self.delete_space(space_id)
        for root_id, path in self.rows("select id, path from roots"):
            try:
                self._absolute(path)
            except IndexDamaged:
                self.delete_root(root_id)

    def drop_homeless(self) -> None:
        """Forget rows that name a row that is not there."""
        for _ in range(len(MIGRATIONS) + 3):  # what one row named may itself have named another
            broken = self.rows('select distinct "table", parent from pragma_foreign_key_check')
            if not broken:
                return
            for table, parent in broken:
                for column, there in self.rows(
                    'select "from", "to" from pragma_foreign_key_list(:table) where "table" = :parent',
                    table=table,
                    parent=parent,
                ):
                    self._connection.execute(
                        f"delete from {table} where {column} not in (select {there} from {parent})"  # noqa: S608
                    )

    def forget_calibration(self, space_id: str) -> None:
        self._connection.execute("delete from calibrations where space_id = ?", (space_id,))

    def vacuum(self) -> None:
        with self._named_errors():
            self._db.vacuum()
            # Best effort: not worth waiting for a reader that takes its time.
            self._connection.execute("pragma busy_timeout = 100")
            self._connection.execute("pragma wal_checkpoint(truncate)")
            self._connection.execute("pragma busy_timeout = 30000")

    def touch_photo(self, photo_id: int, photo: Photo) -> None:
        """The same photo, found again: it is there, wherever its inode and pair are now."""
        found = {"state": "present", "inode": photo.inode, "pair": pair_name(photo)}
        self._db.table("photos").update(photo_id, found | {"named": 1} if photo.named else found)
        self._connection.execute(
            """
            delete from failures
            where (root_id, folder, name) = (select root_id, folder, name from photos where id = ?)
            """,
            (photo_id,),
        )

    def write_photo(self, root_id: int, new: NewPhoto, text_keys: Sequence[tuple[bytes, CarriedText]]) -> None:
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
        cursor = self._connection.execute(
            f"insert into photos ({columns}) values ({values}) "  # noqa: S608 - column names of ours
            f"on conflict (root_id, folder, name) do update set {changes} returning id",
            row,
        )
        photo_id = cursor.fetchone()[0]
        self._connection.execute("delete from photo_texts where photo_id = ?", (photo_id,))
        for key, carried in text_keys:
            self._connection.execute("insert or ignore into texts values (?, ?)", (key, carried.text))
            self._connection.execute(
                "insert or ignore into photo_texts values (?, ?, ?)", (photo_id, key, carried.source)
            )
        if self.has_notes(new.content_hash):
            self.attach_notes(new.content_hash)
        self.forget_failure(root_id, folder, name)

    def write_failure(self, root_id: int, photo: Photo, skipped: Skipped, *, codecs: str, is_silent: bool) -> None:
        folder, name = split(photo.relpath)
        self._db.table("failures").upsert(
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
            pk=("root_id", "folder", "name"),
        )
        # What was indexed here were other bytes: they are no longer to be found at this place.
        self._connection.execute(
            """
            update photos set state = 'gone'
            where root_id = :root and folder = :folder and name = :name
                and (size <> :size or mtime_ns <> :mtime_ns)
            """,
            {"root": root_id, "folder": folder, "name": name, "size": photo.size, "mtime_ns": photo.mtime_ns},
        )

    def forget_failure(self, root_id: int, folder: bytes, name: bytes) -> None:
        self._connection.execute(
            "delete from failures where root_id = ? and folder = ? and name = ?", (root_id, folder, name)
        )

    # spaces

    def spaces(self) -> list[Space]:
        return [self._space(row) for row in self.rows(f"{_SPACE_ROWS} order by created_at, id")]

    def _space(self, r: Sequence[Any]) -> Space:
        """Raises IndexDamaged for numbers that would lead astray: out of the index folder or of the memory."""
        details = _json(r[6], dict)
        is_sane = (
            re.fullmatch(r"[0-9a-f]{16}", str(r[0])) is not None
            and all(isinstance(text, str) for text in (r[1], r[2], r[3], r[7]))
            and all(isinstance(number, int) and number >= 0 for number in (r[5], r[9], r[10]))
            and 1 <= r[5] <= MAX_DIM
            and r[10] <= MAX_SLOTS
            and details is not None
        )
        if not is_sane:
            raise IndexDamaged(
                f"{printable(self.path)}: a space that cannot be (id {r[0]!r:.40}, {r[5]!r:.20} dimensions, "
                f"{r[10]!r:.20} vectors)",
                hint=NOT_YOURS,
            )
        identity = SpaceIdentity(r[1], r[2], r[3], r[4], r[5], details or {})
        return Space(id=r[0], identity=identity, model=r[7], state=r[8], generation=r[9], slots=r[10])

    def space(self, space_id: str) -> Space | None:
        return next((space for space in self.spaces() if space.id == space_id), None)

    def add_space(self, space_id: str, identity: SpaceIdentity, model: str) -> None:
        self.upsert(
            "spaces",
            {
                "id": space_id,
                "fingerprint": identity.fingerprint,
                "name": identity.name,
                "model": model,
                "arch": identity.arch,
                "weights": identity.weights,
                "dim": identity.dim,
                "details": json.dumps(identity.details, sort_keys=True),
                "created_at": now(),
            },
            pk="id",
        )

    def update_space(self, space_id: str, **values: Any) -> None:
        self._db.table("spaces").update(space_id, values)

    def delete_space(self, space_id: str) -> None:
        """Forget a space with its vectors and its calibration."""
        for table in ("vectors", "calibrations"):
            self._connection.execute(f"delete from {table} where space_id = ?", (space_id,))  # noqa: S608
        self._connection.execute("delete from spaces where id = ?", (space_id,))

    def add_vectors(self, space_id: str, vectors: Iterable[NewVector]) -> None:
        self._connection.executemany(
            "insert into vectors (space_id, slot, modality, key, crc) values (?, ?, ?, ?, ?)",
            [(space_id, vector.slot, vector.modality, vector.key, vector.crc) for vector in vectors],
        )

    def vectors_of(self, space_id: str, *, without_crc: bool = False) -> list[NewVector]:
        """Every vector of a space that has a name, by slot; or those that have no checksum."""
        condition = "and crc is null" if without_crc else ""
        rows = self.rows(
            f"select slot, modality, key, crc from vectors where space_id = :space {condition} "  # noqa: S608
            "order by slot",
            space=space_id,
        )
        return [NewVector(*row) for row in rows]

    def crcs_of(self, space_id: str, slots: Sequence[int]) -> dict[int, int]:
        """Checksums of the vectors in those slots, where there are any."""
        rows = self.rows(
            """
            select v.slot, v.crc from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value
            where v.crc is not null
            """,
            space=space_id,
            slots=json.dumps([int(slot) for slot in slots]),
        )
        return dict(rows)

    def set_crcs(self, space_id: str, crcs: Iterable[tuple[int, int]]) -> None:
        """Checksums, by slot, for vectors that have none."""
        self._connection.executemany(
            "update vectors set crc = ? where space_id = ? and slot = ? and crc is null",
            [(crc, space_id, slot) for slot, crc in crcs],
        )

    def await_photos(self, contents: Iterable[bytes], texts: Iterable[bytes]) -> None:
        """Keep vectors for these until photos are met that bear them, where none does now."""
        for keys, borne_by in (
            (contents, "select 1 from photos where content_hash = :key and state = 'present'"),
            (texts, "select 1 from photo_texts where key = :key union all select 1 from notes where key = :key"),
        ):
            self._connection.executemany(
                f"insert or ignore into awaited select :key where not exists ({borne_by})",
                [{"key": key} for key in keys],
            )

    def await_no_more(self, keys: Iterable[bytes] | None = None) -> None:
        """Those photos were met; or, without keys, none is waited for."""
        if keys is None:
            self._connection.execute("delete from awaited")
        else:
            self._connection.executemany("delete from awaited where key = ?", [(key,) for key in keys])

    def count_awaited(self) -> int:
        """How many contents and texts vectors are kept for that no photo here bears yet."""
        return int(self.value("select count(*) from awaited where key in (select key from vectors)"))

    def forget_vectors(self, space_id: str, slots: Iterable[int]) -> None:
        """Leave contents without a vector in that space: they will be embedded again."""
        self._connection.executemany(
            "delete from vectors where space_id = ? and slot = ?", [(space_id, slot) for slot in slots]
        )

    def slot_of(self, space_id: str, modality: Modality, key: bytes) -> int | None:
        slot: int | None = self.value(
            "select slot from vectors where space_id = :space and modality = :modality and key = :key",
            space=space_id,
            modality=modality,
            key=key,
        )
        return slot

    def live_slots(self, space_id: str) -> list[tuple[int, str, int]]:
        """(slot, modality, is_online) of every slot that a present photo, or a text of one, stands behind."""
        return self.rows(
            """
            select v.slot, 'image', max(r.state = 'online')
            from vectors v
            cross join photos p on p.content_hash = v.key and p.state = 'present'
            cross join roots r on r.id = p.root_id
            where v.space_id = :space and v.modality = 'image'
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

    # what search shows

    def places_of_slots(
        self, space_id: str, slots: Sequence[int], *, include_offline: bool, where: str = "", **parameters: Any
    ) -> list[Place]:
        """The photos behind those slots; one of a text slot carries the text that stands there."""
        columns = ", ".join(f"p.{column}" for column in _PLACE_COLUMNS)
        online = "" if include_offline else "and r.state = 'online'"
        condition = f"and ({where})" if where else ""
        rows = self.rows(
            f"""
            select {columns}, r.path, v.slot, null, null
            from json_each(:slots) s
            cross join vectors v on v.space_id = :space and v.slot = s.value and v.modality = 'image'
            cross join photos p on p.content_hash = v.key and p.state = 'present'
            cross join roots r on r.id = p.root_id {online}
            where true {condition}
            union all
            select {columns}, r.path, v.slot, x.text, t.source
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
        """The slots, pictures and texts, of the present photos that a condition over `p` and `r` picks."""
        rows = self.rows(
            f"""
            with chosen as materialized (
                select p.id, p.content_hash from photos p cross join roots r on r.id = p.root_id
                where p.state = 'present' and ({where})
            )
            select v.slot from chosen c
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = c.content_hash
            union
            select v.slot from chosen c
            cross join photo_texts t on t.photo_id = c.id
            cross join vectors v on v.space_id = :space and v.modality = 'text' and v.key = t.key
            """,  # noqa: S608 - conditions of ours, values by parameter
            space=space_id,
            **parameters,
        )
        return [row[0] for row in rows]

    def places_by_id(self, ids: Sequence[int]) -> list[Place]:
        columns = ", ".join(f"p.{column}" for column in _PLACE_COLUMNS)
        rows = self.rows(
            f"""
            select {columns}, r.path, -1, null, null
            from json_each(:ids) i cross join photos p on p.id = i.value cross join roots r on r.id = p.root_id
            """,  # noqa: S608 - column names of ours
            ids=json.dumps(list(ids)),
        )
        return [self._place(row) for row in rows]

    def place_at(self, root_id: int, relpath: str) -> Place | None:
        folder, name = split(relpath)
        columns = ", ".join(f"p.{column}" for column in _PLACE_COLUMNS)
        row = self.row(
            f"""
            select {columns}, r.path, -1, null, null
            from photos p join roots r on r.id = p.root_id
            where p.root_id = :root and p.folder = :folder and p.name = :name
            """,  # noqa: S608 - column names of ours
            root=root_id,
            folder=folder,
            name=name,
        )
        return None if row is None else self._place(row)

    # what looking for copies needs

    def photo_rows(self, where: str = "", **parameters: Any) -> list[tuple[Any, ...]]:
        """(id, root id, relpath, content hash, size, mtime_ns, inode, taken_at, width, height) of the present photos
        that a condition over `p` and `r` picks."""
        rows = self.rows(
            f"""
            select p.id, p.root_id, p.folder, p.name, p.content_hash, p.size, p.mtime_ns, p.inode,
                p.taken_at, p.width, p.height
            from photos p cross join roots r on r.id = p.root_id
            where p.state = 'present' and ({where or "true"})
            """,  # noqa: S608 - conditions of ours, values by parameter
            **parameters,
        )
        return [(row[0], row[1], join(row[2], row[3]), *row[4:]) for row in rows]

    def slots_by_key(self, space_id: str, modality: Modality) -> dict[bytes, int]:
        rows = self.rows(
            "select key, slot from vectors where space_id = :space and modality = :modality",
            space=space_id,
            modality=modality,
        )
        return dict(rows)

    def paired_contents(self) -> set[bytes]:
        """Of RAW files beside which the same shot lies in another format."""
        return {row[0] for row in self.rows("select distinct content_hash from photos where pair is not null")}

    # what is handed on to other programs

    def count_with_vectors(self, space_id: str) -> tuple[int, int]:
        """How many present photos, and how many texts of such, have a vector in that space."""
        photos = self.value(
            """
            select count(*) from photos p
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
            where p.state = 'present'
            """,
            space=space_id,
        )
        texts = self.value(
            f"select count(*) from ({_LIVE_TEXTS})",  # noqa: S608 - a query of ours
            space=space_id,
            after=b"",
            most=-1,
        )
        return int(photos), int(texts)

    def places_with_vectors(self, space_id: str, many: int) -> Iterator[list[Place]]:
        """Present photos that have a vector in that space, with its slot: so many at once, by root, folder and name."""
        columns = ", ".join(f"p.{column}" for column in _PLACE_COLUMNS)
        last: tuple[int, bytes, bytes] = (-1, b"", b"")
        while True:
            rows = self.rows(
                f"""
                select {columns}, r.path, v.slot, null, null, p.root_id
                from photos p
                cross join roots r on r.id = p.root_id
                cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
                where (p.root_id, p.folder, p.name) > (:root, :folder, :name) and p.state = 'present'
                order by p.root_id, p.folder, p.name limit :many
                """,  # noqa: S608 - column names of ours
                space=space_id,
                root=last[0],
                folder=last[1],
                name=last[2],
                many=many,
            )
            if not rows:
                return
            yield [self._place(row[:-1]) for row in rows]
            names = dict(zip(_PLACE_COLUMNS, rows[-1], strict=False))
            last = rows[-1][-1], names["folder"], names["name"]

    def texts_of(self, photo_ids: Sequence[int]) -> dict[int, list[CarriedText]]:
        """The texts that photos carry, notes included, by the photo's id."""
        rows = self.rows(
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

    def texts_with_vectors(self, space_id: str, many: int) -> Iterator[list[tuple[str, int]]]:
        """Texts of present photos that have a vector in that space, with its slot: so many at once, by key."""
        last = b""
        while rows := self.rows(_LIVE_TEXTS, space=space_id, after=last, most=many):
            yield [(str(row[1]), row[2]) for row in rows]
            last = rows[-1][0]

    # notes

    def add_note(self, content_hash: bytes, text: str) -> bool:
        """Keep a text about whatever bears that content. False where it was kept already."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")  # two in one second are shown in their order
        values = {"content": content_hash, "key": text_key(text), "text": text, "at": at}
        cursor = self._connection.execute("insert or ignore into notes values (:content, :key, :text, :at)", values)
        self.attach_notes(content_hash)
        return cursor.rowcount > 0

    def remove_notes(self, content_hash: bytes, keys: Iterable[bytes]) -> int:
        """Forget those notes about a content; returns how many there were."""
        removed = 0
        for key in keys:
            values = {"content": content_hash, "key": key}
            removed += self._connection.execute(
                "delete from notes where content_hash = :content and key = :key", values
            ).rowcount
            self._connection.execute(
                """
                delete from photo_texts where key = :key and source = 'note'
                    and photo_id in (select id from photos where content_hash = :content)
                """,
                values,
            )
        self._connection.execute("delete from texts where key not in (select key from photo_texts)")
        return removed

    def attach_notes(self, content_hash: bytes | None = None) -> None:
        """Let photos carry the notes about their content, which was given one or may be any."""
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
            self._connection.execute(statement, {"content": content_hash})

    def copy_notes(self, old: bytes, new: bytes) -> None:
        """Keep for a content what was noted about the one that it took the place of."""
        self._connection.execute(
            "insert or ignore into notes select ?, key, text, added_at from notes where content_hash = ?", (new, old)
        )

    def has_notes(self, content_hash: bytes | None = None) -> bool:
        """Whether there are any, about that content or at all."""
        which = "true" if content_hash is None else "content_hash = :content"
        return self.row(f"select 1 from notes where {which}", content=content_hash) is not None  # noqa: S608

    def notes(self) -> list[tuple[bytes, bytes, str, str]]:
        """(content hash, key, text, when it was added) of every note, the oldest first."""
        return self.rows("select content_hash, key, text, added_at from notes order by added_at, content_hash, key")

    def notes_without_vectors(self, space_id: str) -> dict[bytes, str]:
        """Notes that have no vector in that space, by key."""
        rows = self.rows(
            """
            select distinct key, text from notes n where not exists (
                select 1 from vectors v where v.space_id = :space and v.modality = 'text' and v.key = n.key
            )
            """,
            space=space_id,
        )
        return {row[0]: row[1] for row in rows if isinstance(row[1], str)}

    def content_at(self, root_id: int, folder: bytes, name: bytes) -> bytes | None:
        """The hash of what was indexed at a place."""
        content: bytes | None = self.value(
            "select content_hash from photos where root_id = :root and folder = :folder and name = :name",
            root=root_id,
            folder=folder,
            name=name,
        )
        return content

    def places_of_content(self, content_hash: bytes) -> list[Place]:
        """The present photos with that content."""
        ids = self.rows(
            "select id from photos where content_hash = :content and state = 'present'", content=content_hash
        )
        return self.places_by_id([row[0] for row in ids])

    def _place(self, row: Sequence[Any]) -> Place:
        values = dict(zip(_PLACE_COLUMNS, row, strict=False))
        root, slot, text, source = row[len(_PLACE_COLUMNS) :]
        relpath = join(values["folder"], values["name"])
        if not is_inside(relpath):
            raise _leads_out(os.fsdecode(root), relpath)
        return Place(
            id=values["id"],
            root=self._absolute(root),
            relpath=relpath,
            content_hash=values["content_hash"],
            size=_whole(values["size"]),
            mtime_ns=_whole(values["mtime_ns"]),
            state=values["state"],
            facts={column: _fact(column, values[column]) for column in FACT_COLUMNS},
            keywords=tuple(map(str, _json(values["keywords"], list) or ())),
            pair=self._pair(values["folder"], values["pair"]),
            slot=slot,
            text=text,
            text_source=source,
        )

    def _pair(self, folder: bytes, name: bytes | None) -> str | None:
        relpath = None if name is None else join(folder, name)
        return relpath if relpath is not None and is_inside(relpath) else None


def _fact(column: str, value: object) -> Any:
    """A fact, if it is of its kind: the catalogue may be somebody else's."""
    if column in TEXT_FACTS:
        return value if isinstance(value, str) else None
    if isinstance(value, float):
        return value if math.isfinite(value) and column not in WHOLE_FACTS else None
    return value if isinstance(value, int) and abs(value) <= MOST_INTEGER else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


_HAS_VECTORS = """
    (
        exists (
            select 1 from vectors v
            where v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
        ) and not exists (
            select 1 from photo_texts t
            where t.photo_id = p.id and t.source <> 'note' and not exists (
                select 1 from vectors v
                where v.space_id = :space and v.modality = 'text' and v.key = t.key
            )
        )
    )
"""
"""Of a photo `p`: its picture and all the texts that it brings along have vectors in that space. (A note is embedded
without reading a photo.)"""

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
)


def text_key(text: str) -> bytes:
    """The key of a text item: equal texts, wherever they are carried, share one vector."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_SPACE_ROWS = "select id, fingerprint, name, arch, weights, dim, details, model, state, generation, slots from spaces"


def sidecar_stamp(photo: Photo) -> str:
    """The sidecars' names, sizes and times as one comparable string: a part of change detection."""
    if not photo.sidecars:
        return "[]"
    return json.dumps([[os.path.basename(s.relpath), s.size, s.mtime_ns] for s in photo.sidecars])


def pair_name(photo: Photo) -> bytes | None:
    """A pair lies in the same folder, so its name is enough, and stays right when the folder moves."""
    return None if photo.pair is None else os.path.basename(os.fsencode(photo.pair))
