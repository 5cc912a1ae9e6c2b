"""XMP packets, embedded or in a sidecar."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .header import MALFORMED, MAX_XMP_BYTES

Place = tuple[float, float, float | None]
"""Latitude, longitude, altitude in metres."""
MAX_LIST_ITEMS = 256

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
class Xmp:
    """The simple properties and lists of a packet: `dc:subject` -> values."""

    values: Mapping[str, list[str]]

    @classmethod
    def parse(cls, data: bytes | None) -> Xmp:
        if not data or len(data) >= MAX_XMP_BYTES:
            return cls({})
        from defusedxml import ElementTree  # type: ignore[import-untyped,unused-ignore]

        try:
            root = ElementTree.fromstring(data.strip(b"\x00 \t\r\n"), forbid_dtd=True)
            return cls(dict(_properties(root)))
        except MALFORMED:
            return cls({})

    @classmethod
    def merged(cls, packets: Iterable[Xmp]) -> Xmp:
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
        altitude = fraction(self.first("exif:GPSAltitude"))
        if altitude is not None and self.first("exif:GPSAltitudeRef").strip() == "1":
            altitude = -altitude
        return place(latitude, longitude, altitude)


def _properties(root: ET.Element) -> Iterator[tuple[str, list[str]]]:
    rdf = root if root.tag == f"{_RDF}RDF" else root.find(f".//{_RDF}RDF")
    for description in rdf if rdf is not None else ():
        for name, value in description.attrib.items():
            if key := _short(name):
                yield key, [value]
        for child in description:
            if key := _short(child.tag):
                items = list(child.iter(f"{_RDF}li"))[:MAX_LIST_ITEMS]
                items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
                yield key, [item.text or "" for item in items] or [child.text or ""]


def _short(name: object) -> str | None:
    """`{http://purl.org/dc/elements/1.1/}title` -> `dc:title`; None for other namespaces."""
    if not isinstance(name, str) or not name.startswith("{"):
        return None
    space, _, local = name[1:].partition("}")
    return f"{_NAMESPACES[space]}:{local}" if space in _NAMESPACES else None


_XMP_DEGREES = re.compile(
    r"([0-9]{1,3})[,:]([0-9]{1,2}(?:\.[0-9]{1,12})?)(?:[,:]([0-9]{1,2}(?:\.[0-9]{1,12})?))?([NSEW])"
)


def _xmp_degrees(text: str, letters: str) -> float | None:
    """`41,24.2028N` or `41,24,12N`."""
    found = _XMP_DEGREES.fullmatch(text.strip())
    if not found or found[4] not in letters:
        return None
    degrees = float(found[1]) + float(found[2]) / 60 + float(found[3] or 0) / 3600
    return -degrees if found[4] in "SW" else degrees


def fraction(text: str) -> float | None:
    found = re.fullmatch(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)(?:/([0-9]{1,12}))?", text.strip())
    if not found or (found[2] and not int(found[2])):
        return None
    return float(found[1]) / int(found[2] or 1)


def place(latitude: float | None, longitude: float | None, altitude: float | None) -> Place | None:
    """Both coordinates or None. A camera without a fix writes 0, 0."""
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    return round(latitude, 7), round(longitude, 7), within(altitude, -12_000, 100_000)


def within(value: float | None, low: float, high: float) -> float | None:
    return float(value) if value is not None and low <= value <= high else None
