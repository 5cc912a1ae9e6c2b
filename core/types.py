"""The small frozen records that stages pass to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Literal, Protocol

from imgsearch.core.light_dataclass import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """float32, shape (n, dim), rows of unit length."""
    Squares = NDArray[np.uint8]
    """uint8 RGB, shape (n, height, width, 3), at the model's size, not yet normalised."""

Modality = Literal["image", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "text")
DateFrom = Literal["exif", "xmp", "iptc", "takeout", "video"]
Stage = Literal["walk", "read", "memory", "decode", "embed", "ocr"]
"""Where a file failed. `memory`: not enough memory to decode it."""

DECODE_SECONDS = 60.0
"""The time limit for decoding one file. A damaged one usually fails in less than a second."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A text, XMP or JSON file beside a photo, with information about it."""

    relpath: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Photo:
    """A regular file found by the walk. Names are `os.fsdecode`d: surrogates stand for bytes that are not UTF-8."""

    root: str
    relpath: str
    size: int
    mtime_ns: int
    inode: int
    sidecars: tuple[Sidecar, ...] = ()
    pair: str | None = None
    """For a RAW file or a video: the relpath of the JPEG or HEIC of the same name in the same folder, if any."""
    named: bool = False
    """Given by name on the command line, so that skipping it needs a reason."""
    video: bool = False
    """It has the name of a video, and videos are wanted."""

    @property
    def path(self) -> str:
        """The absolute path."""
        return f"{self.root.rstrip('/')}/{self.relpath}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that could not be used, and why."""

    path: str
    stage: Stage
    reason: str


class SkipPhoto(Exception):
    """Raised inside a stage about one file; the loop turns it into a `Skipped`."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class NotAPicture(Exception):
    """The file is something else and has neither the name of a picture nor was named by the user."""


@dataclass(frozen=True, slots=True)
class CarriedText:
    """A text in a photo's header or sidecar."""

    text: str
    source: str
    """Where it was found: `exif:ImageDescription`, `xmp:dc:description`, `iptc:keywords`, `sidecar:beach.txt` ..."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an upright picture: its top left corner and its size, as fractions of the picture's sides. Or a moment
    of a video."""

    x: float
    y: float
    width: float
    height: float
    at: float | None = None
    """Seconds from the start of a video."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text in a picture."""

    text: str
    score: float
    """How sure the reader is of it, from 0 to 1."""
    region: Region
    """The upright rectangle around it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a photo's header and sidecars say about it. `None`: nothing."""

    format: str
    width: int
    """Pixels, upright."""
    height: int
    orientation: int = 1
    """EXIF orientation as stored, 1 to 8."""
    taken_at: str | None = None
    """Local time, ISO 8601 without offset: `2024-07-01T18:03:11`."""
    taken_offset: str | None = None
    """`+02:00`, if the camera recorded it."""
    date_from: DateFrom | None = None
    """Where `taken_at` was found. `takeout`: in a JSON file of a Google Takeout. `video`: in the header of a video.
    These two give an instant in UTC, which becomes local time where the place is known."""
    camera_make: str | None = None
    camera: str | None = None
    lens: str | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    focal_length_35mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    rating: int | None = None
    """-1 (rejected) to 5, as in XMP."""
    keywords: tuple[str, ...] = ()
    texts: tuple[CarriedText, ...] = ()
    is_damaged: bool = False
    """The file is truncated, and only a part of the pixels could be decoded."""
    duration_seconds: float | None = None
    """Of a video, and only of one."""
    problems: tuple[str, ...] = ()
    """Names of sidecars that are malformed, each with what is wrong with it. Not kept in the index."""


@dataclass(frozen=True, slots=True)
class PlaceName:
    """What people call the place of a photo. `None`: unknown."""

    place: str | None
    """The town: `Porto`."""
    place_district: str | None
    """The part of a large town, or the smaller town in its reach: `Eixample`."""
    place_region: str | None
    """`Catalonia`; `region` is already the part of a panorama."""
    country: str
    country_code: str
    """ISO 3166: `ES`."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that the place is called, the smallest first."""
        stated = self.place_district, self.place, self.place_region, self.country, self.country_code
        return tuple(name for name in stated if name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The preprocessing of a model's pictures, equal to open_clip's own transform.

    `size` is (height, width) in pixels; `mean` and `std` are per RGB channel on a 0-1 scale.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = 0


COMPOSER = "composer"
"""The key of `SpaceIdentity.details` for models that were trained for a picture with words."""


@dataclass(frozen=True, slots=True)
class SpaceIdentity:
    """The model of a vector. Two vectors may be compared if their `fingerprint`s are equal.

    The fingerprint covers the weights' sha256, the architecture's configuration, preprocessing, tokenizer and
    dimension. Everything else here is recorded, not identity.
    """

    fingerprint: str
    name: str
    """As the user typed it: `builtin`, `fast`, `ViT-B-32/laion2b_s34b_b79k` ..."""
    arch: str
    weights: str | None
    dim: int
    details: dict[str, str] = field(default_factory=dict)

    @property
    def composer(self) -> str | None:
        """The composition method that the model was trained for."""
        return self.details.get(COMPOSER)


class Embedder(Protocol):
    """A model with both of its towers."""

    @property
    def identity(self) -> SpaceIdentity: ...

    @property
    def recipe(self) -> Recipe: ...

    def embed_images(self, squares: Squares) -> Vectors: ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors: ...

    def embed_with(self, text: str, vector: Vectors) -> Vectors:
        """float32 (dim,), unit length: the text, with `vector` in place of the embedding of its first `$`.

        Raises ModelError for a model that cannot do that.
        """
        ...

    def raw_images(self, squares: Squares) -> Vectors:
        """`embed_images` as the model gives them, before they are made unit length. Raises ModelError as `raw_texts`
        does, if that needs torch and torch is not installed."""
        ...

    def raw_texts(self, texts: Sequence[str]) -> Vectors: ...
