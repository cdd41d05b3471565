"""Answers on a Unix socket as the programs for Node and Rust do: a line of JSON for a line of JSON.

Each connection has a database, and one worker at most.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import attrs
import trio

from trio_graphile import (
    Client,
    Database,
    GraphileError,
    JobContext,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
    parse_crontab,
)


def handlers_noting_in(direct: Database) -> TaskRegistry:
    tasks = TaskRegistry()

    async def begin(context: JobContext, payload: Any) -> int:
        statement = """
            insert into runs (job_id, side, worker_id, payload)
            values ($1::bigint, 'ours', $2::text, $3::text::json)
            returning id
        """
        told = context.job.id, context.worker_id, json.dumps(payload)
        run: int = await direct.fetch_value(statement, *told)
        return run

    async def end(run: int) -> None:
        await direct.execute("update runs set finished_at = clock_timestamp() where id = $1::integer", run)

    @tasks.task("act")
    async def act(payload: Any, context: JobContext) -> None:
        run, told = await begin(context, payload), payload if isinstance(payload, dict) else {}
        if told.get("held"):
            await direct.execute("select pg_advisory_xact_lock_shared(1)")
        await direct.execute("select pg_sleep($1::float8)", told.get("seconds", 0))
        if "error" in told:
            raise ValueError(told["error"])
        await end(run)

    @tasks.batch_task("each")
    async def each(items: list[Any], context: JobContext) -> Sequence[BaseException | None]:
        await end(await begin(context, items))
        return [ValueError(item["error"]) if "error" in item else None for item in items]

    return tasks


@attrs.define
class Conversation:
    """What one connection asks for."""

    nursery: trio.Nursery
    stack: contextlib.AsyncExitStack
    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    database: Database = attrs.field(init=False)
    worker: Worker | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def open(self, url: str, direct_url: str) -> None:
        self.tasks = handlers_noting_in(await self.stack.enter_async_context(open_database(direct_url)))
        self.database = await self.stack.enter_async_context(open_database(url))

    @property
    def client(self) -> Client:
        return Client(self.database)

    async def migrate(self) -> None:
        await self.client.migrate()

    async def add(self, identifier: str, payload: Any, spec: dict[str, Any]) -> int:
        if "run_at" in spec:
            spec = {**spec, "run_at": datetime.fromisoformat(spec["run_at"])}
        return (await self.client.add_raw_job(identifier, payload, JobSpec(**spec))).id

    async def complete(self, ids: list[int]) -> list[int]:
        return [job.id for job in (await self.client.complete_jobs(ids)).jobs]

    async def fail(self, ids: list[int], reason: str) -> list[int]:
        return [job.id for job in (await self.client.permanently_fail_jobs(ids, reason)).jobs]

    async def reschedule(self, ids: list[int], change: dict[str, Any]) -> list[int]:
        if "run_at" in change:
            change = {**change, "run_at": datetime.fromisoformat(change["run_at"])}
        return [job.id for job in (await self.client.reschedule_jobs(ids, **change)).jobs]

    async def remove(self, key: str) -> None:
        await self.client.remove_job(key)

    async def unlock(self, worker_ids: list[str]) -> None:
        await self.client.force_unlock_workers(worker_ids)

    async def cancel(self, ids: list[int]) -> None:
        await self.client.cancel_jobs(ids)

    async def once(self, **options: Any) -> None:
        await self._make_worker(**options).run_once()

    async def work(self, **options: Any) -> str:
        self.worker, self.ended = self._make_worker(**options), trio.Event()
        await self.nursery.start(self._run, self.worker, self.ended)
        return self.worker.worker_id

    async def _run(self, worker: Worker, ended: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await worker.run(task_status=task_status)
        except GraphileError:
            traceback.print_exc()  # it is no other conversation's concern
        finally:
            ended.set()

    def _make_worker(
        self,
        *,
        concurrency: int = 1,
        poll: float = 0.1,
        batch: int = 0,
        crontab: str = "",
        threshold: float = 300.0,
        orphan_threshold: float = 14_400.0,
        sweep: float = 60.0,
        grace: float = 25.0,
        **options: Any,
    ) -> Worker:
        options.pop("heartbeat", None)  # which follows from the threshold
        return Worker(
            self.database,
            self.tasks,
            WorkerOptions(
                concurrency=concurrency,
                poll_interval=poll,
                local_queue=LocalQueueOptions(size=batch),
                lease=LeaseOptions(length=threshold),
                recovery=RecoveryOptions(
                    sweep_threshold=threshold,
                    foreign_threshold=threshold,
                    orphan_threshold=orphan_threshold,
                    sweep_interval=sweep,
                    reset_interval=0.1 if options.pop("reset", False) else 540.0,
                    recovery_delay=0.0,
                ),
                shutdown=ShutdownOptions(grace_period=grace),
                **options,
            ),
            crontab=parse_crontab(crontab),
        )

    async def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            await self.ended.wait()
            self.worker = None

    async def close(self) -> None:
        await self.stop()

    async def halt(self) -> None:
        if self.worker is not None:
            self.worker.cancel()
            await self.ended.wait()


async def read_lines(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    buffered = b""
    async for chunk in stream:
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            yield line


async def converse(stream: trio.SocketStream) -> None:
    async with stream, trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        conversation = Conversation(nursery, stack)
        with contextlib.suppress(trio.BrokenResourceError):
            async for line in read_lines(stream):
                told = json.loads(line)
                try:
                    answer = {"value": await getattr(conversation, told.pop("do"))(**told)}
                except Exception:  # noqa: BLE001  # the other side is told
                    answer = {"error": traceback.format_exc()}
                await stream.send_all(json.dumps(answer).encode() + b"\n")
        await conversation.halt()


async def serve(path: str) -> None:
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(path)
    listening.listen()
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await trio.serve_listeners(converse, [trio.SocketListener(listening)])


if __name__ == "__main__":
    trio.run(partial(serve, sys.argv[1]))
