"""An index held against a plain dictionary, whatever happens to the photos, to the runs and to the model.

IMGSEARCH_PROPERTY_EXAMPLES=2000 pytest tests/test_property.py     other examples each time, and as many as you like
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from PIL import Image

from imgsearch.core.errors import IndexNotFound, StoreError
from imgsearch.core.indexing import indexer
from imgsearch.core.indexing.indexer import Event, IndexPlan, Summary
from imgsearch.core.models import registry
from imgsearch.core.photos import decode, preprocess
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.catalog import Catalog
from imgsearch.core.store.prune import prune
from imgsearch.core.store.records import Space
from imgsearch.core.store.store import Store, View
from imgsearch.core.store.vectors import FlatVectors
from imgsearch.core.types import Embedder, SkipPhoto

from chosen import Remembering
from conftest import ALBUM

EXAMPLES = os.environ.get("IMGSEARCH_PROPERTY_EXAMPLES")
SETTINGS = settings(
    max_examples=int(EXAMPLES or 12),
    stateful_step_count=20,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)

PICTURES = 30
# Below this cosine two pictures of the bank are told apart.
MAX_ALIKE = 0.95
# Many files are equally long, so that only their time tells that one was changed.
ROUND_BYTES = 3_000

SUFFIXES = (".jpg", ".png")
# Composed and decomposed é are two names; fewer than 50 places in all, or a root that lost most would be offline.
NAMES = tuple(
    os.fsdecode(name)
    for name in (
        b"one.jpg",
        b"one.png",
        b"sp ace.jpg",
        b"new\nline.png",
        b"caf\xe9.png",
        "\u00e9.jpg".encode(),
        "e\u0301.jpg".encode(),
    )
)
FOLDERS = tuple(os.fsdecode(folder) for folder in (b"", b"in", b"in/side", b"two words", b"\xfcber"))
CAPTIONS = ("breakfast on the balcony", "the harbour in the rain", "what the neighbours brought along")
EXCLUDES = ((), ("*.png",), ("one.*",), ("side/",), ("/two words/",))

OURS, OTHER = "ours", "other"
SPECS = {OURS: registry.parse("builtin").to_json(), OTHER: '{"name": "other", "arch": "other"}'}


class Turned:
    """Another model: the numbers of the first one turned round, so that no vector of one is one of the other."""

    def __init__(self, model: Remembering) -> None:
        self._model, self.recipe = model, model.recipe
        self.identity = replace(model.identity, fingerprint="f" * 64, name=OTHER)

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        return -np.roll(self._model.embed_images(squares), 7, axis=1)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return -np.roll(self._model.embed_texts(texts), 7, axis=1)


@dataclass
class World:
    """What all examples share: pictures, models, and processes that read."""

    folder: Path
    models: dict[str, Embedder]
    good: list[bytes]
    broken: list[bytes]
    images: dict[tuple[str, bytes], np.ndarray]
    """The right vectors, by model and content hash."""
    texts: dict[tuple[str, bytes], np.ndarray]
    """By model and key."""
    workers: DecodePool = field(default_factory=lambda: DecodePool(2, niceness=0))

    def model_of(self, space: Space) -> str:
        return next(name for name, model in self.models.items() if model.identity == space.identity)

    def open_workers(self) -> DecodePool:
        if self.workers._is_closed:
            self.workers = DecodePool(2, niceness=0)
        return self.workers


@pytest.fixture(scope="module")
def world(model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("property")
    ours = Remembering(model)
    good, rows = _bank(ours, folder)
    broken = [good[0][:300], b"", b"a text that claims to be a picture", good[1][: good[1].index(b"\xff\xda") + 40]]
    for content in broken:
        with pytest.raises(SkipPhoto):
            _vector(ours, content, folder)
    known = {OURS: ours, OTHER: Turned(ours)}
    images = {(OURS, digest(content)): row for content, row in zip(good, rows, strict=True)}
    images |= {(OTHER, key): -np.roll(row, 7) for (_, key), row in images.items()}
    texts = {(name, indexer.text_key(text)): known[name].embed_texts([text])[0] for name in known for text in CAPTIONS}
    # Nothing may depend on how fast this machine is: an example has to go the same way each time.
    patch = pytest.MonkeyPatch()
    patch.setattr(indexer, "CHECKPOINT_SECONDS", 1e9)
    patch.setattr(indexer, "PATIENCE_SECONDS", 60.0)
    # No power is cut here; what is synced is for the kernel to know.
    patch.setattr(os, "fsync", lambda descriptor: None)
    made = World(folder, known, good, broken, images, texts)
    yield made
    made.workers.close()
    patch.undo()


def _bank(model: Remembering, folder: Path) -> tuple[list[bytes], list[np.ndarray]]:
    """Small pictures of which none looks like another to the model, with their vectors."""
    contents: list[bytes] = []
    rows: list[np.ndarray] = []
    for number, path in enumerate(sorted(ALBUM.glob("*.jpg"))):
        with Image.open(path) as image:
            image.thumbnail((48, 48) if number % 3 == 0 else (72, 72))
            buffer = io.BytesIO()
            image.save(buffer, "PNG" if number % 3 == 0 else "JPEG", quality=70)
        content = buffer.getvalue()
        if number % 2:
            content = content.ljust(ROUND_BYTES, b"\0")
        row = _vector(model, content, folder)
        if all(float(row @ other) < MAX_ALIKE for other in rows):
            contents.append(content)
            rows.append(row)
        if len(contents) == PICTURES:
            return contents, rows
    raise AssertionError("the album is too small")


def _vector(model: Embedder, content: bytes, folder: Path) -> np.ndarray:
    path = folder / "picture.jpg"
    path.write_bytes(content)
    picture = decode.read_picture(str(path), draft_side=preprocess.draft_side(model.recipe))
    return model.embed_images(preprocess.square(picture.image, model.recipe)[None])[0]


@functools.cache
def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


# crashes


class Crash(BaseException):
    """The process is no more."""


MOMENTS = (
    "an event",
    "before a batch",
    "before an append",
    "in an append",
    "after an append",
    "before a commit",
    "uncommitted",
    "after a commit",
    "before a file",
    "after a file",
)
Crashing = tuple[str, int] | None
"""At which moment, counted from 1 among those of its kind."""


class Steps:
    """Watches what a run does, and ends it at the n-th moment of one kind."""

    def __init__(self, folder: str, crash: Crashing) -> None:
        self._folder = folder
        self._kind, self._left = crash or ("", 0)

    def step(self, kind: str) -> None:
        if self.is_last(kind):
            raise Crash(kind)

    def is_last(self, kind: str) -> bool:
        self._left -= kind == self._kind
        return kind == self._kind and self._left == 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note every append and commit, and every file of the index that is replaced or removed.

        A crash unwinds the run. What that does beside giving back what the kernel would take back, is to roll back a
        transaction that nobody will ever commit.
        """
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FlatVectors, "append", self._append(FlatVectors.append))
            patch.setattr(Catalog, "transaction", self._transaction(Catalog.transaction))
            for name in ("replace", "unlink", "rmdir"):
                patch.setattr(os, name, self._on_file(getattr(os, name)))
            yield

    def _append(self, append: Callable) -> Callable:
        def watched(flat: FlatVectors, at: int, rows: np.ndarray) -> None:
            self.step("before an append")
            if self.is_last("in an append"):
                data = np.ascontiguousarray(rows, np.float32).tobytes()
                descriptor = os.open(flat.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                os.pwrite(descriptor, data[: len(data) // 2 + 1], at * flat.dim * 4)  # its end is no row's end
                os.close(descriptor)
                raise Crash
            append(flat, at, rows)
            self.step("after an append")

        return watched

    def _transaction(self, transaction: Callable) -> Callable:
        @contextlib.contextmanager
        def watched(opened: Catalog) -> Iterator[None]:
            self.step("before a commit")
            with transaction(opened):
                yield
                self.step("uncommitted")
            self.step("after a commit")

        return watched

    def _on_file(self, act: Callable) -> Callable:
        def watched(path: str, *more: object, **named: object) -> None:
            if named.get("dir_fd") is None and not os.fspath(path).startswith(self._folder):
                act(path, *more, **named)
                return
            self.step("before a file")
            act(path, *more, **named)
            self.step("after a file")

        return watched


class Watched:
    """A model that notes every batch."""

    def __init__(self, model: Embedder, steps: Steps) -> None:
        self._model, self._steps = model, steps
        self.identity, self.recipe = model.identity, model.recipe

    def embed_images(self, squares: np.ndarray) -> np.ndarray:
        self._steps.step("before a batch")
        return self._model.embed_images(squares)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self._steps.step("before a batch")
        return self._model.embed_texts(texts)


# what an index says


@dataclass(frozen=True)
class Seen:
    """What a reader that opens the index now is shown."""

    root: str | None = None
    """`online`, `offline`, or None where the index has no root."""
    rules: tuple[str, ...] = ()
    has_photos: bool = False
    """Whatever became of them."""
    model: str | None = None
    is_complete: bool = False
    photos: dict[str, bytes] = field(default_factory=dict)
    """Content hashes by path."""
    texts: frozenset[tuple[str, str]] = frozenset()
    failures: frozenset[str] = frozenset()


@dataclass
class Held:
    """A reader that stays open while others write."""

    store: Store
    view: View
    rows: np.ndarray
    """As they were when it was opened."""
    searcher: Searcher


@dataclass(frozen=True)
class How:
    """How an index is run."""

    model: str | None
    """None: the one the index has."""
    batch: int
    checkpoint: int
    peek: int
    """A reader looks at this event."""


HOW = st.builds(
    How,
    model=st.sampled_from((None, None, None, None, OURS, OTHER)),
    batch=st.integers(1, 5),
    checkpoint=st.sampled_from((1, 3, 256)),
    peek=st.integers(0, 20),
)
PLACE = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)).map(lambda place: os.path.join(*place))
WHICH = st.integers(0, len(FOLDERS) * len(NAMES) - 1)
GOOD = st.integers(0, PICTURES - 1)
STAMP = st.sampled_from(("new", "new", "kept", "old"))
CRASH = st.tuples(st.sampled_from(MOMENTS), st.integers(1, 3) | st.integers(1, 9))
CRASH_OR_NOT = st.one_of(st.none(), CRASH)
LOSSES = ("unplugged", "unmounted", "unplugged", "unmounted", "unplugged", "emptied", "but folders")

CHANGE = st.one_of(
    st.tuples(st.just("add"), PLACE, GOOD, STAMP),
    st.tuples(st.just("copy"), WHICH, PLACE, STAMP),
    st.tuples(st.just("replace"), WHICH, GOOD, STAMP),
    st.tuples(st.just("break"), WHICH, st.integers(0, 3), STAMP),
    st.tuples(st.just("fix"), STAMP),
    st.tuples(st.just("delete"), WHICH),
    st.tuples(st.just("rename"), WHICH, PLACE, st.booleans()),
    st.tuples(st.just("rename_folder"), st.sampled_from(FOLDERS[1:]), st.sampled_from(FOLDERS[1:])),
    st.tuples(st.just("caption"), WHICH, st.sampled_from((*CAPTIONS, None))),
)
"""A method of `Library`, without its underscore, and what it is called with."""
CHANGES = st.lists(CHANGE, max_size=6)


class Library(RuleBasedStateMachine):
    """A folder of photos, the index of it, and a dictionary that knows what is right.

    What a rule draws never depends on what a run did, only on what lies in the folder: an example goes the same way
    each time. Paths in the dictionaries are relative to the folder.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.base = Path(tempfile.mkdtemp(dir=world.folder))
        self.top = str(self.base / "photos")
        self.folder = str(self.base / "index")
        os.mkdir(self.top)
        self.photos: dict[str, bytes] = {}
        self.captions: dict[str, str] = {}
        """By the path of the photo without its ending."""
        self.is_away = False
        self.history: dict[str, set[bytes]] = {}
        """What lay at a path since all of it was indexed last."""
        self.named: set[str] = set()
        """Files that were indexed by name: whatever is excluded, they may stay."""
        self.seen = Seen()
        self.held: Held | None = None
        self._clock = itertools.count(1)
        self._times: dict[bytes, int] = {}
        self._contents: dict[tuple[int, int], bytes] = {}

    def teardown(self) -> None:
        self._let_go()
        shutil.rmtree(self.base)

    # the photos

    @initialize(
        photos=st.lists(st.tuples(PLACE, GOOD), min_size=8, max_size=20),
        changes=CHANGES,
        how=HOW,
        crash=CRASH_OR_NOT,
    )
    def start(self, photos: list[tuple[str, int]], changes: list[tuple], how: How, crash: Crashing) -> None:
        for place, number in photos:
            self._write(place, self.world.good[number])
        self._change(changes)
        self._index_all(how, None, crash=crash)

    def _change(self, changes: Sequence[tuple]) -> None:
        for name, *values in changes:
            if not self.is_away and (self.photos or name == "add"):
                getattr(self, f"_{name}")(*values)

    def _add(self, place: str, number: int, stamp: str) -> None:
        self._write(place, self.world.good[number], stamp)

    def _copy(self, which: int, place: str, stamp: str) -> None:
        self._write(place, self.photos[self._chosen(which)], stamp)

    def _replace(self, which: int, number: int, stamp: str) -> None:
        self._write(self._chosen(which), self.world.good[number], stamp)

    def _break(self, which: int, number: int, stamp: str) -> None:
        self._write(self._chosen(which), self.world.broken[number], stamp)

    def _fix(self, stamp: str) -> None:
        """What is broken becomes what it was before, or something else."""
        for place in sorted(self._broken()):
            was = [content for content in self.world.good if digest(content) in self.history.get(place, ())]
            self._write(place, (was or self.world.good)[0], stamp)

    def _delete(self, which: int) -> None:
        place = self._chosen(which)
        os.unlink(self._path(place))
        del self.photos[place]

    def _rename(self, which: int, place: str, with_caption: bool) -> None:
        old = self._chosen(which)
        os.makedirs(os.path.dirname(self._path(place)), exist_ok=True)
        os.rename(self._path(old), self._path(place))
        self._note(place, self.photos.pop(old))
        if with_caption and _stem(old) in self.captions and _stem(old) != _stem(place):
            os.rename(self._path(_stem(old) + ".txt"), self._path(_stem(place) + ".txt"))
            self.captions[_stem(place)] = self.captions.pop(_stem(old))

    def _rename_folder(self, old: str, new: str) -> None:
        if not os.path.isdir(self._path(old)) or os.path.lexists(self._path(new)) or new.startswith(f"{old}/"):
            return
        os.makedirs(os.path.dirname(self._path(new)), exist_ok=True)
        os.rename(self._path(old), self._path(new))
        for place in [place for place in self.photos if place.startswith(f"{old}/")]:
            self._note(new + place.removeprefix(old), self.photos.pop(place))
        for stem in [stem for stem in self.captions if stem.startswith(f"{old}/")]:
            self.captions[new + stem.removeprefix(old)] = self.captions.pop(stem)

    def _caption(self, which: int, text: str | None) -> None:
        stems = sorted(self.captions) if which % 2 else []
        stem = stems[which % len(stems)] if stems else _stem(self._chosen(which))
        path = self._path(stem + ".txt")
        if text is not None:
            Path(path).write_text(text)
            self._stamp(path, self._now())
            self.captions[stem] = text
        elif self.captions.pop(stem, None):
            os.unlink(path)

    @precondition(lambda self: not self.is_away)
    @rule(how=st.sampled_from(LOSSES))
    def lose(self, how: str) -> None:
        """The disk goes away, with or without its mount point, or all that is on it is deleted."""
        if how in ("unplugged", "unmounted"):
            os.rename(self.top, f"{self.top}.away")
            self.is_away = True
        if how == "unmounted":
            os.mkdir(self.top)
        if how in ("emptied", "but folders"):
            for name in os.listdir(self.top):
                path = os.path.join(self.top, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            self.photos.clear()
            self.captions.clear()
        if how == "but folders":
            os.makedirs(self._path(FOLDERS[2]))

    @precondition(lambda self: self.is_away)
    @rule()
    def bring_back(self) -> None:
        if os.path.isdir(self.top):
            os.rmdir(self.top)
        os.rename(f"{self.top}.away", self.top)
        self.is_away = False

    # the index

    @rule(changes=CHANGES, how=HOW, exclude=st.sampled_from((None, *EXCLUDES)), is_repeated=st.booleans())
    def index(self, changes: list[tuple], how: How, exclude: tuple[str, ...] | None, is_repeated: bool) -> None:
        self._change(changes)
        self._index_all(how, exclude)
        if is_repeated and self.seen.root == "online" and not self._missing():
            self._index_again()

    @rule(changes=CHANGES, how=HOW, model=st.sampled_from((OURS, OTHER)), crash=CRASH_OR_NOT)
    def change_model(self, changes: list[tuple], how: How, model: str, crash: Crashing) -> None:
        self._change(changes)
        self._index_all(replace(how, model=model), None, crash=crash)

    @rule(changes=CHANGES, how=HOW, exclude=st.sampled_from((None, None, None, *EXCLUDES)), crash=CRASH)
    def index_and_crash(self, changes: list[tuple], how: How, exclude: tuple[str, ...] | None, crash: Crashing) -> None:
        self._change(changes)
        self._index_all(how, exclude, crash=crash)

    @rule(changes=CHANGES, how=HOW, exclude=st.sampled_from((None, None, None, *EXCLUDES)), stop=st.integers(1, 12))
    def index_and_stop(self, changes: list[tuple], how: How, exclude: tuple[str, ...] | None, stop: int) -> None:
        self._change(changes)
        self._index_all(how, exclude, stop=stop)

    @precondition(lambda self: not self.is_away)
    @rule(changes=CHANGES, how=HOW, folder=st.sampled_from(FOLDERS[1:]), crash=CRASH_OR_NOT)
    def index_folder(self, changes: list[tuple], how: How, folder: str, crash: Crashing) -> None:
        self._change(changes)
        if self.seen.root is not None and os.path.isdir(self._path(folder)):
            self._index_part(how, folder, crash)

    @precondition(lambda self: not self.is_away)
    @rule(changes=CHANGES, how=HOW, which=WHICH, crash=CRASH_OR_NOT)
    def index_file(self, changes: list[tuple], how: How, which: int, crash: Crashing) -> None:
        self._change(changes)
        if self.seen.root is not None and self.photos:
            place = self._chosen(which)
            self.named.add(place)
            self._index_part(how, place, crash)

    @rule(changes=CHANGES, gives_up=st.booleans())
    def prune(self, changes: list[tuple], gives_up: bool) -> None:
        self._change(changes)
        self._prune(gives_up=gives_up)

    @rule(changes=CHANGES, gives_up=st.booleans(), crash=CRASH)
    def prune_and_crash(self, changes: list[tuple], gives_up: bool, crash: Crashing) -> None:
        self._change(changes)
        self._prune(gives_up=gives_up, crash=crash)

    @rule(changes=CHANGES, which=WHICH, strategy=st.sampled_from(("exact", "ann")), is_last=st.booleans())
    def ask(self, changes: list[tuple], which: int, strategy: str, is_last: bool) -> None:
        """A reader that was open all the time sees what is there now, and its own rows never changed."""
        self._change(changes)
        held = self.held or self._opened()
        path = self._still_there(which)
        if held is not None and path is not None:
            assert np.array_equal(held.view.rows, held.rows)
            with Store.open(self.folder) as store:
                is_kept = held.view.space.id in {space.id for space in store.catalog.spaces.all()}
                slot = store.catalog.vectors.slot_of(held.view.space.id, "image", self.seen.photos[path])
            if not is_kept:  # another model's, and pruned
                with pytest.raises(StoreError):
                    self._hits(held.searcher, path, strategy)
            elif slot is not None:
                assert path in self._best(held.searcher, path, strategy)
        if is_last:
            self._let_go()
            self._opened()

    def _opened(self) -> Held | None:
        if self.seen.model is not None:
            store = Store.open(self.folder)
            view = store.view()
            model = self.world.models[self.seen.model]
            self.held = Held(store, view, np.array(view.rows), Searcher(store, lambda: model, view))
        return self.held

    # runs

    def _index_all(self, how: How, exclude: tuple[str, ...] | None, *, crash: Crashing = None, stop: int = 0) -> None:
        if not os.path.isdir(self.top) and self.seen.root is None:
            return  # no folder, and nothing that the index knows
        before, is_lost = self.seen, self._missing()
        is_remembered = exclude is None and before.root is not None
        paths = () if is_remembered else (self.top,)
        rules = before.rules if is_remembered else exclude or ()
        is_whole, model = self._run(how, paths, rules, () if is_remembered else rules, crash=crash, stop=stop)
        seen = self.seen
        assert seen.rules in ((rules,) if is_whole else (rules, before.rules))
        # An empty folder of which nothing is known may well be an empty folder.
        is_offline = is_lost and (before.has_photos or not os.path.isdir(self.top))
        after = "offline" if is_offline else "online"
        if is_whole:
            assert seen.root == after or (is_lost and not is_offline and seen.root == before.root)
        else:
            assert seen.root in (after, before.root, "online" if before.root is None else after)
        if is_whole and is_lost:
            assert not seen.photos and not seen.texts
        elif is_whole:
            self._assert_all_is_right(model, rules)
            self.history = {place: {digest(content)} for place, content in self.photos.items()}

    def _index_part(self, how: How, part: str, crash: Crashing) -> None:
        """Index one folder or one file, and hold what is shown of it against the dictionary."""
        before = self.seen
        is_whole, model = self._run(how, (self._path(part),), before.rules, (), crash=crash)
        assert (self.seen.root, self.seen.rules) == (before.root, before.rules)
        if not is_whole or before.root != "online":
            return

        def is_meant(place: str) -> bool:
            return (place == part or place.startswith(f"{part}/")) and not _is_excluded(place, before.rules)

        broken = self._broken()
        assert {self._path(place) for place in broken if is_meant(place)} <= self.seen.failures
        shown = {path for path in self.seen.photos if is_meant(self._place(path))}
        wanted = {self._path(place) for place in self.photos if is_meant(place) and place not in broken}
        assert shown <= wanted
        assert shown == wanted or self.seen.model != model
        assert all(self._is_still(path) for path in shown)

    def _index_again(self) -> None:
        """Nothing changed, so there is nothing to do, and no model is needed for it."""

        def never() -> tuple[Embedder, str]:
            raise AssertionError("the model was loaded for nothing")

        def run(store: Store) -> Summary:
            plan = IndexPlan(())
            return indexer.run(store, never, plan, space=store.active_space(), workers=self.world.open_workers())

        before = self.seen
        if not before.photos:
            return
        with Store.writing(self.folder) as store:
            summary = run(store)
        assert (summary.indexed, summary.skipped, summary.gone, summary.excluded) == (0, 0, 0, 0)
        self._look()
        assert self.seen == before

    def _run(
        self,
        how: How,
        paths: tuple[str, ...],
        rules: tuple[str, ...],
        exclude: tuple[str, ...],
        *,
        crash: Crashing,
        stop: int = 0,
    ) -> tuple[bool, str]:
        """Whether it came to its end, and with which model. What need not leave is shown all the time."""
        before = self.seen
        steady, moved = self._steady(rules), self._moved(rules) if paths in ((), (self.top,)) else set()
        steps, stopping, kinds = Steps(self.folder, crash), threading.Event(), []
        model = OURS

        def look() -> None:
            self._look()
            assert steady <= self.seen.photos.items()
            assert moved <= set(self.seen.photos.values())

        def on_event(event: Event) -> None:
            kinds.append(event.kind)
            if len(kinds) == how.peek:
                look()
            if stop and kinds.count("photo") == stop:
                stopping.set()
            steps.step("an event")

        def index(store: Store) -> Summary:
            nonlocal model
            space = store.active_space() if how.model is None else None
            model = how.model or (OURS if space is None else self.world.model_of(space))
            return indexer.run(
                store,
                lambda: (Watched(self.world.models[model], steps), SPECS[model]),
                IndexPlan(paths, exclude=exclude, batch_size=how.batch),
                space=space,
                on_event=on_event,
                stop=stopping,
                workers=self.world.open_workers(),
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(indexer, "CHECKPOINT_PHOTOS", how.checkpoint)
            is_whole = self._write_with(steps, index) and not stopping.is_set()
        look()
        assert self.seen.is_complete or not before.is_complete
        return is_whole, model

    def _write_with(self, steps: Steps, act: Callable[[Store], object]) -> bool:
        """Whether it was done before the crash."""
        try:
            with steps.watched(), Store.writing(self.folder, create=True) as store:
                act(store)
        except Crash:
            return False
        return True

    def _prune(self, *, gives_up: bool, crash: Crashing = None) -> None:
        """What is shown stays the same to the letter, unless a disk is given up: perhaps it is back with less on it."""
        before, is_there = self.seen, not self._missing()
        if before == Seen():
            return
        given_up = [self.top] if gives_up and before.root == "offline" else []
        is_whole = self._write_with(Steps(self.folder, crash), lambda store: prune(store, offline=given_up))
        self._look()
        if not given_up:
            assert replace(self.seen, failures=before.failures, has_photos=before.has_photos) == before
            assert self.seen.failures <= before.failures
            assert not any(os.path.lexists(path) for path in before.failures - self.seen.failures)
        else:
            after = "online" if is_there else None
            assert self.seen.root in ((after,) if is_whole else (after, "offline"))
            assert all(os.path.exists(path) for path in self.seen.photos)
        if is_whole:
            self._assert_is_compact()

    # what is right

    def _steady(self, rules: Sequence[str]) -> set[tuple[str, bytes]]:
        """What is shown and lies there unchanged, so that no run may hide it."""
        if self._missing():
            return set()
        both = (*rules, *self.seen.rules)
        return {
            (path, content)
            for path, content in self.seen.photos.items()
            if self._is_still(path) and not _is_excluded(self._place(path), both)
        }

    def _moved(self, rules: Sequence[str]) -> set[bytes]:
        """Contents that are shown where they no longer are, and have a place elsewhere."""
        if self._missing():
            return set()
        both = (*rules, *self.seen.rules)
        here = {digest(content) for place, content in self.photos.items() if not _is_excluded(place, both)}
        return here & {content for path, content in self.seen.photos.items() if not os.path.exists(path)}

    def _assert_all_is_right(self, model: str, rules: Sequence[str]) -> None:
        """After a whole run: the index is the dictionary."""
        seen = self.seen
        broken = self._broken()
        wanted = {
            self._path(place): digest(content)
            for place, content in self.photos.items()
            if place not in broken and not _is_excluded(place, rules)
        }
        named = {self._path(place) for place in self.named if _is_excluded(place, rules)}
        assert seen.photos.keys() - named == wanted.keys() - named
        assert all(self._is_still(path) for path in seen.photos)
        assert seen.model == model or not seen.photos
        texts = {(path, self.captions.get(_stem(self._place(path)))) for path in seen.photos}
        assert seen.texts == {(path, text) for path, text in texts if text is not None}
        excluded = {self._path(place) for place in self.photos if _is_excluded(place, rules)}
        assert seen.failures - excluded == {self._path(place) for place in broken} - excluded
        with Store.open(self.folder) as store:
            status = store.status()
        assert status.photos.get("present", 0) == len(seen.photos)
        assert status.failed == len(seen.failures)
        assert status.texts == len({text for _, text in seen.texts})

    def _assert_is_compact(self) -> None:
        """After a whole prune: no more than is needed."""
        with Store.open(self.folder) as store:
            active = store.active_space()
            known = store.catalog.value("select count(distinct content_hash) from photos")
            for space in store.catalog.spaces.all():
                assert active is not None and (space.id == active.id or "building" in (space.state, active.state))
                images = store.catalog.value(
                    "select count(*) from vectors where space_id = :id and modality = 'image'", id=space.id
                )
                assert images <= known
                files = {path.name for path in Path(self.folder, "spaces", space.id).glob("vectors.*")}
                assert files <= {f"vectors.{space.generation}.f32"}

    def _look(self) -> None:
        """Open the index as a reader does, hold all it says against the dictionary, and remember it."""
        try:
            store = Store.open(self.folder)
        except IndexNotFound:
            assert self.seen == Seen()
            return
        with store:
            self.seen = self._all_that(store)

    def _all_that(self, store: Store) -> Seen:
        roots = store.catalog.roots.all()
        assert [root.path for root in roots] in ([], [self.top])
        for space in store.catalog.spaces.all():
            self._assert_vectors_are_right(store, space)
        for folder, name, content in store.catalog.rows(
            "select folder, name, content_hash from photos where state = 'present'"
        ):
            place = os.fsdecode(os.path.join(folder, name))
            assert content in self.history.get(place, set()), place
        failures = [failure.path for failure in store.failures()]
        assert len(failures) == len(set(failures)) == store.status().failed
        seen = Seen(
            root=roots[0].state if roots else None,
            rules=roots[0].exclude if roots else (),
            has_photos=store.catalog.value("select 1 from photos") is not None,
            failures=frozenset(failures),
        )
        try:
            view = store.view()
        except IndexNotFound:
            assert not store.catalog.spaces.all()
            return seen
        photos = self._shown(store, view)
        for strategy in ("exact", "ann"):
            path = next((path for path in photos if self._is_still(path, photos)), None)
            if path is not None:
                assert path in self._best(Searcher(store, _no_model, view), path, strategy)
        return replace(
            seen,
            model=self.world.model_of(view.space),
            is_complete=view.space.state == "complete",
            photos=photos,
            texts=self._texts(store, view),
        )

    def _assert_vectors_are_right(self, store: Store, space: Space) -> None:
        """Every row there is, live or not, is the vector of what the catalogue says is there, by that very model."""
        rows = store.view(space).rows
        named = store.catalog.rows(
            "select slot, modality, key from vectors where space_id = :space order by slot", space=space.id
        )
        assert [row[0] for row in named] == list(range(space.slots)) == list(range(len(rows)))
        assert len({row[1:] for row in named}) == len(named)
        model = self.world.model_of(space)
        right = {"image": self.world.images, "text": self.world.texts}
        for slot, modality, key in named:
            np.testing.assert_allclose(rows[slot], right[modality][model, key], atol=1e-4)
            assert abs(float(np.linalg.norm(rows[slot])) - 1) < 1e-4

    def _shown(self, store: Store, view: View) -> dict[str, bytes]:
        live = np.flatnonzero(view.slots.mask("image"))
        places = store.catalog.places.of_slots(view.space.id, live.tolist(), include_offline=False)
        photos = {place.path: place.content_hash for place in places}
        assert len(photos) == len(places)
        model = self.world.model_of(view.space)
        for place in places:
            np.testing.assert_allclose(view.rows[place.slot], self.world.images[model, place.content_hash], atol=1e-4)
        return photos

    def _texts(self, store: Store, view: View) -> frozenset[tuple[str, str]]:
        live = np.flatnonzero(view.slots.mask("text"))
        places = store.catalog.places.of_slots(view.space.id, live.tolist(), include_offline=False)
        texts = frozenset((place.path, place.text or "") for place in places)
        assert len(texts) == len(places)
        return texts

    def _best(self, searcher: Searcher, path: str, strategy: str) -> list[str]:
        """The best hits by that picture: itself, and its copies."""
        hits = self._hits(searcher, path, strategy)
        assert abs(hits[0].score - 1) < 1e-4
        return [hit.path for hit in hits if hit.score > hits[0].score - 1e-4]

    def _hits(self, searcher: Searcher, path: str, strategy: str) -> list:
        options = SearchOptions(limit=50, include_reference=True, strategy=strategy)
        return searcher.search(Query(path, images=(path,)), options)

    # places

    def _path(self, place: str) -> str:
        return os.path.join(self.top, place)

    def _place(self, path: str) -> str:
        return path.removeprefix(f"{self.top}/")

    def _chosen(self, which: int) -> str:
        return sorted(self.photos)[which % len(self.photos)]

    def _broken(self) -> set[str]:
        return {place for place, content in self.photos.items() if content in self.world.broken}

    def _missing(self) -> bool:
        """Whether the folder looks like one that is not mounted."""
        return not os.path.isdir(self.top) or not os.listdir(self.top)

    def _is_still(self, path: str, photos: dict[str, bytes] | None = None) -> bool:
        """Whether what is shown there is what lies there."""
        content = None if self.is_away else self.photos.get(self._place(path))
        return content is not None and digest(content) == (photos or self.seen.photos)[path]

    def _still_there(self, which: int) -> str | None:
        paths = sorted(path for path in self.seen.photos if self._is_still(path))
        return paths[which % len(paths)] if paths else None

    def _let_go(self) -> None:
        if self.held is not None:
            self.held.store.close()
            self.held = None

    # files

    def _write(self, place: str, content: bytes, stamp: str = "new") -> None:
        """Write a file. No size and time ever stand for two contents: the index could not tell them apart."""
        path = self._path(place)
        times = {"kept": os.stat(path).st_mtime_ns if place in self.photos else None, "old": self._times.get(content)}
        time = times.get(stamp)
        if time is None or self._contents.get((len(content), time), content) != content:
            time = self._now()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(content)
        self._stamp(path, time)
        self._times[content] = time
        self._contents[len(content), time] = content
        self._note(place, content)

    def _now(self) -> int:
        return 1_700_000_000_000_000_000 + next(self._clock) * 1_000_000_007

    def _stamp(self, path: str, time: int) -> None:
        os.utime(path, ns=(time, time))

    def _note(self, place: str, content: bytes) -> None:
        self.photos[place] = content
        self.history.setdefault(place, set()).add(digest(content))


def _no_model() -> Embedder:
    raise AssertionError("an indexed picture needs no model")


def _stem(place: str) -> str:
    return os.path.splitext(place)[0]


def _is_excluded(place: str, rules: Sequence[str]) -> bool:
    """What those few patterns mean."""
    folders, name = place.split("/")[:-1], os.path.basename(place)
    meanings = {
        "*.png": name.endswith(".png"),
        "one.*": name.startswith("one."),
        "side/": "side" in folders,
        "/two words/": folders[:1] == ["two words"],
    }
    return any(meanings[rule] for rule in rules)


def test_an_index_is_what_a_dictionary_says_whatever_happens(world):
    run_state_machine_as_test(lambda: Library(world), settings=SETTINGS)
