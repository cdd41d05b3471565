"""The base classes of all events."""

from __future__ import annotations

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import Job


@attrs.frozen(kw_only=True)
class Event:
    """Something that has happened. An observer of this class is called with every event."""

    worker_id: str = ""
    """The worker that emitted the event, which fills it in."""


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """Something that has happened to a job. An observer of this class is called with all of these."""

    job: Job
    """The job as it was claimed, without the changes in the database that the event is about."""


def check_event_class(option: str, value: object) -> None:
    """Raise `OptionInvalid` unless the value is a class of events."""
    if not (isinstance(value, type) and issubclass(value, Event)):
        raise OptionInvalid(option, f"a class of events is needed, not {value!r}")
