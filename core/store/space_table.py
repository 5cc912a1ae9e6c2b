"""The spaces: one for each model that the index holds vectors of."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.late import LateModule
from imgsearch.core.paths import printable
from imgsearch.core.types import SpaceIdentity

from .calibration import Calibration
from .database import Database
from .records import Space, now, parsed_json
from .schema import MAX_DIM, NOT_YOURS

if TYPE_CHECKING:
    import numpy as np
else:
    np = LateModule("numpy")

MAX_SLOTS = 1 << 31
_SPACE_ROWS = "select id, fingerprint, name, arch, weights, dim, details, model, state, generation, slots from spaces"


class SpaceTable:
    """The spaces and their calibrations."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[Space]:
        return [self._space(row) for row in self._db.rows(f"{_SPACE_ROWS} order by created_at, id")]

    def _space(self, r: Sequence[Any]) -> Space:
        """Raises IndexDamaged for impossible values: they could name a file outside the index, or fill the memory."""
        details = parsed_json(r[6], dict)
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
                f"{printable(self._db.path)}: an invalid model entry (id {r[0]!r:.40}, {r[5]!r:.20} dimensions, "
                f"{r[10]!r:.20} vectors)",
                hint=NOT_YOURS,
            )
        identity = SpaceIdentity(r[1], r[2], r[3], r[4], r[5], details or {})
        return Space(id=r[0], identity=identity, model=r[7], state=r[8], generation=r[9], slots=r[10])

    def get(self, space_id: str) -> Space | None:
        return next((space for space in self.all() if space.id == space_id), None)

    def add(self, space_id: str, identity: SpaceIdentity, model: str) -> None:
        self._db.upsert(
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
            key=("id",),
        )

    def update(self, space_id: str, **values: Any) -> None:
        self._db.update("spaces", space_id, values)

    def delete(self, space_id: str) -> None:
        """Delete a space with its vectors, their regions and its calibration."""
        for table in ("vectors", "regions", "calibrations"):
            self._db.execute(f"delete from {table} where space_id = ?", (space_id,))  # noqa: S608
        self._db.execute("delete from spaces where id = ?", (space_id,))

    def calibration(self, space: Space) -> Calibration | None:
        """The calibration of a space, if there is one. Raises IndexDamaged."""
        row = self._db.row(
            """
            select pictures, image_mean, text_mean, low_image, low_text, phrases, version from calibrations
            where space_id = :space
            """,
            space=space.id,
        )
        if row is None:
            return None
        dim = space.identity.dim
        try:
            calibration = Calibration(
                pictures=int(row[0]),
                image_mean=np.frombuffer(row[1], np.float32).reshape(dim),
                text_mean=np.frombuffer(row[2], np.float32).reshape(dim),
                low_image=float(row[3]),
                low_text=float(row[4]),
                phrases=np.frombuffer(row[5], np.float32).reshape(-1, dim),
                version=int(row[6]),
            )
            is_sound = calibration.is_sound()
        except (TypeError, ValueError):
            is_sound = False
        if not is_sound:
            raise IndexDamaged(f"{printable(self._db.path)}: the calibration of {space.identity.name} is damaged")
        return calibration

    def set_calibration(self, space_id: str, calibration: Calibration) -> None:
        self._db.upsert(
            "calibrations",
            {
                "space_id": space_id,
                "version": calibration.version,
                "pictures": calibration.pictures,
                "image_mean": calibration.image_mean.astype(np.float32).tobytes(),
                "text_mean": calibration.text_mean.astype(np.float32).tobytes(),
                "low_image": calibration.low_image,
                "low_text": calibration.low_text,
                "phrases": calibration.phrases.astype(np.float32).tobytes(),
            },
            key=("space_id",),
        )

    def delete_calibration(self, space_id: str) -> None:
        self._db.execute("delete from calibrations where space_id = ?", (space_id,))

    def delete_invalid(self) -> None:
        """Delete the spaces with impossible values."""
        for row in self._db.rows(_SPACE_ROWS):
            try:
                self._space(row)
            except IndexDamaged:
                self.delete(row[0])
