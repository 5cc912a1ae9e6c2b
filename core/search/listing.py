"""The photos that pass filters, by time: the answer to a query that has nothing to rank them by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imgsearch.core.light_dataclass import replace

from .explain import LISTED
from .grouping import Hit, arrange

if TYPE_CHECKING:
    from imgsearch.core.store.store import Store, View

    from .filter_sql import Condition
    from .grammar import Query
    from .options import SearchOptions


def listed(query: Query, options: SearchOptions, chosen: Condition | None, store: Store, view: View) -> list[Hit]:
    """The oldest photos first, with --reverse the newest; undated ones last. They have no scores, and thresholds do not
    apply."""
    by_time = replace(options, sort="date" if options.sort == "score" else options.sort, diverse=0.0)
    count = by_time.rank_depth()
    while True:
        places = store.catalog.places.by_time(
            view.space.id,
            chosen.sql if chosen else "true",
            limit=count,
            newest_first=options.reverse,
            include_offline=options.include_offline,
            **(chosen.parameters if chosen else {}),
        )
        hits = [
            Hit(query.typed, at, math.nan, LISTED, "image", place, view.space.identity.name)
            for at, place in enumerate(places, start=1)
        ]
        found = arrange(hits, by_time, view.rows)
        if not options.group or len(found) >= options.limit or len(places) < count:
            return [replace(hit, rank=rank) for rank, hit in enumerate(found, start=1)]
        count *= 4  # the groups are large
