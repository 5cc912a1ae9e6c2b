"""What a photo's header and sidecars say about it, as `Facts`.

Metadata is untrusted: what is malformed, out of range or too long counts as missing, and nothing here raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime

from imgsearch.core.paths import extension
from imgsearch.core.types import DateFrom, Facts

from .exif import Directory, Tags
from .header import Header, Iptc, SidecarContent, iptc_text, text_of
from .takeout import Takeout, parse
from .texts import clean, keywords_of, texts_of
from .xmp import Place, Xmp, fraction, place, within

MAX_NAME_CHARACTERS = 100


def facts_of(header: Header, sidecars: Sequence[SidecarContent] = ()) -> Facts:
    """The facts. Where an XMP sidecar and the header disagree, the sidecar wins: editors write there. A Takeout's
    JSON file only adds what is missing, because its time has no zone and its place may be an estimate."""
    tags, embedded = header.tags, Xmp.parse(header.xmp)
    beside = Xmp.merged([Xmp.parse(each.data) for each in sidecars if extension(each.name) == ".xmp"])
    exported = _takeout(sidecars)
    taken_at, offset, date_from = _taken(tags, embedded, beside, header.iptc, exported) or (None, None, None)
    make, model = camera_of(text_of(tags.main, 0x010F), text_of(tags.main, 0x0110))
    its_place = beside.place or _exif_place(tags.gps) or embedded.place or exported.place
    latitude, longitude, altitude = its_place or (None, None, None)
    keywords, keyword_texts = keywords_of(header, embedded, beside, sidecars)
    return Facts(
        format=header.format,
        width=header.width,
        height=header.height,
        orientation=header.orientation,
        taken_at=taken_at,
        taken_offset=offset,
        date_from=date_from,
        camera_make=make,
        camera=model,
        lens=_lens(tags, embedded),
        exposure_seconds=_exposure_seconds(tags.exif),
        f_number=_f_number(tags.exif),
        iso=_iso(tags.exif),
        focal_length_mm=within(tags.exif.number(0x920A), 0.1, 20_000),
        focal_length_35mm=within(tags.exif.number(0xA405), 0.1, 20_000),
        latitude=latitude,
        longitude=longitude,
        altitude_m=altitude,
        rating=_rating(tags, embedded, beside),
        keywords=keywords,
        texts=texts_of(header, embedded, beside, sidecars, exported, keyword_texts),
        problems=(f"{exported.name}: {exported.problem}",) if exported.problem else (),
    )


def _takeout(sidecars: Sequence[SidecarContent]) -> Takeout:
    found = next((each for each in sidecars if extension(each.name) == ".json"), None)
    return parse(found.data, found.name, found.photo) if found else Takeout()


# Numbers


def _exposure_seconds(exif: Directory) -> float | None:
    seconds = exif.number(0x829A)
    if not seconds:
        apex = within(exif.number(0x9201), -20, 30)
        seconds = None if apex is None else 2.0**-apex
    return within(seconds, 1e-9, 1e6)


def _f_number(exif: Directory) -> float | None:
    number = exif.number(0x829D)
    if not number:
        apex = within(exif.number(0x9202), -4, 20)
        number = None if apex is None else round(2.0 ** (apex / 2), 2)
    return within(number, 0.1, 1_000)


def _iso(exif: Directory) -> int | None:
    value = exif.number(0x8827)
    if value in (None, 0, 65535):  # values above 16 bits are in one of the later tags
        value = exif.number(0x8833) if exif.number(0x8833) else exif.number(0x8832)
    found = within(value, 1, 100_000_000)
    return None if found is None else int(found)


def _exif_place(gps: Directory) -> Place | None:
    altitude = gps.number(6)
    below = gps.number(5) == 1 or gps.data(5) == b"\x01"
    return place(
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


def _rating(tags: Tags, embedded: Xmp, beside: Xmp) -> int | None:
    stated = (
        fraction(beside.first("xmp:Rating")),
        tags.main.number(0x4746),
        fraction(embedded.first("xmp:Rating")),
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
EARLIEST_YEAR = 1800  # before photography was invented
LATEST_YEAR = 2100


def _taken(
    tags: Tags, embedded: Xmp, beside: Xmp, iptc: Iptc, exported: Takeout
) -> tuple[str, str | None, DateFrom] | None:
    """When the photo was taken, its offset, and where that was found. EXIF DateTime, the time of the last edit, counts
    only if the photo says nothing else."""
    stated: tuple[tuple[str, str, DateFrom], ...] = (
        *((packet_text, "", "xmp") for packet_text in _xmp_dates(beside)),
        (text_of(tags.exif, 0x9003), text_of(tags.exif, 0x9011), "exif"),
        (text_of(tags.exif, 0x9004), text_of(tags.exif, 0x9012), "exif"),
        *((packet_text, "", "xmp") for packet_text in _xmp_dates(embedded)),
        (_iptc_date(iptc), "", "iptc"),
        (text_of(tags.main, 0x0132), text_of(tags.exif, 0x9010), "exif"),
        (exported.taken_at, "", "takeout"),
    )
    for text, offset, source in stated:
        if moment := moment_of(text):
            return moment[0], moment[1] or _offset(offset), source
    return None


def _xmp_dates(packet: Xmp) -> list[str]:
    return [packet.first(key) for key in ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate")]


def _iptc_date(iptc: Iptc) -> str:
    date = re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", iptc_text(iptc, (2, 55)))
    if not date:
        return ""
    time = re.fullmatch(r"([0-9]{2})([0-9]{2})([0-9]{2})([+-][0-9]{4})?", iptc_text(iptc, (2, 60)))
    return "-".join(date.groups()) + (f"T{time[1]}:{time[2]}:{time[3]}{time[4] or ''}" if time else "")


def moment_of(text: str) -> tuple[str, str | None] | None:
    """A date and time as ISO 8601, and its offset if it has one."""
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


def camera_of(stated_make: str, stated_model: str) -> tuple[str | None, str | None]:
    """Make and model as stated in a header, the model without the make."""
    make, model = _name(stated_make), _name(stated_model)
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


def _lens(tags: Tags, embedded: Xmp) -> str | None:
    for text in (text_of(tags.exif, 0xA434), embedded.first("aux:Lens"), embedded.first("exifEX:LensModel")):
        name = _name(text)
        if name and re.search(r"[^\W\d_]", name) and re.search(r"[1-9]|[^\W\d_]{3}", name):
            return name
    return None


def _name(text: str) -> str | None:
    return clean(text, MAX_NAME_CHARACTERS) or None
