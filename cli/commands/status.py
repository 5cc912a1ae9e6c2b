"""`imgsearch status`: what the index holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.status import Status


def status(*, as_json: bool, index: str | None) -> int:
    """Show what the index holds: folders, counts, model, size, and how many vectors are in HNSW graphs.

    Example:

      imgsearch status --json | jq .photos
    """
    from imgsearch.cli.loading import open_store

    with open_store(index) as store:
        record = status_record(store.folder, store.status())
        if as_json:
            render.emit_json(record)
        else:
            for line in _lines(record):
                render.emit(line)
    render.flush()
    return 0


def status_record(folder: str, status: Status) -> dict[str, Any]:
    """The index in one object; keys are only ever added (docs/json.md)."""
    from imgsearch.core.paths import path_fields

    active = status.active
    return {
        **path_fields(folder, "index"),
        "roots": [render.root_record(root, photos) for root, photos in status.roots],
        "photos": status.photos.get("present", 0),
        "gone": status.photos.get("gone", 0),
        "excluded": status.photos.get("excluded", 0),
        "offline": status.photos.get("offline", 0),
        "failed": status.failed,
        "damaged": status.damaged,
        "texts": status.texts,
        "located": status.located,
        "named_places": status.named_places,
        "ocr": {
            "read": status.readings.read,
            "with_text": status.readings.with_text,
            "failed": status.readings.failed,
            "unlikely": status.readings.unlikely,
        },
        "model": active.identity.name if active else None,
        "dim": active.identity.dim if active else None,
        "spaces": [
            {
                "id": space.id,
                "model": space.identity.name,
                "arch": space.identity.arch,
                "weights": space.identity.weights,
                "dim": space.identity.dim,
                "state": space.state,
                "is_active": active is not None and space.id == active.id,
                "vectors": space.slots,
                "hnsw_covers_all": space.id in status.covered,
                "hnsw_vectors": status.in_graphs[space.id],
                "light": _light(space.identity.fingerprint),
                "details": space.identity.details,
            }
            for space in status.spaces
        ],
        "hnsw_covers_all": active is not None and active.id in status.covered,
        "bytes": status.bytes,
    }


def _light(fingerprint: str) -> dict[str, bool | str]:
    """By tower: whether questions are answered without loading the whole model; where it cannot be made so, why."""
    from imgsearch.core.models.towers import TOWERS, Towers

    light = Towers.find(fingerprint)
    return {tower: light is not None and light.manifest.lacking.get(tower, True) for tower in TOWERS}


def _queries_line(light: dict[str, bool | str]) -> str:
    if not any(light.values()):
        return "load the whole model; the next query, or `imgsearch index` with new photos, prepares fast ones"
    ways = {"text": "words", "image": "pictures"}
    slow = [f"by {ways[tower]} with the whole model ({why})" for tower, why in light.items() if why is not True]
    return "; ".join(["fast, without loading the whole model", *slow])


def _lines(record: dict[str, Any]) -> list[str]:
    from imgsearch.core.paths import printable

    lines = [f"index    {printable(record['index'])}  ({render.size(record['bytes'])})"]
    for root in record["roots"]:
        note = f"  offline: {root['note']}" if root["state"] == "offline" else ""
        lines.append(f"root     {printable(root['path'])}  {render.count(root['photos'], 'photo')}{note}")
    others = [f"{record[key]:,} {key}" for key in ("damaged", "gone", "excluded", "offline", "failed") if record[key]]
    lines.append("photos   " + ", ".join([f"{record['photos']:,}", *others]))
    lines.append(f"texts    {record['texts']:,}")
    if record["located"]:
        lines.append(f"places   {_places_line(record)}")
    if any(record["ocr"].values()):
        lines.append(f"ocr      {_ocr_line(record['ocr'])}")
    for space in record["spaces"]:
        state = "" if space["is_active"] else f"  {space['state']}, not searched"
        lines.append(f"model    {printable(space['model'])}  {space['dim']}-d, {space['vectors']:,} vectors{state}")
        lines.append(f"queries  {_queries_line(space['light'])}")
    if record["spaces"]:
        lines.append(f"hnsw     {_graphs_line(record)}")
    else:
        lines.append("model    none yet: nothing is indexed")
    return lines


def _places_line(record: dict[str, Any]) -> str:
    named = f"{record['named_places']:,} of {render.count(record['located'], 'photo')} with coordinates have a name"
    if record["named_places"]:
        return named
    from imgsearch.core.photos import gazetteer

    return named if gazetteer.version() else f"{named}; for --place: {gazetteer.INSTALL}"


def _ocr_line(counts: dict[str, int]) -> str:
    parts = [f"{render.count(counts['read'], 'photo')} read ({counts['with_text']:,} with text)"]
    parts += [f"{counts['unlikely']:,} left out: unlikely to contain text"] if counts["unlikely"] else []
    parts += [f"{counts['failed']:,} failed"] if counts["failed"] else []
    return ", ".join(parts)


def _graphs_line(record: dict[str, Any]) -> str:
    if not record["hnsw_covers_all"]:
        return "incomplete: `imgsearch index` builds the missing graphs"
    active = [space for space in record["spaces"] if space["is_active"]]
    covered, vectors = (sum(space[key] for space in active) for key in ("hnsw_vectors", "vectors"))
    if not covered:
        return "no graphs: every vector is scanned"
    others = "; the others are scanned" if covered < vectors else ""
    return f"{covered:,} of {render.count(vectors, 'vector')} in graphs{others}"
