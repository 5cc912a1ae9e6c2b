"""How a query was parsed and answered: the output of `--explain`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from imgsearch.core.light_dataclass import dataclass
from imgsearch.core.paths import printable

from . import grammar

if TYPE_CHECKING:
    from imgsearch.core.store.store import View
    from imgsearch.core.types import Modality

    from .grammar import Query, Term
    from .options import SearchOptions
    from .ranking import Batch, Ranking
    from .scorer import Scored, Scorer
    from .scoring import Background, EncodedQuery


LISTED = "date"
"""The method of a query that has nothing to rank by."""
PLANS = {
    "graph": "shortlists of the HNSW graphs",
    "bytes": "one byte per dimension of every vector scanned, then the best exactly",
    "scan": "every vector scanned",
}
"""What each strategy does."""


@dataclass(slots=True)
class Timings:
    """Seconds by stage: `embed`, `prepare`, `search`, `rank`; the sum for queries that are answered together."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one query was parsed and answered."""

    record: dict[str, Any]
    """For JSON (docs/json.md)."""

    @classmethod
    def of(
        cls,
        encoded: EncodedQuery,
        scorer: Scorer,
        batch: Batch,
        scored: Mapping[Modality, Scored],
        backgrounds: Mapping[Modality, Background | None],
        ranking: Ranking,
    ) -> Explanation:
        query, options = encoded.query, batch.options
        space, calibration = scorer.view.space, scorer.calibration
        record: dict[str, Any] = {
            "query": printable(query.typed),
            "read_as": printable(as_options(query)),
            "parts": list(_parts(encoded, options)),
            "method": encoded.method,
            "declined": (encoded.main and encoded.main.declined) or None,
            "plan": {
                "strategy": _strategy([each.strategy for each in scored.values()]),
                "modality": options.modality,
                "vectors": space.slots,
                "allowed": {modality: int(mask.sum()) for modality, mask in batch.allowed.items()},
                "scored": {modality: each.count for modality, each in scored.items()},
                "in_graphs": {
                    modality: scorer.graph_vectors(modality)
                    for modality, each in scored.items()
                    if each.strategy == "graph"
                },
            },
            "model": space.identity.name,
            "hubness": encoded.corrects_hubness,
            "calibration": None
            if calibration is None
            else {
                "version": calibration.version,
                "pictures": calibration.pictures,
                "phrases": len(calibration.phrases),
                "low_image": round(calibration.low_image, 6),
                "low_text": round(calibration.low_text, 6),
            },
            "background": {
                modality: {
                    "sample": len(background.scores),
                    "mean": round(background.spread.mean, 6),
                    "deviation": round(background.spread.deviation, 6),
                }
                for modality, background in backgrounds.items()
                if background is not None
            },
            "least_score": {
                modality: None if not math.isfinite(floor) else round(float(floor), 6)
                for modality, floor in ranking.floors.items()
            },
            "seconds": {stage: round(seconds, 4) for stage, seconds in batch.timings.seconds.items()},
        }
        if options.auto_cut:
            record["auto_cut"] = {modality: _cut(cut) for modality, cut in ranking.cuts.items()}
        if query.as_written:
            record["as_written"] = query.as_written
        return cls(record | _phrases(query))

    @classmethod
    def of_listing(cls, query: Query, view: View, options: SearchOptions, timings: Timings) -> Explanation:
        """Of a query of filters alone."""
        record: dict[str, Any] = {
            "query": printable(query.typed),
            "read_as": printable(as_options(query)) or printable(query.typed),
            "parts": [],
            "method": LISTED,
            "declined": None,
            "plan": {
                "strategy": "list",
                "modality": options.modality,
                "vectors": view.space.slots,
                "allowed": {},
                "scored": {},
                "in_graphs": {},
            },
            "model": view.space.identity.name,
            "hubness": False,
            "calibration": None,
            "background": {},
            "least_score": {},
            "seconds": {stage: round(seconds, 4) for stage, seconds in timings.seconds.items()},
        }
        return cls(record | _phrases(query))

    def lines(self) -> list[str]:
        """For people."""
        r = self.record
        lines = [f"read as: {r['read_as']}"]
        if "as_written" in r:
            lines.append(f"words cleaned up: {r['as_written']!r} (use --verbatim to keep them)")
        for part in r["parts"]:
            weight = "" if part["weight"] is None else f", weight {part['weight']:g}"
            lines.append(f"  {part['role']}: {part['what']}{weight}")
        lines += [f"  filter: {phrase['words']} ({phrase['read_as']})" for phrase in r.get("phrases", ())]
        if r["method"] == LISTED:
            return [*lines, "plan: nothing to rank by; the photos that match the filters, by time"]
        why = "only for words that name a style" if r["declined"] == "restyle" else "not for a weighted sum"
        declined = f" ({r['declined']} is {why})" if r["declined"] else ""
        lines.append(f"method: {r['method']}{declined}")
        plan = r["plan"]
        for modality, scored in plan["scored"].items():
            how = PLANS[plan["strategy"]]
            if covered := plan["in_graphs"].get(modality):
                how = f"shortlists of HNSW graphs that cover {covered:,} of {plan['vectors']:,} vectors"
            lines.append(f"plan: {how}; {scored:,} of {plan['allowed'][modality]:,} {modality}s that match the filters")
        lines.append(f"model: {r['model']}" + ("; corrected for hubness" if r["hubness"] else ""))
        c = r["calibration"]
        lines.append(
            "calibration: none yet"
            if c is None
            else f"calibration: version {c['version']}, {c['pictures']:,} pictures, {c['phrases']} phrases, "
            f"lowest usual scores {c['low_image']:g} and {c['low_text']:g}"
        )
        lines += [
            f"background: {b['sample']:,} {modality}s, mean {b['mean']:.4f}, standard deviation {b['deviation']:.4f}"
            for modality, b in r["background"].items()
        ]
        lines += [f"least score shown: {floor:.4f}" for floor in r["least_score"].values() if floor is not None]
        lines += [f"auto-cut: {_cut_line(cut)}" for cut in r.get("auto_cut", {}).values()]
        lines.append("seconds: " + ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in r["seconds"].items()))
        return lines


def _strategy(used: Sequence[str]) -> str:
    return next((each for each in PLANS if each in used), "scan")


def _cut(cut: tuple[float, float] | None) -> dict[str, float | None] | None:
    if cut is None:
        return None
    best, least = (round(value, 3) if math.isfinite(value) else None for value in cut)
    return {"best_standing": best, "least_standing": least}


def _cut_line(cut: dict[str, float | None] | None) -> str:
    if cut is None:
        return "cannot be measured here, nothing was cut"
    best = "none" if cut["best_standing"] is None else f"{cut['best_standing']:.1f}"
    if cut["least_standing"] is None:
        return f"nothing is relevant; the best is {best} standard deviations above neutral descriptions"
    return f"at {cut['least_standing']:.1f} standard deviations above neutral descriptions; the best is at {best}"


def _parts(encoded: EncodedQuery, options: SearchOptions) -> Iterator[dict[str, Any]]:
    """Each part of the query, with its weight where it has one."""
    query = encoded.query
    main = encoded.main
    weight = main.weight if main is not None and main.method is not None else options.weight_for(query)
    has_both = bool(query.images) and (query.text is not None or bool(query.terms))
    if query.change_from is not None:
        yield _part("from", query.change_from, None)
    if query.text is not None:
        role = "to" if query.change_from is not None else "words"
        yield _part(role, query.text, weight if has_both else None)
    for term in query.terms:
        yield _part("term", _value(term), term.weight)
    for image in query.images:
        yield _part("picture", image, (1 - weight) / len(query.images) if has_both else None)
    yield from (_part("not", text, None) for text in query.negatives)
    yield from (_part("more like", path, None) for path in query.more_like)
    yield from (_part("less like", path, None) for path in query.less_like)
    yield from (_part("any", _value(term), None) for term in query.any_of)
    yield from (_part("all", _value(term), None) for term in query.all_of)


def _phrases(query: Query) -> dict[str, Any]:
    """The words that became filters, if any did."""
    found = [
        {
            "words": printable(phrase.words),
            "read_as": printable(grammar.command_line(phrase.options())),
            "filters": {name: value if isinstance(value, str) else list(value) for name, value in phrase.filters},
        }
        for phrase in query.phrases
    ]
    return {"phrases": found} if found else {}


def _part(role: str, what: str, weight: float | None) -> dict[str, Any]:
    return {"role": role, "what": printable(what), "weight": None if weight is None else round(weight, 6)}


def as_options(query: Query) -> str:
    """The query as arguments of `imgsearch query`, quoted for a shell: a weighted sum, and an option for each part."""
    is_change = query.change_from is not None
    terms = " + ".join(f"{_decimal(term.weight)}*{_value(term)}" for term in query.terms)
    options = grammar.command_line(
        (
            ("--from", [query.change_from] if query.change_from is not None else []),
            ("--to" if is_change else "--text", [query.text] if query.text is not None else []),
            ("--any", [_value(term) for term in query.any_of]),
            ("--all", [_value(term) for term in query.all_of]),
            ("--image", query.images),
            ("--more-like", query.more_like),
            ("--less-like", query.less_like),
            ("--not", query.negatives),
            *(option for phrase in query.phrases for option in phrase.options()),
        )
    )
    return " ".join(part for part in (grammar.quote(terms) if terms else "", options) if part)


def _value(term: Term) -> str:
    return term.text if term.text is not None else term.image or ""


def _decimal(number: float) -> str:
    """All digits, without an exponent."""
    from decimal import Decimal

    return format(Decimal(repr(number)), "f").removesuffix(".0")
