"""Videos: the frames that stand for one, and what its header says. Needs the extra [video].

A video is a photo with several moments. Only frames that can be reached quickly are looked at: key frames where there
are enough, at most one every two seconds. Those that differ from the one before are kept.
"""

from __future__ import annotations

import errno
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np  # noqa: TID253 - this module is itself imported late
from PIL import Image  # noqa: TID253

from imgsearch.core.types import Facts, SkipPhoto

from .exif import tags_in
from .facts import camera_of, facts_of, moment_of
from .header import Header, SidecarContent
from .regions import MAX_MOMENTS
from .xmp import Place, place

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

STEP_SECONDS = 2.0
"""The least time between two frames."""
FULL_HD_PIXELS = 1920 * 1080
MAX_CANDIDATES = 256
"""Frames that are looked at in a video of full HD; fewer of a larger one, so that no video takes minutes."""
MAX_PASSED_PIXELS = 1_500 * FULL_HD_PIXELS
"""Decoded to reach frames between distant key frames: some seconds of computing. After that, only key frames count."""
MAX_ERRORS = 100
"""Parts of a damaged video that are skipped."""
POINTS = 16
MIN_DIFFERENCE = 0.04
"""Between two frames that are kept: the mean over 16 x 16 points, where 1 is black to white."""
MIN_DEVIATION = 0.01
"""Of the points of a frame that shows something. A fade to black does not."""
MAX_SECONDS = 1_000_000.0
"""Eleven days. A longer duration is an error in the header."""
EPSILON = 0.001
MIN_SIDE = 256
FRAMES_IN_MEMORY = 2
"""By which the decoder's memory is measured: it keeps as many frames as its format allows others to refer to."""
NO_FRAMES = "a video without pictures"
BUFFER_BYTES = 1 << 18

_CONTAINERS = {"MP4": "mov", "MOV": "mov", "3GP": "mov", "MKV": "matroska", "WEBM": "matroska", "AVI": "avi"}
"""The format of a file -> libav's name of its container."""

Room = Callable[[int, int], AbstractContextManager[None]]
"""A context for decoding frames of this width and height. Raises SkipPhoto if that takes too much memory."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame as upright RGB, and when it is shown."""

    seconds: float
    image: Image.Image


@functools.cache
def load() -> Any:
    """The module `av`. Raises SkipPhoto if it is not installed."""
    try:
        import av
    except ImportError:
        raise SkipPhoto("decode", "videos need: pip install 'imgsearch-cli[video]'") from None
    av.logging.set_level(None)
    return av


def read_video(
    file: BinaryIO,
    kind: str,
    sidecars: Sequence[SidecarContent],
    *,
    side: int,
    facts_only: bool,
    at: float | None,
    moments: bool,
    room: Room,
) -> tuple[Facts, tuple[Moment, ...]]:
    """The facts, and the frame that is shown `at` that many seconds, by default in the middle.

    `moments`: instead the frames that stand for the video, first one for all of it, then the others in order of time.
    Because all of them are in memory at once, they are smaller. The short side of a frame has about `side` pixels, or
    all it has. `facts_only`: no frames.
    """
    with _opened(file, kind) as container:
        stream = _stream_of(container)
        context = stream.codec_context
        with room(context.width, context.height):
            # The rotation is known from a frame only, and the duration, where it is missing, from the last.
            frames = _Frames(container, stream, max(MIN_SIDE, side // 2) if moments else side)
            if facts_only and frames.duration is not None:
                moments, at = False, 0.0
            found = frames.moments() if moments else [frames.moment(at)]
        width, height = frames.size
        seconds = frames.last if frames.duration is None else frames.duration
        header = Header(kind, width, height, 1, tags_in(b""))
        facts = _with_tags(facts_of(header, sidecars), {**stream.metadata, **container.metadata})
        facts = replace(facts, duration_seconds=round(seconds, 3))
    return facts, () if facts_only else tuple(found)


@contextmanager
def _opened(file: BinaryIO, kind: str) -> Iterator[InputContainer]:
    av = load()
    file.seek(0)
    try:
        # The container is given: a playlist in disguise would open other files.
        with av.open(
            file,
            format=_CONTAINERS[kind],
            options={"protocol_whitelist": "none"},
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
            io_open=_refuse,
        ) as container:
            yield container
    except av.FFmpegError as error:
        if error.errno in errno.errorcode:  # of the disk or the memory
            raise
        raise SkipPhoto("decode", f"damaged or not supported: {error.strerror}") from None


def _refuse(*_: object) -> Any:
    raise OSError("a video that refers to other files")


def _stream_of(container: InputContainer) -> VideoStream:
    """The first that is not a cover picture."""
    attached = load().stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & attached:
            return stream
    raise SkipPhoto("decode", NO_FRAMES)


class _Frames:
    """The frames of a stream. Times are in seconds from its start."""

    def __init__(self, container: InputContainer, stream: VideoStream, side: int) -> None:
        self._container = container
        self._stream = stream
        self._side = side
        self._error: type[Exception] = load().FFmpegError
        stream.codec_context.thread_count = 1
        self._start = float((stream.start_time or 0) * (stream.time_base or 0))
        self._passed = 0
        """Pixels of frames that were decoded on the way to others."""
        self._errors = 0
        self._decoded: Iterator[VideoFrame] = container.decode(stream)
        self.last = 0.0
        """When the last frame that was decoded is shown."""
        self.size = (0, 0)
        """Width and height, upright, in square pixels. Known after the first frame."""
        self.duration = self._duration()
        """None where the header does not say it, as in what a browser recorded."""

    def _duration(self) -> float | None:
        found = (self._container.duration or 0) / load().time_base
        if not found and self._stream.duration and self._stream.time_base:
            found = float(self._stream.duration * self._stream.time_base)
        return found if 0 < found <= MAX_SECONDS else None

    def moment(self, seconds: float | None) -> Moment:
        """The frame that is shown then, by default in the middle. Raises SkipPhoto if there is none."""
        frame = self._at((self.duration or 0.0) / 2 if seconds is None else seconds)
        if frame is None:
            raise SkipPhoto("decode", NO_FRAMES)
        return self._moment(frame)

    def moments(self) -> list[Moment]:
        """Frames that differ, the middle one first. Raises SkipPhoto if there is none."""
        found = _distinct(self._moment(frame) for frame in self._candidates())
        if not found:
            raise SkipPhoto("decode", NO_FRAMES)
        return found

    def _at(self, seconds: float) -> VideoFrame | None:
        """The frame that is shown then, or the nearest that can be decoded."""
        frame = self._key_frame(seconds) if seconds > 0 else self._next()
        while frame is not None and self._time(frame) < seconds - EPSILON and self._passed < MAX_PASSED_PIXELS:
            following = self._next()
            if following is None or self._time(following) > seconds + EPSILON:
                break
            frame = following
        return frame

    def _candidates(self) -> Iterator[VideoFrame]:
        """Frames at least STEP_SECONDS apart, in order of time."""
        context, duration = self._stream.codec_context, self.duration
        most = MAX_CANDIDATES * FULL_HD_PIXELS // max(context.width * context.height, FULL_HD_PIXELS)
        most = max(most, MAX_MOMENTS)
        step = STEP_SECONDS if duration is None else max(STEP_SECONDS, duration / most)
        shown = -math.inf
        goes_on = True
        """Decode all frames up to the next one, because the last key frame was before the one shown last."""
        for number in range(most):
            target = number * step
            if duration is not None and number and target >= duration:
                return
            frame = None if goes_on else self._key_frame(target)
            if frame is None or self._time(frame) < shown + STEP_SECONDS / 2:
                frame, has_key_frame = self._forward(target)
                goes_on = duration is None or not has_key_frame
            if frame is None and duration is None:
                return
            if frame is None:
                goes_on = False
            elif self._time(frame) >= shown + STEP_SECONDS / 2:
                shown = self._time(frame)
                yield frame

    def _forward(self, seconds: float) -> tuple[VideoFrame | None, bool]:
        """The next frame from that time on, and whether there was a key frame on the way."""
        has_key_frame = False
        while self._passed < MAX_PASSED_PIXELS and (frame := self._next()) is not None:
            has_key_frame |= frame.key_frame
            if self._time(frame) >= seconds - EPSILON:
                return frame, has_key_frame
        return None, has_key_frame

    def _key_frame(self, seconds: float) -> VideoFrame | None:
        """The last key frame up to that time. None where the file cannot be searched."""
        unit = self._stream.time_base
        if not unit:
            return None
        try:
            self._container.seek(int((seconds + self._start + EPSILON) / unit), stream=self._stream)
        except (self._error, OverflowError):
            return None
        self._decoded = self._container.decode(self._stream)
        frame = self._next()
        return None if frame is None or self._time(frame) > seconds + EPSILON else frame

    def _next(self) -> VideoFrame | None:
        """The next frame; None at the end. What is damaged is skipped."""
        while True:
            try:
                frame = next(self._decoded, None)
            except self._error:
                self._errors += 1
                if self._errors > MAX_ERRORS:
                    return None
                self._decoded = self._container.decode(self._stream)
                continue
            if frame is not None:
                self._passed += frame.width * frame.height
                self.last = self._time(frame)
            return frame

    def _time(self, frame: VideoFrame) -> float:
        return self.last if frame.time is None else round(float(frame.time) - self._start, 6)

    def _moment(self, frame: VideoFrame) -> Moment:
        width, height = self._square_pixels(frame)
        scale = min(1.0, self._side / min(width, height)) if self._side else 1.0
        small = frame.reformat(
            width=max(1, round(scale * width)),
            height=max(1, round(scale * height)),
            format="rgb24",
            interpolation="AREA",
        )
        image = Image.fromarray(small.to_ndarray())
        turn = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}.get(
            round(frame.rotation / 90) % 4
        )
        if turn is not None:
            image = image.transpose(turn)
        self.size = (width, height) if turn in (None, Image.Transpose.ROTATE_180) else (height, width)
        return Moment(max(0.0, self._time(frame)), image)

    def _square_pixels(self, frame: VideoFrame) -> tuple[int, int]:
        aspect = float(self._stream.sample_aspect_ratio or 1)
        return (round(frame.width * aspect), frame.height) if 0.1 <= aspect <= 10 else (frame.width, frame.height)


# Choosing


def _distinct(candidates: Iterator[Moment]) -> list[Moment]:
    """The moments that differ from those before, at most MAX_MOMENTS, evenly spread: the middle one first."""
    kept: list[Moment] = []
    points: NDArray[np.floating] | None = None
    first: Moment | None = None
    for moment in candidates:
        first = first or moment
        small = moment.image.resize((POINTS, POINTS), Image.Resampling.BOX)
        now = np.asarray(small, np.float32) / 255
        if now.std() >= MIN_DEVIATION and (points is None or np.abs(now - points).mean() >= MIN_DIFFERENCE):
            kept.append(moment)
            points = now
    if not kept:
        return [first] if first else []
    if len(kept) > MAX_MOMENTS:
        kept = [kept[at * len(kept) // MAX_MOMENTS] for at in range(MAX_MOMENTS)]
    middle = kept.pop(len(kept) // 2)
    return [middle, *kept]


# What the header says

_POSITION = re.compile(
    r"([+-]\d{2}(?:\.\d{1,10})?)([+-]\d{3}(?:\.\d{1,10})?)([+-]\d{1,5}(?:\.\d{1,10})?)?(?:CRS[^/]{0,20})?/?"
)
"""ISO 6709, in degrees: `+38.7139-009.1394+010.000/`."""
UNSET_YEARS = ("1904-", "1970-")
"""Where the clocks of these formats start."""


def _with_tags(facts: Facts, tags: Mapping[str, str]) -> Facts:
    """The facts of the sidecars, with those of the header where an XMP sidecar says nothing."""
    named = {name.lower(): value for name, value in tags.items()}
    if facts.date_from in (None, "takeout"):
        # Apple writes local time, others UTC.
        for name in ("com.apple.quicktime.creationdate", "creation_time"):
            text = named.get(name, "")
            if (moment := moment_of(text)) and not text.startswith(UNSET_YEARS):
                taken_at, offset = moment
                facts = replace(facts, taken_at=taken_at, taken_offset=offset, date_from="video")
                break
    if facts.latitude is None and (where := _place_of(named)):
        latitude, longitude, altitude = where
        facts = replace(facts, latitude=latitude, longitude=longitude, altitude_m=altitude)
    make, model = camera_of(
        _first(named, "com.apple.quicktime.make", "com.android.manufacturer", "make"),
        _first(named, "com.apple.quicktime.model", "com.android.model", "model"),
    )
    return replace(facts, camera_make=make, camera=model)


def _place_of(tags: Mapping[str, str]) -> Place | None:
    found = _POSITION.fullmatch(_first(tags, "com.apple.quicktime.location.iso6709", "location").strip())
    if not found:
        return None
    return place(float(found[1]), float(found[2]), float(found[3]) if found[3] else None)


def _first(tags: Mapping[str, str], *names: str) -> str:
    return next((tags[name] for name in names if tags.get(name)), "")
