"""Notes: texts that the user adds to photos. They are searched like the texts in the files.

A note belongs to the content of a photo: copies and renamed files have it too, and it outlives the file. When a photo
is edited in place, the new content gets its notes if it is still the same picture (see store). A note is embedded when
it is added, so that search finds it at once. `index` with another model embeds it again.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsearch.core.errors import UsageError
from imgsearch.core.paths import mtime_ns, printable

from .records import text_key
from .store import Batch, Store

if TYPE_CHECKING:
    from imgsearch.core.types import Vectors

    from .records import Place

NOTE = "note"
"""The source of these texts in `--json`."""
MAX_CHARACTERS = 2_000
"""A model reads some 60 words."""

Embed = Callable[[Sequence[str]], "Vectors"]


@dataclass(frozen=True, slots=True)
class Note:
    """A note and the present photos that have it."""

    text: str
    added_at: str
    content_hash: bytes
    key: bytes
    places: tuple[Place, ...]
    is_searchable: bool
    """Whether the model that search uses has embedded it."""


def as_note(text: str) -> str:
    """The text in one line, without control and other invisible characters, cut to MAX_CHARACTERS."""
    kept = "".join(" " if character.isspace() else character for character in text if _is_visible(character))
    return unicodedata.normalize("NFC", " ".join(kept.split()))[:MAX_CHARACTERS].rstrip()


def _is_visible(character: str) -> bool:
    """Joiners count as visible: some scripts and emoji need them."""
    if character.isspace() or character in "\u200c\u200d":
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def checked(text: str) -> str:
    """The text as a note. Raises UsageError if it is empty or too long."""
    note = as_note(text)
    if not note:
        raise UsageError("an empty note", hint='give a text: imgsearch notes add FILE "the garden in spring"')
    if len(text) > 2 * MAX_CHARACTERS or len(" ".join(text.split())) > MAX_CHARACTERS:
        raise UsageError(f"a note of more than {MAX_CHARACTERS:,} characters", hint="make it shorter, or split it")
    return note


def add(store: Store, paths: Sequence[str], text: str, embed: Embed) -> int:
    """Add a note to photos, given by absolute path. Returns the number of new notes.

    Raises UsageError for a path that is not in the index, or has changed since. The store is open for writing.
    """
    contents = {_content_of(store, path) for path in paths}
    note = checked(text)
    space, key = store.space_to_search(), text_key(note)
    if not store.catalog.vectors.has(space.id, "text", key):
        store.commit(space, Batch(texts={key: embed([note])[0]}), codecs="")
    with store.catalog.transaction():
        added = sum(store.catalog.notes.add(content, note) for content in sorted(contents))
    store.refresh_slots(store.space_to_search())
    return added


def remove(store: Store, path: str, text: str | None) -> int:
    """Delete the notes of a photo, or only the one with that text. Returns the number deleted.

    The file need not exist any more. Raises UsageError for a path that is not in the index.
    """
    content = _known(store, path).content_hash
    keys = [key for of, key, noted, _ in store.catalog.notes.all() if of == content and text in (None, noted)]
    if keys:
        with store.catalog.transaction():
            removed = store.catalog.notes.remove(content, keys)
        store.refresh_slots(store.space_to_search())
        return removed
    return 0


def listed(store: Store, path: str | None = None) -> Iterator[Note]:
    """All notes, or those of one photo, the oldest first."""
    content = None if path is None else _known(store, path).content_hash
    space = store.active_space()
    lacking = {} if space is None else store.catalog.notes.without_vectors(space.id)
    for of, key, text, added_at in store.catalog.notes.all():
        if content in (None, of):
            yield Note(text, added_at, of, key, tuple(store.catalog.places.of_content(of)), key not in lacking)


def _known(store: Store, path: str) -> Place:
    place = store.place_of(path)
    if place is None:
        raise UsageError(
            f"{printable(path)}: not in the index", hint=f"index it first: imgsearch index {printable(path)}"
        )
    return place


def _content_of(store: Store, path: str) -> bytes:
    """The content hash of a photo that has not changed since it was indexed: a note is about what the user sees."""
    place = _known(store, path)
    try:
        info = os.stat(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{printable(path)}: {reason}", hint="give a photo that exists") from None
    if (info.st_size, mtime_ns(info)) != (place.size, place.mtime_ns) or place.state != "present":
        raise UsageError(
            f"{printable(path)}: changed since it was indexed", hint=f"run: imgsearch index {printable(path)}"
        )
    return place.content_hash
