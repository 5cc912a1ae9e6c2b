"""Runs inside the environment of rclip. `compare.py` and `setup.py` run it with rclip's interpreter.

rclip_side.py scores PICTURES TEXTS         cosines by rclip's own model, as JSON
rclip_side.py fill FOLDER VECTORS COUNT     its database (in $RCLIP_DATADIR) with photos that need not exist
rclip_side.py fill-found FOLDER             ... or with the files that there are
rclip_side.py refresh                       look through the working directory for changes, as every `rclip` does
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
from rclip import db, fs, main
from rclip.model import Model
from rclip.utils import helpers

DIM = Model.VECTOR_SIZE


def scores(pictures: str, texts: str) -> None:
    model = Model()
    images = [helpers.read_image(path) for path in json.loads(pictures)]
    cosines = model.compute_image_features(images) @ model.compute_text_features(json.loads(texts)).T
    print(json.dumps(cosines.tolist()))


def fill(folder: str, vectors: str, count: str) -> None:
    rows = np.load(vectors, mmap_mode="r")
    database = _database()
    for number in range(int(count)):
        path = os.path.join(folder, f"{number // 1000:04}", f"IMG_{number:07}.jpg")
        _add(database, path, 0.0, 0, rows[number])
    database.close()


def fill_found(folder: str) -> None:
    generator = np.random.default_rng(0)
    database = _database()
    rclip = main.RClip(None, database, 8, None)
    for entry in fs.walk(folder, rclip._exclude_dir_regex, rclip._image_regex):
        facts = main.get_image_meta(entry)
        row = generator.normal(size=DIM).astype(np.float32)
        _add(database, entry.path, facts["modified_at"], facts["size"], row / np.linalg.norm(row))
    database.close()


def refresh() -> None:
    main.init_rclip(os.getcwd(), 8)[2].close()


def _database() -> db.DB:
    return db.DB(helpers.get_app_datadir() / "db.sqlite3")


def _add(database: db.DB, path: str, modified_at: float, size: int, row: np.ndarray) -> None:
    image = db.NewImage(filepath=path, modified_at=modified_at, size=size, vector=row.tobytes(), hash=path)
    database.upsert_image(image, commit=False)


if __name__ == "__main__":
    {"scores": scores, "fill": fill, "fill-found": fill_found, "refresh": refresh}[sys.argv[1]](*sys.argv[2:])
