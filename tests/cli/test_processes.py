"""`run --processes N`: several workers under one supervisor, and what is left when one of them is killed."""

from __future__ import annotations

import os
import re
import signal
from functools import partial

import pytest

from tests.cli.program import Program, Running
from tests.support.processes import children_of
from tests.support.tables import locks
from trio_graphile import Client, Database, open_database
from trio_graphile.cli._supervisor import Ended, exit_code_of, may_restart
from trio_graphile.embedded import embedded_postgres

LEFT = "select id, attempts, last_error from graphile_worker.jobs order by id"
TWO = ("run", "shop:tasks", "--processes", "2", "--concurrency", "2")


async def started(running: Running, count: int = 2) -> None:
    """Wait until so many workers have started, those of before counted."""
    await running.wait_until(partial(has, "schema graphile_worker\n", count))


def has(text: str, count: int, output: str) -> bool:
    return output.count(text) >= count


def pids(output: str, what: str) -> list[int]:
    return [int(pid) for pid in re.findall(rf"{what} runs in (\d+)", output)]


async def test_workers_run_side_by_side_and_stop_together(shop: Program, database: Database) -> None:
    await Client(database).add_raw_jobs([("wait", name) for name in "abcd"])
    async with shop.running(*TWO) as running:
        await running.wait_until(lambda output: len(pids(output, "[abcd]")) == 4)
        assert len(set(pids(running.output, "[abcd]"))) == 2
        running.send(signal.SIGTERM)
        shop.write("go", "")
        assert await running.wait_ended() == 0
    assert running.output.count("2 completed, 0 failed, 0 given back") == 2
    assert not await locks(database)


async def test_the_second_signal_cancels(shop: Program, database: Database) -> None:
    await Client(database).add_raw_jobs([("resist", None)] * 4)
    async with shop.running(*TWO) as running:
        await running.wait_until(lambda output: output.count("resist runs") == 4)
        running.send(signal.SIGINT)
        await running.wait_until(lambda output: output.count("resist goes on") == 4)
        running.send(signal.SIGINT)
        assert await running.wait_ended() == 0
    assert running.output.count("2 given back") == 2
    assert [row["attempts"] for row in await database.fetch(LEFT)] == [0] * 4
    assert not await locks(database)


async def test_what_a_killed_worker_held_runs_again_at_once(shop: Program, database: Database) -> None:
    """Nothing is lost and no lease is waited for: the supervisor saw the worker die."""
    await Client(database).add_raw_jobs([("wait", name) for name in "abcd"])
    async with shop.running(*TWO) as running:
        await running.wait_until(lambda output: len(pids(output, "[abcd]")) == 4)
        os.kill(pids(running.output, "[abcd]")[0], signal.SIGKILL)
        await running.wait_for("was killed by SIGKILL; it is started again in ")
        assert "left 2 jobs locked: now given back" in running.output
        shop.write("go", "")
        await running.wait_until(lambda output: all(f"{name} ends" in output for name in "abcd"))
        await started(running, 3)
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert set(re.findall(r"attempt (\d+)", running.output)) == {"1"}
    assert await database.fetch(LEFT) == []
    assert not await locks(database)


async def test_under_load_nothing_is_lost_when_workers_are_killed_again_and_again(
    shop: Program, database: Database
) -> None:
    rounds, count = 3, 300
    client = Client(database)
    async with shop.running(*TWO, "--local-queue.size", "10") as running:
        for round_ in range(rounds):
            await started(running, 2 + round_)
            names = [f"{round_}-{number}." for number in range(count)]
            await client.add_raw_jobs([("greet", name) for name in names])
            await running.wait_until(partial(has, f"greeted {round_}-", 20))
            os.kill(children_of(running.pid)[0], signal.SIGKILL)
            await running.wait_until(partial(has, "was killed by", round_ + 1))
        await running.wait_until(lambda output: len(set(re.findall(r"\d+-\d+\.", output))) == rounds * count)
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert not await locks(database)
    # What had ended and could not be recorded runs twice: the last of it now.
    assert (await shop.run("run", "shop:tasks", "--once")).exit_code == 0
    assert await database.fetch(LEFT) == []
    assert not await locks(database)


async def test_without_their_supervisor_workers_stop_by_themselves(shop: Program, database: Database) -> None:
    await Client(database).add_raw_jobs([("obey", None)] * 4)
    async with shop.running(*TWO) as running:
        await running.wait_until(lambda output: output.count("obey runs") == 4)
        running.send(signal.SIGKILL)
        assert await running.wait_ended() == -signal.SIGKILL  # reads on until the last worker is gone
    assert running.output.count("obey ends") == 4
    assert running.output.count("2 completed, 0 failed, 0 given back") == 2
    assert await database.fetch(LEFT) == []
    assert not await locks(database)


async def test_when_their_supervisor_is_killed_under_load_nothing_is_lost(
    shop: Program, database: Database
) -> None:
    count = 3000
    await Client(database).add_raw_jobs([("greet", f"{number}.") for number in range(count)])
    async with shop.running(*TWO, "--local-queue.size", "50") as running:
        await running.wait_until(partial(has, "greeted", 200))
        running.send(signal.SIGKILL)
        assert await running.wait_ended() == -signal.SIGKILL
    left = await database.fetch(LEFT)
    assert len(set(re.findall(r"greeted (\d+)\.", running.output))) + len(left) == count
    assert {(row["attempts"], row["last_error"]) for row in left} <= {(0, None)}
    assert not await locks(database)


async def test_what_cannot_be_recorded_is_said_and_no_success(shop: Program) -> None:
    """The server is gone when the workers stop: each names its jobs, and so does the exit code."""
    async with embedded_postgres() as server:
        program = shop.with_environment(DATABASE_URL=server.url)
        async with open_database(server.url) as database:
            await Client(database).migrate()
            await Client(database).add_raw_jobs([("resist", None)] * 4)
        async with program.running(*TWO, "--grace-period", "0", "--flush-timeout", "0.5") as running:
            await running.wait_until(partial(has, "resist runs", 4))
            await server.kill()
            running.send(signal.SIGTERM)
            assert await running.wait_ended() == 1
    assert running.output.count("not all was recorded: ") == 2
    assert running.output.count("stay locked until its lease ends: cannot reach PostgreSQL") == 2


async def test_a_worker_that_does_not_end_in_time_is_killed(shop: Program, database: Database) -> None:
    [job] = await Client(database).add_raw_jobs([("block", None)])
    async with shop.running(*TWO, "--grace-period", "0", "--flush-timeout", "0.5") as running:
        await started(running)
        await running.wait_for("block runs in ")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 1
    assert "has not ended in time, and is killed" in running.output
    assert "left 1 job locked: now given back" in running.output
    assert "trio-graphile: not all workers ended well (exit code 1): see above" in running.output
    [left] = await database.fetch(LEFT)
    assert (left["id"], left["attempts"]) == (job.id, 0)
    assert not await locks(database)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (("shop:nothing",), 2, "shop:nothing does not exist; did you mean shop:tasks"),
        (("shop:tasks", "--database-url", "postgresql://127.0.0.1:1/x"), 1, "cannot reach PostgreSQL"),
    ],
)
async def test_what_can_never_start_is_not_tried_again(
    shop: Program, arguments: tuple[str, ...], exit_code: int, text: str
) -> None:
    async with shop.running("run", *arguments, "--processes", "2") as running:
        assert await running.wait_ended() == exit_code
    assert text in running.output
    assert "started again" not in running.output


async def test_several_can_share_an_embedded_server_and_drain_it(program: Program) -> None:
    ended = await program.run("run", "shop:tasks", "--embedded", "--once", "--processes", "2")
    assert (ended.exit_code, ended.errors) == (0, "")
    assert ended.output.count("0 completed") == 2


async def test_reload_starts_anew_when_a_file_has_changed(shop: Program, database: Database) -> None:
    """Also after a change that cannot be imported."""
    source = (shop.folder / "shop.py").read_text()
    async with shop.running("run", "shop:tasks", "--reload") as running:
        await started(running, 1)
        shop.write("shop.py", "def")
        await running.wait_for("it is started again when files have changed")
        shop.write("shop.py", source.replace("greeted", "said hello to"))
        await started(running, 2)
        await Client(database).add_raw_job("greet", "ada")
        await running.wait_for("said hello to ada")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "SyntaxError" in running.output


def test_only_what_may_help_is_started_again() -> None:
    assert may_restart(Ended(-9, was_ready=True, seconds=1), has_been_ready=False)
    assert may_restart(Ended(1, was_ready=False, seconds=1), has_been_ready=True)
    assert not may_restart(Ended(1, was_ready=False, seconds=1), has_been_ready=False)
    for final in (0, 2, 57):
        assert not may_restart(Ended(final, was_ready=True, seconds=1), has_been_ready=True)


def test_the_exit_code_is_0_only_if_all_ended_well() -> None:
    assert exit_code_of([]) == exit_code_of([0, 0]) == 0
    assert exit_code_of([0, 1]) == exit_code_of([0, -9]) == 1
    assert exit_code_of([1, 57]) == 57
