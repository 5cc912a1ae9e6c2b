"""One process writes at a time: the others are refused, or wait."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from imgsearch.core.errors import IndexLocked, StoreError
from imgsearch.core.store.store import Store

from conftest import PATIENCE_SECONDS

HOLD = """
import sys
from imgsearch.core.store.store import Store
with Store.writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writer(folder):
    """Another process that writes until its stdin is closed."""
    command = [sys.executable, "-P", "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(PATIENCE_SECONDS)


@contextmanager
def refused_twice(then):
    """Do something once this process has been refused the lock twice, which means that it waits for it."""
    flock, refused = fcntl.flock, 0

    def counted(descriptor, operation):
        nonlocal refused
        try:
            return flock(descriptor, operation)
        except BlockingIOError:
            refused += 1
            if refused == 2:
                then()
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", counted)
        yield
    assert refused >= 2


@pytest.fixture
def indexed(imgsearch, photos, tmp_path):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    return tmp_path / "index"


def test_a_writer_learns_who_writes_and_that_it_can_wait(imgsearch, indexed, photos, tmp_path):
    exported = tmp_path / "out.npz"
    assert imgsearch("export", exported).code == 0
    with writer(indexed) as other:
        for command in (["index"], ["prune"], ["roots", "move", photos, photos], ["import", exported]):
            outcome = imgsearch(*command)
            assert outcome.code == 5
            first, hint = outcome.err.splitlines()
            assert first == f"imgsearch: {indexed}: in use by another imgsearch (process {other.pid})"
            assert "--wait" in hint
        assert imgsearch("query", "a lemon").code == 0


def test_a_writer_that_waits_says_so_once_and_continues(imgsearch, indexed, photos, tmp_path):
    imgsearch("export", "out.npz")
    photos.rename(tmp_path / "album")
    for command in (["roots", "move", photos, "album"], ["index"], ["import", "out.npz"], ["prune"]):
        with writer(indexed) as other, refused_twice(other.stdin.close):
            outcome = imgsearch(*command, "--wait")
        assert outcome.code == 0, outcome.err
        assert outcome.err.splitlines()[0] == f"imgsearch: waiting for process {other.pid}"
        assert outcome.err.count("waiting") == 1


def test_a_quiet_writer_waits_in_silence(imgsearch, indexed):
    with writer(indexed) as other, refused_twice(other.stdin.close):
        outcome = imgsearch("index", "--wait", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")


def test_a_writer_that_need_not_wait_says_nothing_of_it(imgsearch, indexed):
    assert "waiting" not in imgsearch("prune", "--wait").err


@pytest.mark.parametrize("command", [["prune"], ["index"]])
def test_an_interrupt_while_waiting_ends_at_once(indexed, command):
    env = {**os.environ, "IMGSEARCH_INDEX": str(indexed)}
    with writer(indexed):
        line = [sys.executable, "-m", "imgsearch", *command, "--wait"]
        with subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True) as process:
            assert "waiting for process" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE_SECONDS)  # while the other still writes
    assert (process.returncode, err) == (130, "")


def test_an_index_that_is_replaced_while_a_writer_waits_is_the_one_that_is_locked(tmp_path):
    folder = tmp_path / "index"
    with Store.writing(str(folder), create=True):
        pass
    (tmp_path / "old").mkdir()
    seen = []

    def replaced(owner):
        seen.append(owner)
        (folder / "lock").rename(tmp_path / "old" / "lock")

    with writer(folder) as first, refused_twice(first.stdin.close), Store.writing(str(folder), wait=replaced):
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"
        with pytest.raises(IndexLocked):
            Store.writing(str(folder)).__enter__()
    assert seen == [str(first.pid)]


def test_a_lock_that_is_no_regular_file_is_refused_and_not_written_to(imgsearch, indexed, tmp_path):
    lock, diary = indexed / "lock", tmp_path / "diary"
    diary.write_text("dear diary")
    for make in (lambda: lock.symlink_to(diary), lambda: lock.symlink_to(tmp_path / "new"), lambda: os.mkfifo(lock)):
        lock.unlink()
        make()
        outcome = imgsearch("prune")
        assert outcome.code == 4
        assert outcome.err.startswith(f"imgsearch: {lock}: not a regular file")
    assert diary.read_text() == "dear diary" and not (tmp_path / "new").exists()


def test_a_disk_without_locks_is_not_reported_as_locked(indexed, monkeypatch):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(StoreError, match="cannot be locked"), Store.writing(str(indexed), wait=print):
        pass
