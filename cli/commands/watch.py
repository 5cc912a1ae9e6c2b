"""`imgsearch watch`: keep an index up to date while photos come and go."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from imgsearch.cli.output import render
from imgsearch.cli.running import STOPPED, ModelChoice, Received, absolute, orderly_stop, run_index

if TYPE_CHECKING:
    from imgsearch.cli.output.progress import Progress
    from imgsearch.core.indexing.indexer import Event, IndexPlan, Summary
    from imgsearch.core.indexing.watch import Check, CheckResult, Watcher
    from imgsearch.core.store.store import Store

# What a watch tells of its later runs: what they did, and not how they went about it.
TOLD = ("photo", "skipped", "passed", "gone", "notice")


def watch(
    *,
    paths: tuple[str, ...],
    model: str | None,
    exclude: tuple[str, ...],
    hidden: bool,
    video: bool | None,
    decode: Literal["fast", "exact"],
    workers: int | None,
    poll: float,
    device: str,
    precision: str,
    offline: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Index folders, and keep the index up to date as files change.

    The index is locked only while there is something to write, so other commands can use it in between. If a disk is
    disconnected, `watch` waits until it is back. Press ^C to stop; the next run indexes what changed in the meantime.

    Examples:

      imgsearch watch ~/Photos

      imgsearch watch ~/Photos ~/Downloads --exclude '*.gif'
    """
    from imgsearch.core.errors import UsageError
    from imgsearch.core.indexing.indexer import IndexPlan
    from imgsearch.core.indexing.watch import Watcher
    from imgsearch.core.indexing.watch import watch as watch_folders
    from imgsearch.core.paths import printable
    from imgsearch.core.places import locate

    folders = absolute(paths)
    for path in folders:
        if os.path.lexists(path) and not os.path.isdir(path):
            raise UsageError(f"{printable(path)}: not a folder", hint="watch the folder it is in")
    plan = IndexPlan(folders, exclude, hidden, video, decode=decode, workers=workers)
    stop, received = threading.Event(), Received()
    with orderly_stop(stop, received), contextlib.closing(Watcher()) as changes:
        voice = _Voice(stop, poll, as_json=as_json, quiet=quiet, verbose=verbose)
        choice = ModelChoice(model, None, None, device, precision, offline, voice.say)
        watcher = _Watcher(locate(index), plan, choice, changes, voice, received)
        watch_folders(watcher.check, changes, stop, poll_seconds=poll)
    if voice.is_deserted:
        raise BrokenPipeError
    return 128 + (received.number or signal.SIGINT)


class _Watcher:
    """One run after the other, with the same model."""

    def __init__(
        self, folder: str, plan: IndexPlan, choice: ModelChoice, changes: Watcher, voice: _Voice, received: Received
    ) -> None:
        self._folder, self._plan, self._choice = folder, plan, choice
        self._changes, self._voice, self._received = changes, voice, received
        self._is_first = True

    def check(self, check: Check) -> CheckResult:
        """One run. An error that the user can fix while the watch goes on ends it only in the first run."""
        import sqlite3

        from imgsearch.core.errors import ImgsearchError
        from imgsearch.core.indexing.watch import CheckResult
        from imgsearch.core.store.connection import as_index_error

        try:
            looked = self._check(check)
        except (ImgsearchError, OSError, sqlite3.Error) as error:
            known = as_index_error(error) if isinstance(error, sqlite3.Error) else error
            self._voice.hush()
            if self._is_first or not _can_pass(known):
                raise
            self._voice.print_error(known)
            return CheckResult(is_done=False)
        finally:
            self._received.is_working = False  # from now on, and while it waits for its turn, ^C ends it at once
        if self._is_first and not self._voice.stop.is_set():
            self._begin()
        self._is_first = False
        return looked

    def _check(self, check: Check) -> CheckResult:
        from dataclasses import replace

        from imgsearch.cli.loading import waiting
        from imgsearch.core.indexing.watch import GRAPH_AGE_SECONDS, CheckResult
        from imgsearch.core.store.store import Store

        voice = self._voice
        with Store.writing(self._folder, create=self._is_first, wait=waiting(voice.say)) as store:
            for line in store.repairs:
                voice.say(line)
            started = time.monotonic()
            plan = self._changes.watch_folders(store, self._wanted(store), rewatch=check.rewatch)
            seconds = time.monotonic() - started
            voice.problem(self._changes.problem)
            if plan is None:
                return CheckResult(seconds=seconds)
            space = self._choice.known_space(store)
            plan = replace(plan, min_age_seconds=check.min_age_seconds, graph_age_seconds=GRAPH_AGE_SECONDS)
            voice.begin(is_first=self._is_first)
            summary = run_index(store, self._choice, plan, space, voice.tell, voice.stop, self._received)
        voice.end(summary, is_first=self._is_first)
        return CheckResult(being_written=summary.being_written > 0, seconds=seconds + summary.seconds["walk"])

    def _wanted(self, store: Store) -> IndexPlan:
        from dataclasses import replace

        from imgsearch.core.errors import UsageError
        from imgsearch.core.paths import printable

        roots = {root.path for root in store.catalog.roots.all()}
        for path in self._plan.paths if self._is_first else ():
            if not os.path.isdir(path) and path not in roots:
                raise UsageError(f"{printable(path)}: no such folder", hint="give folders that exist")
        if not self._plan.paths and not roots:
            if store.base is None:
                raise UsageError("nothing to watch yet", hint="name a folder: imgsearch watch ~/Photos")
            self._plan = replace(self._plan, paths=(store.base,))
        return self._plan

    def _begin(self) -> None:
        if self._choice.loaded is not None:
            from imgsearch.cli.loading import export_towers

            export_towers(self._choice.loaded, say=self._voice.say)
            if self._received.number is not None:  # it keeps ^C to itself
                raise KeyboardInterrupt
        self._voice.watching(self._changes.folders)


def _can_pass(error: Exception) -> bool:
    """Whether an error may go away by itself: a full or missing disk, a lock."""
    from imgsearch.core.errors import IndexDamaged, IndexTooNew, ModelError

    return not isinstance(error, IndexDamaged | IndexTooNew | ModelError | BrokenPipeError)


class _Voice:
    """Tells of the first run as `index` does; of later ones what came of them, and nothing where nothing did."""

    def __init__(
        self, stop: threading.Event, poll_seconds: float, *, as_json: bool, quiet: bool, verbose: bool
    ) -> None:
        self.stop = stop
        self.is_deserted = False
        """The reader of the events is gone."""
        self._poll_seconds, self._as_json, self._quiet, self._verbose = poll_seconds, as_json, quiet, verbose
        self._progress: Progress | None = None
        self._is_first = True
        self._notices: set[str] = set()
        self._notices_before: set[str] = set()
        self._trouble: str | None = None
        self._complaint: str | None = None

    def say(self, message: str) -> None:
        if not self._quiet:
            (self._progress or render).say(message)

    def begin(self, *, is_first: bool) -> None:
        from imgsearch.cli.output.progress import Progress

        self._is_first, self._complaint = is_first, None
        self._notices_before, self._notices = self._notices, set()
        self._progress = Progress(as_json=self._as_json, quiet=self._quiet, verbose=self._verbose, stop=self.stop)

    def tell(self, event: Event) -> None:
        assert self._progress is not None
        if event.kind == "notice":
            self._notices.add(event.reason or "")
            if event.reason in self._notices_before:  # what is away stays away: once is enough
                return
        if self._is_first or event.kind in TOLD or (event.kind == "planned" and event.count):
            self._progress(event)

    def hush(self) -> None:
        """No bar any more."""
        if self._progress is not None:
            self._progress.close()
            self.is_deserted |= self._progress.is_deserted
            self._progress = None

    def end(self, summary: Summary, *, is_first: bool) -> None:
        from imgsearch.cli.output.progress import summary_lines, summary_record

        self.hush()
        if self.is_deserted:
            return
        came = summary.indexed or summary.gone or summary.excluded or summary.skipped
        if is_first or came or summary.was_stopped:
            self._tell(summary_record(summary), *summary_lines(summary, dry_run=False)[: 2 if is_first else 1])
        if summary.was_stopped:
            self.say(STOPPED)

    def watching(self, folders: int) -> None:
        self._tell({"event": "watching", "folders": folders}, f"watching {render.count(folders, 'folder')}; ^C ends it")

    def problem(self, why: str | None) -> None:
        if why is not None and why != self._trouble:
            reason = f"{why}; checked every {self._poll_seconds:g} s instead"
            self._tell({"event": "notice", "reason": reason}, reason)
        self._trouble = why

    def print_error(self, error: Exception) -> None:
        """Once for each thing that goes wrong, however often it is tried."""
        from imgsearch.core.errors import ImgsearchError

        said = str(error)
        if isinstance(error, OSError):
            reason = (error.strerror or said).lower()
            said = f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason
        if said != self._complaint:
            again = ImgsearchError(said, hint="`watch` keeps running and tries again")
            render.print_error(again, as_json=self._as_json)
        self._complaint = said

    def _tell(self, record: dict[str, Any], *lines: str) -> None:
        if not self._as_json:
            for line in lines:
                self.say(line)
        elif not self.is_deserted:
            try:
                render.emit_json(record)
                render.flush()
            except BrokenPipeError:
                self.is_deserted = True
                self.stop.set()
