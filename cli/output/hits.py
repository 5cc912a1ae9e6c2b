"""Prints hits: for a terminal, as columns, as bare paths, or as JSON Lines."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgsearch.core.paths import clock, path_fields, printable

from . import render

if TYPE_CHECKING:
    from imgsearch.core.search.grouping import Hit
    from imgsearch.core.types import Region

    from .previews import Previews

FACTS = (
    "format",
    "camera_make",
    "camera",
    "lens",
    "exposure_seconds",
    "f_number",
    "iso",
    "focal_length_mm",
    "focal_length_35mm",
    "latitude",
    "longitude",
    "altitude_m",
    "place",
    "place_district",
    "place_region",
    "country",
    "country_code",
    "rating",
    "is_damaged",
    "duration_seconds",
)
"""What `--metadata` adds, with `size`, `modified_at` and `keywords`."""

FIELDS = (
    "query",
    "rank",
    "score",
    "method",
    "cosine",
    "z",
    "percentile",
    "probability",
    "path",
    "root",
    "modality",
    "taken_at",
    "date_from",
    "width",
    "height",
    "model",
    "region",
    "at",
    "text",
    "text_source",
    "line",
    "line_source",
    "line_region",
    "pair",
    "members",
    "size",
    "modified_at",
    "keywords",
    *FACTS,
)
"""The names that `--fields` takes."""


class HitPrinter:
    """Prints hits in the chosen format."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        paths: bool = False,
        print0: bool = False,
        has_many: bool = False,
        metadata: bool = False,
        fields: tuple[str, ...] = (),
        previews: Previews | None = None,
    ) -> None:
        self.as_json = as_json
        self._paths = paths
        self._print0 = print0
        self._has_many = has_many
        self._metadata = metadata
        self._fields = fields
        self._previews = previews

    @property
    def shows_statistics(self) -> bool:
        return self.as_json or not {"z", "percentile"}.isdisjoint(self._fields)

    def print(self, hits: Sequence[Hit]) -> None:
        is_table = render.is_terminal() and not (self.as_json or self._paths or self._print0 or self._fields)
        if self._has_many and hits and is_table:
            render.emit(render.painted(printable(hits[0].query), render.BOLD, sys.stdout))
        if is_table and self._previews:
            for hit, drawing in zip(hits, self._previews.of(hits), strict=True):
                render.emit(drawing, end=b"")
                self._print_row(hit)
                render.flush()
            return
        for hit in hits:
            if self.as_json:
                render.emit_json(self._record(hit))
            elif self._print0:
                render.emit(os.fsencode(hit.path), end=b"\0")
            elif self._paths:
                render.emit(render.shown(hit.path))
            elif self._fields:
                render.emit(b"\t".join(_shown(_cell(_exact(hit, name))) for name in self._fields))
            elif is_table:
                self._print_row(hit)
            else:
                self._print_columns(hit)

    def _record(self, hit: Hit) -> dict[str, object]:
        if not self._fields:
            return hit_record(hit, metadata=self._metadata)
        record = hit_record(hit, metadata=True)
        wanted = {name: record.get(name) for name in self._fields}
        return wanted | {key: record[key] for name in wanted if (key := f"{name}_b64") in record}

    def _print_row(self, hit: Hit) -> None:
        found_by = shown_text(hit)
        text = f"  {printable(found_by)!r}" if found_by else ""
        more = f"  at {clock(hit.place.at)}" if hit.place.at is not None else ""
        more += f"  (+{len(hit.members)} more)" if hit.members else ""
        score = f"{hit.score:7.3f}"
        if math.isnan(hit.score):  # listed by date
            score = f"{printable(taken_at(hit) or '').replace('T', ' ')[:16]:16}"
        render.emit(f"{render.painted(score, render.DIM, sys.stdout)}  {linked(hit.path)}{text}{more}")
        if self._metadata and (line := facts_line(hit)):
            render.emit(f"{' ' * len(score)}  {printable(line)}")

    def _print_columns(self, hit: Hit) -> None:
        score = (taken_at(hit) or "") if math.isnan(hit.score) else f"{hit.score:.4f}"
        fields = [
            render.painted(printable(score), render.DIM, sys.stdout).encode(),
            os.fsencode(render.painted_path(hit.path)),
        ]
        if self._has_many:
            fields.insert(0, os.fsencode(hit.query))
        if found_by := shown_text(hit):
            fields.append(" ".join(found_by.split()).encode("utf-8", "replace"))
        if self._metadata:
            known = _metadata_of(hit).items()
            stated = {name: value for name, value in known if value not in (None, []) and value is not False}
            fields += [f"{name}=".encode() + _cell(value) for name, value in stated.items()]
        render.emit(b"\t".join(fields))


# Terminals that print the address of a link, or do not know escape sequences.
UNLINKED = re.compile(r"(dumb|linux|cons25|eterm.*|sun.*|vt\d+.*|ansi)?")


def linked(path: str) -> str:
    """A path for a terminal, as a link (OSC 8) if the terminal supports links."""
    name = render.painted_path(printable(path))
    if UNLINKED.fullmatch(os.environ.get("TERM", "")) or os.environ.get("FORCE_HYPERLINK") == "0":
        return name
    import socket
    import urllib.parse

    # With the host name, so that a terminal on another machine does not open its own file.
    address = f"file://{socket.gethostname()}{urllib.parse.quote_from_bytes(os.fsencode(path))}"
    return f"\x1b]8;;{address}\x1b\\{name}\x1b]8;;\x1b\\"


def hit_record(hit: Hit, *, metadata: bool = False) -> dict[str, object]:
    """A hit as `--json` prints it. Keys are only ever added (docs/json.md)."""
    place = hit.place
    record: dict[str, object] = {
        **path_fields(hit.query, "query"),
        "rank": hit.rank,
        "score": rounded(hit.score),
        "method": hit.method,
        "cosine": rounded(hit.cosine),
        "z": None if hit.z is None else round(hit.z, 4),
        "percentile": None if hit.percentile is None else round(hit.percentile, 3),
        **path_fields(hit.path),
        **path_fields(place.root, "root"),
        "modality": hit.modality,
        "taken_at": taken_at(hit),
        "date_from": place.facts["date_from"],
        "width": place.facts["width"],
        "height": place.facts["height"],
        "model": hit.model,
    }
    record |= {name: place.facts[name] for name in ("place", "country") if place.facts[name]}
    if hit.probability is not None:
        record["probability"] = round(hit.probability, 6)
    if place.region is not None:
        record["region"] = region_record(place.region)
    if place.at is not None:
        record["at"] = round(place.at, 3)
    if place.text is not None:
        record["text"] = place.text
        record["text_source"] = place.text_source
    if hit.line is not None:
        record["line"] = hit.line.text
        record["line_source"] = hit.line.source
        if hit.line.region is not None:
            record["line_region"] = region_record(hit.line.region)
    if place.pair is not None:
        record |= path_fields(f"{place.root.rstrip('/')}/{place.pair}", "pair")
    if place.facts["is_damaged"]:
        record["is_damaged"] = True
    if hit.members:
        record["members"] = [{**path_fields(member.path), "score": rounded(member.score)} for member in hit.members]
    if metadata:
        record |= _metadata_of(hit)
    return record


def rounded(score: float) -> float | None:
    """None for a hit that was listed, not ranked."""
    return None if math.isnan(score) else round(score, 6)


def shown_text(hit: Hit) -> str | None:
    """The text that a hit was found by: of a long one, the line."""
    return hit.place.text if hit.line is None else hit.line.text


def region_record(region: Region) -> list[float]:
    return [round(number, 4) for number in (region.x, region.y, region.width, region.height)]


def taken_at(hit: Hit) -> str | None:
    """Local time, with the offset if the camera recorded one."""
    moment, offset = hit.place.facts["taken_at"], hit.place.facts["taken_offset"]
    return f"{moment}{offset}" if moment and offset else moment


def _metadata_of(hit: Hit) -> dict[str, object]:
    return {
        "size": hit.place.size,
        "modified_at": _moment(hit.place.mtime_ns),
        **{name: hit.place.facts[name] for name in FACTS},
        "keywords": list(hit.place.keywords),
    }


def _moment(mtime_ns: int) -> str | None:
    import datetime

    try:
        return datetime.datetime.fromtimestamp(mtime_ns / 1e9, datetime.UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # out of range
        return None


def facts_line(hit: Hit) -> str:
    """The facts of a photo on one line."""
    facts = hit.place.facts
    exposure = facts["exposure_seconds"]
    parts = [
        str(taken_at(hit) or "").replace("T", " "),
        f"{facts['width']}x{facts['height']} {facts['format']}, {render.size(hit.place.size)}",
        clock(facts["duration_seconds"]) if facts["duration_seconds"] else "",
        facts["camera"],
        facts["lens"],
        f"{facts['focal_length_mm']:g} mm" if facts["focal_length_mm"] else "",
        f"f/{facts['f_number']:g}" if facts["f_number"] else "",
        (f"1/{1 / exposure:.0f} s" if 0 < exposure < 0.3 else f"{exposure:g} s") if exposure else "",
        f"ISO {facts['iso']}" if facts["iso"] else "",
        place_line(facts),
        "" if None in (facts["latitude"], facts["longitude"]) else f"{facts['latitude']:.5f},{facts['longitude']:.5f}",
        f"rated {facts['rating']}" if facts["rating"] is not None else "",
        ", ".join(hit.place.keywords),
        "damaged" if facts["is_damaged"] else "",
    ]
    return "  ".join(part for part in parts if part)


def place_line(facts: Mapping[str, object]) -> str:
    """`Alfama, Lisbon, Portugal`."""
    names = dict.fromkeys(facts[name] for name in ("place_district", "place", "place_region", "country"))
    return ", ".join(str(name) for name in names if name)


def _exact(hit: Hit, name: str) -> object:
    """A field for a column; names keep their bytes."""
    if name in ("query", "path", "root"):
        return os.fsencode({"query": hit.query, "path": hit.path, "root": hit.place.root}[name])
    if name == "members":
        return b" ".join(os.fsencode(member.path) for member in hit.members) or None
    return hit_record(hit, metadata=True).get(name)


def _shown(cell: bytes) -> bytes:
    """Escaped on a terminal, exact elsewhere."""
    return os.fsencode(printable(os.fsdecode(cell))) if render.is_terminal() else cell


def _cell(value: object) -> bytes:
    """A value in a column: empty for null. Only names, which are exact, may contain tabs and line breaks."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool) else str(value)
    return " ".join(text.split()).encode("utf-8", "replace")
