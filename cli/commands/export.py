"""`imgsearch export` and `imgsearch import`: move vectors and notes between indexes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.import_collection import Imported

Form = Literal["npz", "parquet", "jsonl"]


def export(*, file: str, form: Form | None, as_json: bool, quiet: bool, index: str | None) -> int:
    """Write photos with their metadata, texts and vectors to a file.

    For other programs, or for the index of another machine. The vectors are those of the model that search uses:
    float32, unit length. An existing file is replaced, but only once the new one is complete. Parquet needs:
    pip install 'imgsearch-cli[parquet]'. The formats are described in docs/json.md.

    Examples:

      imgsearch export photos.npz

      imgsearch export - | jq -r 'select(.record == "photo") | .path'
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.errors import UsageError
    from imgsearch.core.paths import path_fields, printable
    from imgsearch.core.store.export_collection import export_collection, format_of

    kind = format_of(file, form)
    if as_json and file == "-":
        raise UsageError("--json cannot be combined with -, which is JSON Lines already", hint="leave out --json")
    path = os.path.abspath(os.path.expanduser(file))
    with open_store(index) as store, Line() as line:
        done = export_collection(
            store,
            path,
            kind,
            output=sys.stdout.buffer if file == "-" else None,
            on_progress=lambda done, total: line.count("exporting", done, total),
        )
    if as_json:
        record = {**path_fields(path), "format": kind, "photos": done.photos, "texts": done.texts}
        render.emit_json({**record, "left_out": done.left_out, "model": done.model})
    render.flush()
    if not as_json:
        photos, texts = render.count(done.photos, "photo"), render.count(done.texts, "text")
        more = f"; {done.left_out:,} have no vector of {done.model} yet and were left out" if done.left_out else ""
        to = "" if file == "-" else f" to {printable(path)}"
        render.say(f"exported {photos} and {texts} of {done.model}{to}{more}")
    return 0


def import_file(*, file: str, wait: bool, as_json: bool, quiet: bool, index: str | None) -> int:
    """Import vectors and notes from a file that `imgsearch export` wrote.

    Use it to embed on a faster machine. Paths and dates in the file are ignored: each vector belongs to a photo with
    exactly the same bytes. Afterwards `imgsearch index FOLDER` reads the photos that are here, and embeds only those
    that have no vector yet. The index is created if there is none, with the model of the file.

    Example:

      ssh gpu imgsearch export - | imgsearch import - && imgsearch index ~/Photos
    """
    from imgsearch.cli.loading import waiting
    from imgsearch.cli.output.progress import Line
    from imgsearch.core.places import locate
    from imgsearch.core.store.import_collection import import_collection, open_export
    from imgsearch.core.store.store import Store

    path = os.path.abspath(os.path.expanduser(file))
    stream: Any = None
    if file == "-":
        stream = sys.stdin.buffer if sys.stdin is not None else open(os.devnull, "rb")  # noqa: SIM115
    with (
        open_export(path, stream) as incoming,
        Store.writing(locate(index), create=True, wait=waiting() if wait else None) as store,
        Line() as line,
    ):
        for repair in store.repairs:
            render.say(repair)
        taken = import_collection(store, incoming, on_progress=lambda done, total: line.count("importing", done, total))
    record = {
        "photos": taken.photos,
        "vectors": taken.pictures,
        "text_vectors": taken.texts,
        "notes": taken.notes,
        "model": taken.model,
        "is_active": taken.is_active,
    }
    render.report(record, *_sentences(taken), as_json=as_json)
    return 0


def _sentences(taken: Imported) -> list[str]:
    pictures, texts = render.count(taken.pictures, "picture"), render.count(taken.texts, "text")
    notes = f", and {render.count(taken.notes, 'note')}" if taken.notes else ""
    model = "" if taken.is_active else f" --model {taken.model}"
    return [
        f"imported new vectors of {pictures} and {texts} of {taken.model}{notes}, "
        f"from {render.count(taken.photos, 'photo')}",
        f"next, index the photos of this machine: imgsearch index FOLDER{model}",
    ]
