"""What a photo's header, and the sidecars beside it, say of it.

`header_of` collects the raw material from an opened picture, `facts_of` makes `Facts` of it. Metadata is
written by anybody and trusted by nobody: what is malformed, out of range or too long is absent, and nothing
in here raises.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from imgsearch.core.paths import extension, printable
from imgsearch.core.photos.exif import Directory, Tags, read_tags, tags_in
from imgsearch.core.types import CarriedText, Facts, Sidecar

if TYPE_CHECKING:
    from PIL import Image

MAX_TEXTS = 16
MAX_TEXT_CHARACTERS = 2_000
MAX_KEYWORDS = 64
MAX_KEYWORD_CHARACTERS = 100
MAX_NAME_CHARACTERS = 100
# XMP grows with edit history and embedded thumbnails; beyond this it is not read at all.
MAX_XMP_BYTES = 4 * 1024 * 1024
MAX_TEXT_SIDECAR_BYTES = 64 * 1024
MAX_FRAGMENT_CHARACTERS = 20_000

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a parser may raise over somebody else's bytes."""

Role = Literal["title", "headline", "description", "comment", "keywords", "beside"]
Place = tuple[float, float, float | None]
"""Latitude, longitude, altitude in metres."""


@dataclass(frozen=True, slots=True)
class Header:
    """The raw material of `Facts`. Sizes are in pixels, upright."""

    format: str
    width: int
    height: int
    orientation: int
    tags: Tags
    xmp: bytes | None = None
    iptc: Mapping[tuple[int, int], object] = field(default_factory=dict)
    named_texts: Mapping[str, str] = field(default_factory=dict)
    """PNG's text chunks that hold words for people: key -> text."""


@dataclass(frozen=True, slots=True)
class SidecarContent:
    """What a sidecar's bytes were."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Text:
    role: Role
    source: str
    text: str


def header_of(image: Image.Image, file: BinaryIO) -> Header:
    """The header of a picture that was opened from `file` and is not loaded yet; decodes no pixels."""
    info = image.info
    own = image.format or "?"
    tags = read_tags(file) if own == "TIFF" else tags_in(_exif_block(info))
    xmp = _xmp_block(info) or (tags.main.data(0x02BC, MAX_XMP_BYTES) if own == "TIFF" else None)
    if own == "HEIF":  # the decoder turns the pixels itself and keeps what the header said
        stored = info.get("original_orientation")
        orientation = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1
    else:
        orientation = _orientation(tags, xmp)
    width, height = image.size
    if orientation >= 5 and not is_turned_by_decoder(image):
        width, height = height, width
    texts = {key: info[key] for key in _PNG_TEXTS if isinstance(info.get(key), str)} if own == "PNG" else {}
    return Header(own, width, height, orientation, tags, xmp, _iptc_of(image), texts)


def is_turned_by_decoder(image: Image.Image) -> bool:
    """Whether the picture's size, and its pixels once loaded, are upright already."""
    return image.format in ("TIFF", "HEIF")


def facts_of(header: Header, sidecars: Sequence[SidecarContent] = ()) -> Facts:
    """The facts; where sidecar and header disagree, the sidecar is right: that is where editors write."""
    tags, embedded = header.tags, _Xmp.parse(header.xmp)
    beside = _Xmp.merged([_Xmp.parse(each.data) for each in sidecars if extension(each.name) == ".xmp"])
    taken_at, offset = _taken(tags, embedded, beside, header.iptc) or (None, None)
    make, model = _camera(tags)
    place = beside.place or _exif_place(tags.gps) or embedded.place or (None, None, None)
    keywords, keyword_texts = _keywords(tags, embedded, beside, header.iptc, sidecars)
    return Facts(
        format=header.format,
        width=header.width,
        height=header.height,
        orientation=header.orientation,
        taken_at=taken_at,
        taken_offset=offset,
        camera_make=make,
        camera=model,
        lens=_lens(tags, embedded),
        exposure_seconds=_exposure_seconds(tags.exif),
        f_number=_f_number(tags.exif),
        iso=_iso(tags.exif),
        focal_length_mm=_within(tags.exif.number(0x920A), 0.1, 20_000),
        focal_length_35mm=_within(tags.exif.number(0xA405), 0.1, 20_000),
        latitude=place[0],
        longitude=place[1],
        altitude_m=place[2],
        rating=_rating(tags, embedded, beside),
        keywords=keywords,
        texts=_texts(header, embedded, beside, sidecars, keyword_texts),
    )


def read_sidecars(path: str, sidecars: Sequence[Sidecar]) -> list[SidecarContent]:
    """The bytes of the sidecars that lie beside the photo; one that cannot be read is passed over."""
    folder = os.path.dirname(path)
    contents = []
    for sidecar in sidecars:
        name = os.path.basename(sidecar.relpath)
        limit = MAX_XMP_BYTES if extension(name) == ".xmp" else MAX_TEXT_SIDECAR_BYTES
        data = _read_regular(os.path.join(folder, name), limit)
        if data is not None:
            contents.append(SidecarContent(name, data))
    return contents


def _read_regular(path: str, limit: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError:
        return None
    finally:
        os.close(descriptor)


# Where Pillow puts things

_PNG_TEXTS: dict[str, Role] = {
    "Title": "title",
    "Description": "description",
    "Caption": "description",
    "Comment": "comment",
}


def _exif_block(info: Mapping[Any, Any]) -> bytes:
    block = info.get("exif")
    if isinstance(block, bytes):
        return block
    profile = info.get("Raw profile type exif")  # ImageMagick's way: three lines of header, then hex
    if isinstance(profile, str):
        try:
            return bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            pass
    return b""


def _xmp_block(info: Mapping[Any, Any]) -> bytes | None:
    for key in ("xmp", "XML:com.adobe.xmp"):
        block = info.get(key)
        if isinstance(block, str):
            return block.encode("utf-8", errors="replace")
        if isinstance(block, bytes) and block:
            return block
    return None


def _iptc_of(image: Image.Image) -> Mapping[tuple[int, int], object]:
    if image.format not in ("JPEG", "MPO", "TIFF"):
        return {}
    from PIL import ImageFile, IptcImagePlugin

    try:
        found = IptcImagePlugin.getiptcinfo(image) if isinstance(image, ImageFile.ImageFile) else None
    except MALFORMED:
        return {}
    return found or {}


_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")


def _orientation(tags: Tags, xmp: bytes | None) -> int:
    """EXIF decides; only where it has no orientation at all does XMP's count."""
    if 0x0112 not in tags.main and xmp and (found := _XMP_ORIENTATION.search(xmp[:MAX_XMP_BYTES])):
        return int(found[1])
    return tags.orientation


# XMP

_NAMESPACES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://cipa.jp/exif/1.0/": "exifEX",
}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True, slots=True)
class _Xmp:
    """The simple properties and lists of a packet: `dc:subject` -> its values."""

    values: Mapping[str, list[str]]

    @classmethod
    def parse(cls, data: bytes | None) -> _Xmp:
        if not data or len(data) >= MAX_XMP_BYTES:
            return cls({})
        from defusedxml import ElementTree  # type: ignore[import-untyped,unused-ignore]

        try:
            root = ElementTree.fromstring(data.strip(b"\x00 \t\r\n"), forbid_dtd=True)
            return cls(dict(_properties(root)))
        except MALFORMED:
            return cls({})

    @classmethod
    def merged(cls, packets: Iterable[_Xmp]) -> _Xmp:
        values: dict[str, list[str]] = {}
        for packet in packets:
            for key, found in packet.values.items():
                values.setdefault(key, found)
        return cls(values)

    def first(self, key: str) -> str:
        return next(iter(self.values.get(key, ())), "")

    @property
    def place(self) -> Place | None:
        latitude = _xmp_degrees(self.first("exif:GPSLatitude"), "NS")
        longitude = _xmp_degrees(self.first("exif:GPSLongitude"), "EW")
        altitude = _fraction(self.first("exif:GPSAltitude"))
        if altitude is not None and self.first("exif:GPSAltitudeRef").strip() == "1":
            altitude = -altitude
        return _place(latitude, longitude, altitude)


def _properties(root: ET.Element) -> Iterator[tuple[str, list[str]]]:
    rdf = root if root.tag == f"{_RDF}RDF" else root.find(f".//{_RDF}RDF")
    for description in rdf if rdf is not None else ():
        for name, value in description.attrib.items():
            if key := _short(name):
                yield key, [value]
        for child in description:
            if key := _short(child.tag):
                items = list(child.iter(f"{_RDF}li"))[: 4 * MAX_KEYWORDS]
                items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
                yield key, [item.text or "" for item in items] or [child.text or ""]


def _short(name: object) -> str | None:
    """`{http://purl.org/dc/elements/1.1/}title` -> `dc:title`; None for what nobody here asks for."""
    if not isinstance(name, str) or not name.startswith("{"):
        return None
    space, _, local = name[1:].partition("}")
    return f"{_NAMESPACES[space]}:{local}" if space in _NAMESPACES else None


_XMP_DEGREES = re.compile(
    r"([0-9]{1,3})[,:]([0-9]{1,2}(?:\.[0-9]{1,12})?)(?:[,:]([0-9]{1,2}(?:\.[0-9]{1,12})?))?([NSEW])"
)


def _xmp_degrees(text: str, letters: str) -> float | None:
    """`41,24.2028N` and `41,24,12N`."""
    found = _XMP_DEGREES.fullmatch(text.strip())
    if not found or found[4] not in letters:
        return None
    degrees = float(found[1]) + float(found[2]) / 60 + float(found[3] or 0) / 3600
    return -degrees if found[4] in "SW" else degrees


def _fraction(text: str) -> float | None:
    found = re.fullmatch(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)(?:/([0-9]{1,12}))?", text.strip())
    if not found or (found[2] and not int(found[2])):
        return None
    return float(found[1]) / int(found[2] or 1)


# Numbers


def _within(value: float | None, low: float, high: float) -> float | None:
    return float(value) if value is not None and low <= value <= high else None


def _exposure_seconds(exif: Directory) -> float | None:
    seconds = exif.number(0x829A)
    if not seconds:
        apex = _within(exif.number(0x9201), -20, 30)
        seconds = None if apex is None else 2.0**-apex
    return _within(seconds, 1e-9, 1e6)


def _f_number(exif: Directory) -> float | None:
    number = exif.number(0x829D)
    if not number:
        apex = _within(exif.number(0x9202), -4, 20)
        number = None if apex is None else round(2.0 ** (apex / 2), 2)
    return _within(number, 0.1, 1_000)


def _iso(exif: Directory) -> int | None:
    value = exif.number(0x8827)
    if value in (None, 0, 65535):  # more than 16 bits hold stands in one of the later tags
        value = exif.number(0x8833) if exif.number(0x8833) else exif.number(0x8832)
    found = _within(value, 1, 100_000_000)
    return None if found is None else int(found)


def _exif_place(gps: Directory) -> Place | None:
    altitude = gps.number(6)
    below = gps.number(5) == 1 or gps.data(5) == b"\x01"
    return _place(
        _exif_degrees(gps, 1, 2, "S"),
        _exif_degrees(gps, 3, 4, "W"),
        -altitude if altitude is not None and below else altitude,
    )


def _exif_degrees(gps: Directory, ref: int, tag: int, negative: str) -> float | None:
    parts = gps.numbers(tag)[:3]
    if not parts or not all(math.isfinite(part) and part >= 0 for part in parts):
        return None
    if any(part > 60 for part in parts[1:]):
        return None
    degrees = math.fsum(part / 60.0**power for power, part in enumerate(parts))
    letter = (gps.data(ref) or b"").strip(b"\x00 ").upper()[:1]
    return -degrees if letter == negative.encode() else degrees


def _place(latitude: float | None, longitude: float | None, altitude: float | None) -> Place | None:
    """Both coordinates or neither. 0, 0 is what cameras write that have no fix."""
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return round(latitude, 7), round(longitude, 7), _within(altitude, -12_000, 100_000)


def _rating(tags: Tags, embedded: _Xmp, beside: _Xmp) -> int | None:
    stated = (
        _fraction(beside.first("xmp:Rating")),
        tags.main.number(0x4746),
        _fraction(embedded.first("xmp:Rating")),
    )
    for value in stated:
        if value is not None and -1 <= value <= 5:
            return round(value)
    return None


# Time

_DATE = re.compile(
    r"([0-9]{4})[:/.-]([0-9]{1,2})[:/.-]([0-9]{1,2})"
    r"(?:[T ]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,][0-9]{1,9})?)?)?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
EARLIEST_YEAR = 1800  # before photography nobody dated a photograph
LATEST_YEAR = 2100


def _taken(
    tags: Tags, embedded: _Xmp, beside: _Xmp, iptc: Mapping[tuple[int, int], object]
) -> tuple[str, str | None] | None:
    """When the shutter opened; the file's date of change (EXIF DateTime) only if nothing better is known."""
    stated = (
        *((packet_text, "") for packet_text in _xmp_dates(beside)),
        (_ascii(tags.exif, 0x9003), _ascii(tags.exif, 0x9011)),
        (_ascii(tags.exif, 0x9004), _ascii(tags.exif, 0x9012)),
        *((packet_text, "") for packet_text in _xmp_dates(embedded)),
        (_iptc_date(iptc), ""),
        (_ascii(tags.main, 0x0132), _ascii(tags.exif, 0x9010)),
    )
    for text, offset in stated:
        if moment := _moment(text):
            return moment[0], moment[1] or _offset(offset)
    return None


def _xmp_dates(packet: _Xmp) -> list[str]:
    return [packet.first(key) for key in ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate")]


def _iptc_date(iptc: Mapping[tuple[int, int], object]) -> str:
    date = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", _iptc_text(iptc, (2, 55)))
    if not date:
        return ""
    time = re.fullmatch(r"([0-9]{2})([0-9]{2})([0-9]{2})([+-][0-9]{4})?", _iptc_text(iptc, (2, 60)))
    return "-".join(date.groups()) + (f"T{time[1]}:{time[2]}:{time[3]}{time[4] or ''}" if time else "")


def _moment(text: str) -> tuple[str, str | None] | None:
    found = _DATE.fullmatch(text.strip())
    if not found:
        return None
    try:
        moment = datetime(*(int(part or 0) for part in found.groups()[:6]))  # type: ignore[arg-type]
    except ValueError:
        return None
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        return None
    return moment.isoformat(timespec="seconds"), _offset(found[7] or "")


def _offset(text: str) -> str | None:
    """`+02:00` from `+02:00`, `+0200` or `Z`."""
    if text.strip() == "Z":
        return "+00:00"
    found = re.fullmatch(r"([+-])([0-9]{2}):?([0-5][0-9])", text.strip())
    return f"{found[1]}{found[2]}:{found[3]}" if found and int(found[2]) <= 14 else None


# Names


def _ascii(directory: Directory, tag: int) -> str:
    """A tag's text; bytes that are not UTF-8 are read as Windows' Latin."""
    raw = directory.data(tag, MAX_FRAGMENT_CHARACTERS) or b""
    return _decoded(raw.split(b"\x00")[0] or raw.replace(b"\x00", b""))


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _camera(tags: Tags) -> tuple[str | None, str | None]:
    make = _name(_ascii(tags.main, 0x010F))
    model = _name(_ascii(tags.main, 0x0110))
    if make and model:
        model = _without_make(make.split(), model.split())
    return make, model


def _without_make(make: list[str], model: list[str]) -> str:
    """`Canon`, `Canon EOS 6D` -> `EOS 6D`; `NIKON CORPORATION`, `NIKON D70` -> `D70`."""
    for repeated in (make, make[:1]):
        head = [word.casefold() for word in model[: len(repeated)]]
        if len(model) > len(repeated) and head == [word.casefold() for word in repeated]:
            return " ".join(model[len(repeated) :])
    return " ".join(model)


def _lens(tags: Tags, embedded: _Xmp) -> str | None:
    for text in (_ascii(tags.exif, 0xA434), embedded.first("aux:Lens"), embedded.first("exifEX:LensModel")):
        name = _name(text)
        if name and re.search(r"[^\W\d_]", name) and re.search(r"[1-9]|[^\W\d_]{3}", name):
            return name
    return None


def _name(text: str) -> str | None:
    return clean(text, MAX_NAME_CHARACTERS) or None


# Texts


def clean(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """One line of at most `limit` characters: no control characters, no lone surrogates, no double blanks."""
    composed = unicodedata.normalize("NFC", text[:MAX_FRAGMENT_CHARACTERS])
    spaced = "".join(" " if character.isspace() else character for character in composed)
    kept = "".join(character for character in spaced if unicodedata.category(character) not in ("Cc", "Cs", "Cn"))
    return " ".join(kept.split())[:limit].rstrip()


_BOILERPLATE = {
    each.strip()
    for line in """
    olympus digital camera|sony dsc|exif_jpeg_picture|exif jpeg picture|exif_jpeg_t422|jpeg_picture|jfif
    samsung camera pictures|samsung digimax|samsung csc|samsung|minolta digital camera|applemark|xmp
    konica minolta|konica minolta digital camera|kodak digital still camera|digital camera
    digital still camera|digital image|camera|asus|default|default title|default_title|untitled
    image|images|photo|picture|no description
    description|title|caption|comment|comments|keywords|none|null|n/a|na|nil|unknown|undefined|empty|test|exif
    binary comment|user comments|my photo|new image|image description|mytext|vsco
    hdrpl|edf|cof|dav|rbt|ptr|sdr|mde|oznor|oznorhb|oznorcd|nor|fbt|vhdr|rhdr|bhdr|btf|rpt|bst
    """.splitlines()
    for each in line.split("|")
    if each.strip()
}
"""Whole texts, case-folded, of cameras, forms and scanners; the last line is what phones call their modes."""
_BOILERPLATE_START = re.compile(
    r"konica minolta\b|dcim\b|fbmd[0-9a-f]|charset=|<digimax|\(null\)|\?{3}|maker:|software:|creator: gd"
    r"|file written by"
)
_SOFTWARE = re.compile(
    r"((created|made|edited|processed|generated|optimi[sz]ed) (with|by|using|in) )?(the )?"
    r"(adobe |google |microsoft )?"
    r"(gimp|photoshop|imageready|illustrator|lightroom|picasa|snapseed|paint(\.net)?|imagemagick|office|vsco"
    r"|canva|acd systems|lead technologies|ulead|handmade software|intel\(r\)|jpegmini|acdsee|darktable|digikam)"
    r"\b[^a-z]*((inc|jpeg|library|version|c[cs][0-9]?|elements|express|digital|imaging|systems|image alchemy|preset"
    r"|with|v|x|windows|macintosh|android|ios|classic|professional|pro)\b[^a-z]*){0,6}([a-z][0-9]+ preset)?"
)
_VERSION = re.compile(r"\b(version|ver\.?|v) ?[0-9]+\.[0-9]")
_FILE_NAME = re.compile(
    r"[^/\\]{0,80}\.(jpe?g|jpe|png|gif|tiff?|bmp|webp|hei[cf]|avif|jxl|raw|dng|nef|cr[23]|arw|psd|mov|mp4)"
)
_FILE_STEM = re.compile(r"[a-z]{0,12}[_-]?[a-z]{0,4}[0-9]{3,40}([_.~()-][a-z0-9]{0,12}){0,3}[a-z]{0,2}")
_LONG_TOKEN = re.compile(r"[!-~]{48}")


def is_boilerplate(text: str) -> bool:
    """Whether a cleaned text says nothing of the photo: a device's words, a file name, a number, a dump."""
    folded = text.casefold().strip(" .,:;-_*'\"")
    letters = sum(character.isalpha() for character in folded)
    is_ideographic = any(ord(character) > 0x2E7F for character in folded)  # one character can be a word
    return (
        (letters < 2 and not is_ideographic)
        or 3 * letters < len(folded) - 12
        or folded in _BOILERPLATE
        or folded.startswith(("{", "[", "<?xml", "<x:"))
        or _BOILERPLATE_START.match(folded) is not None
        or (len(folded) <= 80 and _SOFTWARE.fullmatch(folded) is not None)
        or (len(folded) <= 80 and _VERSION.search(folded) is not None)
        or (len(folded) <= 80 and _FILE_NAME.fullmatch(folded) is not None)
        or (len(folded) <= 40 and _FILE_STEM.fullmatch(folded) is not None)
        or (_LONG_TOKEN.search(folded) is not None and "://" not in folded)
    )


def _texts(
    header: Header,
    embedded: _Xmp,
    beside: _Xmp,
    sidecars: Sequence[SidecarContent],
    keyword_texts: Sequence[_Text],
) -> tuple[CarriedText, ...]:
    names = _device_names(header.tags)
    kept: dict[str, CarriedText] = {}
    beside_texts = list(_sidecar_texts(beside, sidecars))
    overruled = {each.role for each in beside_texts if clean(each.text)}
    own_texts = (each for each in _embedded_texts(header, embedded) if each.role not in overruled)
    for each in (*beside_texts, *own_texts, *keyword_texts):
        text = clean(each.text)
        if text and text.casefold() not in names and not is_boilerplate(text):
            kept.setdefault(text.casefold(), CarriedText(text, each.source))
    return tuple(kept.values())[:MAX_TEXTS]


def _sidecar_texts(beside: _Xmp, sidecars: Sequence[SidecarContent]) -> Iterator[_Text]:
    packets = next((f"sidecar:{printable(each.name)}" for each in sidecars if extension(each.name) == ".xmp"), "")
    for key, role in _XMP_TEXTS.items():
        yield _Text(role, f"{packets}:{key}", beside.first(key))
    for each in sidecars:
        if extension(each.name) == ".txt":
            # A text beside the photo adds to what the photo says; it overrules nothing.
            yield _Text("beside", f"sidecar:{printable(each.name)}", _text_file(each.data))


def _text_file(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    return _decoded(data.removeprefix(b"\xef\xbb\xbf"))


_XMP_TEXTS: dict[str, Role] = {
    "dc:title": "title",
    "photoshop:Headline": "headline",
    "dc:description": "description",
    "exif:UserComment": "comment",
}


def _embedded_texts(header: Header, xmp: _Xmp) -> Iterator[_Text]:
    tags, iptc = header.tags, header.iptc
    for key, role in _XMP_TEXTS.items():
        yield _Text(role, f"xmp:{key}", xmp.first(key))
    yield _Text("title", "iptc:object-name", _iptc_text(iptc, (2, 5)))
    yield _Text("headline", "iptc:headline", _iptc_text(iptc, (2, 105)))
    yield _Text("description", "iptc:caption", _iptc_text(iptc, (2, 120)))
    yield _Text("title", "exif:XPTitle", _utf16(tags.main, 0x9C9B))
    yield _Text("description", "exif:ImageDescription", _ascii(tags.main, 0x010E))
    yield _Text("description", "exif:XPSubject", _utf16(tags.main, 0x9C9F))
    yield _Text("comment", "exif:XPComment", _utf16(tags.main, 0x9C9C))
    yield _Text("comment", "exif:UserComment", _user_comment(tags.exif))
    for key, text in header.named_texts.items():
        yield _Text(_PNG_TEXTS[key], f"png:{key}", _unmangled(text))


def _device_names(tags: Tags) -> set[str]:
    """What the device and its software are called: no description of a photo."""
    make, model, software = (clean(_ascii(tags.main, tag)).casefold() for tag in (0x010F, 0x0110, 0x0131))
    return {make, model, software, f"{make} {model}"}


def _keywords(
    tags: Tags,
    embedded: _Xmp,
    beside: _Xmp,
    iptc: Mapping[tuple[int, int], object],
    sidecars: Sequence[SidecarContent],
) -> tuple[tuple[str, ...], list[_Text]]:
    """All keywords in order, each once, and the one text they make together."""
    name = next(
        (f"sidecar:{printable(each.name)}:dc:subject" for each in sidecars if extension(each.name) == ".xmp"),
        "",
    )
    found: dict[str, str] = {}
    source = ""
    for origin, words in (
        (name, beside.values.get("dc:subject", [])),
        ("xmp:dc:subject", embedded.values.get("dc:subject", [])),
        ("iptc:keywords", _iptc_texts(iptc, (2, 25))),
        ("exif:XPKeywords", _utf16(tags.main, 0x9C9E).split(";")),
    ):
        for word in words[: 4 * MAX_KEYWORDS]:
            kept = clean(word, MAX_KEYWORD_CHARACTERS)
            if any(character.isalnum() for character in kept):
                found.setdefault(kept.casefold(), kept)
                source = source or origin
        if found and origin == name:
            break  # the sidecar's list is the whole list: a keyword taken away there is gone
    keywords = tuple(found.values())[:MAX_KEYWORDS]
    return keywords, [_Text("keywords", source, ", ".join(keywords))] if keywords else []


def _iptc_texts(iptc: Mapping[tuple[int, int], object], key: tuple[int, int]) -> list[str]:
    found = iptc.get(key)
    values = found if isinstance(found, list) else [found]
    return [
        _decoded(value[:MAX_FRAGMENT_CHARACTERS]) for value in values[: 4 * MAX_KEYWORDS] if isinstance(value, bytes)
    ]


def _iptc_text(iptc: Mapping[tuple[int, int], object], key: tuple[int, int]) -> str:
    return next(iter(_iptc_texts(iptc, key)), "").strip("\x00 ")


def _utf16(directory: Directory, tag: int) -> str:
    raw = directory.data(tag, MAX_FRAGMENT_CHARACTERS) or b""
    return raw.decode("utf-16-le", errors="replace").split("\x00")[0]


def _user_comment(exif: Directory) -> str:
    raw = exif.data(0x9286, MAX_FRAGMENT_CHARACTERS) or b""
    charset, body = raw[:8].rstrip(b"\x00 "), raw[8:]
    if charset == b"UNICODE":
        return _utf16_either_way(body, little=exif.is_little_endian)
    if charset == b"JIS":
        return body.decode("iso2022_jp", errors="replace")
    if charset in (b"ASCII", b""):
        return _decoded(body.split(b"\x00")[0])
    return _decoded(raw.split(b"\x00")[0])  # written without its prefix


def _utf16_either_way(body: bytes, *, little: bool) -> str:
    """UTF-16 in whichever byte order makes words: writers disagree on whether EXIF's own order counts."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", errors="replace")
    if b"\x00" not in body.rstrip(b"\x00") and body.isascii():
        return _decoded(body.rstrip(b"\x00"))  # not UTF-16 at all, whatever the prefix says
    orders = ("utf-16-le", "utf-16-be") if little else ("utf-16-be", "utf-16-le")
    readings = [body.decode(order, errors="replace").split("\x00")[0] for order in orders]
    return max(readings, key=_wordiness)


def _wordiness(text: str) -> float:
    """Two points for a letter of an alphabet, one for an ideograph or a syllable, none for anything else."""
    blocks = [ord(character) >> 8 for character in text]
    return sum(2 if block < 0x11 else 0x30 <= block <= 0xD7 for block in blocks) / max(1, len(blocks))


def _unmangled(text: str) -> str:
    """A Latin-1 text that is UTF-8 by its bytes, as many programs write PNG's text chunks."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text
