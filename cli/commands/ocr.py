"""`imgsearch ocr`: read the text in photos that are indexed."""

from __future__ import annotations

import threading

from imgsearch.cli.running import absolute, run_reading, text_embedder


def ocr(
    *,
    paths: tuple[str, ...],
    everything: bool,
    workers: int | None,
    device: str,
    offline: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Read the text in indexed photos, so that `imgsearch query` can search it.

    Only photos that look like pages, signs, labels or screenshots are read, and each only once. This runs at the
    lowest priority, and other commands can use and change the index meanwhile. Press ^C to stop; finished work is
    kept. Needs the extra [ocr].

    Examples:

      imgsearch ocr

      imgsearch ocr ~/Photos/receipts --all

      imgsearch query --text-contains "INV-2039"
    """
    from imgsearch.cli.loading import open_store
    from imgsearch.cli.output.progress import Progress
    from imgsearch.core.indexing.reading import require_library, scopes_of

    require_library()
    chosen = absolute(paths)
    with open_store(index) as store:
        folder = store.folder
        scopes_of(store, chosen)
    progress = Progress(as_json=as_json, quiet=quiet, verbose=verbose, stop=threading.Event())
    return run_reading(
        folder,
        lambda store: scopes_of(store, chosen),
        text_embedder(device=device, offline=offline),
        progress,
        everything=everything,
        workers=workers,
        as_json=as_json,
        quiet=quiet,
    )
