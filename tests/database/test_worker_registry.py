"""Leases and recovery: the statements by which workers keep their locks and take over those of the dead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
import trio

from tests.database.functions.calls import add_job
from tests.support.tables import locked_queues
from trio_graphile import Connection, Database, DatabaseOptions, Job, SweepReport, open_database
from trio_graphile._database import held_rows, stale_locks, sweeps, unknown_locks, worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._database.schema import migrate
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.outcomes import Returned

ME = "trio_graphile_me"
RULES = SweepOptions(sweep_threshold=60.0, foreign_threshold=60.0)


@attrs.define(eq=False)
class Tables:
    """The tables of one schema, and what befalls them, as a test says it."""

    database: Database
    schema: str = "graphile_worker"

    async def add(self, **options: Any) -> int:
        """Add a job as SQL callers do."""
        return int((await add_job(self.database, **options))["id"])

    async def claim(self, worker: str = ME, limit: int = 100) -> list[Job]:
        return await claims.get_jobs(self.database, worker, ["a"], limit)

    async def hold(self, worker: str = ME, /, **options: object) -> Job:
        """Add a job and have a worker claim it."""
        await self.add(**options)
        [job] = await self.claim(worker)
        return job

    async def age_locks(self, age: str, worker: str | None = None) -> None:
        """Make locks older, of one worker or of all, and their jobs with them."""
        for table in ("_private_jobs", "_private_job_queues"):
            await self.database.execute(
                f"""
                update {self.schema}.{table}
                set locked_at = locked_at - $1::text::interval
                where locked_by = coalesce($2::text, locked_by)
                """,
                age,
                worker,
            )
        await self.database.execute(
            f"""
            update {self.schema}._private_jobs
            set created_at = created_at - $1::text::interval, updated_at = updated_at - $1::text::interval
            where locked_by = coalesce($2::text, locked_by)
            """,
            age,
            worker,
        )

    async def beat(self, worker: str, age: str = "0") -> None:
        """Register a worker whose last heartbeat is so old."""
        await worker_registry.heartbeat(self.database, worker)
        await self.database.execute(
            f"""
            update {self.schema}._private_workers
            set last_heartbeat_at = now() - $1::text::interval
            where id = $2::text
            """,
            age,
            worker,
        )

    async def sweep(self, rules: SweepOptions = RULES, *, dry_run: bool = False) -> SweepReport:
        return await sweeps.sweep(self.database, rules, dry_run=dry_run)

    async def row(self, job_id: int) -> dict[str, object]:
        found = await self.database.fetch_row(
            f"select * from {self.schema}._private_jobs where id = $1::bigint", job_id
        )
        assert found is not None
        return dict(found)

    async def locked_by(self, job_id: int) -> object:
        return (await self.row(job_id))["locked_by"]

    async def locked_queues(self) -> dict[str, str]:
        return await locked_queues(self.database)

    async def registered(self) -> set[str]:
        rows = await self.database.fetch(f"select id from {self.schema}._private_workers")
        return {row["id"] for row in rows}

    async def dump(self) -> list[object]:
        """Everything that a sweep might change."""
        tables = ("_private_jobs", "_private_job_queues", "_private_workers")
        return [
            await self.database.fetch(f"select * from {self.schema}.{table} order by id") for table in tables
        ]


@pytest.fixture
def tables(database: Database) -> Tables:
    return Tables(database)


def renewal(*, lost: Sequence[Job] = (), detached: Sequence[Job] = ()) -> worker_registry.Renewal:
    return worker_registry.Renewal(
        lost=frozenset(job.id for job in lost), detached=frozenset(job.id for job in detached)
    )


# --- renewing -------------------------------------------------------------------------------------


async def test_renewing_makes_locks_as_if_just_taken_and_changes_nothing_else(tables: Tables) -> None:
    mine = [await tables.hold(queue_name="mine"), await tables.hold(job_key="k")]
    other = await tables.hold("other", queue_name="other")
    await tables.age_locks("1 hour")
    before = {job.id: await tables.row(job.id) for job in (*mine, other)}
    assert await worker_registry.renew(tables.database, ME, mine) == renewal()
    for job in mine:
        old, new = before[job.id], await tables.row(job.id)
        assert new.pop("locked_at") >= old.pop("locked_at") + timedelta(hours=1)  # type: ignore[operator]
        assert new == old
    assert await tables.row(other.id) == before[other.id]
    fresh = await tables.database.fetch("""
        select queue_name
        from graphile_worker._private_job_queues
        where locked_at > now() - interval '1 minute'
    """)
    assert [row["queue_name"] for row in fresh] == ["mine"]
    assert await tables.locked_queues() == {"mine": ME, "other": "other"}


async def test_a_queue_is_renewed_though_its_job_is_unknown(tables: Tables) -> None:
    await tables.hold(queue_name="q")
    await tables.age_locks("1 hour")
    await worker_registry.renew(tables.database, ME, [])
    fresh = "select locked_at > now() - interval '1 minute' from graphile_worker._private_job_queues"
    assert await tables.database.fetch_value(fresh)


@pytest.mark.parametrize(
    "befalls",
    [
        "delete from graphile_worker._private_jobs",
        "update graphile_worker._private_jobs set locked_by = 'other'",
        "update graphile_worker._private_jobs set locked_by = null, locked_at = null",
        "update graphile_worker._private_jobs set attempts = attempts + 1",
        "update graphile_worker._private_jobs set attempts = max_attempts",
        "update graphile_worker._private_jobs set attempts = 0",
    ],
)
async def test_a_job_that_is_no_longer_ours_is_lost_and_not_touched(tables: Tables, befalls: str) -> None:
    kept = await tables.hold(queue_name="q")
    job = await tables.hold()
    await tables.database.execute(f"{befalls} where id = $1::bigint", job.id)
    untouched = "select * from graphile_worker._private_jobs where id = $1::bigint"
    before = await tables.database.fetch(untouched, job.id)
    assert await worker_registry.renew(tables.database, ME, [kept, job]) == renewal(lost=[job])
    assert await tables.database.fetch(untouched, job.id) == before


@pytest.mark.parametrize("max_attempts", [1, 25])
@pytest.mark.parametrize("how", ["add_job('a', job_key => 'k')", "remove_job('k')"])
async def test_a_detached_job_is_ours_to_end_is_named_and_stays_recognizable(
    tables: Tables, how: str, max_attempts: int
) -> None:
    job = await tables.hold(job_key="k", max_attempts=max_attempts)
    await tables.age_locks("1 hour")
    await tables.database.execute(f"select graphile_worker.{how}")
    for _ in range(2):
        assert await worker_registry.renew(tables.database, ME, [job]) == renewal(detached=[job])
        stored = await tables.row(job.id)
        assert stored["locked_by"] == ME
        assert stored["updated_at"] == stored["locked_at"]
    assert await tables.database.fetch_value("""
        select max(locked_at) > now() - interval '1 minute'
        from graphile_worker._private_jobs
    """)


RETURNING = ["sweep", "reconcile", "return", "rust"]


async def give_back(tables: Tables, job: Job, way: str) -> None:
    match way:
        case "sweep":
            await tables.beat(ME, "2 minutes")
            assert (await tables.sweep()).recovered_jobs == 1
        case "reconcile":
            assert await unknown_locks.reconcile(tables.database, ME, []) == {job.id}
        case "return":
            assert await held_rows.return_jobs(tables.database, ME, [Returned(job)]) == {job.id}
        case _:
            recover = "select graphile_worker.recover_dead_worker_jobs(array[$1::text])"
            assert await tables.database.fetch_value(recover, ME) == 1


@pytest.mark.parametrize("way", RETURNING)
async def test_a_detached_job_is_never_revived_by_giving_it_back_after_a_renewal(
    tables: Tables, way: str
) -> None:
    job = await tables.hold(job_key="k")
    await tables.add(job_key="k")
    await worker_registry.renew(tables.database, ME, [job])
    await give_back(tables, job, way)
    stored = await tables.row(job.id)
    assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (25, None, False)


@pytest.mark.parametrize("way", RETURNING)
@pytest.mark.parametrize("options", [{}, {"job_key": "k"}])
async def test_a_last_attempt_is_given_back_after_a_renewal(
    tables: Tables, way: str, options: dict[str, object]
) -> None:
    job = await tables.hold(max_attempts=1, **options)
    await worker_registry.renew(tables.database, ME, [job])
    await give_back(tables, job, way)
    stored = await tables.row(job.id)
    assert (stored["attempts"], stored["locked_by"], stored["is_available"]) == (0, None, True)


async def test_who_completes_or_replaces_a_job_just_now_is_not_waited_for_nor_is_the_job_lost(
    tables: Tables,
) -> None:
    completed, replaced = await tables.hold(queue_name="q"), await tables.hold(job_key="k")
    held = [completed, replaced]
    async with tables.database.transaction() as connection:
        assert await held_rows.complete_jobs(connection, ME, [completed]) == {completed.id}
        await connection.execute("select graphile_worker.add_job('a', job_key => 'k')")
        with trio.fail_after(20):
            assert await worker_registry.renew(tables.database, ME, held) == renewal()
    assert await worker_registry.renew(tables.database, ME, held) == renewal(
        lost=[completed], detached=[replaced]
    )


async def test_a_sweeper_of_rust_finds_no_orphans_among_what_is_renewed(tables: Tables) -> None:
    held = [await tables.hold(queue_name="q"), await tables.hold(job_key="k"), await tables.hold()]
    await tables.database.execute("select graphile_worker.remove_job('k')")
    await tables.age_locks("10 minutes")
    orphans = "select worker_id from graphile_worker.list_orphan_locked_workers('5 minutes')"
    assert await tables.database.fetch_value(orphans) == ME
    await worker_registry.renew(tables.database, ME, held)
    assert await tables.database.fetch(orphans) == []


async def test_renewing_writes_no_index(tables: Tables) -> None:
    held = [await tables.hold(queue_name="q"), await tables.hold(job_key="k")]
    await tables.add(job_key="k")
    updates = """
        select sum(n_tup_upd)::integer as updated, sum(n_tup_hot_upd)::integer as hot
        from pg_catalog.pg_stat_xact_user_tables
        where relname in ('_private_jobs', '_private_job_queues')
    """
    async with tables.database.transaction() as connection:
        [before] = await connection.fetch(updates)
        await worker_registry.renew(connection, ME, held)
        [after] = await connection.fetch(updates)
    assert (after["updated"] - before["updated"], after["hot"] - before["hot"]) == (3, 3)


# --- the registry ---------------------------------------------------------------------------------


async def test_workers_register_beat_and_leave(tables: Tables) -> None:
    await worker_registry.heartbeat(tables.database, "plain")
    await worker_registry.heartbeat(tables.database, ME, {"pid": 1, "tasks": ["a"]})
    await tables.database.execute("""
        update graphile_worker._private_workers
        set last_heartbeat_at = now() - interval '90 seconds', started_at = now() - interval '1 day'
    """)
    await worker_registry.heartbeat(tables.database, ME)
    mine, plain = await worker_registry.list_active_workers(tables.database, 60.0)
    assert (mine.worker_id, mine.is_stale, mine.metadata) == (ME, False, {"pid": 1, "tasks": ["a"]})
    assert mine.last_heartbeat_at - mine.started_at >= timedelta(days=1)
    assert (plain.worker_id, plain.is_stale, plain.metadata) == ("plain", True, None)
    assert not any(
        worker.is_stale for worker in await worker_registry.list_active_workers(tables.database, 120.0)
    )
    for _ in range(2):
        await worker_registry.deregister(tables.database, "plain")
    assert await tables.registered() == {ME}


@pytest.mark.parametrize(
    "missing",
    [
        "table graphile_worker._private_workers",
        "function graphile_worker.worker_heartbeat",
        "function graphile_worker.worker_deregister",
    ],
)
async def test_a_schema_that_somebody_else_made_may_have_no_registry(
    connection: Connection, missing: str
) -> None:
    assert await worker_registry.has_registry(connection)
    await connection.execute(f"drop {missing}")
    assert not await worker_registry.has_registry(connection)
    assert await worker_registry.count_workers(connection) == 0


async def test_the_tasks_of_live_workers_are_known_whatever_others_have_in_their_metadata(
    tables: Tables,
) -> None:
    for worker, metadata in [
        ("one", {"tasks": ["a", "b"]}),
        ("two", {"tasks": ["b", None, 1]}),
        ("silent", {"tasks": ["c"]}),
        ("odd", {"tasks": {"d": 1}}),
        ("text", "tasks"),
        ("rust", {"pid": 1}),
        ("none", None),
    ]:
        await worker_registry.heartbeat(tables.database, worker, metadata)
    await tables.database.execute("""
        update graphile_worker._private_workers
        set last_heartbeat_at = now() - interval '1 hour'
        where id = 'silent'
    """)
    assert sorted(await worker_registry.advertised_tasks(tables.database, 300.0)) == ["1", "a", "b"]


# --- who is dead ----------------------------------------------------------------------------------


async def test_a_silent_worker_loses_its_jobs_and_queues_and_a_live_one_does_not(tables: Tables) -> None:
    lost = await tables.hold("silent", queue_name="q")
    kept = await tables.hold("alive", queue_name="r")
    await tables.age_locks("1 hour")
    await tables.beat("silent", "61 seconds")
    await tables.beat("alive", "59 seconds")
    before = await tables.row(kept.id)
    assert await tables.sweep() == SweepReport(worker_ids=("silent",), recovered_jobs=1)
    stored = await tables.row(lost.id)
    assert (stored["attempts"], stored["locked_by"], stored["locked_at"]) == (0, None, None)
    assert stored["last_error"] == "Job recovered after worker interruption"
    assert stored["run_at"] == stored["updated_at"] + timedelta(seconds=30)  # type: ignore[operator]
    assert await tables.row(kept.id) == before
    assert await tables.locked_queues() == {"r": "alive"}
    assert await tables.registered() == {"alive"}
    assert await tables.sweep() == SweepReport()


async def test_a_job_whose_workers_die_again_and_again_uses_its_attempts(tables: Tables) -> None:
    """It may be what kills them. The first two times it may have been in bad company.

    Then it is delayed for up to twice as long as after a failure, so that it parts from its company.
    """
    job = await tables.hold("silent")
    found = []
    delays = []
    for number in range(1, 6):
        await tables.beat("silent", "1 hour")
        await tables.sweep()
        row = await tables.row(job.id)
        waits = (row["run_at"] - row["updated_at"]).total_seconds()  # type: ignore[operator]
        found.append((row["attempts"], str(row["last_error"]).rpartition("interruption")[2]))
        delays.append(waits)
        await tables.database.execute(
            """
            update graphile_worker._private_jobs
            set locked_by = 'silent', locked_at = now(), attempts = attempts + 1, run_at = now()
            where $1::integer < 5
            """,
            number,
        )
    assert found == [
        (0, ""),
        (0, " (2 in a row)"),
        (1, " (3 in a row)"),
        (2, " (4 in a row)"),
        (3, " (5 in a row)"),
    ]
    assert delays[:2] == [30.0, 30.0]
    for attempts, delay in enumerate(delays[2:], start=1):
        assert math.exp(attempts) <= delay + 0.001
        assert delay <= 2 * math.exp(attempts)


async def test_a_job_is_not_blamed_for_workers_that_were_killed_while_they_stopped(tables: Tables) -> None:
    """Neither are they forgotten that died before."""
    job = await tables.hold("silent")
    found = []
    for phase in (*["stopping"] * 3, *["running", "stopping"] * 2, "running"):
        await worker_registry.heartbeat(tables.database, "silent", {"phase": phase})
        await tables.beat("silent", "1 hour")
        await tables.sweep()
        row = await tables.row(job.id)
        found.append((row["attempts"], str(row["last_error"]).rpartition("interruption")[2]))
        await tables.database.execute(
            """
            update graphile_worker._private_jobs
            set locked_by = 'silent', locked_at = now(), attempts = attempts + 1, run_at = now()
            """
        )
    assert found == [
        (0, " (while it stopped)"),
        (0, " (while it stopped)"),
        (0, " (while it stopped)"),
        (0, ""),
        (0, ""),
        (0, " (2 in a row)"),
        (0, " (2 in a row)"),
        (1, " (3 in a row)"),
    ]


async def test_jobs_that_die_together_again_and_again_run_at_different_times(tables: Tables) -> None:
    jobs = [await tables.hold("silent") for _ in range(5)]
    for _ in range(3):
        await tables.beat("silent", "1 hour")
        await tables.database.execute(
            "update graphile_worker._private_jobs set locked_by = 'silent', locked_at = now(), run_at = now()"
        )
        await tables.sweep()
    assert len({(await tables.row(job.id))["run_at"] for job in jobs}) == len(jobs)


async def test_a_short_threshold_takes_nothing_from_a_live_worker_of_rust(tables: Tables) -> None:
    """Those send a heartbeat every half minute, unless told otherwise."""
    job = await tables.hold("graphile_worker_0123", queue_name="q")
    await tables.beat("graphile_worker_0123", "29 seconds")
    assert await tables.sweep(SweepOptions(sweep_threshold=6.0)) == SweepReport()
    assert await tables.locked_by(job.id) == "graphile_worker_0123"


async def test_the_later_of_both_times_and_no_less_than_no_attempt_is_kept(tables: Tables) -> None:
    job = await tables.hold("silent")
    await tables.database.execute(
        "update graphile_worker._private_jobs set attempts = 0, run_at = now() + interval '1 hour'"
    )
    later = (await tables.row(job.id))["run_at"]
    await tables.beat("silent", "1 hour")
    assert (await tables.sweep()).recovered_jobs == 1
    stored = await tables.row(job.id)
    assert (stored["attempts"], stored["run_at"]) == (0, later)


async def test_a_worker_of_node_that_never_registers_keeps_its_jobs_for_hours(tables: Tables) -> None:
    job = await tables.hold("pool-5d1a", queue_name="q")
    await tables.age_locks("10 minutes")
    assert await tables.sweep() == SweepReport()
    assert await tables.locked_by(job.id) == "pool-5d1a"
    await tables.age_locks("3 hours 51 minutes")
    assert await tables.sweep() == SweepReport(worker_ids=("pool-5d1a",), recovered_jobs=1)
    assert await tables.locked_queues() == {}


async def test_a_worker_of_ours_that_is_not_registered_renews_so_an_old_lock_means_that_it_is_gone(
    tables: Tables,
) -> None:
    job = await tables.hold(ME)
    await tables.age_locks("59 seconds")
    assert await tables.sweep() == SweepReport()
    await tables.age_locks("2 seconds")
    assert await tables.sweep() == SweepReport(worker_ids=(ME,), recovered_jobs=1)
    assert await tables.locked_by(job.id) is None


async def test_whoever_has_one_fresh_lock_lives(tables: Tables) -> None:
    old = await tables.hold(ME, queue_name="q")
    await tables.age_locks("1 hour")
    new = await tables.hold(ME)
    assert await tables.sweep() == SweepReport()
    assert await tables.locked_by(old.id) == await tables.locked_by(new.id) == ME


async def test_fractions_of_a_second_count(tables: Tables) -> None:
    job = await tables.hold("orphan")
    await tables.age_locks("10 minutes")
    rules = SweepOptions(sweep_threshold=60.0, orphan_threshold=60.0, recovery_delay=0.75)
    assert (await tables.sweep(rules)).recovered_jobs == 1
    stored = await tables.row(job.id)
    assert stored["run_at"] == stored["updated_at"] + timedelta(seconds=0.75)  # type: ignore[operator]
    await tables.beat("silent", "300 milliseconds")
    assert (await tables.sweep(SweepOptions(sweep_threshold=0.2, foreign_threshold=0.2))).worker_ids == (
        "silent",
    )


@pytest.mark.parametrize("value", ["true", "false"])
async def test_a_worker_with_a_resilient_job_is_given_more_time(tables: Tables, value: str) -> None:
    job = await tables.hold("silent")
    await tables.hold("silent")
    await tables.database.execute(
        "update graphile_worker._private_jobs set flags = $1::text::jsonb where id = $2::bigint",
        f'{{"infrastructure_resilient": {value}}}',
        job.id,
    )
    await tables.beat("silent", "2 minutes")
    assert await tables.sweep() == SweepReport()
    await tables.beat("silent", "4 minutes")
    assert await tables.sweep() == SweepReport(worker_ids=("silent",), recovered_jobs=2)


@pytest.mark.parametrize("flags", [(), ("other",)])
async def test_which_flags_are_resilient_can_be_said(tables: Tables, flags: tuple[str, ...]) -> None:
    await tables.hold("silent", flags=["infrastructure_resilient"])
    await tables.beat("silent", "2 minutes")
    rules = attrs.evolve(RULES, resilient_flags=flags)
    assert (await tables.sweep(rules)).recovered_jobs == 1


async def test_a_queue_that_is_locked_without_a_job_is_freed(tables: Tables) -> None:
    job = await tables.hold("silent", queue_name="q")
    await tables.database.execute("delete from graphile_worker._private_jobs where id = $1::bigint", job.id)
    await tables.age_locks("10 minutes")
    await tables.beat("silent", "10 minutes")
    assert await tables.sweep() == SweepReport(worker_ids=("silent",), recovered_jobs=0)
    assert await tables.locked_queues() == {}


async def test_an_orphaned_queue_alone_betrays_a_dead_worker(tables: Tables) -> None:
    job = await tables.hold(ME, queue_name="q")
    await tables.database.execute("delete from graphile_worker._private_jobs where id = $1::bigint", job.id)
    await tables.age_locks("10 minutes")
    assert await tables.sweep() == SweepReport(worker_ids=(ME,), recovered_jobs=0)
    assert await tables.locked_queues() == {}


async def test_the_registered_dead_are_named_first_and_nobody_twice(tables: Tables) -> None:
    for worker in (ME, "silent", "trio_graphile_b"):
        await tables.hold(worker)
    await tables.age_locks("1 hour")
    await tables.beat("silent", "1 hour")
    await tables.beat("trio_graphile_b", "1 hour")
    await tables.beat("idle", "1 hour")
    report = await tables.sweep()
    assert report == SweepReport(worker_ids=("idle", "silent", "trio_graphile_b", ME), recovered_jobs=3)
    assert await tables.registered() == set()


async def test_a_sweep_can_leave_out_workers_that_are_not_registered(tables: Tables) -> None:
    for worker in (ME, "silent"):
        await tables.hold(worker, queue_name=worker)
    await tables.age_locks("1 hour")
    await tables.beat("silent", "1 hour")
    [job] = await sweeps.jobs_of_dead(tables.database, RULES, orphans=False)
    assert job.locked_by == "silent"
    report = await sweeps.sweep(tables.database, RULES, orphans=False)
    assert report == SweepReport(worker_ids=("silent",), recovered_jobs=1)
    assert await tables.locked_queues() == {ME: ME}


async def test_only_dead_workers_that_are_not_registered_are_orphans(tables: Tables) -> None:
    for worker in ("silent", "pool-5d1a"):
        await tables.hold(worker)
    await tables.age_locks("1 hour")
    await tables.beat("silent", "1 hour")
    assert not await sweeps.has_orphans(tables.database, RULES)  # a job of Node's may take so long
    await tables.hold(ME)
    await tables.age_locks("1 hour", ME)
    before = await tables.dump()
    async with tables.database.transaction() as connection:
        assert await connection.fetch_value(sweeps.TRY_LOCK_SWEEP)
        assert await sweeps.has_orphans(tables.database, RULES)  # it waits for no sweep
    assert await tables.dump() == before


async def test_a_dry_run_finds_the_same_and_writes_nothing(tables: Tables) -> None:
    await tables.hold("silent", queue_name="q")
    await tables.hold(ME)
    await tables.age_locks("1 hour")
    await tables.beat("silent", "1 hour")
    before = await tables.dump()
    assert await tables.sweep(dry_run=True) == SweepReport(worker_ids=("silent", ME), dry_run=True)
    assert await tables.dump() == before
    assert await tables.sweep() == SweepReport(worker_ids=("silent", ME), recovered_jobs=2)


async def test_a_worker_that_was_taken_for_dead_registers_anew(tables: Tables) -> None:
    await tables.beat(ME, "1 hour")
    await tables.database.execute(
        "update graphile_worker._private_workers set started_at = now() - interval '1 day'"
    )
    await tables.sweep()
    await worker_registry.heartbeat(tables.database, ME)
    [worker] = await worker_registry.list_active_workers(tables.database, 60.0)
    assert worker.started_at == worker.last_heartbeat_at


# --- beside others --------------------------------------------------------------------------------


async def test_sweeps_at_the_same_time_recover_a_job_once_in_all(tables: Tables) -> None:
    job = await tables.hold("silent", queue_name="q")
    await tables.database.execute("update graphile_worker._private_jobs set attempts = 5")
    await tables.beat("silent", "1 hour")
    reports: list[SweepReport] = []

    async def sweep() -> None:
        reports.append(await tables.sweep())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(sweep)
    assert sum(report.recovered_jobs for report in reports) == 1
    assert (await tables.row(job.id))["attempts"] == 4


async def test_a_sweep_gives_way_to_another_of_its_schema(tables: Tables) -> None:
    await tables.beat("silent", "1 hour")
    async with tables.database.transaction() as connection:
        assert await connection.fetch_value(sweeps.TRY_LOCK_SWEEP)
        assert await tables.sweep() == SweepReport()
        assert await tables.sweep(dry_run=True) == SweepReport(dry_run=True)
    assert await tables.sweep() == SweepReport(worker_ids=("silent",))


async def test_a_sweep_leaves_the_transaction_of_its_caller_as_it_was(tables: Tables) -> None:
    await tables.beat("silent", "1 hour")
    async with tables.database.transaction() as connection:
        report = await sweeps.sweep(connection, SweepOptions(sweep_threshold=60.0))
        assert report.worker_ids == ("silent",)
        assert await connection.fetch_value("show idle_in_transaction_session_timeout") == "0"


async def test_a_sweep_has_prepared_all_that_it_runs_before_it_locks_anything(tables: Tables) -> None:
    """A sweeper that is suspended between a statement's two halves would keep its locks for good."""
    await tables.beat("silent", "1 hour")
    job = await tables.hold("silent", queue_name="q")
    names = "select array_agg(name order by name) from pg_prepared_statements"
    for run in (sweeps.jobs_of_dead, sweeps.sweep):
        session = await tables.database.open_session("recovery", cancel_timeout=5.0)
        async with sweeps.sweep_transaction(session):
            prepared = await session.fetch_value(names)
        assert await run(session, RULES)
        assert await session.fetch_value(names) == prepared
        await session.aclose()
    assert await tables.locked_by(job.id) is None


async def test_a_sweep_without_prepared_statements_ends_in_time_whoever_was_suspended(
    database_url: str,
) -> None:
    """Each of its statements has two halves, and between them the server waits without a limit."""
    options = DatabaseOptions(prepared_statements=False, statement_timeout=0.25)
    async with open_database(database_url, options) as database:
        if await database.fetch_value("select current_setting('server_version_num')::integer") < 170_000:
            pytest.skip("this server cannot limit a transaction")
        async with sweeps.sweep_transaction(database) as connection:
            limit = "select setting::integer from pg_settings where name = 'transaction_timeout'"
            assert 8 * 5_000 < await connection.fetch_value(limit) <= 11 * 7_500
        assert await sweeps.sweep(database, RULES) == SweepReport()
        async with database.transaction() as callers, sweeps.sweep_transaction(callers):
            assert await callers.fetch_value(limit) == 0


async def test_sweepers_of_rust_and_ours_keep_each_other_out(tables: Tables) -> None:
    rust = "select pg_try_advisory_xact_lock(1196905043, 1398228304)"  # GWRS, SWEP
    await tables.beat("silent", "1 hour")
    async with tables.database.transaction() as connection:
        assert await connection.fetch_value(rust)
        assert await tables.sweep() == SweepReport()
    async with tables.database.transaction() as connection:
        assert await connection.fetch_value(sweeps.TRY_LOCK_SWEEP)
        assert not await tables.database.fetch_value(rust)
    assert (int.from_bytes(b"GWRS"), int.from_bytes(b"SWEP")) == (1196905043, 1398228304)


async def test_sweeps_of_two_schemas_do_not_keep_each_other_out(tables: Tables, database_url: str) -> None:
    name = """it's "odd" $schema$"""
    async with open_database(database_url, DatabaseOptions(schema=name)) as other:
        async with other.connection() as connection:
            await migrate(connection, name)
        assert await worker_registry.has_registry(other)
        await worker_registry.heartbeat(other, "trio_graphile_silent")
        async with tables.database.transaction() as connection:
            assert await connection.fetch_value(sweeps.TRY_LOCK_SWEEP)
            report = await sweeps.sweep(other, SweepOptions(sweep_threshold=1e-6))
        assert report == SweepReport(worker_ids=("trio_graphile_silent",))
        assert await worker_registry.list_active_workers(other, 60.0) == []


async def test_what_somebody_has_locked_just_now_is_neither_waited_for_nor_forgotten(tables: Tables) -> None:
    busy = await tables.hold("silent", queue_name="busy", job_key="k")
    free = await tables.hold("silent", queue_name="free")
    await tables.beat("silent", "1 hour")
    async with tables.database.transaction() as connection:
        await connection.execute(
            "select from graphile_worker._private_jobs where id = $1::bigint for update", busy.id
        )
        with trio.fail_after(20):
            assert await tables.sweep() == SweepReport(worker_ids=("silent",), recovered_jobs=1)
    assert await tables.locked_by(free.id) is None
    assert await tables.locked_by(busy.id) == "silent"
    assert await tables.registered() == {"silent"}
    assert await tables.sweep() == SweepReport(worker_ids=("silent",), recovered_jobs=1)
    assert await tables.registered() == set()


async def test_a_heartbeat_that_is_coming_just_now_is_a_sign_of_life(tables: Tables) -> None:
    job = await tables.hold("slow")
    await tables.beat("slow", "1 hour")
    async with tables.database.transaction() as connection:
        await worker_registry.heartbeat(connection, "slow")
        with trio.fail_after(20):
            assert await tables.sweep() == SweepReport()
    assert await tables.sweep() == SweepReport()
    assert await tables.locked_by(job.id) == "slow"


# --- locks that are too old -----------------------------------------------------------------------


async def test_what_was_locked_for_over_four_hours_is_released_whoever_locked_it(tables: Tables) -> None:
    young = await tables.hold("pool-1", queue_name="young")
    await tables.age_locks("5 minutes")
    old = await tables.hold("pool-2", queue_name="old")
    await tables.age_locks("4 hours 1 minute", "pool-2")
    before = {job.id: await tables.row(job.id) for job in (young, old)}
    report = await stale_locks.reset_stale_locks(tables.database)
    assert (report.jobs, report.queues) == (1, 1)
    assert await tables.row(young.id) == before[young.id]
    stored = await tables.row(old.id)
    changed = {name for name, value in stored.items() if value != before[old.id][name]}
    assert changed == {"locked_by", "locked_at", "run_at", "is_available"}
    assert stored["run_at"] > before[old.id]["run_at"]  # type: ignore[operator]
    assert stored["attempts"] == 1
    assert await tables.locked_queues() == {"young": "pool-1"}
    report = await stale_locks.reset_stale_locks(tables.database)
    assert (report.jobs, report.queues) == (0, 0)


async def test_old_queues_are_released_without_their_job_and_late_jobs_keep_time(
    tables: Tables,
) -> None:
    job = await tables.hold("pool", queue_name="q")
    await tables.age_locks("5 hours")
    await tables.database.execute("""
        update graphile_worker._private_jobs
        set locked_at = now(), run_at = now() + interval '1 day'
    """)
    report = await stale_locks.reset_stale_locks(tables.database)
    assert (report.jobs, report.queues) == (0, 1)
    later = (await tables.row(job.id))["run_at"]
    await tables.age_locks("5 hours")
    assert (await stale_locks.reset_stale_locks(tables.database)).jobs == 1
    assert (await tables.row(job.id))["run_at"] == later


async def test_releasing_an_old_lock_waits_for_nobody_and_revives_nothing(tables: Tables) -> None:
    replaced = await tables.hold("pool", job_key="k")
    await tables.add(job_key="k")
    await tables.age_locks("5 hours")
    async with tables.database.transaction() as connection:
        await connection.execute("select from graphile_worker._private_jobs for update")
        with trio.fail_after(20):
            assert (await stale_locks.reset_stale_locks(tables.database)).jobs == 0
    assert (await stale_locks.reset_stale_locks(tables.database)).jobs == 1
    assert (await tables.row(replaced.id))["is_available"] is False
