"""Logs each event as one line, with its fields as attributes of the record, for JSON formatters."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.outcomes import counts_of
from trio_graphile._model.validators import check_kind, described
from trio_graphile.hooks import (
    ClaimFailed,
    CronFailed,
    CronOverdue,
    Event,
    GracePeriodOver,
    Hooks,
    JobFailed,
    JobFailedPermanently,
    JobInterrupted,
    JobRemoved,
    JobsClaimed,
    JobTaken,
    JobTakenAway,
    LeaseExpiring,
    ListenConnecting,
    ListenLost,
    LocalQueueModeChanged,
    MaintenanceFailed,
    RefetchDelayAborted,
    RefetchDelayExpired,
    RefetchDelayStarted,
    ShutdownForced,
    WorkersRecovered,
)
from trio_graphile.hooks._event import check_event_class

__all__ = ["Logging"]

LEVELS: Mapping[type[Event], int] = {
    ClaimFailed: logging.WARNING,
    CronFailed: logging.WARNING,
    CronOverdue: logging.WARNING,
    GracePeriodOver: logging.WARNING,
    JobFailed: logging.WARNING,
    JobFailedPermanently: logging.ERROR,
    JobInterrupted: logging.WARNING,
    JobRemoved: logging.WARNING,
    JobTakenAway: logging.ERROR,
    LeaseExpiring: logging.ERROR,
    ListenLost: logging.WARNING,
    MaintenanceFailed: logging.WARNING,
    ShutdownForced: logging.WARNING,
    WorkersRecovered: logging.WARNING,
    JobsClaimed: logging.DEBUG,
    JobTaken: logging.DEBUG,
    ListenConnecting: logging.DEBUG,
    LocalQueueModeChanged: logging.DEBUG,
    RefetchDelayAborted: logging.DEBUG,
    RefetchDelayExpired: logging.DEBUG,
    RefetchDelayStarted: logging.DEBUG,
}
"""The level of each class of events. Defaults to INFO for a class that is not listed."""


def _logger(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not hasattr(value, "isEnabledFor"):  # it may be an adapter
        raise OptionInvalid(attribute.name, f"a logger is needed, not {described(value)}")


def _levels(_: object, attribute: attrs.Attribute[Any], value: Mapping[Any, object]) -> None:
    check_kind(attribute.name, value, Mapping)
    for event, level in value.items():
        check_event_class(attribute.name, event)
        if type(level) is not int:
            raise OptionInvalid(attribute.name, f"a level such as logging.INFO is needed, not {level!r}")


@attrs.frozen(eq=False)
class Logging:
    """Logs events: `Worker(..., plugins=[Logging()])`. Never logs payloads, but does log errors.

    A line reads `job completed worker_id=… job_id=1 task=send_welcome attempt=1 duration=0.012345`. The same
    fields are attributes of the record, where JSON formatters and structlog's `ExtraAdder` find them. Each
    record has `event` and `worker_id`; an event about a job also has `job_id`, `task`, `attempt` and, if the
    job has one, `queue`.
    """

    logger: logging.Logger = attrs.field(
        factory=lambda: logging.getLogger("trio_graphile.events"), validator=_logger
    )
    """The logger of the lines. Defaults to `trio_graphile.events`."""
    events: tuple[type[Event], ...] = (Event,)
    """The classes of events to log, each with its subclasses. Defaults to all events."""
    levels: Mapping[type[Event], int] = attrs.field(default=LEVELS, validator=_levels)
    """The level of each class of events; INFO for a class that is not listed. Defaults to WARNING or ERROR
    for failures and interruptions, and to DEBUG for claims.
    """

    def register(self, hooks: Hooks, /) -> None:
        """Register an observer for each of `events`."""
        for event in self.events:
            hooks.on(event, self._log)

    def _log(self, event: Event) -> None:
        level = self.levels.get(type(event), logging.INFO)
        if not self.logger.isEnabledFor(level):
            return
        fields = fields_of(event)
        name = _words(type(event).__name__)
        text = " ".join([name, *(f"{key}={_written(value)}" for key, value in fields.items())])
        self.logger.log(level, "%s", text, extra={"event": name, **fields})


def fields_of(event: Event) -> dict[str, Any]:
    """Return the fields of an event as plain values, which any formatter can write. Leaves payloads out."""
    fields: dict[str, Any] = {}
    for field in attrs.fields(type(event)):
        fields.update(_plain(field.name, getattr(event, field.name)))
    return fields


def _plain(name: str, value: Any) -> dict[str, Any]:
    match name, value:
        case "job", job:
            about = {"job_id": job.id, "task": job.task_identifier, "attempt": job.attempts}
            return about if job.queue_name is None else {**about, "queue": job.queue_name}
        case (("running" | "jobs"), tuple(jobs)):
            return {"job_ids": [job.id for job in jobs]}
        case "entry", entry:
            return {"entry": entry.identifier, "task": entry.task_identifier}
        case "entries", entries:
            return {"entries": [getattr(entry, "identifier", entry) for entry in entries]}
        case "report", report:
            return {} if report is None else {**counts_of(report), "seconds": round(report.seconds, 6)}
        case _, Enum():
            return {name: value.value}
        case _, None:
            return {}
        case _, float():
            return {name: round(value, 6)}
        case _, bool() | int() | str():
            return {name: value}
        case _, tuple():
            return {name: list(value)}
        case _:
            return {name: str(value)}


def _written(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
