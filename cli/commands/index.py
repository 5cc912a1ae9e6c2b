"""`imgsearch index`: make photos searchable."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from imgsearch.cli.output import render
from imgsearch.cli.running import (
    STOPPED,
    ModelChoice,
    Received,
    absolute,
    orderly_stop,
    run_index,
    run_reading,
    text_embedder,
)

if TYPE_CHECKING:
    from imgsearch.cli.output.progress import Progress
    from imgsearch.core.indexing.indexer import IndexPlan, Summary
    from imgsearch.core.store.store import Store


def index(
    *,
    paths: tuple[str, ...],
    model: str | None,
    weights: str | None,
    preprocess_from: str | None,
    exclude: tuple[str, ...],
    hidden: bool,
    video: bool | None,
    decode: Literal["fast", "exact"],
    batch_size: int | None,
    workers: int | None,
    time_limit: float,
    ocr: bool | None,
    device: str,
    precision: str,
    offline: bool,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Make photos searchable: walk folders, and embed what is new or changed.

    Files are identified by their content, so renamed and copied photos are not embedded again. A file that cannot be
    read is skipped with a reason (see `imgsearch failures`), and the exit code is 3. A truncated photo is
    indexed if at least a quarter of it can be decoded. Press ^C to stop; finished work is kept.

    Examples:

      imgsearch index ~/Photos

      imgsearch index ~/Photos --exclude 'Exports/' --model balanced

      imgsearch index
    """
    from imgsearch.cli.output.progress import Progress
    from imgsearch.core.indexing import reading
    from imgsearch.core.indexing.indexer import IndexPlan

    if ocr:
        reading.require_library()
    stop, received = threading.Event(), Received()
    progress = Progress(as_json=as_json, quiet=quiet, verbose=verbose, stop=stop)
    plan = IndexPlan(absolute(paths), exclude, hidden, video, dry_run, decode, batch_size, workers, time_limit, ocr)

    def say(message: str) -> None:
        if not quiet:
            progress.say(message)

    choice = ModelChoice(model, weights, preprocess_from, device, precision, offline, say)
    with orderly_stop(stop, received):  # until the summary is printed
        with _opened(index, is_rehearsal=dry_run, wait=wait, say=say) as store:
            try:
                for line in store.repairs:
                    say(line)
                summary = _run(store, choice, plan, progress, stop, received)
                folder, may_read = store.folder, _may_read(store, plan, summary)
            finally:
                progress.close()
        if progress.is_deserted:
            raise BrokenPipeError
        code = _report(summary, plan, received, as_json=as_json, quiet=quiet)
    if choice.loaded is not None and not summary.was_stopped:
        from imgsearch.cli.loading import export_towers

        export_towers(choice.loaded, say=say)
    return _read(folder, choice, plan, progress, say, as_json=as_json, quiet=quiet) or code if may_read else code


def _may_read(store: Store, plan: IndexPlan, summary: Summary) -> bool:
    """Whether there are pictures whose text this run should read."""
    is_wanted = plan.ocr is not False and not (plan.dry_run or summary.was_stopped)
    return is_wanted and (plan.ocr is True or any(root.ocr for root in store.catalog.roots.all()))


def _read(
    folder: str,
    choice: ModelChoice,
    plan: IndexPlan,
    progress: Progress,
    say: Callable[[str], None],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Read the text in pictures, after the index is unlocked: this may take much longer."""
    from imgsearch.core.indexing.reading import scopes_of
    from imgsearch.core.photos import ocr

    if ocr.version() is None:  # remembered, and removed since
        say(f"the text in pictures is not read: {ocr.INSTALL}")
        return 0
    return run_reading(
        folder,
        lambda store: scopes_of(store, plan.paths, remembered=plan.ocr is None),
        text_embedder(device=choice.device, offline=choice.offline, loaded=choice.loaded),
        progress,
        workers=plan.workers,
        as_json=as_json,
        quiet=quiet,
    )


@contextmanager
def _opened(index: str | None, *, is_rehearsal: bool, wait: bool, say: Callable[[str], None]) -> Iterator[Store]:
    from imgsearch.cli.loading import waiting
    from imgsearch.core.places import CATALOG, locate
    from imgsearch.core.store.store import Store

    folder = locate(index)
    if is_rehearsal and not os.path.exists(os.path.join(folder, CATALOG)):
        # Nothing may be made, so the rehearsal is against an empty index elsewhere.
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder, Store.writing(folder, create=True) as store:
            yield store
        return
    with Store.writing(folder, create=True, wait=waiting(say) if wait else None) as store:
        yield store


def _run(
    store: Store, choice: ModelChoice, plan: IndexPlan, progress: Progress, stop: threading.Event, received: Received
) -> Summary:
    from dataclasses import replace

    from imgsearch.core.errors import UsageError

    if not plan.paths and not store.catalog.roots.all():
        if store.base is None:
            raise UsageError("nothing to index yet", hint="name a folder: imgsearch index ~/Photos")
        plan = replace(plan, paths=(store.base,))

    if plan.dry_run:
        return run_index(store, choice, plan, choice.likely_space(store), progress, stop, received)
    if choice.upgrade_builtin(store) and plan.paths:
        whole = run_index(store, choice, replace(plan, paths=()), None, progress, stop, received)
        if whole.was_stopped:
            return whole
    return run_index(store, choice, plan, choice.known_space(store), progress, stop, received)


def _report(summary: Summary, plan: IndexPlan, received: Received, *, as_json: bool, quiet: bool) -> int:
    from imgsearch.cli.output.progress import summary_lines, summary_record

    if as_json:
        render.emit_json(summary_record(summary))
        render.flush()
    elif not quiet:
        for line in summary_lines(summary, dry_run=plan.dry_run):
            render.say(line)
    if summary.was_stopped:
        if not quiet:
            render.say(STOPPED)
        return 128 + (received.number or signal.SIGINT)
    return 3 if summary.skipped else 0
