"""Puts the same collection into both programs: random vectors, with names of photos that need not exist."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hnsw import drawn

from imgsearch.core.indexing.indexer import CHECKPOINT_PHOTOS
from imgsearch.core.store.records import NewPhoto
from imgsearch.core.store.store import Batch, Store
from imgsearch.core.types import Facts, Photo

from . import setup
from .processes import Command, run

DIM = 512
OURS = Path(sys.executable).with_name("imgsearch")
MODEL = ("--model", setup.ARCH, "--weights", str(setup.WEIGHTS), "--preprocess-from", setup.TAG)
ALBUM = setup.ROOT / "tests" / "album"


@dataclass(frozen=True)
class Library:
    """Both indexes of one collection."""

    count: int
    index: Path
    """The index of imgsearch; it also has the photos of the album, with real vectors."""
    datadir: Path
    """The data folder of rclip."""
    folder: Path
    """The folder of the photos."""
    questions: np.ndarray
    """Vectors of 200 queries."""


def made(top: Path, count: int, environment: Mapping[str, str]) -> Library:
    collection = drawn(count, DIM, 200)
    index, datadir, folder = top / f"ours-{count}", top / f"rclip-{count}", top / "library"
    folder.mkdir(exist_ok=True)
    run(Command([OURS, "index", ALBUM, "--index", index, "--quiet", *MODEL], environment))
    with Store.writing(str(index)) as store:
        fill(store, collection.images, str(folder))
    rows = top / f"vectors-{count}.npy"
    np.save(rows, collection.images)
    run(rclip_side(rclip_datadir(datadir), "fill", str(folder), str(rows), str(count)))
    rows.unlink()
    return Library(count, index, datadir, folder, collection.questions)


def fill(store: Store, rows: np.ndarray, folder: str) -> None:
    """As indexing does: the checkpoints, then the derived files."""
    space = store.active_space()
    facts = Facts("JPEG", 4000, 3000, taken_at="2024-07-01T12:00:00")
    with store.catalog.transaction():
        root = store.catalog.roots.add(folder, "folder", os.stat(folder).st_dev)
    for start in range(0, len(rows), CHECKPOINT_PHOTOS):
        batch = Batch()
        for number in range(start, min(start + CHECKPOINT_PHOTOS, len(rows))):
            photo = Photo(folder, f"{number // 1000:04}/IMG_{number:07}.jpg", 4_000_000, 10**18 + number, number)
            key = hashlib.sha256(number.to_bytes(8, "little")).digest()
            batch.photos.append((root, NewPhoto(photo, key, photo.size, photo.mtime_ns, facts), ()))
            batch.images[key] = rows[number]
        space = store.commit(space, batch, codecs="")
    store.update_graphs(space)
    store.save_slots(space)


def rclip_datadir(folder: Path) -> Path:
    """A folder for $RCLIP_DATADIR with the model and no index."""
    folder.mkdir(parents=True)
    for name in ("tokenizer", f"{setup.ARCH}-{setup.TAG}"):
        (folder / name).symlink_to(setup.DATADIR / name)
    return folder


def rclip_side(datadir: Path, *words: str, folder: Path | None = None) -> Command:
    return Command([setup.python(), setup.SIDE, *words], {"RCLIP_DATADIR": str(datadir)}, folder)


def rclip(datadir: Path, folder: Path, *words: str) -> Command:
    return Command([setup.VENV / "bin" / "rclip", *words], {"RCLIP_DATADIR": str(datadir)}, folder)
