"""Converts wall-clock times to instants, and back.

A time that clocks skip when they are set forward is no instant. A time that they repeat when they are set
back is the first of the two.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.similar import did_you_mean

# Zones of one machine or process: the same crontab would mean different times elsewhere.
_NO_PLACES = frozenset({"localtime", "posixrules", "Factory"})


def load_zone(name: str) -> tzinfo:
    """Return a zone by its name, such as Europe/Paris. Raises `OptionInvalid`."""
    if name == "UTC":
        return UTC  # even where no zones are installed
    if name not in _NO_PLACES:
        with contextlib.suppress(
            KeyError, ValueError, OSError
        ):  # no such zone, not a name, a folder of zones
            return ZoneInfo(name)
    hint = did_you_mean(name, available_timezones(), otherwise="write UTC, or a name such as Europe/Paris")
    raise OptionInvalid("zone", f"there is no time zone {name!r}{hint}")


def instant_of(wall: datetime, zone: tzinfo) -> datetime | None:
    """Return the instant, in UTC, at which a zone's clocks show a time; None if they skip it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    return instant if instant.astimezone(zone).replace(tzinfo=None) == wall else None


def wall_time(instant: datetime, zone: tzinfo) -> datetime:
    """Return the wall-clock time of an instant in a zone."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def latest_wall_time(instant: datetime, zone: tzinfo) -> datetime:
    """Return the latest time that a zone's clocks have shown: later than now, while times repeat."""
    shown = instant.astimezone(zone)
    since_first_shown = instant - shown.replace(fold=0).astimezone(UTC)
    return shown.replace(tzinfo=None, fold=0) + since_first_shown
