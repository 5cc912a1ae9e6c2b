"""The connection that all tables of the catalogue share: transactions, reads and writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .connection import as_index_error
from .records import at_or_below


class Database:
    """An open SQLite file. Errors of the disk and the file are raised as index errors that name it."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.path = path
        self._connection = connection
        self._functions: set[str] = set()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Each one increments `edition()`, by which readers tell that derived files are stale."""
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
    def reading(self) -> Iterator[None]:
        """One consistent view over several reads. Do not wait for another program in it: SQLite keeps the whole
        write-ahead log as long as it is open."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("begin")
        try:
            yield
        finally:
            self._connection.execute("rollback")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """A wrong statement is a bug, and stays an sqlite3.Error."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", None) == "SQLITE_ERROR":
                raise
            raise as_index_error(error, self.path) from error

    def rows(self, sql: str, /, **parameters: Any) -> list[Any]:
        with self._named_errors():
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, /, **parameters: Any) -> Any:
        with self._named_errors():
            return self._connection.execute(sql, parameters).fetchone()

    def value(self, sql: str, /, **parameters: Any) -> Any:
        row = self.row(sql, **parameters)
        return None if row is None else row[0]

    def column(self, sql: str, /, **parameters: Any) -> list[Any]:
        """The first value of every row."""
        return [row[0] for row in self.rows(sql, **parameters)]

    def count(self, sql: str, /, **parameters: Any) -> int:
        return int(self.value(sql, **parameters))

    def folders_below(self, table: str, root_id: int, folder: bytes) -> list[bytes]:
        """The folders at or below `folder` that have a row in `table`. One look-up for each: `distinct` would read the
        rows of all their files."""
        return [
            found
            for low, high in at_or_below(folder)
            for found in self.column(
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

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] = (), /) -> sqlite3.Cursor:
        """Run one statement of a transaction."""
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Mapping[str, Any] | Sequence[Any]], /) -> None:
        self._connection.executemany(sql, parameters)

    def upsert(self, table: str, row: Mapping[str, Any], *, key: Sequence[str]) -> None:
        """Insert a row, or change the one that has the same `key` columns."""
        columns, values = ", ".join(row), ", ".join(f":{column}" for column in row)
        changes = ", ".join(f"{column} = excluded.{column}" for column in row if column not in key)
        self.execute(
            f"insert into {table} ({columns}) values ({values}) "  # noqa: S608 - names of ours
            f"on conflict ({', '.join(key)}) do update set {changes}",
            row,
        )

    def update(self, table: str, row_id: int | str, values: Mapping[str, Any]) -> None:
        """Change columns of the row with this `id`."""
        changes = ", ".join(f"{column} = :{column}" for column in values)
        self.execute(f"update {table} set {changes} where id = :id", {**values, "id": row_id})  # noqa: S608

    def define_function(self, name: str, function: Callable[..., Any]) -> None:
        """Let SQL call a function by that name; a second definition is ignored. Its arguments may be any values that
        the catalogue holds, and it must not raise."""
        if name not in self._functions:
            self._connection.create_function(name, -1, function, deterministic=True)
            self._functions.add(name)

    def get_info(self, key: str) -> str | None:
        value: str | None = self.value("select value from info where key = :key", key=key)
        return value

    def set_info(self, key: str, value: str) -> None:
        self.upsert("info", {"key": key, "value": value}, key=("key",))

    def edition(self) -> int:
        """Incremented by every transaction."""
        return int(self.get_info("edition") or 0)

    def vacuum(self) -> None:
        import sqlite_utils  # not for single rows: its import takes as long as writing thousands of them

        with self._named_errors():
            sqlite_utils.Database(self._connection).vacuum()
            # Best effort: not worth waiting for a slow reader.
            self._connection.execute("pragma busy_timeout = 100")
            self._connection.execute("pragma wal_checkpoint(truncate)")
            self._connection.execute("pragma busy_timeout = 30000")
