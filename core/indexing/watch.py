"""Folders under watch: when something in them has changed and come to rest, they are looked at.

What the system tells of changes only says *when* to look; *what* has changed is found by an ordinary run, which
compares the folders with the catalogue. So a change that was told twice, late, under another name or not at all makes
no difference to what is in the index in the end, as long as somebody looks once more.
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
    from watchfiles._rust_notify import RustNotify

# Changes are looked at when all has been quiet for so long, and a file that was written to more lately is left alone:
# whoever copies or downloads writes many times a second.
SETTLE_SECONDS = 2.0
# Where it is never quiet, what has settled is not held up longer than this.
MOST_SECONDS = 10.0
# So long after a look that had a reason everything is looked at once more, and folders are put under watch anew: the
# system may have dropped changes (its queue is finite), and a link may lead to a folder that nothing is told of.
AGAIN_SECONDS = 30.0
# And so often in any case, then also at files that never come to rest.
EVER_SECONDS = 3600.0
# For folders that tell of no change.
POLL_SECONDS = 60.0
# After a look that failed, as for want of room on the disk.
RETRY_SECONDS = 15.0
# At most a fifth of the time is spent looking, however large the collection is and however often it changes.
REST = 4.0

# Where the folders lie is looked up so often: when a disk goes, or another one comes, nothing else tells.
TICK_SECONDS = 1.0
STEP_MS = 100
DEBOUNCE_MS = 400
# Folders may be made faster than they are put under watch.
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What to do now: look at all folders, and put them under watch again if that is doubtful."""

    anew: bool = False
    settle_seconds: float = SETTLE_SECONDS
    """Leave files alone that were written to less than so long ago."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of it."""

    is_done: bool = True
    """Otherwise it could not be done, and is to be tried again."""
    unsettled: bool = False
    """Something was left alone because it is still being written."""
    seconds: float = 0
    """It took so long, without what was read and embedded."""


class Agenda:
    """When to look, and how closely. All times are of one clock that never goes back."""

    def __init__(self, now: float, poll_seconds: float = POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._first: float | None = now - SETTLE_SECONDS
        """Since when something has been waiting to be looked at."""
        self._last = self._first
        self._rested = now
        self._again: float | None = None
        self._poll: float | None = None
        self._ever = now + EVER_SECONDS

    def heard(self, now: float) -> None:
        """Something has changed."""
        self._first = now if self._first is None else self._first
        self._last = now

    @property
    def due(self) -> float:
        """When the next look is."""
        wanted = [self._ever, self._again, self._poll]
        if self._first is not None:
            wanted.append(min(self._last + SETTLE_SECONDS, self._first + MOST_SECONDS))
        return max(self._rested, min(each for each in wanted if each is not None))

    def begin(self, now: float) -> Look:
        """The look that is due; what is heard from now on is for the next one."""
        is_last_word = now >= self._ever
        look = Look(
            anew=is_last_word or (self._again is not None and now >= self._again),
            settle_seconds=0 if is_last_word else SETTLE_SECONDS,
        )
        if look.anew:
            self._again = None
        if is_last_word:
            self._ever = now + EVER_SECONDS
        if self._first is not None:
            self._again = now + AGAIN_SECONDS
        self._first = self._poll = None
        return look

    def ended(self, now: float, looked: Looked, *, is_deaf: bool) -> None:
        """The look is over. `is_deaf`: not every change is told of."""
        self._rested = now + (REST * looked.seconds if looked.is_done else RETRY_SECONDS)
        if looked.unsettled or not looked.is_done:
            self.heard(now)
        if is_deaf:
            self._poll = now + self._poll_seconds


def watch(look: Callable[[Look], Looked], ear: Ear, stop: threading.Event, *, poll_seconds: float) -> None:
    """Look whenever it is time to, until `stop` is set. The first look is at once."""
    agenda = Agenda(time.monotonic(), poll_seconds)
    while not stop.is_set():
        if time.monotonic() >= agenda.due:
            looked = look(agenda.begin(time.monotonic()))
            agenda.ended(time.monotonic(), looked, is_deaf=ear.trouble is not None)
        elif ear.wait(agenda.due - time.monotonic(), stop):
            agenda.heard(time.monotonic())


class Ear:
    """Is told of changes in folders by the system, through watchfiles."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        """Why not every change is heard."""
        self._folders: Mapping[str, bool] = {}
        self._tops: dict[str, object] = {}
        self._notifier: RustNotify | None = None
        self._is_doubtful = True

    @property
    def folders(self) -> int:
        return len(self._folders)

    def close(self) -> None:
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    def attend(self, store: Store, plan: IndexPlan, *, anew: bool = False) -> IndexPlan | None:
        """Listen to all folders of a plan. Returns the plan for the run that has to follow: without what is away now.

        From now on what is changed in those folders is heard, and what was changed before is there to be found. None:
        no folder is there that could be looked at.
        """
        self._is_doubtful |= anew or self._notifier is None
        known = {root.path for root in store.catalog.roots()}
        for _ in range(ROUNDS):
            there = tuple(path for path in plan.paths if path in known or os.path.isdir(path))
            folders = folders_of(store, replace(plan, paths=there)) if there or not plan.paths else {}
            folders |= {path: False for path in plan.paths if path not in folders}
            if folders == self._folders and not self._is_doubtful:
                break
            self._listen(folders)
        return replace(plan, paths=there) if there or not plan.paths else None

    def _listen(self, folders: Mapping[str, bool]) -> None:
        self.close()
        self._folders = folders
        self._tops = {path: _place(path) for path in folders if os.path.dirname(path) not in folders}
        there = [path for path in folders if is_utf8(path) and os.access(path, os.R_OK)]
        self.trouble = _trouble(self._tops, folders)
        self._is_doubtful = False
        if not there:
            return
        try:
            from watchfiles._rust_notify import RustNotify

            # On Linux every folder is put under watch by itself: only those that matter, and one that cannot be does
            # not end it. macOS watches whole trees.
            paths, is_recursive = (list(self._tops), True) if sys.platform == "darwin" else (there, False)
            self._notifier = RustNotify(paths, False, False, 0, is_recursive, is_recursive)
        except FileNotFoundError:  # it vanished meanwhile
            self._is_doubtful = True
        except (OSError, RuntimeError) as error:
            self.trouble = _limit(error, len(there))

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Whether something changed. Returns after `seconds` or a little earlier, or when something did."""
        seconds = max(0.001, min(seconds, TICK_SECONDS))
        is_changed = False
        if self._notifier is None:
            stop.wait(seconds)
        else:
            try:
                found = self._notifier.watch(DEBOUNCE_MS, STEP_MS, max(1, int(seconds * 1000)), stop)
            except RuntimeError:  # such as a name that is not UTF-8; it will say nothing else any more
                self.close()
                self._is_doubtful = is_changed = True
                found = set()
            if found == "signal":  # which watchfiles keeps to itself
                raise KeyboardInterrupt
            if isinstance(found, set):
                is_changed |= any(self._matters(path) for _, path in found)
        return self._has_moved() or is_changed

    def _matters(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if path in self._folders:  # another folder may have taken its place
            self._is_doubtful = True
            return True
        if folder not in self._folders and sys.platform == "darwin":
            folder = os.path.realpath(folder)
        return folder in self._folders and may_matter(name, hidden=self._folders[folder])

    def _has_moved(self) -> bool:
        """Whether at the top of a watched tree there is another folder than before, or none, or a disk in it is."""
        now = {path: _place(path) for path in self._tops}
        is_as_before = now == self._tops
        self._tops = now
        self._is_doubtful |= not is_as_before
        return not is_as_before


def _place(path: str) -> object:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino, mounts_below(path)


def _trouble(tops: Mapping[str, object], folders: Mapping[str, bool]) -> str | None:
    for path in tops:
        if is_network_filesystem(path):
            return f"{printable(path)} is on a network disk, which does not tell what other machines change"
    odd = next((path for path in folders if not is_utf8(path)), None)
    return None if odd is None else f"{printable(odd)}: changes in a folder whose name is not UTF-8 are not told of"


def _limit(error: Exception, folders: int) -> str:
    """Why folders cannot be put under watch, and what would help."""
    text = str(error)
    if "watch limit" in text:
        name, wanted = "max_user_watches", max(2 * folders, 524_288)
    elif "os error 24" in text:
        name, wanted = "max_user_instances", 1024
    else:
        return f"the system does not tell of changes ({text})"
    return (
        f"the system puts no more folders under watch ({folders:,} are needed); as root: "
        f"sysctl fs.inotify.{name}={wanted}"
    )
