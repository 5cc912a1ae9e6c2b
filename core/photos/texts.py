"""The texts and keywords that a photo carries in its header and its sidecars, without those of its camera."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from imgsearch.core.paths import extension, printable
from imgsearch.core.types import CarriedText

from .exif import Directory, Tags
from .header import MAX_FRAGMENT_CHARACTERS, Header, SidecarContent, decoded, iptc_text, iptc_texts, text_of
from .takeout import Takeout
from .xmp import Xmp

MAX_TEXTS = 16
MAX_TEXT_CHARACTERS = 2_000
MAX_KEYWORDS = 64
MAX_KEYWORD_CHARACTERS = 100

Role = Literal["title", "headline", "description", "comment", "keywords", "beside"]
_PNG_TEXTS: dict[str, Role] = {
    "Title": "title",
    "Description": "description",
    "Caption": "description",
    "Comment": "comment",
}


@dataclass(frozen=True, slots=True)
class _Text:
    role: Role
    source: str
    text: str


def clean(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """One line of at most `limit` characters, without control characters, lone surrogates or double spaces."""
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
"""Whole texts, case-folded, that cameras, forms and scanners write. The last line has modes of phones."""
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
    """Whether a cleaned text says nothing about the photo: a device's text, a file name, a number, a dump."""
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


def texts_of(
    header: Header,
    embedded: Xmp,
    beside: Xmp,
    sidecars: Sequence[SidecarContent],
    exported: Takeout,
    keyword_texts: Sequence[_Text],
) -> tuple[CarriedText, ...]:
    """Each text once, those of sidecars first. A sidecar's title replaces the header's, and so on."""
    names = _device_names(header.tags)
    kept: dict[str, CarriedText] = {}
    beside_texts = list(_sidecar_texts(beside, sidecars, exported))
    replaced = {each.role for each in beside_texts if clean(each.text)}
    own_texts = (each for each in _embedded_texts(header, embedded) if each.role not in replaced)
    for each in (*beside_texts, *own_texts, *keyword_texts):
        text = clean(each.text)
        if text and text.casefold() not in names and not is_boilerplate(text):
            kept.setdefault(text.casefold(), CarriedText(text, each.source))
    return tuple(kept.values())[:MAX_TEXTS]


def _sidecar_texts(beside: Xmp, sidecars: Sequence[SidecarContent], exported: Takeout) -> Iterator[_Text]:
    packets = next((f"sidecar:{printable(each.name)}" for each in sidecars if extension(each.name) == ".xmp"), "")
    for key, role in _XMP_TEXTS.items():
        yield _Text(role, f"{packets}:{key}", beside.first(key))
    for each in sidecars:
        if extension(each.name) == ".txt":
            # A text file adds to the texts in the header and replaces none. So does a Takeout.
            yield _Text("beside", f"sidecar:{printable(each.name)}", _text_file(each.data))
    yield _Text("beside", f"sidecar:{printable(exported.name)}:description", exported.description)


def _text_file(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    return decoded(data.removeprefix(b"\xef\xbb\xbf"))


_XMP_TEXTS: dict[str, Role] = {
    "dc:title": "title",
    "photoshop:Headline": "headline",
    "dc:description": "description",
    "exif:UserComment": "comment",
}


def _embedded_texts(header: Header, xmp: Xmp) -> Iterator[_Text]:
    tags, iptc = header.tags, header.iptc
    for key, role in _XMP_TEXTS.items():
        yield _Text(role, f"xmp:{key}", xmp.first(key))
    yield _Text("title", "iptc:object-name", iptc_text(iptc, (2, 5)))
    yield _Text("headline", "iptc:headline", iptc_text(iptc, (2, 105)))
    yield _Text("description", "iptc:caption", iptc_text(iptc, (2, 120)))
    yield _Text("title", "exif:XPTitle", _utf16(tags.main, 0x9C9B))
    yield _Text("description", "exif:ImageDescription", text_of(tags.main, 0x010E))
    yield _Text("description", "exif:XPSubject", _utf16(tags.main, 0x9C9F))
    yield _Text("comment", "exif:XPComment", _utf16(tags.main, 0x9C9C))
    yield _Text("comment", "exif:UserComment", _user_comment(tags.exif))
    for key, text in header.named_texts.items():
        yield _Text(_PNG_TEXTS[key], f"png:{key}", _unmangled(text))


def _device_names(tags: Tags) -> set[str]:
    """The names of the device and its software, which do not describe the photo."""
    make, model, software = (clean(text_of(tags.main, tag)).casefold() for tag in (0x010F, 0x0110, 0x0131))
    return {make, model, software, f"{make} {model}"}


def keywords_of(
    header: Header,
    embedded: Xmp,
    beside: Xmp,
    sidecars: Sequence[SidecarContent],
) -> tuple[tuple[str, ...], list[_Text]]:
    """All keywords in order, each once; and one text of all of them."""
    tags, iptc = header.tags, header.iptc
    name = next(
        (f"sidecar:{printable(each.name)}:dc:subject" for each in sidecars if extension(each.name) == ".xmp"),
        "",
    )
    found: dict[str, str] = {}
    source = ""
    for origin, words in (
        (name, beside.values.get("dc:subject", [])),
        ("xmp:dc:subject", embedded.values.get("dc:subject", [])),
        ("iptc:keywords", iptc_texts(iptc, (2, 25))),
        ("exif:XPKeywords", _utf16(tags.main, 0x9C9E).split(";")),
    ):
        for word in words[: 4 * MAX_KEYWORDS]:
            kept = clean(word, MAX_KEYWORD_CHARACTERS)
            if any(character.isalnum() for character in kept):
                found.setdefault(kept.casefold(), kept)
                source = source or origin
        if found and origin == name:
            break  # the sidecar has the complete list: a keyword removed there is gone
    keywords = tuple(found.values())[:MAX_KEYWORDS]
    return keywords, [_Text("keywords", source, ", ".join(keywords))] if keywords else []


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
        return decoded(body.split(b"\x00")[0])
    return decoded(raw.split(b"\x00")[0])  # written without its prefix


def _utf16_either_way(body: bytes, *, little: bool) -> str:
    """UTF-16 in the byte order that gives words: writers disagree on whether EXIF's own order applies."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", errors="replace")
    if b"\x00" not in body.rstrip(b"\x00") and body.isascii():
        return decoded(body.rstrip(b"\x00"))  # not UTF-16, although the prefix says so
    orders = ("utf-16-le", "utf-16-be") if little else ("utf-16-be", "utf-16-le")
    readings = [body.decode(order, errors="replace").split("\x00")[0] for order in orders]
    return max(readings, key=_wordiness)


def _wordiness(text: str) -> float:
    """Two points for a letter of an alphabet, one for an ideograph or a syllable, none for anything else."""
    blocks = [ord(character) >> 8 for character in text]
    return sum(2 if block < 0x11 else 0x30 <= block <= 0xD7 for block in blocks) / max(1, len(blocks))


def _unmangled(text: str) -> str:
    """Many programs write UTF-8 into PNG text chunks, which are defined as Latin-1."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text
