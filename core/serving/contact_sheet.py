"""A contact sheet: hits as one self-contained HTML page.

The page contains its thumbnails, one style, one script, and a policy that stops a browser from running or loading
anything else. Names, captions and all other texts of photos are escaped by `_text`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import html
import math
import os
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, BinaryIO

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import clock, printable
from imgsearch.core.types import SkipPhoto
from imgsearch.core.writing import replacing

if TYPE_CHECKING:
    from imgsearch.core.photos.thumbnails import Thumbnails
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.search.options import SearchOptions

MAX_PHOTOS = 1_000
"""On one page: about 25 MB of thumbnails, which browsers still scroll smoothly."""

# Pixels of a thumbnail's longer side: sharp on a high-density screen, smaller on a page of many.
SIDE, SIDE_OF_MANY, MANY = 480, 320, 120
# Photos that browsers cannot show (HEIC, RAW, TIFF ...) are also in the page at this size, up to a total of bytes.
LARGE_SIDE = 1_600
MAX_LARGE_BYTES = 48 << 20
SHOWN_BY_BROWSERS = frozenset("JPEG MPO PNG GIF WEBP AVIF BMP ICO".split())

MAX_TEXT = 400
_JOINERS = "\u200c\u200d"
_SCRIPTED = " hidden data-scripted"


@dataclass(frozen=True, slots=True)
class Card:
    """A hit and how it is shown."""

    hit: Hit
    thumbnail: bytes | None
    """JPEG; None if it could not be made, see `reason`."""
    reason: str = ""
    large: bytes | None = None
    """JPEG; None if the browser can show the file, or the page is full."""


def cards(hits: Sequence[Hit], thumbnails: Thumbnails) -> Iterator[Card]:
    """The hits with their thumbnails, in order."""
    side = SIDE if len(hits) <= MANY else SIDE_OF_MANY
    smalls = list(thumbnails.jpegs(map(_shown, hits), side))
    needed = [hit for hit, small in zip(hits, smalls, strict=True) if _needs_large(hit) and isinstance(small, bytes)]
    larges = thumbnails.jpegs(map(_shown, needed), LARGE_SIDE)
    room = MAX_LARGE_BYTES
    with contextlib.closing(larges):
        for hit, small in zip(hits, smalls, strict=True):
            if isinstance(small, SkipPhoto):
                yield Card(hit, None, small.reason)
                continue
            large = next(larges, None) if _needs_large(hit) and room > 0 else None
            if isinstance(large, bytes):
                room -= len(large)
            yield Card(hit, small, large=large if isinstance(large, bytes) else None)


def _shown(hit: Hit) -> tuple[str, bytes, float | None]:
    return hit.path, hit.place.content_hash, hit.place.at


def facts_of(hits: Sequence[Hit], options: SearchOptions, *, made_at: str) -> dict[str, str]:
    """The facts below the query: number of photos, method, model, filters."""
    method = hits[0].method if hits else options.method or ""
    if method and options.weight is not None:
        method = f"{method}, weight {options.weight:g}"
    known = {
        "Photos": f"{len(hits):,}",
        "Method": method,
        "Model": hits[0].model if hits else "",
        "Grouped by": options.group or "",
        "Sorted by": "" if options.sort == "score" else options.sort,
        "Filters": _filters(options),
        "Made": made_at,
    }
    return {name: value for name, value in known.items() if value}


def _filters(options: SearchOptions) -> str:
    lines = []
    for name in options.filters.__slots__:
        value = getattr(options.filters, name)
        if value:
            lines.append(f"{name.replace('_', ' ')} {value if isinstance(value, str) else ', '.join(value)}")
    return "; ".join(lines)


def page(query: str, facts: dict[str, str], shown: Iterable[Card]) -> Iterator[str]:
    """The page in parts. UTF-8, without surrogates and control characters."""
    style, script = _asset("contact_sheet.css"), _asset("contact_sheet.js")
    policy = (
        "default-src 'none'; img-src data: file:; "
        f"style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    title = _text(printable(query))
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f'<meta name="generator" content="imgsearch">\n<title>{title} - imgsearch</title>\n<style>{style}</style>\n'
        f'</head>\n<body>\n<header>\n<h1><bdi>{title}</bdi></h1>\n<dl class="facts">\n'
    )
    for name, value in facts.items():
        yield f"<div><dt>{_text(name)}</dt><dd><bdi>{_text(value)}</bdi></dd></div>\n"
    yield f"</dl>\n{_KEYS}</header>\n<main>\n"
    is_empty = True
    for card in shown:
        if is_empty:
            yield '<ol class="hits" aria-label="Photos found">\n'
        is_empty = False
        yield _item(card)
    yield '<p class="nothing">Nothing found.</p>\n' if is_empty else "</ol>\n"
    yield f"</main>\n{_END}<script>{script}</script>\n</body>\n</html>\n"


_KEYS = (
    f'<p class="keys"{_SCRIPTED}><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> or <kbd>j</kbd> <kbd>k</kbd> '
    "select a photo, <kbd>Enter</kbd> enlarges it, <kbd>Esc</kbd> closes it, <kbd>c</kbd> copies its path</p>\n"
)
_END = (
    "<footer>Made by imgsearch on this machine. The page contains the thumbnails and links to the original "
    "files.</footer>\n"
    '<dialog aria-label="Enlarged photo"><img alt=""><div class="bar"><p><bdi dir="ltr"></bdi><small></small></p>'
    '<div class="buttons"><button type="button" class="previous">Previous</button>'
    '<button type="button" class="next" autofocus>Next</button><button type="button" class="copied">Copy path</button>'
    '<a rel="noreferrer">Open the file</a><button type="button" class="close">Close</button></div></div></dialog>\n'
    '<div id="said" role="status" aria-live="polite"></div>\n'
)


def _item(card: Card) -> str:
    hit = card.hit
    path = printable(hit.path)
    name = os.path.basename(path.rstrip("/"))
    lines = _lines(hit)
    about = " · ".join(text for label, text in lines.items() if label != "Caption")
    rows = "".join(
        f"<div{' class=said' if label == 'Caption' else ''}><dt>{label}</dt> "
        f'<dd><bdi title="{_text(text)}">{_text(text)}</bdi></dd></div>'
        for label, text in lines.items()
    )
    score = "" if math.isnan(hit.score) else f"{hit.score:.3f}"  # without, the photos are listed by time
    shown = f'<span class="score" title="score, {_text(hit.method)}">{score}</span>' if score else ""
    return (
        f'<li class="hit">{_picture(card, name, " · ".join(filter(None, (score, about))))}\n'
        f'<div class="about"><h2 class="name"><bdi dir="ltr" title="{_text(name)}">{_text(name)}</bdi>{shown}</h2>\n'
        f"<dl>{rows}</dl>\n"
        f'<div class="path"><code title="{_text(path)}"><bdi dir="ltr">{_text(path)}</bdi></code>'
        f'<button type="button" class="copy" data-path="{_text(copyable(hit.path))}" '
        f'aria-label="Copy path of {_text(name)}"{_SCRIPTED}>Copy path</button></div></div></li>\n'
    )


def _picture(card: Card, name: str, about: str) -> str:
    if card.thumbnail is None:
        return f'<div class="photo none"><span>no picture: {_text(card.reason)}</span></div>'
    large = f' data-large="{_data_url(card.large)}"' if card.large else ""
    shows = " data-shows=1" if card.hit.place.facts.get("format") in SHOWN_BY_BROWSERS else ""
    taken = _lines(card.hit).get("Taken")
    return (
        f'<a class="photo" href="{_text(file_url(card.hit.path) + _moment(card.hit))}" rel="noreferrer" '
        f'data-name="{_text(name)}" data-about="{_text(about)}"{shows}{large}>'
        f'<img src="{_data_url(card.thumbnail)}" decoding="async" '
        f'alt="{_text(f"{name}, {taken}" if taken else name)}">{_frame(card.hit)}</a>'
    )


def _moment(hit: Hit) -> str:
    """Where a browser starts to play a video (Media Fragments URI)."""
    return "" if hit.place.at is None else f"#t={hit.place.at:.3f}"


def _frame(hit: Hit) -> str:
    """A frame around the region of a panorama that was found. The page allows no style attributes, but SVG needs none:
    it is scaled as the picture is."""
    region, facts = hit.place.region, hit.place.facts
    if region is None:
        return ""
    width, height = facts["width"], facts["height"]
    place = {
        "x": region.x * width,
        "y": region.y * height,
        "width": region.width * width,
        "height": region.height * height,
    }
    numbers = " ".join(f'{name}="{number:.1f}"' for name, number in place.items())
    return f'<svg class="region" viewBox="0 0 {width} {height}" aria-hidden="true"><rect {numbers}/></svg>'


def _needs_large(hit: Hit) -> bool:
    return hit.place.facts.get("format") not in SHOWN_BY_BROWSERS


def _lines(hit: Hit) -> dict[str, str]:
    """The known facts of a photo by label."""
    facts = hit.place.facts
    known = {
        "Taken": str(facts.get("taken_at") or "").replace("T", " "),
        "Camera": str(facts.get("camera") or ""),
        "Place": _place(facts),
        "Size": f"{facts['width']} × {facts['height']} {facts.get('format') or ''}" if facts.get("width") else "",
        "Video": _video(hit),
        "Keywords": ", ".join(hit.place.keywords),
        "Group": f"and {len(hit.members)} more like it" if hit.members else "",
        "Caption": (hit.place.text if hit.line is None else hit.line.text) or "",
    }
    return {label: text[:MAX_TEXT] for label, text in known.items() if text.strip()}


def _video(hit: Hit) -> str:
    """`0:04 of 1:30`."""
    length = hit.place.facts.get("duration_seconds")
    times = [clock(each) for each in (hit.place.at, length) if each is not None]
    return " of ".join(times)


def _place(facts: Mapping[str, Any]) -> str:
    latitude, longitude = facts.get("latitude"), facts.get("longitude")
    names = [str(facts[name]) for name in ("place", "country") if facts.get(name)]
    if latitude is None or longitude is None:
        return ", ".join(names)
    north, east = "N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W"
    return ", ".join([*names, f"{abs(latitude):.4f}° {north}, {abs(longitude):.4f}° {east}"])


def file_url(path: str) -> str:
    """The file's URL. Names need not be UTF-8."""
    return "file://" + urllib.parse.quote_from_bytes(os.fsencode(path))


def copyable(path: str) -> str:
    """The path to paste into a shell: as it is, or as `$'...'` if it has characters that cannot be pasted."""
    if printable(path) == path:
        return path
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    shown = "".join(character if printable(character) == character else _octal(character) for character in escaped)
    return f"$'{shown}'"


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def _text(text: str) -> str:
    """For an element or a quoted attribute: one line, escaped, without invisible and bidirectional controls."""
    plain = "".join(each if each.isprintable() or each in _JOINERS else " " for each in text)
    return html.escape(" ".join(plain.split()), quote=True)


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


@functools.cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


# The file


def write(path: str, pieces: Iterable[str]) -> int:
    """Write the page atomically and return its size in bytes.

    Raises OSError, and UsageError for an existing file that is not a web page, such as a photo named by mistake.
    """
    target = os.path.realpath(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(target).st_mode):
                with open(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
                    return _written(file, pieces)
            refuse_unless_page(path)
        with replacing(target, mode=0o666, is_durable=False) as new:
            return _written(new, pieces)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from error  # names the given path


def refuse_unless_page(path: str) -> None:
    """Raises UsageError for an existing file that is not empty and not a web page; OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, "rb") as file:
            head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
        if head and not head.startswith((b"<!doctype html", b"<html")):
            raise UsageError(f"{path} exists and is not a web page", hint="choose another name for the sheet")


def _written(file: BinaryIO, pieces: Iterable[str]) -> int:
    return sum(file.write(piece.encode("utf-8")) for piece in pieces)
