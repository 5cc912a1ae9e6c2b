"""`imgsearch status`: what the index holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import options, render

if TYPE_CHECKING:
    from imgsearch.core.store import Store


def status(as_json: options.Json = False, index: options.Index = None) -> int:
    """Show what the index holds: folders, counts, model, size, and whether its HNSW graph covers everything.

    Example:

      imgsearch status --json | jq .photos
    """
    from .loading import open_store

    with open_store(index) as store:
        record = status_record(store)
        if as_json:
            render.emit_json(record)
        else:
            for line in _lines(record):
                render.emit(line)
    render.flush()
    return 0


def status_record(store: Store) -> dict[str, Any]:
    """The index in one object; keys are only ever added (docs/json.md)."""
    from imgsearch.core.paths import path_fields

    catalog = store.catalog
    with catalog.reading():
        counts = dict(
            catalog.rows(
                """
                select case when r.state = 'offline' then 'offline' else p.state end, count(*)
                from photos p join roots r on r.id = p.root_id group by 1
                """
            )
        )
        active = store.active_space()
        return {
            **path_fields(store.folder, "index"),
            "roots": [
                {
                    **path_fields(root.path),
                    "kind": root.kind,
                    "state": root.state,
                    "note": root.note,
                    "photos": catalog.value(
                        "select count(*) from photos where root_id = :root and state = 'present'", root=root.id
                    ),
                }
                for root in catalog.roots()
            ],
            "photos": counts.get("present", 0),
            "gone": counts.get("gone", 0),
            "excluded": counts.get("excluded", 0),
            "offline": counts.get("offline", 0),
            "failed": catalog.value("select count(*) from failures where not is_silent"),
            "texts": catalog.value("select count(*) from texts"),
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
                    "hnsw_covers_all": _hnsw_covers_all(store, space),
                    "details": space.identity.details,
                }
                for space in catalog.spaces()
            ],
            "hnsw_covers_all": bool(active) and _hnsw_covers_all(store, active),
            "bytes": store.bytes_on_disk(),
        }


def _hnsw_covers_all(store: Store, space: Any) -> bool:
    from imgsearch.core.store import MODALITIES

    for modality in MODALITIES:
        covered = store.graph(space, modality).covers_upto(space.generation)
        beyond = store.catalog.value(
            "select 1 from vectors where space_id = :space and modality = :modality and slot >= :covered",
            space=space.id,
            modality=modality,
            covered=covered,
        )
        if beyond is not None:
            return False
    return True


def _lines(record: dict[str, Any]) -> list[str]:
    from imgsearch.core.paths import printable

    lines = [f"index    {printable(record['index'])}  ({render.size(record['bytes'])})"]
    for root in record["roots"]:
        note = f"  offline: {root['note']}" if root["state"] == "offline" else ""
        lines.append(f"root     {printable(root['path'])}  {render.count(root['photos'], 'photo')}{note}")
    others = [f"{record[key]:,} {key}" for key in ("gone", "excluded", "offline", "failed") if record[key]]
    lines.append("photos   " + ", ".join([f"{record['photos']:,}", *others]))
    lines.append(f"texts    {record['texts']:,}")
    for space in record["spaces"]:
        state = "" if space["is_active"] else f"  {space['state']}, not searched"
        lines.append(f"model    {printable(space['model'])}  {space['dim']}-d, {space['vectors']:,} vectors{state}")
    if record["spaces"]:
        lines.append("hnsw     " + ("covers everything" if record["hnsw_covers_all"] else "does not cover everything"))
    else:
        lines.append("model    none yet: nothing is indexed")
    return lines
