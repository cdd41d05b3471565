"""What all claims have in common: which jobs may be claimed, and what is told of those that were.

A new rule for what a worker may claim is a line in `FITS_RULES`, and a parameter of its own at the end of
what `conditions_of` returns. All statements that claim have it then; only the width and the end, the last
parameters of the whole claim, get other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from trio_graphile._database.claiming.look_back import Position
from trio_graphile._database.rows import job_columns
from trio_graphile._model.bounds import ClaimRules

FITS_RULES = """($4::text[] is null or (jobs.flags ?| $4::text[]) is not true)
    and ($5::text[] is null or (jobs.flags ?| $5::text[]) is true)
    and ($6::text[] is null or case jsonb_typeof(jobs.flags)
      when 'object' then jobs.flags - $6::text[] = '{}'::jsonb
      when 'array' then not jsonb_path_exists(jobs.flags - $6::text[], '$[*] ? (@.type() == "string")')
      when 'string' then jobs.flags ?| $6::text[]
      else true
    end)"""
# Whether the row `jobs` fits the worker's rules. Its flags are what `?` finds in them, whoever wrote them.

FROM_START = """(jobs.priority, jobs.run_at)
          >= (coalesce($7::smallint, -32768), coalesce($8::timestamptz, '-infinity'))"""
UNTIL_END = """(jobs.priority, jobs.run_at)
          < (coalesce($10::smallint, 32767), coalesce($11::timestamptz, 'infinity'))"""
# Whether it comes from the start on, and before the end. Only the whole claim has an end.

_PLACE_OF_TASK = """array_position(
        array(select wanted_tasks.id from wanted_tasks order by wanted_tasks.place), jobs.task_id
      )"""
_QUEUE_NAME = """case
        when jobs.job_queue_id is not null then (
          select queues.queue_name
          from {schema}._private_job_queues as queues
          where queues.id = jobs.job_queue_id
        )
      end"""

CLAIMED = job_columns(task=_PLACE_OF_TASK, queue_name=_QUEUE_NAME, locked_by="null::text")
# What a claim returns of a job. It names the task by its place in $2, so that no name is looked up or sent
# for each job; nor is the worker's, which asks.
CLAIMED_WITHOUT_QUEUE = job_columns(task=_PLACE_OF_TASK, queue_name="null::text", locked_by="null::text")
# The same of jobs without a queue: a table that is not named need not be opened.

Texts: TypeAlias = list[str] | None


def conditions_of(
    rules: ClaimRules, start: Position | None
) -> tuple[Texts, Texts, Texts, int | None, datetime | None]:
    """Return the parameters from $4 on: the flags' three rules, then priority and time of the start.

    Each is null where there is no such rule.
    """
    return (
        list(rules.forbidden_flags) or None,
        _list_of(rules.accepted_flags),
        _list_of(rules.allowed_flags),
        None if start is None else start.priority,
        None if start is None else start.run_at,
    )


def _list_of(flags: Sequence[str] | None) -> Texts:
    return None if flags is None else list(flags)
