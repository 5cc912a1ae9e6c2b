"""The local time of an instant at coordinates, offline: part of the extra [places]."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta


def available() -> bool:
    return importlib.util.find_spec("tzfpy") is not None


def local_time(instant: str, latitude: float, longitude: float) -> tuple[str, str] | None:
    """An instant in UTC, `2018-08-11T14:45:21`, as local time and offset: `2018-08-11T16:45:21`, `+02:00`.

    None where the time zone is not known. The first call takes a sixth of a second.
    """
    from zoneinfo import ZoneInfo

    import tzfpy

    try:
        zone = ZoneInfo(tzfpy.get_tz(longitude, latitude))
        moment = datetime.fromisoformat(instant).replace(tzinfo=UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError, LookupError):  # out of range, or a zone that this machine does not know
        return None
    offset = moment.utcoffset()
    if offset is None or offset % timedelta(minutes=1):  # before there were time zones, each town had its own time
        return None
    text = moment.isoformat(timespec="seconds")
    return text[:-6], text[-6:]
