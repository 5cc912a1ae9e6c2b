"""Makes short videos of photos, with the encoders that PyAV contains."""

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from conftest import ALBUM

av = pytest.importorskip("av", reason="the extra [video] is not installed")

CODECS = {".mp4": "libx264", ".mov": "libx264", ".webm": "libvpx-vp9", ".mkv": "mpeg4", ".avi": "mjpeg"}
FORMATS = {".mp4": "mp4", ".mov": "mov", ".webm": "webm", ".mkv": "matroska", ".avi": "avi"}
SIZE = (160, 120)


def video(
    path: Path,
    shots: Sequence[tuple[str | Image.Image, float]],
    *,
    rate: int | Fraction = 5,
    tags: Mapping[str, str] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    has_duration: bool = True,
) -> Path:
    """A video that shows photos of the album, or pictures, one after the other, each for some seconds."""
    stream: io.BytesIO = io.BytesIO() if has_duration else _Pipe()
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(stream, "w", format=FORMATS[path.suffix], options=options) as out:
        out.metadata.update(tags or {})
        track = out.add_stream(CODECS[path.suffix], rate=rate)
        track.width, track.height = SIZE
        track.pix_fmt = "yuvj420p" if path.suffix == ".avi" else "yuv420p"
        if rotation:
            track.set_display_rotation(rotation)
        if aspect:
            track.codec_context.sample_aspect_ratio = aspect
        number = 0
        for shown, seconds in shots:
            image = shown if isinstance(shown, Image.Image) else Image.open(ALBUM / f"{shown}.jpg")
            small = image.convert("RGB").resize(SIZE)
            for _ in range(round(seconds * rate)):
                frame = av.VideoFrame.from_image(small)
                frame.pts, number = number, number + 1
                out.mux(track.encode(frame))
        out.mux(track.encode())
    path.write_bytes(stream.getvalue())
    return path


class _Pipe(io.BytesIO):
    """Cannot go back to write the duration, as a recording by a browser."""

    seek = None  # type: ignore[assignment]
    tell = None  # type: ignore[assignment]
