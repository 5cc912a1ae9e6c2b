"""The means and low ends of the scores of a collection, which centred scores are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgsearch.core.late import LateModule
from imgsearch.core.light_dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch.core.types import Vectors
else:
    np = LateModule("numpy")

CALIBRATION_VERSION = 1
# Pulls the mean of a small collection towards no centring: 20 holiday photos are not a sample of all pictures.
PRIOR_PICTURES = 200
# Sampled pictures for the mean, and for the percentile of their pairwise scores: 2,000 x 2,000 is 4 million pairs.
MEAN_SAMPLE = 50_000
PAIR_SAMPLE = 2_000
LOW_PERCENTILE = 1.0
# A percentile closer to zero means that the collection has almost no spread.
FLAT = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What centred scores of one space are measured against.

    `image_mean` and `text_mean`: float32 (dim,), not unit. `low_image`, `low_text`: the 1st percentile of centred
    picture-picture and phrase-picture scores. `phrases`: float32 (n, dim), the neutral phrases in this space.
    """

    pictures: int
    image_mean: NDArray[np.float32]
    text_mean: NDArray[np.float32]
    low_image: float
    low_text: float
    phrases: Vectors
    version: int = CALIBRATION_VERSION

    def is_sound(self) -> bool:
        """Whether all values are finite and the phrases are unit vectors."""
        parts = (self.image_mean, self.text_mean, self.phrases, np.asarray([self.low_image, self.low_text]))
        lengths = np.linalg.norm(self.phrases, axis=1)
        return (
            len(lengths) > 0
            and all(np.isfinite(part).all() for part in parts)
            and bool((abs(lengths - 1) < 0.01).all())
        )

    def is_due(self, pictures: int) -> bool:
        """Whether the collection has grown or shrunk by more than a tenth since then."""
        return self.version != CALIBRATION_VERSION or abs(pictures - self.pictures) * 10 > self.pictures


def sampled(slots: Sequence[int]) -> NDArray[np.int64]:
    """A sample of the slots, in order, to measure a collection by. The same slots give the same sample."""
    chosen = np.asarray(slots, np.int64)
    if len(chosen) <= MEAN_SAMPLE:
        return chosen
    return np.sort(np.random.default_rng(0).choice(chosen, MEAN_SAMPLE, replace=False))


def calibrate(pictures: Vectors, phrases: Vectors, *, count: int | None = None) -> Calibration:
    """Measure a collection of `count` pictures (default: all given) by a sample.

    `pictures` and `phrases` are unit rows of one space; at least one of each.
    """
    generator = np.random.default_rng(0)
    count = len(pictures) if count is None else count
    sample = _sample(pictures, MEAN_SAMPLE, generator)
    image_mean = sample.mean(axis=0, dtype=np.float64) * (count / (count + PRIOR_PICTURES))
    image_mean = image_mean.astype(np.float32)
    text_mean = phrases.mean(axis=0)
    centred = _sample(sample, PAIR_SAMPLE, generator) - image_mean
    pairs = centred @ centred.T
    off_diagonal = pairs[~np.eye(len(pairs), dtype=bool)]
    crossed = (phrases - text_mean) @ centred.T
    return Calibration(
        pictures=count,
        image_mean=image_mean,
        text_mean=text_mean,
        low_image=low_end(off_diagonal),
        low_text=low_end(crossed),
        phrases=phrases,
    )


def _sample(rows: Vectors, most: int, generator: np.random.Generator) -> Vectors:
    if len(rows) <= most:
        return np.asarray(rows)
    return np.asarray(rows[np.sort(generator.choice(len(rows), most, replace=False))])


def low_end(scores: NDArray[np.float32]) -> float:
    """The low end of a score distribution as a negative number; minus the spread if there is no low end."""
    if scores.size == 0:
        return 0.0
    low = float(np.percentile(scores, LOW_PERCENTILE))
    if low < -FLAT:
        return low
    spread = float(scores.std())
    return -spread if spread > FLAT else 0.0
