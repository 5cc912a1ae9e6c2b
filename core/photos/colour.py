"""Pictures of any mode and colour profile, converted to 8-bit sRGB."""

from __future__ import annotations

import functools
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253 - this module is itself imported late
from PIL import Image, ImageChops, ImageCms  # noqa: TID253

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PROFILE_BYTES = 8 * 1024 * 1024
STRIP_ROWS = 256


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture as 8-bit sRGB, on white where it is transparent. Its ICC profile is applied."""
    profile = image.info.get("icc_profile")
    alpha: Image.Image | None = None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bit(image)
    elif image.mode in ("RGBA", "LA", "PA") or (image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info):
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = rgba.getchannel("A")
        image = image.getchannel("L") if image.mode == "LA" else rgba.convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    rgb = _srgb(image, profile)
    if alpha is not None and alpha.getextrema() != (255, 255):
        flat = Image.new("RGB", rgb.size, "white")
        flat.paste(rgb, mask=alpha)
        return flat
    return rgb


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey, scaled to 8 bits."""
    values = np.asarray(image)
    strips = [slice(top, top + STRIP_ROWS) for top in range(0, len(values), STRIP_ROWS)]
    ends = [(float(strip.min()), float(strip.max())) for strip in (_finite(values[rows]) for rows in strips)]
    low, high = _grey_range(image, min(end[0] for end in ends), max(end[1] for end in ends))
    grey = np.zeros(values.shape, np.uint8)
    for rows in strips:  # a few megabytes of floats at a time
        scaled = (_finite(values[rows]) - low) * (255.0 / (high - low) if high > low else 0.0)
        if _tiff_tag(image, 0x0106) == 0:  # white is zero, which Pillow inverts in 8-bit pictures only
            scaled = 255.0 - scaled
        grey[rows] = np.clip(scaled + 0.5, 0, 255)
    return Image.fromarray(grey)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    return np.where(np.isfinite(wide), wide, 0)


def _grey_range(image: Image.Image, lowest: float, highest: float) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        if highest <= 4_095:  # otherwise nearly black: 8, 10 or 12 bits stored in 16
            return 0, 255 if highest <= 255 else 1_023 if highest <= 1_023 else 4_095
        return 0, 65_535
    if image.mode == "F" and lowest >= 0 and highest <= 1:
        return 0, 1
    if image.mode == "I" and image.format != "TIFF" and lowest >= 0 and highest <= 65_535:
        return 0, 65_535
    return lowest, highest


def _tiff_tag(image: Image.Image, tag: int) -> int | None:
    value = getattr(image, "tag_v2", {}).get(tag)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) and value >= 0 else None


def _srgb(image: Image.Image, profile: object) -> Image.Image:
    if isinstance(profile, bytes) and 128 < len(profile) <= MAX_PROFILE_BYTES:
        transform = _to_srgb_transform(profile, image.mode)
        if transform is not None:
            with suppress(ValueError, OSError, ImageCms.PyCMSError):
                return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=32)
def _to_srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB. None if it is broken, belongs to another mode, or would change nothing."""
    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.PERCEPTUAL,
            flags=ImageCms.Flags.NOCACHE,  # one transform serves all threads
        )
        if mode not in ("RGB", "L"):
            return transform
        probe = _probe(mode)
        change = ImageChops.difference(transform.apply(probe), probe.convert("RGB"))
        return transform if max(high for _, high in change.getextrema()) > 2 else None  # type: ignore[misc]
    except (ImportError, OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None


def _probe(mode: str) -> Image.Image:
    """Colours that show whether a profile differs from sRGB."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None, :])
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(27, 27, 3))
