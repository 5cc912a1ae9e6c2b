"""From scores to hits: thresholds, rank, the photos of the slots, and their statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.store.records import Place
from imgsearch.core.types import Modality

from . import relevance
from .composition import Spread
from .explain import Timings
from .grouping import Hit, arrange
from .options import SearchOptions
from .scorer import Scored, Scorer, concatenated, top
from .scoring import Background, EncodedQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch.core.store.store import Store

    from .filter_sql import Condition
    from .scorer import Mask, Slots

# Slots that are looked up beyond the number of hits, where several may belong to one photo.
SPARE_SLOTS = 8
# The largest float32: --min-score may be any number, scores are float32.
MAX_SCORE = 3.4028234e38


@dataclass(frozen=True, slots=True)
class Batch:
    """What queries that are answered together share."""

    options: SearchOptions
    condition: Condition | None
    """Of the filters."""
    allowed: Mapping[Modality, Mask]
    use_graph: bool
    timings: Timings


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of one query, and the thresholds that were applied."""

    hits: list[Hit]
    floors: dict[Modality, float]
    """The lowest score shown."""
    cuts: dict[Modality, tuple[float, float] | None]
    """With --auto-cut: the best relevance found and the lowest shown; None if it cannot be measured."""


class Ranker:
    """Ranks the candidates of queries in one state of the index."""

    def __init__(self, store: Store, scorer: Scorer, batch: Batch) -> None:
        self._store = store
        self._scorer = scorer
        self._view = scorer.view
        self._batch = batch

    def rank(
        self, query: EncodedQuery, scored: Mapping[Modality, Scored], backgrounds: Mapping[Modality, Background | None]
    ) -> Ranking:
        """The hits of one query, grouped and sorted as the options say."""
        options = self._batch.options
        thresholds = Ranking([], {}, {})
        kept = [
            self._relevant(query, modality, candidates, backgrounds[modality], thresholds)
            for modality, candidates in scored.items()
        ]
        found = concatenated(kept)
        count = options.rank_depth()
        while True:
            ranked = self._best_photos(query, found, count)
            hits = arrange(self._hits(query, ranked, backgrounds), options, self._view.rows)
            if not options.group or len(hits) >= options.limit or len(ranked) < count:
                return replace(thresholds, hits=hits)
            count *= 4  # the groups are large

    def _relevant(
        self,
        query: EncodedQuery,
        modality: Modality,
        candidates: Scored,
        background: Background | None,
        thresholds: Ranking,
    ) -> Scored:
        """The candidates above all thresholds, with corrected scores on the scale of the modality."""
        options = self._batch.options
        slots, scores, count = candidates.slots, candidates.scores, candidates.count
        if query.corrects_hubness:
            best = top(scores, self._candidates(modality))
            slots, scores = slots[best], scores[best] - self._scorer.biases(self._view.rows[slots[best]])
        if options.modality == "any":
            assert background is not None
            scores = background.z(scores)
        floor = thresholds.floors[modality] = _floor(background, options)
        if floor > -math.inf:
            keep = scores >= min(max(floor, -MAX_SCORE), MAX_SCORE)
            slots, scores = slots[keep], scores[keep]
        found = Scored(slots, scores, count)
        return self._auto_cut(query, modality, found, thresholds) if options.auto_cut else found

    def _candidates(self, modality: Modality) -> int:
        """How many of the best slots are looked at closely."""
        return max(relevance.CANDIDATES, self._scorer.slots_of(2 * self._batch.options.rank_depth(), modality))

    # ---- --auto-cut

    def _auto_cut(self, query: EncodedQuery, modality: Modality, found: Scored, thresholds: Ranking) -> Scored:
        """Only the relevant candidates. The cutoff is measured without the filters, so that they cannot lower it."""
        options = self._batch.options
        count = self._candidates(modality)
        best = top(found.scores, count)
        own = self._relevance(query, modality, found.slots[best])
        thresholds.cuts[modality] = None
        if own is None:
            return found
        mask = self._scorer.live(modality, include_offline=options.include_offline)
        over_all = own
        if self._batch.condition is not None:
            backgrounds = self._scorer.backgrounds([query], modality, is_wanted=True)
            (every,) = self._scorer.candidates(
                [query],
                backgrounds,
                modality,
                mask,
                shortlist_for=options.rank_depth() if self._batch.use_graph else None,
            )
            over_all = self._relevance(query, modality, every.slots[top(every.scores, count)]) or own
        values, is_reference = over_all
        highest = float(values[~is_reference].max(initial=-math.inf))
        cutoff = relevance.cutoff(highest, int(np.count_nonzero(mask)))
        thresholds.cuts[modality] = highest, cutoff
        keep = best[own[0] >= cutoff]
        return Scored(found.slots[keep], found.scores[keep], found.count)

    def _relevance(
        self, query: EncodedQuery, modality: Modality, slots: Slots
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """The relevance of each slot, and whether it is a picture of the query; None if it cannot be measured."""
        calibration = self._scorer.calibration
        rows = self._view.rows[slots]
        phrases = rows[:0] if calibration is None else calibration.phrases
        parts = [
            relevance.clause_relevance(clause, rows, phrases, self._scorer.sample(modality)) for clause in query.clauses
        ]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return query.joined([values for values, _ in known]), np.logical_or.reduce([same for _, same in known])

    # ---- Photos

    def _best_photos(self, query: EncodedQuery, found: Scored, count: int) -> list[tuple[float, Place]]:
        """The best photos, each once with its best picture, region or text, ties in order of path."""
        batch = self._batch
        take = count + len(query.excluded_paths) + len(query.excluded_contents)
        if self._batch.options.modality != "image" or self._scorer.slots_of(1, "image") > 1:
            take += SPARE_SLOTS
        where, parameters = (batch.condition.sql, batch.condition.parameters) if batch.condition else ("", {})
        while True:
            taken = top(found.scores, take)
            score_of = {int(found.slots[i]): float(found.scores[i]) for i in taken}
            best: dict[int, tuple[float, Place]] = {}
            for place in self._store.catalog.places.of_slots(
                self._view.space.id,
                list(score_of),
                include_offline=batch.options.include_offline,
                where=where,
                **parameters,
            ):
                score = score_of[place.slot]
                if not self._is_excluded(query, place) and (place.id not in best or score > best[place.id][0]):
                    best[place.id] = (score, place)
            if len(best) >= count or len(taken) == len(found.scores):
                ranked = sorted(best.values(), key=lambda item: (-item[0], os.fsencode(item[1].path)))[:count]
                self._store.verify_checksums(self._view, [place.slot for _, place in ranked])
                return ranked
            take *= 4

    def _is_excluded(self, query: EncodedQuery, place: Place) -> bool:
        if place.path in query.excluded_paths or place.content_hash in query.excluded_contents:
            return True
        if not query.excluded_copies:
            return False
        row = self._view.rows[[place.main_slot]]
        return any(bool(relevance.near_copies(row, vector)[0]) for vector in query.excluded_copies)

    def _hits(
        self,
        query: EncodedQuery,
        ranked: Sequence[tuple[float, Place]],
        backgrounds: Mapping[Modality, Background | None],
    ) -> list[Hit]:
        identity = self._view.space.identity
        rows = self._view.rows[[place.slot for _, place in ranked]] if ranked else np.zeros((0, identity.dim), "f4")
        cosines = query.cosines(rows)
        probabilities = relevance.probabilities(query, rows, identity)
        statistics = _statistics(
            [(score, _modality(place)) for score, place in ranked], backgrounds, self._batch.options
        )
        return [
            Hit(
                query=query.query.typed,
                rank=at + 1,
                score=score,
                method=query.method,
                modality=_modality(place),
                place=place,
                model=identity.name,
                cosine=float(cosines[at]),
                z=statistics[at][0],
                percentile=statistics[at][1],
                # The model's scale is for a picture and words, not for two texts.
                probability=None if probabilities is None or place.text is not None else float(probabilities[at]),
            )
            for at, (score, place) in enumerate(ranked)
        ]


def _modality(place: Place) -> Modality:
    return "image" if place.text is None else "text"


def _statistics(
    ranked: Sequence[tuple[float, Modality]],
    backgrounds: Mapping[Modality, Background | None],
    options: SearchOptions,
) -> list[tuple[float | None, float | None]]:
    """The z-score and percentile of each score, over the background of its modality."""
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(ranked)
    for modality, background in backgrounds.items():
        at = [i for i, (_, each) in enumerate(ranked) if each == modality]
        if background is None or not options.statistics or not at:
            continue
        scores = np.asarray([ranked[i][0] for i in at], np.float32)
        z = scores if options.modality == "any" else background.z(scores)
        if options.modality == "any":  # the scores are z-scores
            scores = scores * np.float32(background.spread.deviation) + np.float32(background.spread.mean)
        for i, each, percentile in zip(at, z, background.percentile(scores), strict=True):
            found[i] = float(each), float(percentile)
    return found


def _floor(background: Background | None, options: SearchOptions) -> float:
    """The lowest score shown, whatever the filters."""
    floors = [-math.inf if options.min_score is None else options.min_score]
    if options.min_z is not None and background is not None:
        spread = Spread() if options.modality == "any" else background.spread
        floors.append(spread.mean + options.min_z * spread.deviation)
    return max(floors)
