"""`imgsearch check`: check the index, and repair it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from imgsearch.cli.output import render

if TYPE_CHECKING:
    from imgsearch.core.store.check import Checked
    from imgsearch.core.store.store import Store
    from imgsearch.core.types import Embedder

EXIT_FOUND = 6


def check(
    *,
    deep: bool,
    sample: int,
    repair: bool,
    device: str,
    offline: bool,
    wait: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    index: str | None,
) -> int:
    """Check the index: catalogue, vectors, graphs, and the files that hold them.

    Compares every vector with its checksum, and the rows of the catalogue with each other. --deep also reads photos
    again and checks that the index still describes them. Exit code 6 means that a problem was found.

    --repair rebuilds derived data, saves what can be read of a damaged catalogue (and keeps the damaged one beside it),
    moves unknown files into lost+found, and embeds what was lost. Photo files are never touched.

    Examples:

      imgsearch check

      imgsearch check --deep --sample 200

      imgsearch check --repair
    """
    session = _Session(index, deep=deep, sample=sample, device=device, offline=offline, wait=wait, verbose=verbose)
    checked = session.look()
    _tell(checked, as_json=as_json)
    said: list[str] = []
    if checked.findings and repair:
        session.repair(checked, said.append if as_json else render.say)
        checked = session.look()
        if checked.findings:
            said.append("still found after the repair")
            _tell(checked, as_json=as_json)
    if as_json:
        render.emit_json(_summary(checked, said))
    else:
        render.say(_sentence(checked, is_repaired=repair))
    render.flush()
    return EXIT_FOUND if checked.findings or session.is_lost else 0


class _Session:
    """Checks and repairs of one index."""

    def __init__(
        self,
        index: str | None,
        *,
        deep: bool,
        sample: int,
        device: str,
        offline: bool,
        wait: bool,
        verbose: bool,
    ) -> None:
        from imgsearch.core.places import locate

        self._folder = locate(index)
        self._deep, self._sample = deep, sample
        self._device, self._offline, self._wait, self._verbose = device, offline, wait, verbose
        self._embedders: dict[str, Callable[[], Embedder]] = {}
        self.is_lost = False
        """Whether a catalogue was damaged so badly that nothing of it could be saved."""

    def look(self) -> Checked:
        from imgsearch.cli.output.progress import Stages
        from imgsearch.core.errors import IndexDamaged, IndexNotFound
        from imgsearch.core.store.check import Checked, check, without_catalogue
        from imgsearch.core.store.repair import Finding
        from imgsearch.core.store.store import Store

        try:
            with Store.open(self._folder) as store, Stages(verbose=self._verbose) as stages:
                embedder = self._embedder(store) if self._deep else None
                return check(store, embedder=embedder, sample=self._sample, on_progress=stages)
        except IndexDamaged as error:
            return Checked((Finding("catalogue", str(error), is_structural=True),))
        except IndexNotFound:
            lost = without_catalogue(self._folder)
            if lost is None:
                raise
            return Checked((lost,))

    def _embedder(self, store: Store) -> Callable[[], Embedder] | None:
        from imgsearch.cli.loading import embedder_of
        from imgsearch.core.models.towers import is_of_earlier_builtin

        space = store.active_space()
        if space is None:  # there is nothing to embed
            return None
        if is_of_earlier_builtin(space.identity.fingerprint):
            render.say("made with an earlier version of the built-in model, so the photos are not embedded to compare")
            return None
        if space.id not in self._embedders:  # loaded once for all checks and repairs
            self._embedders[space.id] = embedder_of(space, device=self._device, offline=self._offline)
        return self._embedders[space.id]

    def repair(self, checked: Checked, say: Callable[[str], None]) -> None:
        from imgsearch.cli.loading import waiting
        from imgsearch.core.store import check, repair
        from imgsearch.core.store.store import Store

        wait = waiting() if self._wait else None
        is_new = any(finding.is_structural for finding in checked.findings)
        if is_new:
            self._salvage(wait, say)
        with Store.writing(self._folder, wait=wait) as store:
            for line in store.repairs:
                say(line)
            # Check again under the lock: numbers may have changed since the first check.
            embedder = self._embedder(store) if self._deep else None
            found = check.check(store, embedder=embedder, sample=self._sample).findings
            if repair.repair(store, found) or store.repairs or is_new:
                self._index(store, say)

    def _salvage(self, wait: Callable[[str], None] | None, say: Callable[[str], None]) -> None:
        from imgsearch.core.paths import printable
        from imgsearch.core.store import salvage

        saved = salvage.salvage(self._folder, wait=wait)
        self.is_lost = saved.photos == 0
        kept = f"; the damaged one is kept: {printable(saved.kept)}" if saved.kept else ""
        again = ". Name your folders again: imgsearch index FOLDER" if self.is_lost else ""
        if self.is_lost and not saved.vectors:
            say(f"nothing could be saved of the catalogue{kept}{again}")
        else:
            photos, vectors = render.count(saved.photos, "photo"), render.count(saved.vectors, "vector")
            say(f"saved {photos} and {vectors} from the damaged catalogue{kept}{again}")

    def _index(self, store: Store, say: Callable[[str], None]) -> None:
        """Index again, for rows the catalogue lost and photos without a vector."""
        from imgsearch.core.indexing import indexer
        from imgsearch.core.paths import printable

        space, load = store.active_space(), self._embedder(store)
        if space is None or load is None:
            return

        def on_event(event: indexer.Event) -> None:
            if event.kind == "skipped":
                say(f"{printable(event.path or '')}: {event.reason}")

        plan = indexer.IndexPlan(())
        summary = indexer.run(store, lambda: (load(), space.model), plan, space=space, on_event=on_event)
        if summary.indexed:
            say(f"read {render.count(summary.indexed, 'photo')} again")


def _tell(checked: Checked, *, as_json: bool) -> None:
    for finding in checked.findings:
        if as_json:
            render.emit_json({"part": finding.part, "found": finding.what})
        else:
            render.emit(f"{finding.part}: {finding.what}")
    render.flush()
    if not as_json:
        for note in checked.notes:
            render.say(note)


def _summary(checked: Checked, said: list[str]) -> dict[str, Any]:
    return {
        "findings": len(checked.findings),
        "photos": checked.photos,
        "vectors": checked.vectors,
        "read_again": checked.read_again,
        "notes": [*checked.notes, *said],
    }


def _sentence(checked: Checked, *, is_repaired: bool) -> str:
    again = f", {render.count(checked.read_again, 'photo')} read again" if checked.read_again else ""
    looked = f"{render.count(checked.photos, 'photo')}, {render.count(checked.vectors, 'vector')}{again}"
    if not checked.findings:
        return f"no problems found: {looked}"
    if is_repaired:
        return f"{render.count(len(checked.findings), 'finding')} left, which cannot be repaired here: {looked}"
    return f"{render.count(len(checked.findings), 'finding')}: {looked}; fix with: imgsearch check --repair"
