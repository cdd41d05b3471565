"""Payloads in answers: redacted, and left out of lists if they are large."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import trio

from trio_graphile._model.job_json import ShownChange, shown_change, shown_job
from trio_graphile._model.jobs import Job
from trio_graphile._model.listing import FoundJob
from trio_graphile._model.verbatim import Verbatim
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import ListedJobAnswer
from trio_graphile.admin._safety.payloads import shown_payload
from trio_graphile.admin._safety.redaction import Names

LARGE = 16 * 1024
"""Payloads with more characters are left out of lists."""


def payload_for(context: Context, identifier: str, text: str) -> Verbatim:
    """Return a payload with its secrets hidden."""
    options = context.options
    names = _names_of(options.redacted_names)
    return Verbatim(shown_payload(text, identifier, names=names, function=options.redact))


async def whole_payload_for(context: Context, identifier: str, text: str) -> Verbatim:
    """Return a payload of any size with its secrets hidden; large ones are redacted in a thread."""
    if len(text) <= LARGE:
        return payload_for(context, identifier, text)
    show = functools.partial(payload_for, context, identifier, text)
    return await trio.to_thread.run_sync(show, abandon_on_cancel=True, limiter=context.reading_payloads)


_names_of = functools.lru_cache(maxsize=8)(Names)


def _found_for(context: Context, found: FoundJob) -> dict[str, Any]:
    job = found.listed.job
    payload = payload_for(context, job.task_identifier, job.payload_json) if found.has_payload else None
    return fields_of(found, payload)


def fields_of(found: FoundJob, payload: Verbatim | None) -> dict[str, Any]:
    """Return the fields of a listed job, with its payload redacted."""
    shown = attrs.asdict(shown_job(found.listed), recurse=False)
    return shown | {
        "payload": payload,
        "payload_size": found.payload_size,
        "has_whole_error": found.has_whole_error,
    }


async def listed_for(context: Context, found: Iterable[FoundJob]) -> list[ListedJobAnswer]:
    """Return listed jobs with payloads redacted. Yields to other Trio tasks between jobs: a worker, say."""
    listed = []
    for one in found:
        listed.append(ListedJobAnswer(**_found_for(context, one)))
        await trio.lowlevel.checkpoint()
    return listed


async def changed_jobs_for(
    context: Context, jobs: Iterable[Job], seen: Mapping[int, FoundJob]
) -> list[ShownChange]:
    """Return changed jobs with payloads redacted. Yields to other Trio tasks between them."""
    changed = []
    for job in jobs:
        changed.append(changed_for(context, job, seen.get(job.id)))
        await trio.lowlevel.checkpoint()
    return changed


def changed_for(context: Context, job: Job, seen: FoundJob | None) -> ShownChange:
    """Return a changed job with its payload redacted."""
    is_large = len(job.payload_json) > LARGE
    payload = None if is_large else payload_for(context, job.task_identifier, job.payload_json)
    return attrs.evolve(shown_change(job, None if seen is None else seen.listed), payload=payload)
