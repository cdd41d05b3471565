"""Payloads on their way out: redacted, and left out of lists where they are large."""

from __future__ import annotations

import functools
from typing import Any

import attrs

from trio_graphile._model.job_json import ShownChange, shown_change, shown_job
from trio_graphile._model.jobs import Job
from trio_graphile._model.listing import FoundJob
from trio_graphile._model.verbatim import Verbatim
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import ListedJobAnswer
from trio_graphile.admin._safety.payloads import shown_payload
from trio_graphile.admin._safety.redaction import Names

LARGE = 16 * 1024
"""Payloads with more characters are not shown beside others."""


def payload_for(context: Context, identifier: str, text: str) -> Verbatim:
    """Return a payload as it may be seen."""
    options = context.options
    names = _names_of(options.redacted_names)
    return Verbatim(shown_payload(text, identifier, names=names, function=options.redact))


_names_of = functools.lru_cache(maxsize=8)(Names)


def found_for(context: Context, found: FoundJob) -> dict[str, Any]:
    """Return the fields of a listed job as they may be seen."""
    job = found.listed.job
    payload = payload_for(context, job.task_identifier, job.payload_json) if found.has_payload else None
    shown = attrs.asdict(shown_job(found.listed), recurse=False)
    return shown | {
        "payload": payload,
        "payload_size": found.payload_size,
        "has_whole_error": found.has_whole_error,
    }


def listed_for(context: Context, found: FoundJob) -> ListedJobAnswer:
    """Return a listed job as it may be seen."""
    return ListedJobAnswer(**found_for(context, found))


def changed_for(context: Context, job: Job, seen: FoundJob | None) -> ShownChange:
    """Return a job that was changed as it may be seen."""
    is_large = len(job.payload_json) > LARGE
    payload = None if is_large else payload_for(context, job.task_identifier, job.payload_json)
    return attrs.evolve(shown_change(job, None if seen is None else seen.listed), payload=payload)
