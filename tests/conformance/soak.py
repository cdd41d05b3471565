"""All kinds of workers on one queue, which are stopped, killed and started again at random."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import attrs
import trio

from tests.conformance.programs import PATIENCE, Peer
from tests.conformance.stage import Run, Stage

QUEUES = ("red", "green", "blue", None)
LEASE = 6.0
"""For how many seconds a dead worker that was registered keeps its jobs."""
OPTIONS: dict[str, dict[str, Any]] = {
    "ours": {"batch": 3, "threshold": LEASE, "sweep": 1.0},
    "rust": {"heartbeat": 0.3, "sweep": 3600.0},
    "node18": {"batch": 3},
    "node17": {},
}
"""Ours sweeps, and leaves Node's workers alone. Rust's sweep would take those for dead that live."""
_ENDINGS = ("stop", "stop", "kill")
_SETTLING = 60.0


@attrs.define(eq=False)
class Soak:
    """Who was there, and what became of them."""

    stage: Stage
    random: random.Random
    killed: set[str] = attrs.field(factory=set)
    """The ids of the workers that were killed."""
    endings: Counter[str] = attrs.field(factory=Counter)
    jobs: dict[int, bool] = attrs.field(factory=dict)
    """The jobs that were added, and whether each is to fail."""
    _over: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, kinds: tuple[str, ...], seconds: float) -> None:
        """Have it all go on for so long, and then wait until nothing is left to do."""
        adder = [await self.stage.peer(kind) for kind in kinds]
        async with trio.open_nursery() as nursery:
            for kind in kinds:
                nursery.start_soon(self._live, kind)
            with trio.move_on_after(seconds):
                await self._add_forever(adder)
            self._over.set()
        last = await self.stage.peer("ours")
        await last.ask("work", **OPTIONS["ours"])
        await self.stage.wait_settled(sum(self.jobs.values()), patience=_SETTLING)

    async def _add_forever(self, peers: list[Peer]) -> None:
        while True:
            queue, fails = self.random.choice(QUEUES), self.random.random() < 0.1
            payload: dict[str, Any] = {"queue": queue, "seconds": self.random.random() / 30}
            if fails:
                payload["error"] = "no luck"
            with trio.fail_after(PATIENCE, shield=True):  # else it is added and we do not know
                job_id = await self.random.choice(peers).add(
                    payload, queue_name=queue, max_attempts=1 if fails else 25
                )
            self.jobs[job_id] = fails
            await trio.sleep(self.random.random() / 30)

    async def _live(self, kind: str) -> None:
        """Be a worker, one life after the other."""
        while not self._over.is_set():
            peer, worker_ids = await self.stage.mortal(kind), set()
            ending = "stop"
            while ending == "stop" and not self._over.is_set():
                worker_ids.add(await peer.ask("work", concurrency=3, **OPTIONS[kind]))
                await trio.sleep(self.random.uniform(0.5, 3.0))
                ending = self.random.choice(_ENDINGS)
                self.endings[f"{kind}: {ending}"] += 1
                if ending == "stop":
                    await peer.ask("stop")
            if ending == "kill":
                await self._kill(peer, worker_ids)

    async def _kill(self, peer: Peer, worker_ids: set[str]) -> None:
        """Kill a worker; of Node's, whom nobody misses for four hours, give back the jobs at once."""
        await trio.to_thread.run_sync(peer.program.kill)
        self.killed |= worker_ids
        if peer.kind.startswith("node"):
            await self.stage.database.execute(
                "select graphile_worker.recover_dead_worker_jobs($1::text[], interval '0')", list(worker_ids)
            )

    async def violations(self) -> list[str]:
        """Say what must not have been."""
        by_job: defaultdict[int, list[Run]] = defaultdict(list)
        for run in await self.stage.runs():
            by_job[run.job_id].append(run)
        found = [f"job {job_id} was never run" for job_id in self.jobs.keys() - by_job.keys()]
        for job_id, runs in by_job.items():
            if not self.jobs[job_id] and not any(run.finished for run in runs):
                found.append(f"job {job_id} never ended: {runs}")
            if any(run.worker_id not in self.killed for run in runs[:-1]):
                found.append(f"job {job_id} was run again though nobody had died: {runs}")
        if overlapping := await self.stage.overlapping():
            found.append(f"{overlapping} runs began while another one of their queue went on")
        return found
