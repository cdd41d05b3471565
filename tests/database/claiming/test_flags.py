"""Which jobs are claimed by their flags: by each statement that claims, the same."""

from __future__ import annotations

import json
from itertools import product

import pytest

from trio_graphile import Connection, Job
from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import PlainClaim
from trio_graphile._database.rows import flags_of
from trio_graphile._model.bounds import ClaimRules

FLAGS = [
    None,
    "{}",
    '{"a": true}',
    '{"b": false}',
    '{"a": true, "b": true}',
    '{"a": true, "c": true}',
    "[]",
    '["a"]',
    '["a", 1, {"c": 1}]',
    '["c", "a"]',
    '"a"',
    '"c"',
    "1",
    "null",
]
"""As others may have written them."""
FORBIDDEN = ((), ("a",), ("c", "x"))
ACCEPTED = (None, (), ("a",), ("b", "x"))
ALLOWED = (None, (), ("a",), ("a", "b"))
RULES = [ClaimRules(*rules) for rules in product(FORBIDDEN, ACCEPTED, ALLOWED)]

INSERT = """
    insert into graphile_worker._private_jobs (task_id, job_queue_id, flags)
    select tasks.id, queues.id, given.flags::jsonb
    from unnest($1::text[], $2::text[]) with ordinality as given(flags, queue_name, place)
    join graphile_worker._private_tasks as tasks on tasks.identifier = 'a'
    left join graphile_worker._private_job_queues as queues on queues.queue_name = given.queue_name
    order by given.place
"""


async def claim(connection: Connection, rules: ClaimRules, plain: PlainClaim | None) -> list[Job]:
    if plain is None:
        return await claims.get_jobs(connection, "me", ["a"], 1_000, rules)
    return await plain_claims.get_plain_jobs(connection, "me", ["a"], 1_000, rules, which=plain)


def fits(text: str | None, rules: ClaimRules) -> bool:
    flags = set() if text is None else set(flags_of(text))
    return (
        not flags & set(rules.forbidden_flags)
        and (rules.accepted_flags is None or bool(flags & set(rules.accepted_flags)))
        and (rules.allowed_flags is None or flags <= set(rules.allowed_flags))
    )


@pytest.mark.parametrize(
    ("is_queued", "plain"),
    [(True, None), (False, None), *[(False, plain) for plain in PlainClaim]],
    ids=["queued", "unqueued", *PlainClaim],
)
@pytest.mark.parametrize("has_crowd", [False, True], ids=["alone", "behind a crowd"])
async def test_a_job_is_claimed_if_its_flags_fit_all_rules(
    connection: Connection, plain: PlainClaim | None, *, is_queued: bool, has_crowd: bool
) -> None:
    queues = [f"q{number}" if is_queued else None for number in range(len(FLAGS))]
    await connection.execute(
        "insert into graphile_worker._private_tasks (identifier) values ('a'), ('foreign')"
    )
    await connection.execute(
        "insert into graphile_worker._private_job_queues (queue_name) select unnest($1::text[])",
        [queue for queue in queues if queue is not None],
    )
    if has_crowd and plain is not PlainClaim.IN_HEAD:
        await connection.execute("""
            insert into graphile_worker._private_jobs (task_id, priority)
            select id, -1
            from graphile_worker._private_tasks, generate_series(1, 3000)
            where identifier = 'foreign'
        """)
    await connection.execute(INSERT, FLAGS, queues)
    first: int = await connection.fetch_value("""
        select min(jobs.id)
        from graphile_worker._private_jobs as jobs
        join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
        where tasks.identifier = 'a'
    """)
    for rules in RULES:
        async with connection.transaction():
            claimed = {job.id - first for job in await claim(connection, rules, plain)}
            await connection.execute("""
                update graphile_worker._private_jobs set locked_at = null, locked_by = null, attempts = 0;
                update graphile_worker._private_job_queues set locked_at = null, locked_by = null;
            """)
        assert claimed == {place for place, text in enumerate(FLAGS) if fits(text, rules)}, rules


async def test_rules_come_before_the_limit(connection: Connection) -> None:
    """The best jobs do not fit: as many of the others come as were asked for, and only they are tried."""
    add = "select id from graphile_worker.add_job('a', priority => $1::integer, flags => $2::text[])"
    for priority, flags in ((0, ["b"]), (1, None), (2, ["a"]), (3, ["a"])):
        await connection.execute(add, priority, flags)
    jobs = await claims.get_jobs(connection, "me", ["a"], 1, ClaimRules(accepted_flags=["a"]))
    assert [job.priority for job in jobs] == [2]
    tried = "select json_agg(attempts order by priority)::text from graphile_worker._private_jobs"
    assert json.loads(await connection.fetch_value(tried)) == [0, 0, 1, 0]
