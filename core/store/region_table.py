"""The regions of panoramas and the moments of videos: which parts of which contents the vectors of a space show."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from imgsearch.core.light_dataclass import dataclass, replace
from imgsearch.core.photos.regions import MAX_MOMENTS, PANORAMA_ASPECT, WHOLE, regions_of
from imgsearch.core.types import Region

from .database import Database
from .records import as_region, region_key, region_keys

IS_PANORAMA = f"max(p.width, p.height) > {PANORAMA_ASPECT} * min(p.width, p.height)"
"""Whether a photo `p` is a panorama, as `regions.is_panorama` has it. `panoramas` is the index for it."""

IS_VIDEO = "p.duration_seconds is not null"
"""Whether a photo `p` is a video. `videos` is the index for it."""

HAS_PARTS = (IS_PANORAMA, IS_VIDEO)

HAS_REGIONS = f"""
    (
        not ({" or ".join(HAS_PARTS)}) or (
            exists (select 1 from regions g where g.space_id = :space and g.content_hash = p.content_hash)
            and not exists (
                select 1 from regions g
                where g.space_id = :space and g.content_hash = p.content_hash and not exists (
                    select 1 from vectors v
                    where v.space_id = :space and v.modality = 'image' and v.key = g.key
                )
            )
        )
    )
"""  # noqa: S608 - a condition of ours
"""Whether all regions of a photo `p` have vectors in that space. True for one that is neither panorama nor video."""


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """A region of a content that has a vector."""

    key: bytes
    region: Region
    slot: int


class RegionTable:
    """The regions, by space and the key of their vector."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, space_id: str, regions: Mapping[bytes, Sequence[Region]]) -> None:
        """Replace the regions of these contents. The first of each is that of the whole picture."""
        for content_hash, parts in regions.items():
            self._db.execute("delete from regions where space_id = ? and content_hash = ?", (space_id, content_hash))
            self._db.executemany(
                "insert or replace into regions (space_id, key, content_hash, x, y, width, height, seconds) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (space_id, key, content_hash, part.x, part.y, part.width, part.height, part.at)
                    for key, part in zip(region_keys(content_hash, parts), parts, strict=True)
                ],
            )

    def has(self, space_id: str, content_hash: bytes) -> bool:
        """Whether the space has regions of that content."""
        return (
            self._db.row(
                "select 1 from regions where space_id = :space and content_hash = :content",
                space=space_id,
                content=content_hash,
            )
            is not None
        )

    def are_complete(self, space_id: str, content_hash: bytes) -> bool:
        """Whether the space has regions of that content, and a vector of each."""
        return bool(
            self._db.value(
                """
                select count(*) > 0 and count(*) = count(v.slot) from regions g
                left join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
                where g.space_id = :space and g.content_hash = :content
                """,
                space=space_id,
                content=content_hash,
            )
        )

    def slots_of_moments(self, space_id: str, content_hash: bytes) -> list[int]:
        """The slots of the moments of a video; none for another content."""
        return self._db.column(
            """
            select v.slot from regions g
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
            where g.space_id = :space and g.content_hash = :content and g.seconds is not null
            """,
            space=space_id,
            content=content_hash,
        )

    def are_whole(self, space_id: str, content_hash: bytes, regions: Sequence[Region]) -> bool:
        """Whether the space has exactly these regions of a content, and a vector of each."""
        rows = self._db.column(
            """
            select g.key from regions g
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
            where g.space_id = :space and g.content_hash = :content
            """,
            space=space_id,
            content=content_hash,
        )
        return set(rows) == set(region_keys(content_hash, regions))

    def of_photos(self, space_id: str, photo_ids: Iterable[int]) -> dict[int, list[StoredRegion]]:
        """The regions of these photos that have a vector, by the id of the photo: that of the whole picture first."""
        rows = self._db.rows(
            """
            select p.id, g.key, v.slot, g.x, g.y, g.width, g.height, g.seconds from json_each(:ids) i
            cross join photos p on p.id = i.value
            cross join regions g on g.space_id = :space and g.content_hash = p.content_hash
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = g.key
            order by p.id, g.key <> g.content_hash, g.x, g.y, g.seconds
            """,
            space=space_id,
            ids=json.dumps(list(photo_ids)),
        )
        found: dict[int, list[StoredRegion]] = {}
        for photo_id, key, slot, *place in rows:
            region = as_region(place)
            if region is not None:
                found.setdefault(photo_id, []).append(StoredRegion(key, region, slot))
        return found

    def any(self, space_id: str) -> bool:
        """Whether the space has a panorama or a video."""
        return self._db.value("select 1 from regions where space_id = :space limit 1", space=space_id) is not None

    def count_photos_without(self, space_id: str) -> int:
        """The number of present photos with a vector of the whole picture in that space, but not of all regions."""
        queries = (
            f"""
            select p.id from photos p
            cross join vectors v on v.space_id = :space and v.modality = 'image' and v.key = p.content_hash
            where {condition} and p.state = 'present' and not {HAS_REGIONS}
            """  # noqa: S608 - conditions of ours
            for condition in HAS_PARTS
        )
        return len({photo_id for query in queries for photo_id in self._db.column(query, space=space_id)})

    def wrong(self, space_id: str) -> list[bytes]:
        """The contents whose regions are not those of the picture, or not all of them, or parts of nothing."""
        rows = self._db.rows(
            "select content_hash, key, x, y, width, height, seconds from regions where space_id = :space",
            space=space_id,
        )
        found: dict[bytes, dict[bytes, Region | None]] = {}
        for content_hash, key, *place in rows:
            found.setdefault(content_hash, {})[key] = as_region(place)
        pictures = self._db.rows(
            f"""
            select distinct content_hash, width, height from photos p
            where {IS_PANORAMA} and typeof(width) = 'integer' and typeof(height) = 'integer' and min(width, height) > 0
                and not ({IS_VIDEO})
            """  # noqa: S608 - a condition of ours
        )
        expected = {content_hash: regions_of(width, height) for content_hash, width, height in pictures}
        videos = set(self._db.column(f"select content_hash from photos p where {IS_VIDEO}"))  # noqa: S608
        return [
            content
            for content, regions in found.items()
            if not (_are_moments if content in videos else _are_sound)(content, regions, expected)
        ]

    def delete(self, space_id: str, contents: Iterable[bytes]) -> None:
        """Delete the regions of these contents, so that the next run makes them again."""
        self._db.executemany(
            "delete from regions where space_id = ? and content_hash = ?",
            [(space_id, content_hash) for content_hash in contents],
        )

    def delete_stale(self) -> None:
        """Delete the regions of contents that no photo and no pending import has."""
        self._db.execute(
            """
            delete from regions where content_hash not in (select content_hash from photos)
                and content_hash not in (select key from awaited)
            """
        )


def _are_sound(
    content_hash: object, found: Mapping[bytes, Region | None], expected: Mapping[bytes, Sequence[Region]]
) -> bool:
    if not isinstance(content_hash, bytes) or len(content_hash) != 32:
        return False
    if found == {content_hash: WHOLE}:
        return True
    regions = expected.get(content_hash)
    if regions is None:  # of a picture that no photo here has yet
        return all(each and key in (content_hash, region_key(content_hash, each)) for key, each in found.items())
    return found == dict(zip(region_keys(content_hash, regions), regions, strict=True))


def _are_moments(content_hash: object, found: Mapping[bytes, Region | None], _: object) -> bool:
    """Whether these can be the moments of a video. Which they are is known from its frames only."""
    if not isinstance(content_hash, bytes) or len(content_hash) != 32 or content_hash not in found:
        return False
    return len(found) <= MAX_MOMENTS and all(
        each is not None
        and each.at is not None
        and replace(each, at=None) == WHOLE
        and key in (content_hash, region_key(content_hash, each))
        for key, each in found.items()
    )
