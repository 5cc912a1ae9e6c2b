"""`imgsearch notes`: texts that the user adds to photos."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgsearch.core.store.notes import Note
    from imgsearch.core.types import Vectors


def add(
    *, arguments: tuple[str, ...], wait: bool, as_json: bool, device: str, offline: bool, quiet: bool, index: str | None
) -> int:
    """Add a note to one or more photos.

    The note is embedded at once. `imgsearch query` finds it with --modality text or --modality any.

    Example:

      imgsearch notes add IMG_1.jpg IMG_2.jpg "Ada's first day at school"
    """
    from imgsearch.cli.loading import open_to_write, query_embedder
    from imgsearch.core.errors import UsageError
    from imgsearch.core.store import notes as core

    *files, text = arguments
    if not files:
        raise UsageError("a note needs a photo and a text", hint='imgsearch notes add FILE "the text"')
    note = core.checked(text)
    with open_to_write(index, wait=wait) as store:

        def embed(texts: Sequence[str]) -> Vectors:
            """By the model of the space that search uses, or its ONNX tower."""
            space = store.space_to_search()
            return query_embedder(space, device=device, offline=offline, history=False).embed_texts(texts)

        added = core.add(store, [_absolute(file) for file in files], text, embed)
    known = "" if added else ", which had this note already"
    sentence = f"added to {render.count(added or len(files), 'photo')}: {_shown(note)}{known}"
    render.report({"text": note, "files": len(files), "added": added}, sentence, as_json=as_json)
    return 0


def show(*, file: str | None, as_json: bool, quiet: bool, index: str | None) -> int:
    """List notes, oldest first, with the photos they are about.

    Exit code 1 means that there are none.

    Example:

      imgsearch notes list --json | jq -r .text
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.core.store import notes as core

    with open_store(index) as store:
        listed = list(core.listed(store, None if file is None else _absolute(file)))
    for note in listed:
        if as_json:
            render.emit_json(_record(note))
        else:
            for path in [place.path for place in note.places] or [""]:
                _print(path, note.text)
    render.flush()
    lacking = sum(not note.is_searchable for note in listed)
    if lacking and not as_json:
        render.say(f"{render.count(lacking, 'note')} not embedded with this model yet: imgsearch index")
    return 0 if listed else 1


def remove(*, file: str, text: str | None, wait: bool, as_json: bool, quiet: bool, index: str | None) -> int:
    """Remove notes about a photo.

    Exit code 1 means that there were none.

    Example:

      imgsearch notes remove beach.jpg --text "the summer we lost the dog"
    """
    from imgsearch.cli.loading import open_to_write
    from imgsearch.core.store import notes as core

    with open_to_write(index, wait=wait) as store:
        removed = core.remove(store, _absolute(file), None if text is None else core.checked(text))
    render.report({"removed": removed}, f"removed {render.count(removed, 'note')}", as_json=as_json)
    return 0 if removed else 1


def _absolute(file: str) -> str:
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import on_disk

    if not file or "\0" in file:
        raise UsageError("empty photo name", hint="is a shell variable unset?")
    return on_disk(os.path.abspath(os.path.expanduser(file)))


def _shown(text: str) -> str:
    from imgsearch.core.paths import printable

    return printable(text)


def _print(path: str, text: str) -> None:
    if render.is_terminal():
        render.emit(f"{_shown(path) or '(no photo)'}  {_shown(text)}")
    else:
        render.emit(b"\t".join([os.fsencode(path), text.encode("utf-8", "replace")]))


def _record(note: Note) -> dict[str, Any]:
    from imgsearch.core.paths import path_fields

    return {
        "text": note.text,
        "added_at": note.added_at,
        "content_hash": note.content_hash.hex(),
        "searchable": note.is_searchable,
        "photos": [path_fields(place.path) for place in note.places],
    }
