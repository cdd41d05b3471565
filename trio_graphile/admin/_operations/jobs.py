"""Lists of jobs, one job, and files of many."""

from __future__ import annotations

import attrs

from trio_graphile._database.search.find import find_jobs
from trio_graphile._database.search.payload import stored_payload
from trio_graphile._database.summaries.facts import facts_of_job
from trio_graphile._model.explanation import explain
from trio_graphile._model.listing import FoundJob, JobSearch
from trio_graphile._model.timeline import timeline
from trio_graphile._model.verbatim import Verbatim
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import JobAnswer, JobsAnswer, ListedJobAnswer
from trio_graphile.admin._operations.payloads import fields_of, listed_for, whole_payload_for
from trio_graphile.admin._operations.refusals import Malformed, Missing
from trio_graphile.admin._operations.requests import ExportRequest, JobsRequest

MOST_EXPORTED_JOBS = 10_000
_PAGE_SIZE = 500  # jobs
_MISSING = "there is no job {}: it was completed, removed, or never added"
_MOST_PAGES = 200


async def list_jobs(context: Context, request: JobsRequest) -> JobsAnswer:
    """Return a page of the jobs that match."""
    if request.after and request.offset:
        raise Malformed("after and offset exclude each other")
    search = request.as_search(order=request.order, limit=request.limit, offset=request.offset)
    page = await find_jobs(context.database, search, request.after or None)
    return JobsAnswer(
        jobs=await listed_for(context, page.jobs),
        next=page.next,
        previous=page.previous,
        scanned=page.scanned,
        unsearched=page.unsearched,
    )


async def show_job(context: Context, job_id: int) -> JobAnswer:
    """Return a job, why it does not run, and what is still to come. Raises `Missing`."""
    found = await _find(context, job_id)
    facts = await facts_of_job(context.database, job_id)
    if facts is None:
        raise Missing(_MISSING.format(job_id))
    whole = FoundJob(listed=facts.listed, payload_size=found.payload_size)
    job = facts.listed.job
    return JobAnswer(
        **fields_of(whole, await whole_payload_for(context, job.task_identifier, job.payload_json)),
        explanation=[*explain(facts)],
        timeline=[*timeline(facts.listed, facts.now)],
    )


async def show_payload(context: Context, job_id: int) -> Verbatim:
    """Return the payload of a job, of any size, as stored except for redacted parts. Raises `Missing`."""
    found = await _find(context, job_id)
    text = await stored_payload(context.database, job_id)
    if text is None:
        raise Missing(_MISSING.format(job_id))
    return await whole_payload_for(context, found.listed.job.task_identifier, text)


async def _find(context: Context, job_id: int) -> FoundJob:
    page = await find_jobs(context.database, JobSearch(ids=(job_id,), limit=1), None)
    if not page.jobs:
        raise Missing(_MISSING.format(job_id))
    return page.jobs[0]


@attrs.define
class Export:
    """The first jobs that match, page by page."""

    _context: Context
    _request: ExportRequest
    _count: int = 0
    _pages: int = 0
    next: str | None = None
    """The `after` of the next page."""

    async def read_page(self) -> list[ListedJobAnswer] | None:
        """Return the jobs of the next page, which may be empty; None at the end.

        The export ends with the last job, after 10,000 jobs, or after the rows that one export may read.
        """
        left = MOST_EXPORTED_JOBS - self._count
        if left <= 0 or self._pages == _MOST_PAGES or (self._pages and self.next is None):
            return None
        search = self._request.as_search(order=self._request.order, limit=min(_PAGE_SIZE, left))
        page = await find_jobs(self._context.database, search, self.next or self._request.after or None)
        self.next = page.next
        self._pages += 1
        self._count += len(page.jobs)
        if self._request.format == "csv":  # CSV has no payloads
            return [ListedJobAnswer(**fields_of(found, None)) for found in page.jobs]
        return await listed_for(self._context, page.jobs)
