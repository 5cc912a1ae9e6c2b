"""The filters of a query, as typed."""

from __future__ import annotations

from imgsearch.core.light_dataclass import dataclass

EARTH_RADIUS_KM = 6_371.0088
"""The mean radius; on a sphere of it a distance is at most half a percent off."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The values as typed. None and () mean no filter."""

    after: str | None = None
    """`2024`, `2024-07`, `2024-07-03`, `2024-07-03T12:30`, `today`, `yesterday`, `30d`, `6w`, `3m`, `2y`: on or after
    its start."""
    before: str | None = None
    """The same, before its end."""
    month: tuple[str, ...] = ()
    """`july`, `7`, `2023-07`: in one of these months."""
    on: tuple[str, ...] = ()
    """`12-25`, `2019-12-25`, `today`, `yesterday`: on one of these days."""
    camera: tuple[str, ...] = ()
    """Parts of the camera's name, with or without its make; case is ignored."""
    lens: tuple[str, ...] = ()
    near: str | None = None
    """`48.85,2.35,5km`: degrees north and east, and a radius in km, m or mi."""
    place: tuple[str, ...] = ()
    """`Porto`, `Porto, Portugal`, `PT`: whole names of towns, regions and countries; case and accents are ignored."""
    rating: str | None = None
    """`4` (at least), `=3`, `<=2`, `3-5`. No rating is 0, rejected is -1."""
    keyword: tuple[str, ...] = ()
    """Whole keywords, or patterns with * and ?; case is ignored."""
    under: tuple[str, ...] = ()
    """Folders, as paths."""
    name: tuple[str, ...] = ()
    """Shell patterns of the file name, with or without its extension; case is ignored."""
    glob: tuple[str, ...] = ()
    """Shell patterns: of the name, with a slash of the path in its root, with a leading / of the whole path."""
    ext: tuple[str, ...] = ()
    """`jpg`, `.JPG`, `jpg,png`."""
    min_size: str | None = None
    """`1600x1200` (in either orientation), `12MP`, or a file size: `500kB`, `1.5GiB`, `4096`."""
    orientation: tuple[str, ...] = ()
    """`landscape`, `portrait`, `square`, of the upright picture."""
    has: tuple[str, ...] = ()
    """`gps`, `caption` (a title, description or comment in the photo or a sidecar), `date`, `damage` (the
    end of the file is missing)."""
    text_contains: tuple[str, ...] = ()
    """Words next to each other in one of the photo's texts; with `*` after the last one, that begin so."""
    root: tuple[str, ...] = ()
    """Roots of the index, by path or by its last part."""

    def __bool__(self) -> bool:
        """Whether there is any filter."""
        return any(getattr(self, name) not in (None, ()) for name in Filters.__slots__)

    def options(self) -> list[tuple[str, tuple[str, ...]]]:
        """The filters as options of the command line."""
        given = ((name.replace("_", "-"), getattr(self, name)) for name in Filters.__slots__)
        return [(f"--{name}", (value,) if isinstance(value, str) else value) for name, value in given if value]
