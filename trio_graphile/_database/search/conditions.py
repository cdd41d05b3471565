"""The conditions of a search for jobs, as SQL that fits every order of the jobs."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._database.connection import Executor
from trio_graphile._database.folding import ERROR_GROUP
from trio_graphile._database.inspection import STATE
from trio_graphile._database.search.cursor import MOST_SKIPPED_JOBS
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.inspection import JobState
from trio_graphile._model.jobs import BIGINT
from trio_graphile._model.listing import JobOrder, JobSearch
from trio_graphile._model.texts import check_text

MOST_LISTED_JOBS = 1000  # on one page
MOST_NAMES = 1000  # in one condition

IS_SMALL = "pg_column_size(jobs.payload) <= 16384"
"""Whether a payload is small enough to be shown in lists and searched. Its stored size is known without
fetching it."""
IS_SHOWN = f"case when {IS_SMALL} then octet_length(jobs.payload::text) <= 65536 else false end"
"""A compressed text can become a hundred times as long: a page of such payloads would fill the memory."""
ERROR_IS_SMALL = "coalesce(octet_length(jobs.last_error) <= 16384, true)"
ERROR = f"case when {ERROR_IS_SMALL} then jobs.last_error else substring(jobs.last_error from 1 for 4000) end"

_QUEUE_NAME = """(
            select queues.queue_name
            from {schema}._private_job_queues as queues
            where queues.id = jobs.job_queue_id
          )"""
_FIELDS = (
    "jobs.id::text",
    "jobs.key",
    "jobs.locked_by",
    "(select tasks.identifier from {schema}._private_tasks as tasks where tasks.id = jobs.task_id)",
    _QUEUE_NAME,
    ERROR,
    f"case when {IS_SMALL} then jobs.payload::text end",
)
_HAS_TEXT = "\n          or ".join(f"strpos(lower({field}), lower($7::text)) > 0" for field in _FIELDS)

MATCHES = f"""(
          {STATE} = any($1::text[])
          and ($2::integer[] is null or jobs.task_id = any($2::integer[]))
          and ($3::integer[] is null or jobs.job_queue_id = any($3::integer[]))
          and ($4::text is null or jobs.locked_by = $4::text)
          and ($5::text is null or {ERROR_GROUP} = $5::text)
          and ($6::text[] is null or jobs.flags ?& $6::text[])
          and ($8::bigint is null or jobs.id <= $8::bigint)
          and ($7::text is null or {_HAS_TEXT})
        ) is true"""
# $1 states, $2 task ids, $3 queue ids, $4 who has it, $5 group of its error, $6 flags, of which it needs all,
# $7 text, $8 the highest id; null for any
IS_UNSEARCHED = f"($7::text is not null and not {IS_SMALL})"

_SHOWN = {
    JobOrder.NEXT_RUN: frozenset({JobState.READY, JobState.SCHEDULED}),
    JobOrder.LATEST_FAILURE: frozenset({JobState.FAILED}),
}


@attrs.frozen(kw_only=True)
class Conditions:
    """The conditions of a search, with names replaced by ids."""

    states: tuple[JobState, ...]
    task_ids: list[int] | None
    queue_ids: list[int] | None
    ids: list[int] | None
    """The only jobs that are read, by id; sorted."""
    search: JobSearch

    @property
    def are_impossible(self) -> bool:
        """Whether no job can meet the conditions."""
        return not self.states or any(found == [] for found in (self.task_ids, self.queue_ids, self.ids))

    @property
    def parameters(self) -> tuple[object, ...]:
        """The parameters of `MATCHES`."""
        search = self.search
        return (
            [state.value for state in self.states],
            self.task_ids,
            self.queue_ids,
            search.locked_by,
            search.error,
            list(search.flags) or None,
            search.text or None,
            self.until_id,
        )

    @property
    def until_id(self) -> int | None:
        """The highest id that a job can have."""
        until = self.search.until_id
        return None if until is None else max(BIGINT.start, min(until, BIGINT.stop - 1))


def check_search(search: JobSearch) -> None:
    """Raise `OptionInvalid` for values that the database cannot hold, and for too many values."""
    _within("limit", search.limit, range(1, MOST_LISTED_JOBS + 1))
    _within("offset", search.offset, range(MOST_SKIPPED_JOBS + 1))
    for name in ("key", "locked_by", "error", "text"):
        if (text := getattr(search, name)) is not None:
            check_text(name, text)
    for name in ("identifiers", "queues", "flags", "ids"):
        values = getattr(search, name)
        if len(values) > MOST_NAMES:
            raise OptionInvalid(name, f"{len(values)} are more than the {MOST_NAMES} that can be given")
        if name != "ids":
            for value in values:
                check_text(name, value)


def _within(name: str, value: int, allowed: range) -> None:
    if value not in allowed:
        advice = ": go on with `next` instead" if name == "offset" else ""
        raise OptionInvalid(name, f"{value} is not between {allowed.start} and {allowed.stop - 1}{advice}")


async def look_up(executor: Executor, search: JobSearch) -> Conditions:
    """Return the conditions of a search, after looking up the ids of its names."""
    shown = _SHOWN.get(search.order, frozenset(JobState))
    return Conditions(
        states=tuple(state for state in search.states or JobState if state in shown),
        task_ids=await _find_tasks(executor, search.identifiers) if search.identifiers else None,
        queue_ids=await _find_queues(executor, search.queues) if search.queues else None,
        ids=await _find_ids(executor, search),
        search=search,
    )


FIND_TASKS = Statement("""
    select tasks.id
    from {schema}._private_tasks as tasks
    where tasks.identifier = any($1::text[])
""")  # $1 identifiers


async def _find_tasks(executor: Executor, identifiers: Sequence[str]) -> list[int]:
    return sorted(row["id"] for row in await executor.fetch(FIND_TASKS, list(identifiers)))


FIND_QUEUES = Statement("""
    select queues.id
    from {schema}._private_job_queues as queues
    where queues.queue_name = any($1::text[])
""")  # $1 names


async def _find_queues(executor: Executor, names: Sequence[str]) -> list[int]:
    return sorted(row["id"] for row in await executor.fetch(FIND_QUEUES, list(names)))


FIND_KEY = Statement("""
    select jobs.id
    from {schema}._private_jobs as jobs
    where jobs.key = $1::text
""")  # $1 key


async def _find_ids(executor: Executor, search: JobSearch) -> list[int] | None:
    ids = {id_ for id_ in search.ids if id_ in BIGINT} if search.ids else None
    if search.key is not None:
        found = {row["id"] for row in await executor.fetch(FIND_KEY, search.key)}
        ids = found if ids is None else ids & found
    return None if ids is None else sorted(ids)
