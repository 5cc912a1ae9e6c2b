"""What to do about an error of core, in the words of the command line, if the error itself does not say."""

from __future__ import annotations

from imgsearch.core.errors import ImgsearchError, IndexDamaged, IndexLocked, IndexNotFound, IndexUnusable

HINTS: dict[type[ImgsearchError], str] = {
    IndexDamaged: "see what is wrong with: imgsearch check; fix it with: imgsearch check --repair",
    IndexLocked: "add --wait to wait until it has finished; queries work meanwhile",
    IndexNotFound: "make one with: imgsearch index FOLDER",
    IndexUnusable: "check its permissions and free space, or choose another with --index",
}


def hint_of(error: ImgsearchError) -> str | None:
    return error.hint or HINTS.get(type(error))
