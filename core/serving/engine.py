"""A warm engine: one index with its model in memory, for questions from any thread and, by a socket, any process.

It follows what others commit: new photos, a prune, another model, even an index removed and made again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.models.onnx_towers import QueryEmbedder
from imgsearch.core.paths import printable
from imgsearch.core.places import CATALOG
from imgsearch.core.search.explain import Explanation
from imgsearch.core.search.filters import Filters, condition
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.grouping import Hit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.query_arguments import QueryArguments
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.records import Place, Root, Space
from imgsearch.core.store.recovery import SALVAGED
from imgsearch.core.store.store import Store
from imgsearch.core.store.vectors import fault_in

from . import protocol

if TYPE_CHECKING:
    from imgsearch.core.types import CarriedText, Recipe, SpaceIdentity, Squares, Vectors

# Texts whose vectors are kept: 8 MB at 512 dimensions. `basic` alone asks for several hundred.
MOST_TEXTS = 4_096
# An asker waits 40 ms to be accepted: one that cannot be served by then is told so while it still listens.
PATIENCE_SECONDS = 0.02
MOST_ASKERS = 8
MOST_BYTES_ASKED = 1 << 20
HELLO_SECONDS = 1.0


class Busy(Exception):
    """Another question is being answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question gave."""

    hits: list[Hit]
    explanation: Explanation | None
    offline: tuple[str, ...]
    """Paths of roots that are offline, where nothing was found and they were not asked for."""


class Warm:
    """Answers questions, one at a time, from a state of the index that is never older than the question.

    `embedder_for` gives the embedder of a space; what it gives is kept as long as that space is searched.
    """

    def __init__(self, folder: str, embedder_for: Callable[[Space], QueryEmbedder]) -> None:
        self.folder = folder
        self._embedder_for = embedder_for
        self._opened = _Opened(folder)
        self._searcher: Searcher | None = None
        self._embedder: _Remembering | None = None
        self._turn = threading.Lock()

    def close(self) -> None:
        with self._turn:
            self._opened.close()
            self._searcher = None

    def warm_up(self) -> QueryEmbedder:
        """Load what a question would load. Returns the embedder, which may have had to load the whole model.

        Raises ModelError, IndexNotFound and its kin.
        """
        with self._turn:
            searcher = self._current()
            assert self._embedder is not None
            self._embedder.warm_up()
            fault_in(searcher.view.rows)
            return self._embedder.behind

    def search(
        self,
        query: Query,
        options: SearchOptions,
        *,
        explain: bool = False,
        patience: float = -1,
        on_turn: Callable[[], None] = lambda: None,
    ) -> Answer:
        """The hits of one query. Raises QueryError, UsageError; ModelError, StoreError and what else may go wrong.

        With `patience` it waits so many seconds for its turn and then raises Busy. `on_turn` is called when it has it.
        """
        if not self._turn.acquire(timeout=patience):
            raise Busy
        try:
            on_turn()
            explanations: list[Explanation] = []
            searcher = self._current()
            hits = searcher.search(query, options, on_explained=explanations.append if explain else None)
            hidden = () if hits or options.include_offline else _offline(searcher.store)
            return Answer(hits, explanations[0] if explanations else None, hidden)
        finally:
            self._turn.release()

    def _current(self) -> Searcher:
        store, is_new = self._opened.store()
        space = store.space_to_search()
        known = self._searcher
        if known is None or is_new or known.view.space.id != space.id:
            if self._embedder is None or self._embedder.identity != space.identity:
                self._embedder = _Remembering(self._embedder_for(space))
            embedder = self._embedder
            known = self._searcher = Searcher(store, lambda: embedder, store.view(space))
        return known


def _offline(store: Store) -> tuple[str, ...]:
    return tuple(root.path for root in store.catalog.roots.all() if root.state == "offline")


class _Opened:
    """A store, opened again when another catalogue lies in its place."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._store: Store | None = None
        self._stamp: tuple[Any, ...] = ()

    def store(self) -> tuple[Store, bool]:
        """And whether it is another than before."""
        stamp = self._found()
        if self._store is not None and stamp == self._stamp:
            return self._store, False
        self.close()
        self._store = Store.open(self._folder)
        self._stamp = stamp
        return self._store, True

    def close(self) -> None:
        store, self._store = self._store, None
        if store:
            store.close()

    def _found(self) -> tuple[Any, ...]:
        try:
            info = os.lstat(os.path.join(self._folder, CATALOG))
        except OSError:
            return ()
        return info.st_dev, info.st_ino, os.path.lexists(os.path.join(self._folder, SALVAGED))


class _Remembering:
    """An embedder that keeps the vectors of what was asked last, in memory alone.

    By all the texts that are embedded together: the last bits of a vector depend on its company, and a warm answer is
    to be a cold one to the last digit.
    """

    def __init__(self, behind: QueryEmbedder) -> None:
        self.behind = behind
        self._vectors: OrderedDict[tuple[str, ...], Vectors] = OrderedDict()

    @property
    def identity(self) -> SpaceIdentity:
        return self.behind.identity

    @property
    def recipe(self) -> Recipe:
        return self.behind.recipe

    def warm_up(self) -> None:
        """Both towers, each asked once."""
        self.behind.embed_texts(["a photo"])
        height, width = self.behind.recipe.size
        self.behind.embed_images(np.zeros((1, height, width, 3), np.uint8))

    def embed_images(self, squares: Squares) -> Vectors:
        return self.behind.embed_images(squares)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        asked = tuple(texts)
        if asked not in self._vectors:
            self._vectors[asked] = self.behind.embed_texts(asked)
        self._vectors.move_to_end(asked)
        while sum(map(len, self._vectors)) > MOST_TEXTS and len(self._vectors) > 1:
            self._vectors.popitem(last=False)
        return self._vectors[asked]


# ---- Looking things up -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class About:
    """What an index holds, for a page to begin with."""

    model: str
    photos: int
    roots: tuple[tuple[Root, int], ...]
    cameras: tuple[tuple[str, int], ...]
    """Each with its number of photos, most first."""
    edition: int
    """Another one when the index has changed."""


class Shelf:
    """The photos that may be shown: those present in roots that are online. For any thread, and beside searches."""

    def __init__(self, folder: str) -> None:
        self._opened = _Opened(folder)
        self._turn = threading.Lock()

    def close(self) -> None:
        with self._turn:
            self._opened.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Store]:
        with self._turn:
            store, _ = self._opened.store()
            with store.catalog.reading():
                yield store

    def photo(self, number: int) -> Place | None:
        with self._reading() as store:
            return next(iter(_shown(store, [number])), None)

    def texts(self, number: int) -> list[CarriedText]:
        """What a photo brings along in words, and the notes about it."""
        with self._reading() as store:
            return store.catalog.places.texts_of([number]).get(number, [])

    def photos(self, filters: Filters, *, limit: int, offset: int) -> list[Place]:
        """The newest first, those without a date last. Raises UsageError, QueryError for filters that mean nothing."""
        with self._reading() as store:
            chosen = condition(filters, store)
            rows = store.catalog.rows(
                f"""
                select p.id from photos p join roots r on r.id = p.root_id
                where p.state = 'present' and r.state = 'online' and ({chosen.sql})
                order by {_DAY} is null, p.taken_at desc, p.folder, p.name limit :most offset :skipped
                """,  # noqa: S608 - conditions of ours, values by parameter
                most=limit,
                skipped=offset,
                **chosen.parameters,
            )
            return _shown(store, [row[0] for row in rows])

    def days(self, filters: Filters) -> list[tuple[str, int]]:
        """How many photos were taken on each day, the last day first."""
        with self._reading() as store:
            chosen = condition(filters, store)
            rows = store.catalog.rows(
                f"""
                select {_DAY} as day, count(*) from photos p join roots r on r.id = p.root_id
                where p.state = 'present' and r.state = 'online' and ({chosen.sql}) and day is not null
                group by day order by day desc
                """,  # noqa: S608
                **chosen.parameters,
            )
            return [(row[0], row[1]) for row in rows]

    def about(self) -> About:
        with self._reading() as store:
            roots = tuple(
                (
                    root,
                    int(
                        store.catalog.value(
                            "select count(*) from photos where root_id = :id and state = 'present'", id=root.id
                        )
                    ),
                )
                for root in store.catalog.roots.all()
            )
            cameras = store.catalog.rows(
                """
                select p.camera, count(*) from photos p join roots r on r.id = p.root_id
                where p.state = 'present' and r.state = 'online' and typeof(p.camera) = 'text'
                group by 1 order by 2 desc, 1 limit 100
                """
            )
            return About(
                model=store.space_to_search().identity.name,
                photos=sum(count for root, count in roots if root.state == "online"),
                roots=roots,
                cameras=tuple((row[0], row[1]) for row in cameras),
                edition=store.catalog.edition(),
            )


_DAY = (
    "case when typeof(p.taken_at) = 'text' and p.taken_at glob '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T*' "
    "then substr(p.taken_at, 1, 10) end"
)


def _shown(store: Store, numbers: Sequence[int]) -> list[Place]:
    online = {root.path for root in store.catalog.roots.all() if root.state == "online"}
    places = {place.id: place for place in store.catalog.places.by_id(numbers)}
    return [
        place
        for number in numbers
        if (place := places.get(number)) and place.state == "present" and place.root in online
    ]


# ---- Over the socket -------------------------------------------------------------------------------------------------


class Listener:
    """Answers the questions of other processes of the same user, until it is closed."""

    def __init__(self, engine: Warm, *, offline: bool = False) -> None:
        """Begin to listen. Raises UsageError where another process does so already, or where it cannot be done."""
        self.last_asked = time.monotonic()
        self._engine = engine
        self._offline = offline
        self.path = protocol.socket_path(engine.folder)
        self._askers = threading.BoundedSemaphore(MOST_ASKERS)
        self._lock = _listening_lock(self.path)
        try:
            self._socket = _bound(self.path)
        except BaseException:
            os.close(self._lock)
            raise
        self._node = os.lstat(self.path).st_ino
        self._is_closed = False
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._node:
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(1.0)
        os.close(self._lock)

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EINTR):
                    time.sleep(0.05)
                    continue
                return
            if not self._askers.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="asker", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError, protocol.Odd, ValueError, KeyError, TypeError):
                self._converse(connection)
        finally:
            self._askers.release()

    def _converse(self, connection: socket.socket) -> None:
        if protocol.peer(connection) != os.getuid():
            return
        asked = protocol.receive(connection, time.monotonic() + HELLO_SECONDS, most=MOST_BYTES_ASKED)
        if asked.get("from") != protocol.identity(self._engine.folder):
            return
        if "asked" not in asked:  # `imgsearch doctor` wants to know whether somebody is here
            protocol.send(connection, {"state": "here"})
            return
        typed = QueryArguments.from_record(asked["asked"])
        if typed.offline and not self._offline:
            return
        connection.settimeout(protocol.ANSWER_SECONDS)
        self.last_asked = time.monotonic()
        answer = self._answer(typed, asked, lambda: protocol.send(connection, {"state": "accepted"}))
        self.last_asked = time.monotonic()
        protocol.send(connection, answer)

    def _answer(self, typed: QueryArguments, asked: protocol.Record, accept: Callable[[], None]) -> protocol.Record:
        """Only what the asker did wrong is an answer. Of all else it finds out alone, and says it as it should."""
        try:
            query = typed.query(asked["directory"])
            options = typed.options(statistics=bool(asked["statistics"]))
            if options.strategy == "auto":  # which is a scan for a process that answers one question
                options = replace(options, strategy="exact")
            found = self._engine.search(
                query, options, explain=typed.explain, patience=PATIENCE_SECONDS, on_turn=accept
            )
            return {
                "state": "answer",
                "typed": query.typed,
                "hits": [protocol.packed(hit) for hit in found.hits],
                "explanation": found.explanation.record if found.explanation else None,
                "offline": list(found.offline),
            }
        except (QueryError, UsageError) as error:
            return protocol.complaint(error)
        except (Busy, ImgsearchError, OSError):
            return {"state": "cold"}
        except Exception:  # whatever it is, it must end this question alone; asked cold, it shows itself
            return {"state": "cold"}


def filters_from(record: dict[str, Any]) -> Filters:
    """From what JSON makes of them. Raises TypeError for a filter that there is not."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return Filters(**values)


def _listening_lock(path: str) -> int:
    """Held by the one process that listens there."""
    try:
        protocol.make_private(os.path.dirname(path))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(f"{path}.lock", flags, 0o600)
    except (OSError, protocol.Odd) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{printable(path)}: no socket can be made there ({reason})",
            hint="set XDG_RUNTIME_DIR to a folder of yours that nobody else can enter",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UsageError("another imgsearch serve has this index open", hint="use that one, or end it first") from error
    return descriptor


def _bound(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of one that was killed: this process has the lock
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        os.chmod(path, 0o600)
        listening.listen(MOST_ASKERS)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{printable(path)}: no socket can be made there ({error.strerror or error})",
            hint="set XDG_RUNTIME_DIR to a folder with a shorter name, on a local disk",
        ) from error
    return listening
