"""The tables of the catalogue, and the migrations that made them."""

from __future__ import annotations

import functools
import hashlib
import sqlite3
from typing import Any

from imgsearch.core.errors import IndexDamaged, IndexTooNew, StoreError
from imgsearch.core.paths import printable

# A released migration is never edited; a change is a new entry. `pragma user_version` counts those applied.
MIGRATIONS: tuple[str, ...] = (
    """
    create table info (
        key text primary key,
        value text not null
    ) without rowid;

    create table roots (
        id integer primary key,
        path blob not null unique,
        kind text not null check (kind in ('folder', 'files')),
        device integer,
        exclude text not null default '[]',
        hidden integer not null default 0,
        state text not null default 'online' check (state in ('online', 'offline')),
        note text,
        added_at text not null,
        walked_at text
    );

    create table photos (
        id integer primary key,
        root_id integer not null references roots (id),
        folder blob not null,
        name blob not null,
        size integer not null,
        mtime_ns integer not null,
        inode integer not null,
        sidecars text not null default '[]',
        pair blob,
        content_hash blob not null,
        named integer not null default 0,
        state text not null default 'present' check (state in ('present', 'gone', 'excluded')),
        indexed_at text not null,
        format text not null,
        width integer not null,
        height integer not null,
        orientation integer not null,
        taken_at text,
        taken_offset text,
        camera_make text,
        camera text,
        lens text,
        exposure_seconds real,
        f_number real,
        iso integer,
        focal_length_mm real,
        focal_length_35mm real,
        latitude real,
        longitude real,
        altitude_m real,
        rating integer,
        keywords text not null default '[]',
        unique (root_id, folder, name)
    );
    create index photos_by_content on photos (content_hash);

    create table texts (
        key blob primary key,
        text text not null
    ) without rowid;

    create table photo_texts (
        photo_id integer not null references photos (id) on delete cascade,
        key blob not null references texts (key),
        source text not null,
        primary key (photo_id, key)
    ) without rowid;
    create index photo_texts_by_key on photo_texts (key);

    create table spaces (
        id text primary key,
        fingerprint text not null unique,
        name text not null,
        model text not null,
        arch text not null,
        weights text,
        dim integer not null check (dim between 1 and 65536),
        details text not null,
        state text not null default 'building' check (state in ('building', 'complete')),
        generation integer not null default 0,
        slots integer not null default 0,
        created_at text not null
    ) without rowid;

    create table vectors (
        space_id text not null references spaces (id),
        slot integer not null check (slot >= 0),
        modality text not null check (modality in ('image', 'text')),
        key blob not null,
        primary key (space_id, slot),
        unique (space_id, modality, key)
    ) without rowid;

    create table calibrations (
        space_id text primary key references spaces (id),
        version integer not null,
        pictures integer not null,
        image_mean blob not null,
        text_mean blob not null,
        low_image real not null,
        low_text real not null,
        phrases blob not null
    ) without rowid;

    create table failures (
        root_id integer not null references roots (id),
        folder blob not null,
        name blob not null,
        size integer not null,
        mtime_ns integer not null,
        stage text not null,
        reason text not null,
        codecs text not null,
        is_silent integer not null,
        failed_at text not null,
        primary key (root_id, folder, name)
    ) without rowid;
    """,
    """
    -- CRC-32 of the vector's bytes; null where it was written before there were any.
    alter table vectors add column crc integer;
    create index vectors_without_crc on vectors (space_id, slot) where crc is null;
    """,
    """
    -- Texts of the user's own, by the content of the photo they are about: they outlive the file's name and the file.
    -- Photos that are there carry them as photo_texts with the source 'note'.
    create table notes (
        content_hash blob not null,
        key blob not null,
        text text not null,
        added_at text not null,
        primary key (content_hash, key)
    ) without rowid;
    create index notes_by_key on notes (key);
    """,
    """
    -- Contents and texts whose vectors were taken over from elsewhere before a photo of theirs was met here: they are
    -- not for `prune` to forget.
    create table awaited (
        key blob primary key
    ) without rowid;
    """,
    """
    -- 1 where the file lacks its end, and only a part of the photo was read.
    alter table photos add column is_damaged integer default 0;
    """,
    """
    -- The regions of panoramas, as fractions of the upright picture. `key` is that of the region's vector: the content
    -- hash for the one that stands for the whole picture. A model that sees all of a picture has one region, 0 0 1 1.
    create table regions (
        space_id text not null references spaces (id),
        key blob not null,
        content_hash blob not null,
        x real not null,
        y real not null,
        width real not null,
        height real not null,
        primary key (space_id, key)
    ) without rowid;
    create index regions_by_content on regions (space_id, content_hash);
    create index panoramas on photos (content_hash) where max(width, height) > 1.8 * min(width, height);
    """,
    """
    -- The names of the place where a photo was taken. `place_data` identifies the data that they come from, also where
    -- it has no name for the place; null where it was not asked yet.
    alter table photos add column place text;
    alter table photos add column place_district text;
    alter table photos add column place_region text;
    alter table photos add column country text;
    alter table photos add column country_code text;
    alter table photos add column place_data text;
    create index photos_without_place on photos (id)
        where place_data is null and latitude between -90 and 90 and longitude between -180 and 180;
    """,
    """
    -- Where taken_at was found: exif, xmp, iptc or takeout. Null also where an older version read the photo.
    alter table photos add column date_from text;
    -- JSON files are sidecars now, and no longer listed as files that are not pictures.
    delete from failures where lower(cast(substr(name, -5) as text)) = '.json';
    """,
    """
    -- The text in pictures, by their content, whatever the name of the file. Photos have it as photo_texts with the
    -- source 'ocr'. `places` has x, y, width, height and score of each line; `reader` is the version of what read it,
    -- or of the rules by which a picture does not look like text.
    create table readings (
        content_hash blob primary key,
        state text not null check (state in ('read', 'failed', 'unlikely')),
        reader text not null,
        key blob,
        text text,
        places text not null default '[]',
        reason text,
        read_at text not null
    ) without rowid;
    alter table roots add column ocr integer not null default 0;
    """,
    """
    -- Videos. Their regions are moments: `seconds` from the start, and the whole picture.
    alter table roots add column video integer not null default 0;
    alter table photos add column duration_seconds real;
    alter table regions add column seconds real;
    create index videos on photos (content_hash) where duration_seconds is not null;
    """,
)
# Identifies the file as a catalogue of ours, for `file` and for check_version.
APPLICATION_ID = 0x494D4753  # "IMGS"
MAX_DIM = 65_536

FACT_COLUMNS = (
    "format",
    "width",
    "height",
    "orientation",
    "taken_at",
    "taken_offset",
    "date_from",
    "camera_make",
    "camera",
    "lens",
    "exposure_seconds",
    "f_number",
    "iso",
    "focal_length_mm",
    "focal_length_35mm",
    "latitude",
    "longitude",
    "altitude_m",
    "rating",
    "is_damaged",
    "duration_seconds",
)

PLACE_COLUMNS = ("place", "place_district", "place_region", "country", "country_code")
"""Facts that do not come from the photo: the fields of `PlaceName`."""

TEXT_FACTS = frozenset(
    ("format", "taken_at", "taken_offset", "date_from", "camera_make", "camera", "lens", *PLACE_COLUMNS)
)
WHOLE_FACTS = frozenset(("width", "height", "orientation", "iso", "rating"))
TRUTH_FACTS = frozenset(("is_damaged",))

TABLES = "66b809fca72372094733648e6d8994995a5e4b072b444392576623d52f5061bb"
"""The digest of the tables that all migrations make. Making them for each comparison takes longer than a search."""

# The index may come from another person.
NOT_YOURS = "do not use this index; make one of your own with: imgsearch index FOLDER --index DIR"


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables, or update those of an older version."""
    version = check_version(connection, path)
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"begin immediate;\n{script}\npragma user_version = {number};\n"
            f"pragma application_id = {APPLICATION_ID};\n"
            "insert or ignore into info values ('edition', '0');\ncommit;"
        )


def check_version(connection: sqlite3.Connection, path: str) -> int:
    """The number of migrations applied to the file. Raises IndexTooNew, or StoreError for another program's file."""
    version: int = connection.execute("pragma user_version").fetchone()[0]
    application: int = connection.execute("pragma application_id").fetchone()[0]
    if application not in (0, APPLICATION_ID):
        raise StoreError(f"{printable(path)}: a database of another program", hint="name another index with --index")
    if version > len(MIGRATIONS):
        raise IndexTooNew(
            f"{path}: made by a newer imgsearch (catalogue version {version}, this one knows {len(MIGRATIONS)})",
            hint="upgrade imgsearch, or name another index with --index",
        )
    return version


def check_tables(connection: sqlite3.Connection, path: str) -> None:
    """Raises IndexDamaged unless the tables are exactly those that the migrations make."""
    tables = _tables_of(connection)
    if digest(tables) != TABLES and tables != expected_tables():
        raise IndexDamaged(f"{printable(path)}: its tables are not those that imgsearch makes", hint=NOT_YOURS)


def _tables_of(connection: sqlite3.Connection) -> list[Any]:
    """Tables with their columns, keys and references, and indexes. Also views and triggers: those would run foreign
    code."""
    return connection.execute(
        """
        select m.type, m.name, c.name, c.type, c."notnull", c.pk from sqlite_master m
        left join pragma_table_xinfo(m.name) c on m.type = 'table'
        where m.name not like 'sqlite\\_%' escape '\\'
        union all
        select 'reference', m.name, f."from", f."table", f."to", f.on_delete from sqlite_master m
        join pragma_foreign_key_list(m.name) f
        where m.type = 'table'
        order by 1, 2, 3
        """
    ).fetchall()


def digest(tables: list[Any]) -> str:
    return hashlib.sha256(repr(tables).encode()).hexdigest()


@functools.cache
def expected_tables() -> list[Any]:
    connection = sqlite3.connect(":memory:")
    try:
        for script in MIGRATIONS:
            connection.executescript(script)
        return _tables_of(connection)
    finally:
        connection.close()
