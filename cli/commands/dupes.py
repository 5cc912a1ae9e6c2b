"""`imgsearch dupes`: find duplicate photos."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.search.duplicates import Duplicate, DuplicateReport, Group
    from imgsearch.core.store.records import Place

KeepBy = Literal["largest", "oldest"]


def dupes(
    *,
    keep: KeepBy,
    exact: bool,
    quick: bool,
    under: tuple[str, ...],
    others: bool,
    as_json: bool,
    print0: bool,
    workers: int | None,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Find duplicate photos: the same file, or the same picture resized, re-encoded or rotated.

    Prints groups of paths separated by empty lines, the photo to keep first. Nothing is ever deleted. Finding near
    copies reads every photo once, which takes a while. Results are saved on the way, so the next run continues after
    ^C. Photos of almost a single colour are only compared by their bytes. Exit code 1 means that there are no
    duplicates.

    A near copy may differ in a detail: the next frame of a burst, a retouched face, a word on a page. Look at near
    copies before you delete any, or use --exact.

    With --keep largest, ties go to the largest file, then to the oldest photo. With --keep oldest, they go to the photo
    with the most pixels, then to the largest file. If all are equal, the shortest path is kept. Hard links to one
    file are one photo. Files that changed since they were indexed are left out.

    Examples:

      imgsearch dupes

      imgsearch dupes --keep oldest --json | jq .kept.path

      imgsearch dupes --exact -0 | xargs -0r mv --backup=numbered -t ~/Duplicates
    """
    from contextlib import ExitStack

    from imgsearch.cli.loading import open_store
    from imgsearch.cli.output.progress import Stages
    from imgsearch.core.errors import UsageError
    from imgsearch.core.photos.decode_pool import DecodePool
    from imgsearch.core.photos.perceptual_hash import PerceptualHashes
    from imgsearch.core.search import duplicates as core
    from imgsearch.core.search.filters import Filters

    if as_json and (print0 or others):
        raise UsageError("--json cannot be combined with --others and --print0", hint="choose one")
    if exact and quick:
        raise UsageError("--exact and --quick cannot be combined", hint="choose one")
    wanted = core.DuplicateOptions(keep, Filters(under=under), exact, quick)
    with open_store(index) as store, ExitStack() as stack, Stages(verbose=verbose) as stages:
        found = core.find(
            store,
            wanted,
            cache=PerceptualHashes(),
            workers=lambda: stack.enter_context(DecodePool(workers)),
            on_progress=stages,
        )
    _print(found, as_json=as_json, others=others or print0, print0=print0)
    render.flush()
    if not as_json:
        render.say(_sentence(found))
    _complain(found, as_json=as_json)
    if found.skipped:
        return 3
    return 0 if found.groups else 1


def _print(found: DuplicateReport, *, as_json: bool, others: bool, print0: bool) -> None:
    for number, group in enumerate(found.groups):
        if as_json:
            render.emit_json(group_record(group))
            continue
        if number and not others:
            render.emit(b"")
        shown = [other.place.path for other in group.others]
        for path in shown if others else [group.kept.path, *shown]:
            if print0:
                render.emit(os.fsencode(path), end=b"\0")
            else:
                render.emit(render.shown(path) if others else render.seen(path))


def group_record(group: Group) -> dict[str, Any]:
    """A group as `--json` shows it. Keys are only ever added (docs/json.md)."""
    return {
        "kind": group.kind,
        "kept": _place_record(group.kept),
        "others": [_duplicate_record(other) for other in group.others],
    }


def _place_record(place: Place) -> dict[str, Any]:
    from imgsearch.core.paths import path_fields

    facts = place.facts
    return {
        **path_fields(place.path),
        "size": place.size,
        "width": facts["width"],
        "height": facts["height"],
        "format": facts["format"],
        "taken_at": facts["taken_at"],
    }


def _duplicate_record(other: Duplicate) -> dict[str, Any]:
    record = {**_place_record(other.place), "kind": other.kind}
    if other.kind == "near":
        cosine = None if other.cosine is None else round(other.cosine, 6)
        record |= {"cosine": cosine, "bits": other.bits, "compared": other.compared, "turned": other.turned}
    return record


def _sentence(found: DuplicateReport) -> str:
    others = [other for group in found.groups for other in group.others]
    among = f"among {render.count(found.photos, 'photo')}"
    if not others:
        return f"no duplicates {among}"
    near = sum(other.kind == "near" for other in others)
    size = render.size(sum(other.place.size for other in others))
    groups = render.count(len(found.groups), "group")
    copies = render.count(len(others), "copy", "copies")
    return f"{groups} {among}: {copies} besides the photos to keep ({near:,} of them near), {size}"


def _complain(found: DuplicateReport, *, as_json: bool) -> None:
    from imgsearch.core.errors import ImgsearchError
    from imgsearch.core.paths import printable

    for skipped in found.skipped:
        reason = f"{printable(skipped.path)}: {skipped.reason}"
        render.print_error(ImgsearchError(reason, hint="it is compared only by its bytes"), as_json=as_json)
    for number, why in (
        (found.changed, "left out: gone, or changed since they were indexed; update the index with: imgsearch index"),
        (found.linked, "left out: links to files that are already counted"),
    ):
        if not number:
            continue
        if as_json:
            sys.stderr.write(json.dumps({"notice": f"{render.count(number, 'photo')} {why}"}) + "\n")
        else:
            render.warn(f"{render.count(number, 'photo')} {why}")
