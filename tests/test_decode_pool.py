"""Photos are read by processes of their own: what a decoder does to one of them costs one file and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from imgsearch.core.errors import ImgsearchError
from imgsearch.core.photos import decode_worker
from imgsearch.core.photos.decode import read_picture
from imgsearch.core.photos.decode_pool import DecodePool, PoolClosed
from imgsearch.core.photos.preprocess import draft_side, square
from imgsearch.core.types import NotAPicture, Photo, SkipPhoto

from conftest import ALBUM, PATIENCE_SECONDS, wait_until

GOOD = ALBUM / "lemon.jpg"


@pytest.fixture
def workers():
    with DecodePool(2, seconds=PATIENCE_SECONDS) as started:
        yield started


def photo(path: Path, **more) -> Photo:
    info = os.stat(path)
    return Photo(str(path.parent), path.name, info.st_size, info.st_mtime_ns, info.st_ino, **more)


def test_a_worker_reads_what_this_process_would(workers, model):
    recipe = model.recipe
    for name in ("lemon.jpg", "carrots.jpg"):
        here = read_picture(str(ALBUM / name), draft_side=draft_side(recipe))
        there = workers.read(photo(ALBUM / name), recipe, draft_side=draft_side(recipe))
        assert (there.content_hash, there.size, there.facts) == (here.content_hash, here.size, here.facts)
        assert there.mtime_ns == os.stat(ALBUM / name).st_mtime_ns
        assert (there.square == square(here.image, recipe)).all()


def test_a_known_content_gives_facts_and_no_pixels(workers, model):
    here = read_picture(str(GOOD))
    there = workers.read(photo(GOOD), model.recipe, known={here.content_hash})
    assert there.square is None and there.facts == here.facts


def test_what_a_file_is_not_comes_back_as_it_does_here(workers, tmp_path, model):
    (tmp_path / "notes").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(GOOD.read_bytes()[:2000])
    with pytest.raises(NotAPicture):
        workers.read(photo(tmp_path / "notes"), model.recipe)
    with pytest.raises(SkipPhoto, match="truncated") as cut:
        workers.read(photo(tmp_path / "cut.jpg"), model.recipe)
    assert cut.value.stage == "decode"
    assert len(workers._idle) == 1, "a bad file is no reason to start another process"


@pytest.mark.parametrize(
    ("order", "stage", "said"),
    [
        ("crash", "decode", r"its decoder crashed \(SIGSEGV\)"),
        ("abort", "decode", r"its decoder crashed \(SIGABRT\)"),
        ("leave", "decode", "its decoder crashed"),
        ("raise with words", "decode", "crashed"),
        ("hang", "decode", "given up after 5 seconds of decoding"),
        ("eat", "memory", "not enough memory to decode it"),
    ],
)
def test_what_a_decoder_does_to_its_process_costs_one_file(rigged, tmp_path, model, order, stage, said):
    if order == "eat" and sys.platform != "linux":
        pytest.skip("memory is limited on Linux only")
    bad = rigged(tmp_path / "bad.jpg", order)
    with DecodePool(1, seconds=5 if order == "hang" else PATIENCE_SECONDS, niceness=0) as workers:
        workers._share, workers._most = 200 << 20, 300 << 20  # so that the test need not fill the machine
        before = workers.read(photo(GOOD), model.recipe)
        with pytest.raises(SkipPhoto, match=said) as skipped:
            workers.read(photo(bad), model.recipe)
        assert skipped.value.stage == stage
        after = workers.read(photo(GOOD), model.recipe)
    assert (before.square == after.square).all()


def test_among_files_that_crash_and_hang_every_photo_gets_its_own_vector(rigged, tmp_path, imgsearch, model):
    from test_indexing import one_vector, present

    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(GOOD) as image:
        for n in range(24):
            image.rotate(n * 15).resize((200, 200)).save(photos / f"{n:02}.png")
    for n, order in enumerate(("crash", "hang", "abort", "crash", "hang")):
        rigged(photos / f"{n * 5:02}-bad.jpg", f"{order} {n}")
    done = imgsearch("index", "photos", "--model", "builtin", "--time-limit", "5", "--batch-size", "4")
    assert (done.code, "Traceback" in done.err) == (3, False)
    assert "indexed 24 photos, 5 skipped" in done.err
    reasons = sorted(record["reason"] for record in imgsearch("failures", "--json").records)
    assert reasons == [
        "given up after 5 seconds of decoding",
        "given up after 5 seconds of decoding",
        "its decoder crashed (SIGABRT)",
        "its decoder crashed (SIGSEGV)",
        "its decoder crashed (SIGSEGV)",
    ]
    vectors = present(str(tmp_path / "index"))
    assert len(vectors) == 24
    for path, vector in vectors.items():
        assert float(vector @ one_vector(model, Path(path))) > 0.9999, path
    assert imgsearch("index").code == 0, "none of them is tried again"


def test_a_file_whose_worker_is_killed_is_read_by_another(rigged, tmp_path, workers, model):
    path = rigged(tmp_path / "photo.jpg", f"once {tmp_path / 'killed'}")
    assert workers.read(photo(path), model.recipe).square is not None
    assert (tmp_path / "killed").exists()


def test_a_file_that_hangs_holds_up_no_other(rigged, tmp_path, imgsearch):
    photos = tmp_path / "photos"
    photos.mkdir()
    rigged(photos / "00.jpg", f"wait {tmp_path / 'go on'}")
    with Image.open(GOOD) as image:
        for n in range(1, 9):
            image.rotate(n * 15).resize((200, 200)).save(photos / f"{n:02}.png")

    def let_it_go_on_when_the_others_are_durable() -> None:
        wait_until(lambda: _photos_in(tmp_path / "index" / "catalog.sqlite3") == 8, "all the others in the catalogue")
        (tmp_path / "go on").touch()

    watching = threading.Thread(target=let_it_go_on_when_the_others_are_durable)
    watching.start()
    records = imgsearch("index", "photos", "--model", "builtin", "--json", "--workers", "2").records
    order = [os.path.basename(r.get("path", r["event"])) for r in records if r["event"] in ("photo", "checkpoint")]
    watching.join()
    assert order[-2:] == ["00.jpg", "checkpoint"]
    assert "checkpoint" in order[:-2], "what is done is made durable meanwhile"


def _photos_in(catalogue: Path) -> int:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(catalogue)) as connection:
        return connection.execute("select count(*) from photos").fetchone()[0]
    return 0


def test_a_worker_is_deaf_to_what_ends_the_run(workers, model):
    workers.read(photo(GOOD), model.recipe)
    (only,) = workers._idle
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(only._process.pid, number)
    workers.read(photo(GOOD), model.recipe)
    assert workers._idle == [only] and not only._process.poll()


def test_workers_die_with_the_process_that_started_them(rigged, tmp_path):
    path = rigged(tmp_path / "photo.jpg", f"say {tmp_path / 'pid'}")
    program = (
        "import os, sys\n"
        "from imgsearch.core.types import Photo, Recipe\n"
        "from imgsearch.core.photos.decode_pool import DecodePool\n"
        "recipe = Recipe((64, 64), (0, 0, 0), (1, 1, 1))\n"
        f"DecodePool(1).read(Photo({str(tmp_path)!r}, {path.name!r}, 1, 1, 1), recipe)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as started:
        wait_until((tmp_path / "pid").exists, "a worker at the photo")
        started.kill()
    wait_until(lambda: not _is_running(int((tmp_path / "pid").read_text())), "the end of the worker")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_time_in_which_everything_was_stopped_is_not_held_against_a_file(rigged, tmp_path, workers, model, monkeypatch):
    """While a photo is decoded, the clock jumps as it does when the machine wakes up."""
    path = rigged(tmp_path / "photo.jpg", f"say {tmp_path / 'pid'}")
    jump = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + jump)
    monkeypatch.setattr(decode_worker, "time", clock)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(workers.read, photo(path), model.recipe)
        wait_until((tmp_path / "pid").exists, "a worker at the photo")
        jump = 10 * PATIENCE_SECONDS
        (tmp_path / "pid").unlink()
        assert read.result().square is not None


def test_a_picture_too_large_for_a_share_of_the_memory_is_decoded_alone(tmp_path, model, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("RGB", (4000, 4000), "teal").save(path)
    with DecodePool(2) as workers:
        workers._share = 100 << 20
        with ThreadPoolExecutor(4) as pool:
            reads = [pool.submit(workers.read, photo(path), model.recipe) for _ in range(4)]
            assert all(read.result().facts.width == 4000 for read in reads)
        assert not workers._alone.locked()
    with DecodePool(1) as workers:
        workers._share = workers._most = 100 << 20
        with pytest.raises(SkipPhoto, match="16 megapixels need more memory than is free") as skipped:
            workers.read(photo(path), model.recipe)
    assert skipped.value.stage == "memory"


def test_a_module_in_the_folder_one_works_in_is_not_run(tmp_path, monkeypatch, model):
    (tmp_path / "PIL.py").write_text("open('here', 'w')")
    (tmp_path / "json.py").write_text("open('here', 'w')")
    monkeypatch.chdir(tmp_path)
    with DecodePool(1) as workers:
        workers.read(photo(GOOD), model.recipe)
    assert not (tmp_path / "here").exists()


def test_workers_that_cannot_start_are_no_fault_of_a_photo(monkeypatch, tmp_path, model):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['numpy'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with DecodePool(1) as workers, pytest.raises(ImgsearchError, match=r"did not start: .*numpy"):
        workers.read(photo(GOOD), model.recipe)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with DecodePool(1) as workers, pytest.raises(ImgsearchError, match="cannot start a process"):
        workers.read(photo(GOOD), model.recipe)


def test_closing_ends_a_read_at_once(rigged, tmp_path, model):
    path = rigged(tmp_path / "photo.jpg", f"say {tmp_path / 'pid'}")
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            workers.read(photo(path), model.recipe)
        except BaseException as error:
            outcome.append(error)

    workers = DecodePool(1, seconds=10 * PATIENCE_SECONDS)
    thread = threading.Thread(target=read)
    thread.start()
    wait_until((tmp_path / "pid").exists, "a worker at the photo")
    workers.close()
    thread.join(PATIENCE_SECONDS)
    assert [type(error) for error in outcome] == [PoolClosed]
    with pytest.raises(PoolClosed):
        workers.read(photo(GOOD), model.recipe)


def test_the_worker_never_imports_torch():
    program = (
        "import sys; from imgsearch.core.photos import decode, decode_worker, preprocess; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_no_process_and_no_descriptor_is_left_behind(tmp_path, model):
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    shutil.copy(GOOD, tmp_path / "photo.jpg")
    with DecodePool(2) as workers:
        workers.read(photo(tmp_path / "photo.jpg"), model.recipe)
        pids = [each._process.pid for each in workers._idle]
    assert not any(_is_running(pid) for pid in pids)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_a_disk_that_does_not_answer_is_no_fault_of_the_file(tmp_path, monkeypatch, model):
    slow = "import hashlib, time\nhashlib.file_digest = lambda *_: time.sleep(3600)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        DecodePool(1, seconds=1) as workers,
        pytest.raises(SkipPhoto, match="given up after 1 seconds of reading") as late,
    ):
        workers.read(photo(GOOD), model.recipe)
    assert late.value.stage == "read", "it is tried again"
