"""One process writes at a time: the others are told, or wait for their turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from imgsearch.core.errors import IndexLocked, StoreError
from imgsearch.core.store.store import Store

HOLD = """
import sys
from imgsearch.core.store.store import Store
with Store.writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writer(folder):
    """Another process that writes until it is told to end."""
    command = [sys.executable, "-P", "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture
def indexed(imgsearch, photos, tmp_path):
    assert imgsearch("index", photos, "--model", "builtin").code == 0
    return tmp_path / "index"


def test_a_writer_is_told_who_writes_and_that_it_can_wait(imgsearch, indexed, photos, tmp_path):
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


def test_a_writer_that_waits_says_so_once_and_goes_on(imgsearch, indexed, photos, tmp_path):
    imgsearch("export", "out.npz")
    photos.rename(tmp_path / "album")
    for command in (["roots", "move", photos, "album"], ["index"], ["import", "out.npz"], ["prune"]):
        with writer(indexed) as other:
            end = threading.Timer(1, other.stdin.close)
            end.start()
            started = time.monotonic()
            outcome = imgsearch(*command, "--wait")
            assert time.monotonic() - started > 0.5
            end.join()
        assert outcome.code == 0, outcome.err
        assert outcome.err.splitlines()[0] == f"imgsearch: waiting for process {other.pid}"
        assert outcome.err.count("waiting") == 1


def test_whoever_is_quiet_waits_in_silence(imgsearch, indexed):
    with writer(indexed) as other:
        threading.Timer(0.5, other.stdin.close).start()
        outcome = imgsearch("index", "--wait", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")


def test_nothing_is_said_where_there_is_nothing_to_wait_for(imgsearch, indexed):
    assert "waiting" not in imgsearch("prune", "--wait").err


@pytest.mark.parametrize("command", [["prune"], ["index"]])
def test_an_interrupt_while_waiting_ends_at_once(indexed, command):
    env = {**os.environ, "IMGSEARCH_INDEX": str(indexed)}
    with writer(indexed):
        line = [sys.executable, "-m", "imgsearch", *command, "--wait"]
        with subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True) as process:
            assert "waiting for process" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            _, err = process.communicate(timeout=30)
            assert time.monotonic() - started < 2
    assert (process.returncode, err) == (130, "")


def test_an_index_made_anew_while_one_waits_is_the_one_that_is_locked(tmp_path):
    folder = tmp_path / "index"
    with Store.writing(str(folder), create=True):
        pass
    (tmp_path / "old").mkdir()
    seen = []

    def replaced(owner):
        seen.append(owner)
        (folder / "lock").rename(tmp_path / "old" / "lock")
        threading.Timer(0.3, first.stdin.close).start()

    with writer(folder) as first, Store.writing(str(folder), wait=replaced):
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


def test_a_disk_that_cannot_lock_is_told_from_one_that_is_locked(indexed, monkeypatch):
    def fail(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(StoreError, match="cannot be locked"), Store.writing(str(indexed), wait=print):
        pass
