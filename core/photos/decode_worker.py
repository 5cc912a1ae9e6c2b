"""The process that reads photos, one at a time, so that a decoder may crash, hang or use up memory without harm.

It talks to the process that started it over a socket, in frames of JSON followed by raw bytes. There are no pickles, so
that a hostile picture that takes over this process cannot run code in the other one. It never imports torch.

    indexing -> {"path", "sidecars", "named", "video", "draft_side", "recipe", "regions"},
                {"path", "thumbnail": side, "at"}, or {"path", "ocr": true}
    worker   -> {"ask": "known", "content_hash"}     indexing -> {"yes": whether it has a vector already}
    worker   -> {"ask": "alone"}                     indexing -> {"yes": true}, once no other photo is that large
    worker   -> {"picture": ..., "squares": count, "moments": seconds} and the squares' bytes, or
                {"skipped": [stage, reason]}, or {"nothing": true}, {"thumbnail": content hash} and a JPEG's bytes,
                {"lines": [[text, score, x, y, width, height] ...], "content_hash"}, or {"broken": why it reads no text}
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from imgsearch.core.types import CarriedText, Facts, NotAPicture, Recipe, Sidecar, SkipPhoto

if TYPE_CHECKING:
    from PIL import Image

    from imgsearch.core.photos.decode import Picture
    from imgsearch.core.photos.ocr import Reader

MAX_RECORD_BYTES = 16 << 20
MAX_DATA_BYTES = 128 << 20
"""A square of 6,600 pixels a side, or all of a panorama at 1,300, or of a video at 800; no model asks for more."""

# Memory per pixel until it is upright RGB: decoder, conversion and rotation each copy 4 bytes.
# Measured: 9 for a TIFF with alpha, 18 for a JPEG 2000.
BYTES_PER_PIXEL = 24

# The most memory that any supported picture needs. With this much free there is no limit.
LIMIT_BYTES = 4 << 30
# For thumbnails, where no loss is visible at this quality.
JPEG_QUALITY = 82
MAX_SAID_BYTES = 1 << 16
"""The most that it may write to stderr, which is only read if it does not start."""

_FRAME = struct.Struct("<II")


class ChannelClosed(Exception):
    """The other end has closed the channel or sent an invalid message."""


class ChannelTimeout(Exception):
    """The other end has sent nothing for too long."""


class Channel:
    """Records and bytes to and from the other process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, record: dict[str, Any], data: bytes = b"") -> None:
        """Raises ChannelClosed."""
        text = json.dumps(record).encode("ascii")
        try:
            self._connection.sendall(_FRAME.pack(len(text), len(data)) + text + data)
        except OSError:
            raise ChannelClosed from None

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], bytes]:
        """The next record with its bytes. Raises ChannelClosed, and ChannelTimeout if it takes longer than `seconds`.

        Only counts time in which this process was running, and neither stopped by ^Z nor suspended with the machine.
        """
        clock = None if seconds is None else _Clock(seconds)
        length, size = _FRAME.unpack(self._exactly(_FRAME.size, clock))
        if length > MAX_RECORD_BYTES or size > MAX_DATA_BYTES:
            raise ChannelClosed
        text, data = self._exactly(length, clock), self._exactly(size, clock)
        try:
            record = json.loads(text)
        except ValueError:
            raise ChannelClosed from None
        if not isinstance(record, dict):
            raise ChannelClosed
        return record, data

    def _exactly(self, count: int, clock: _Clock | None) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            if clock is not None:
                clock.wait_for(self._connection)
            try:
                part = self._connection.recv(min(count - len(parts), 1 << 20))
            except OSError:
                raise ChannelClosed from None
            if not part:
                raise ChannelClosed
            parts += part
        return bytes(parts)

    def close(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for it
        self._connection.close()


class _Clock:
    """Counts down in small steps, none of which counts for more than its planned length."""

    STEP_SECONDS = 0.5

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def wait_for(self, connection: socket.socket) -> None:
        poll = select.poll()
        try:
            poll.register(connection, select.POLLIN)
        except ValueError:  # closed in the meantime
            raise ChannelClosed from None
        while True:
            started = time.monotonic()
            step = max(0.0, min(self.STEP_SECONDS, self._left))
            try:
                if poll.poll(step * 1000):
                    return
            except ValueError:  # closed in the meantime
                raise ChannelClosed from None
            self._left -= min(time.monotonic() - started, self.STEP_SECONDS)
            if self._left <= 0:
                raise ChannelTimeout


# Records


def picture_record(picture: Picture) -> dict[str, Any]:
    """A picture without its pixels."""
    return {
        "content_hash": picture.content_hash.hex(),
        "size": picture.size,
        "mtime_ns": picture.mtime_ns,
        "facts": dataclasses.asdict(picture.facts),
    }


def facts_from(record: dict[str, Any]) -> Facts:
    """Raises TypeError or KeyError for an invalid record."""
    texts = tuple(CarriedText(str(text["text"]), str(text["source"])) for text in record["texts"])
    keywords, problems = (tuple(map(str, record[key])) for key in ("keywords", "problems"))
    return Facts(**{**record, "keywords": keywords, "texts": texts, "problems": problems})


# The process


def main(arguments: list[str]) -> None:
    """`python -m imgsearch.core.photos.decode_worker DESCRIPTOR PARENT SHARE ALONE NICENESS`.

    DESCRIPTOR is the socket, PARENT the process that started it, SHARE and ALONE the bytes of memory it may use beside
    other workers and alone, NICENESS its niceness.
    """
    descriptor, parent, share, alone, niceness = map(int, arguments)
    _die_with(parent)
    _write_nothing()
    os.nice(niceness)
    channel = Channel(socket.socket(fileno=descriptor))
    worker = _Worker(channel, share, alone)
    with suppress(ChannelClosed):
        channel.send({"ready": os.getpid()})
        while True:
            task, _ = channel.receive()
            signal.setitimer(signal.ITIMER_REAL, task["alarm"])
            worker.answer(task)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _die_with(parent: int) -> None:
    """End when the parent process ends. On other systems than Linux that is when the worker next uses its socket, at
    the latest when its alarm goes off."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def _write_nothing() -> None:
    """Prevent the worker from writing files, including a core dump."""
    import resource

    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # if memory runs out, the system kills this process first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_SAID_BYTES, MAX_SAID_BYTES))


class _Worker:
    def __init__(self, channel: Channel, share: int, alone: int) -> None:
        # Pillow and numpy; in memory before it is measured
        from imgsearch.core.photos import decode, preprocess, regions, video

        self._read_picture = decode.read_picture
        self._square, self._square_of = preprocess.square, preprocess.square_of
        self._regions_for = regions.regions_for
        self._load, self._has_video = video.load, False
        decode.use_one_thread()
        self._channel = channel
        self._share, self._alone = share, alone
        self._is_alone = False
        self._base = _address_space()
        self._reader: Reader | None = None

    def answer(self, task: dict[str, Any]) -> None:
        self._is_alone = bool(task.get("alone"))
        if task.get("video"):
            self._load_video()
        self._limit_memory(self._alone if self._is_alone else self._share)
        self._pixels = 0
        try:
            record, data = self._read(task)
        except NotAPicture:
            record, data = {"nothing": True}, b""
        except SkipPhoto as skipped:
            record, data = {"skipped": [skipped.stage, skipped.reason]}, b""
        self._channel.send(record, data)

    def _load_video(self) -> None:
        if not self._has_video:  # its libraries are in memory before that is measured again
            with suppress(SkipPhoto):
                self._load()
            self._base = _address_space()
            self._has_video = True

    def _read(self, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """A decoder without enough memory reports that, or calls the picture damaged. A picture that is large enough
        for that is read again with more memory."""
        try:
            return self._read_once(task)
        except SkipPhoto as skipped:
            may_lack_memory = skipped.stage == "memory" or self._pixels * 2 * BYTES_PER_PIXEL > self._share
            if not may_lack_memory or skipped.stage == "read" or self._is_alone or self._share >= self._alone:
                raise
        self._be_alone()
        return self._read_once(task)

    def _read_once(self, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        if "ocr" in task:
            return self._text(task), b""
        return self._thumbnail(task) if "thumbnail" in task else self._picture(task)

    def _picture(self, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        picture = self._read_picture(
            task["path"],
            sidecars=[Sidecar(*sidecar) for sidecar in task["sidecars"]],
            known=_Known(self._channel),
            draft_side=task["draft_side"],
            named=task["named"],
            is_video=task["video"],
            moments=task["regions"],
            room=self._room,
        )
        record = picture_record(picture)
        if picture.image is None:
            return {"picture": record}, b""
        recipe = Recipe(**{**task["recipe"], **{key: tuple(task["recipe"][key]) for key in ("size", "mean", "std")}})
        regions = self._regions_for(picture.facts, recipe)[1:] if task["regions"] else ()
        with _resizing():
            squares = [self._square(picture.image, recipe)]
            squares += [self._square_of(picture.image, region, recipe) for region in regions]
            squares += [self._square(moment.image, recipe) for moment in picture.moments[1:]]
        record = {"picture": record, "squares": len(squares), "moments": [each.seconds for each in picture.moments]}
        return record, b"".join(square.tobytes() for square in squares)

    def _thumbnail(self, task: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        side = task["thumbnail"]
        picture = self._read_picture(task["path"], draft_side=side, named=True, at=task["at"], room=self._room)
        assert picture.image is not None
        with _resizing():
            return {"thumbnail": picture.content_hash.hex()}, _jpeg(picture.image, side)

    def _text(self, task: dict[str, Any]) -> dict[str, Any]:
        from imgsearch.core.photos import ocr

        if self._reader is None:
            self._limit_memory(LIMIT_BYTES)
            try:
                self._reader = ocr.Reader()
            except ocr.OcrBroken as error:
                return {"broken": str(error)}
            self._base = _address_space()
            self._limit_memory(self._alone if self._is_alone else self._share)
        picture = self._read_picture(task["path"], draft_side=ocr.MAX_SIDE, named=True, room=self._room)
        assert picture.image is not None
        with _reading_text():
            lines = self._reader.lines(picture.image)
        places = [(line.region.x, line.region.y, line.region.width, line.region.height) for line in lines]
        return {
            "content_hash": picture.content_hash.hex(),
            "lines": [[line.text, line.score, *place] for line, place in zip(lines, places, strict=True)],
        }

    @contextmanager
    def _room(self, pixels: int) -> Iterator[None]:
        """A context for decoding N pixels. Raises SkipPhoto if there is not enough memory."""
        self._pixels = pixels
        needed = pixels * BYTES_PER_PIXEL
        if needed > self._alone and self._alone < LIMIT_BYTES:
            raise SkipPhoto("memory", f"{pixels / 1e6:,.0f} megapixels need more memory than is free")
        if needed > self._share and not self._is_alone:
            self._be_alone()
        yield

    def _be_alone(self) -> None:
        _ask(self._channel, {"ask": "alone"})
        self._is_alone = True
        self._limit_memory(self._alone)

    def _limit_memory(self, size: int) -> None:
        """Limit the address space to `size` bytes more than the libraries use. macOS has no such limit."""
        if self._base is None:
            return
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = self._base + size
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _resizing() -> Iterator[None]:
    """Raises SkipPhoto for any error, as decode does: one picture never ends a run."""
    try:
        yield
    except MemoryError:
        raise SkipPhoto("memory", "not enough memory to resize it") from None
    except Exception as error:
        raise SkipPhoto("decode", f"cannot be resized: {error or type(error).__name__}") from None


@contextmanager
def _reading_text() -> Iterator[None]:
    """As `_resizing`. ONNX Runtime has errors of its own for a lack of memory."""
    try:
        yield
    except MemoryError:
        raise SkipPhoto("memory", "not enough memory to read its text") from None
    except Exception as error:
        said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        if "alloc" in said[0]:
            raise SkipPhoto("memory", "not enough memory to read its text") from None
        raise SkipPhoto("ocr", f"its text cannot be read: {said[0]}") from None


def _jpeg(image: Image.Image, side: int) -> bytes:
    """The whole picture, no side longer than `side`, without metadata."""
    scale = min(1.0, side / max(image.size))
    small = image.resize([max(1, round(scale * length)) for length in image.size], reducing_gap=2.0)
    small.info = {}  # otherwise Pillow copies the comment and profile
    data = io.BytesIO()
    small.save(data, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    return data.getvalue()


class _Known:
    """The contents with known vectors; asks the parent process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __contains__(self, content_hash: object) -> bool:
        assert isinstance(content_hash, bytes)
        return _ask(self._channel, {"ask": "known", "content_hash": content_hash.hex()})


def _ask(channel: Channel, question: dict[str, Any]) -> bool:
    """No alarm goes off while it waits for the answer."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    channel.send(question)
    answer, _ = channel.receive()
    signal.setitimer(signal.ITIMER_REAL, answer["alarm"])
    return bool(answer["yes"])


def _address_space() -> int | None:
    """Bytes of address space in use; None if the system does not report it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
