"""Watching folders: when something in them changes and then stays quiet, an ordinary run indexes them.

File system events only say *when* to look. *What* has changed is found by comparing the folders with the catalogue. An
event that comes twice, late, under another name or not at all makes no difference in the end, because the folders are
checked again later.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgsearch.core.paths import is_network_filesystem, is_utf8, mounts_below, printable
from imgsearch.core.photos.walk import may_matter
from imgsearch.core.store.store import Store

from .changes import IndexPlan, folders_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from watchfiles.main import FileChange

# Check when nothing has changed for this long, and leave alone files that were modified more recently: a program that
# copies or downloads writes many times a second.
QUIET_SECONDS = 2.0
# If it is never quiet, check after this long anyway.
LONGEST_WAIT_SECONDS = 10.0
# This long after a check that was caused by a change, check everything again and renew all watches: the system drops
# events when its queue is full, and a link may lead to a folder that sends none.
RECHECK_SECONDS = 30.0
# Check this often in any case, including files that are still being written.
FULL_CHECK_SECONDS = 3600.0
# For folders that send no events.
POLL_SECONDS = 60.0
# After a check that failed, for example because the disk was full.
RETRY_SECONDS = 15.0
# An HNSW graph grows no more often, so that photos that come one by one do not write it again and again.
GRAPH_AGE_SECONDS = 600.0
# Spend at most a fifth of the time checking, however large the collection is and however often it changes.
REST = 4.0

# How often to look whether the folders are still where they were: no event tells that a disk was removed or mounted.
TICK_SECONDS = 1.0
STEP_MS = 100
DEBOUNCE_MS = 400
# New folders may appear faster than they can be watched. Try this often to catch up.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """What the next check has to do. `rewatch`: renew all watches."""

    rewatch: bool = False
    min_age_seconds: float = QUIET_SECONDS
    """Leave alone files that were modified more recently than this."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of a check."""

    is_done: bool = True
    """False if it failed and has to be tried again."""
    being_written: bool = False
    """Some files were left alone because they are still being written."""
    seconds: float = 0
    """Time spent checking, without reading and embedding."""


class Schedule:
    """When to check, and how thoroughly. All times come from one monotonic clock."""

    def __init__(self, now: float, poll_seconds: float = POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._changed_since: float | None = now - QUIET_SECONDS
        """Time of the first change that has not been checked."""
        self._changed_last = self._changed_since
        self._not_before = now
        self._recheck_at: float | None = None
        self._poll_at: float | None = None
        self._full_check_at = now + FULL_CHECK_SECONDS

    def note_change(self, now: float) -> None:
        """Something has changed."""
        self._changed_since = now if self._changed_since is None else self._changed_since
        self._changed_last = now

    @property
    def due(self) -> float:
        """Time of the next check."""
        wanted = [self._full_check_at, self._recheck_at, self._poll_at]
        if self._changed_since is not None:
            wanted.append(min(self._changed_last + QUIET_SECONDS, self._changed_since + LONGEST_WAIT_SECONDS))
        return max(self._not_before, min(each for each in wanted if each is not None))

    def begin(self, now: float) -> Check:
        """Return the check that is due. Changes from now on count towards the next one."""
        is_full = now >= self._full_check_at
        check = Check(
            rewatch=is_full or (self._recheck_at is not None and now >= self._recheck_at),
            min_age_seconds=0 if is_full else QUIET_SECONDS,
        )
        if check.rewatch:
            self._recheck_at = None
        if is_full:
            self._full_check_at = now + FULL_CHECK_SECONDS
        if self._changed_since is not None:
            self._recheck_at = now + RECHECK_SECONDS
        self._changed_since = self._poll_at = None
        return check

    def ended(self, now: float, result: CheckResult, *, misses_changes: bool) -> None:
        """Note the end of a check. `misses_changes`: some folders send no events."""
        self._not_before = now + (REST * result.seconds if result.is_done else RETRY_SECONDS)
        if result.being_written or not result.is_done:
            self.note_change(now)
        if misses_changes:
            self._poll_at = now + self._poll_seconds


def watch(
    check: Callable[[Check], CheckResult], watcher: Watcher, stop: threading.Event, *, poll_seconds: float
) -> None:
    """Check whenever it is due, until `stop` is set. The first check is immediate."""
    schedule = Schedule(time.monotonic(), poll_seconds)
    while not stop.is_set():
        if time.monotonic() >= schedule.due:
            result = check(schedule.begin(time.monotonic()))
            schedule.ended(time.monotonic(), result, misses_changes=watcher.problem is not None)
        elif watcher.wait(schedule.due - time.monotonic(), stop):
            schedule.note_change(time.monotonic())


class Watcher:
    """Receives the system's events about changes in folders, through watchfiles."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """Why some changes may be missed."""
        self._folders: Mapping[str, bool] = {}
        self._top_folders: dict[str, object] = {}
        self._changes: Generator[set[FileChange], None, None] | None = None
        self._is_stale = True

    @property
    def folders(self) -> int:
        return len(self._folders)

    def close(self) -> None:
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def watch_folders(self, store: Store, plan: IndexPlan, *, rewatch: bool = False) -> IndexPlan | None:
        """Watch all folders of a plan. Returns the plan for the run that has to follow, without paths that are missing.

        Changes from now on cause events; earlier ones are found by that run. Returns None if none of the folders
        exists.
        """
        self._is_stale |= rewatch or self._changes is None
        known = {root.path for root in store.catalog.roots.all()}
        for _ in range(ROUNDS):
            there = tuple(path for path in plan.paths if path in known or os.path.isdir(path))
            folders = folders_of(store, replace(plan, paths=there)) if there or not plan.paths else {}
            folders |= {path: False for path in plan.paths if path not in folders}
            if folders == self._folders and not self._is_stale:
                break
            self._start(folders)
        return replace(plan, paths=there) if there or not plan.paths else None

    def _start(self, folders: Mapping[str, bool]) -> None:
        self.close()
        self._folders = folders
        self._top_folders = {path: _identity(path) for path in folders if os.path.dirname(path) not in folders}
        there = [path for path in folders if is_utf8(path) and os.access(path, os.R_OK)]
        self.problem = _watch_problem(self._top_folders, folders)
        self._is_stale = False
        if not there:
            return
        try:
            self._changes = _changes(there, list(self._top_folders))
            for _, path in next(self._changes):  # watchfiles starts here
                self._matters(path)
        except FileNotFoundError:  # it has been deleted
            self.close()
            self._is_stale = True
        except (OSError, RuntimeError) as error:
            self.close()
            self.problem = _limit_problem(error, len(there))

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait for a change, at most `seconds`. Returns whether there was one."""
        until = time.monotonic() + min(seconds, TICK_SECONDS)
        is_changed = False
        while not is_changed and not stop.is_set() and time.monotonic() < until:
            if self._changes is None:
                stop.wait(until - time.monotonic())
                continue
            try:
                for _, path in next(self._changes):
                    is_changed |= self._matters(path)
            except (RuntimeError, StopIteration):  # for example a name that is not UTF-8; no more events will come
                self.close()
                self._is_stale = is_changed = True
        return self._has_moved() or is_changed

    def _matters(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if path in self._folders:  # another folder may have replaced it
            self._is_stale = True
            return True
        if folder not in self._folders and sys.platform == "darwin":
            folder = os.path.realpath(folder)
        return folder in self._folders and may_matter(name, hidden=self._folders[folder])

    def _has_moved(self) -> bool:
        """Whether the top of a watched tree was replaced, removed or mounted."""
        now = {path: _identity(path) for path in self._top_folders}
        is_as_before = now == self._top_folders
        self._top_folders = now
        self._is_stale |= not is_as_before
        return not is_as_before


def _changes(folders: list[str], tops: list[str]) -> Generator[set[FileChange], None, None]:
    """What changed since the last item; an empty set after 0.1 seconds without a change.

    On Linux each folder is watched by itself: only those that matter. macOS watches whole trees.
    """
    import watchfiles

    paths, is_recursive = (tops, True) if sys.platform == "darwin" else (folders, False)
    return watchfiles.watch(
        *paths,
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=STEP_MS,
        yield_on_timeout=True,
        recursive=is_recursive,
        force_polling=False,
        ignore_permission_denied=is_recursive,
    )


def _identity(path: str) -> object:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino, mounts_below(path)


def _watch_problem(tops: Mapping[str, object], folders: Mapping[str, bool]) -> str | None:
    for path in tops:
        if is_network_filesystem(path):
            return f"{printable(path)} is on a network disk, which sends no events for changes by other machines"
    odd = next((path for path in folders if not is_utf8(path)), None)
    return None if odd is None else f"{printable(odd)}: changes in a folder whose name is not UTF-8 cannot be watched"


def _limit_problem(error: Exception, folders: int) -> str:
    """Why folders cannot be watched, and how to fix it."""
    text = str(error)
    if "watch limit" in text:
        name, wanted = "max_user_watches", max(2 * folders, 524_288)
    elif "os error 24" in text:
        name, wanted = "max_user_instances", 1024
    else:
        return f"the system sends no events ({text})"
    return (
        f"the system cannot watch enough folders ({folders:,} are needed); run as root: "
        f"sysctl fs.inotify.{name}={wanted}"
    )
