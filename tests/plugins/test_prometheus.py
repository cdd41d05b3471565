"""Metrics for Prometheus: a live scrape, read by Prometheus's own parser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import prometheus_client
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asking import send, serving
from tests.support.handlers import Handlers
from tests.support.jobs import make_job
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import NEVER, running
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    LocalQueueOptions,
    ObserverOptions,
    OptionInvalid,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile._worker.job_events import ENDINGS
from trio_graphile.hooks import Hooks, JobCompleted, JobEvent, JobStarted
from trio_graphile.plugins.prometheus import Prometheus

ROOT = Path(__file__).parents[2]


@attrs.frozen
class Scrape:
    """What was scraped."""

    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]
    types: dict[str, str]

    def __getitem__(self, name: str) -> float:
        return self.of(name)

    def of(self, name: str, **labels: str) -> float:
        return self.samples[f"trio_graphile_{name}", tuple(sorted(labels.items()))]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples if name.startswith("trio_graphile_")}


def parse(text: str) -> Scrape:
    families = list(text_string_to_metric_families(text))
    return Scrape(
        {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        },
        {family.name: family.type for family in families},
    )


async def scrape(address: str) -> Scrape:
    answer = await send(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"Content-Type: text/plain; version=" in head
    return parse(body.decode())


@pytest.fixture
def plugin() -> Prometheus:
    return Prometheus(prometheus_client.CollectorRegistry(), backlog_interval=1e-9)


def endings() -> TaskRegistry:
    tasks = TaskRegistry()

    @tasks.task("good")
    async def good() -> None: ...

    @tasks.task("bad")
    async def bad() -> None:
        raise ValueError("no such luck")

    @tasks.task("sleepy")
    async def sleepy() -> None:
        raise Snooze(60)

    return tasks


async def test_a_live_scrape_of_a_worker_at_work(
    database: Database, client: Client, handlers: Handlers, plugin: Prometheus
) -> None:
    options = WorkerOptions(concurrency=2, poll_interval=NEVER, local_queue=LocalQueueOptions(size=2))
    await client.add_raw_jobs([("held", None)] * 5)
    worker = Worker(database, handlers.tasks, options, plugins=[plugin])
    async with serving(plugin.pages()) as address:
        assert (await scrape(address))["worker_up"] == 0
        async with running(worker) as run:
            await handlers.wait_started(2)
            await wait_until(lambda: worker.statistics().held == 2)
            await client.add_raw_jobs([("quick", None, JobSpec(run_at=datetime(2100, 1, 1, tzinfo=UTC)))] * 3)
            seen = await scrape(address)
            assert (seen["worker_up"], seen["worker_ready"], seen["worker_listening"]) == (1, 1, 1)
            assert (seen["slots"], seen["slots_busy"], seen["local_queue_jobs"]) == (2, 2, 2)
            assert seen.of("jobs_started_total", task="held") == 2
            assert seen["jobs_claimed_total"] == 4
            backlog = {
                state: seen.of("backlog_jobs", state=state)
                for state in ("ready", "scheduled", "locked", "failed")
            }
            assert backlog == {"ready": 1, "scheduled": 3, "locked": 4, "failed": 0}
            assert 0 < seen["backlog_oldest_ready_seconds"] < PATIENCE
            assert 0 <= seen["heartbeat_age_seconds"] < PATIENCE
            assert seen["loop_lag_seconds"] >= 0
            handlers.release.set()
            await handlers.wait_ended(5)
            await run.stop()
        seen = await scrape(address)
    assert (seen["worker_up"], seen["slots"]) == (0, 0)
    assert seen.of("jobs_ended_total", task="held", outcome="completed") == 5


async def test_outcomes_that_cannot_be_written_are_seen(
    database: Database, client: Client, handlers: Handlers, plugin: Prometheus
) -> None:
    def scraped() -> Scrape:
        return parse(prometheus_client.generate_latest(plugin.registry).decode())

    await client.add_raw_jobs([("held", None)] * 2)
    worker = Worker(database, handlers.tasks, plugins=[plugin])
    async with running(worker):
        await handlers.wait_started(2)
        assert (scraped()["outcomes_waiting"], scraped()["record_pending_seconds"]) == (0, 0)
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_jobs in exclusive mode")
            handlers.release.set()
            await wait_until(lambda: scraped()["record_pending_seconds"] > 0)
            assert scraped()["outcomes_waiting"] == 2
        await wait_until(lambda: scraped()["outcomes_waiting"] == 0)
        assert scraped()["record_pending_seconds"] == 0


async def test_each_outcome_is_counted_and_measured(database: Database, plugin: Prometheus) -> None:
    await Client(database).add_raw_jobs(
        [("good", None)] * 3 + [("bad", None), ("bad", None, JobSpec(max_attempts=1)), ("sleepy", None)]
    )
    await Worker(database, endings(), plugins=[plugin]).run_once()
    seen = parse(prometheus_client.generate_latest(plugin.registry).decode())
    assert seen.of("jobs_ended_total", task="good", outcome="completed") == 3
    assert seen.of("jobs_ended_total", task="bad", outcome="failed") == 1
    assert seen.of("jobs_ended_total", task="bad", outcome="failed_permanently") == 1
    assert seen.of("jobs_ended_total", task="sleepy", outcome="snoozed") == 1
    assert seen.of("job_run_seconds_count", task="good") == 3
    assert seen.of("job_run_seconds_count", task="bad") == 2
    assert seen.of("job_wait_seconds_count", task="good") == 3
    assert 0 < seen.of("job_wait_seconds_sum", task="good") < PATIENCE
    assert seen.types["trio_graphile_job_run_seconds"] == "histogram"
    assert seen.types["trio_graphile_jobs_ended"] == "counter"


async def test_one_plugin_serves_several_workers(
    database: Database, client: Client, handlers: Handlers, plugin: Prometheus
) -> None:
    options = WorkerOptions(concurrency=2)
    async with (
        running(Worker(database, handlers.tasks, options, plugins=[plugin])),
        running(Worker(database, handlers.tasks, options, plugins=[plugin])),
    ):
        seen = parse(prometheus_client.generate_latest(plugin.registry).decode())
        assert (seen["worker_up"], seen["slots"]) == (2, 4)


async def test_it_may_be_given_to_a_client(database: Database, plugin: Prometheus) -> None:
    await Client(database, plugins=[plugin]).add_raw_job("good")


async def test_dropped_events_are_counted(
    database: Database, client: Client, handlers: Handlers, plugin: Prometheus
) -> None:
    """Also once the worker is gone that has dropped them."""
    go_on, hooks = trio.Event(), Hooks()

    @hooks.on(JobStarted)
    async def waits(_: JobStarted) -> None:
        await go_on.wait()

    options = WorkerOptions(concurrency=1, observers=ObserverOptions(queue_size=1, timeout=600))
    worker = Worker(database, handlers.tasks, options, plugins=[hooks, plugin])
    async with running(worker):
        await client.add_raw_jobs([("quick", None)] * 5)
        await handlers.wait_ended(5)
        await wait_until(lambda: worker.statistics().events_dropped > 0)
        go_on.set()
        dropped = worker.statistics().events_dropped
    seen = parse(prometheus_client.generate_latest(plugin.registry).decode())
    assert seen["events_dropped_total"] >= dropped


async def test_a_backlog_that_cannot_be_counted_is_left_out(
    database: Database, handlers: Handlers, plugin: Prometheus, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(database, handlers.tasks, WorkerOptions(poll_interval=NEVER), plugins=[plugin])
    async with serving(plugin.pages()) as address, running(worker):
        assert "trio_graphile_backlog_jobs" in (await scrape(address)).names
        await wait_until(lambda: worker.statistics().claim_age is not None)  # and no other is made
        await database.execute("alter table graphile_worker._private_jobs rename column is_available to gone")
        assert "trio_graphile_backlog_jobs" not in (await scrape(address)).names
        await database.execute("alter table graphile_worker._private_jobs rename column gone to is_available")
    assert "the backlog could not be counted" in caplog.text


async def test_the_backlog_is_not_counted_at_each_scrape(database: Database, handlers: Handlers) -> None:
    plugin = Prometheus(prometheus_client.CollectorRegistry(), backlog_interval=3600)
    async with running(Worker(database, handlers.tasks, plugins=[plugin])):
        await plugin.refresh()
        first = plugin.backlog
        await plugin.refresh()
        assert plugin.backlog is first is not None
    never = Prometheus(prometheus_client.CollectorRegistry(), backlog_interval=None)
    async with running(Worker(database, handlers.tasks, plugins=[never])):
        await never.refresh()
        assert never.backlog is None


@pytest.mark.parametrize("interval", ["15", float("nan"), True, -1])
def test_what_is_no_interval_is_refused(interval: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^backlog_interval: seconds from 0 to \d+ are needed, not "):
        Prometheus(prometheus_client.CollectorRegistry(), backlog_interval=interval)


async def test_nothing_else_is_observed_than_what_is_counted(database: Database, plugin: Prometheus) -> None:
    worker = Worker(database, TaskRegistry(), plugins=[plugin])
    assert worker._hooks.entries
    assert {hook.event for hook in worker._hooks.entries} >= {JobStarted, JobCompleted}


async def test_the_dashboard_and_the_alarms_ask_for_metrics_that_there_are(
    database: Database, client: Client, handlers: Handlers, plugin: Prometheus
) -> None:
    """Every name in them, and with labels that it has."""
    await client.add_raw_job("quick")
    async with running(Worker(database, handlers.tasks, plugins=[plugin])):
        await handlers.wait_ended(1)
        async with serving(plugin.pages()) as address:
            await wait_until(lambda: _ended(plugin) == 1)
            seen = await scrape(address)
    declared = prometheus_client.generate_latest(plugin.registry).decode()
    names = set(re.findall(r"^# TYPE (trio_graphile_\w+)", declared, re.MULTILINE)) | seen.names
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    alarms = (ROOT / "docs" / "operations" / "alerts.yml").read_text()
    expressions += re.findall(r"(?s)expr: (.+?)\n +(?:for|labels):", alarms)
    asked = {name for expression in expressions for name in re.findall(r"trio_graphile_\w+", expression)}
    histograms = {f"{name}{end}" for name in names for end in ("_bucket", "_count", "_sum", "_total")}
    assert asked <= names | histograms, asked - names - histograms
    assert len(asked) > 15
    labels = {label for _, pairs in seen.samples for label, _ in pairs} | {"entry", "instance"}
    used = {
        label.strip()
        for expression in expressions
        for group in re.findall(r"by \(([^)]*)\)", expression)
        for label in group.split(",")
    }
    assert used <= labels


def _ended(plugin: Prometheus) -> float:
    return (
        plugin.registry.get_sample_value(
            "trio_graphile_jobs_ended_total", {"task": "quick", "outcome": "completed"}
        )
        or 0.0
    )


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("opentelemetry", "opentelemetry", "opentelemetry")],
)
def test_a_missing_extra_is_named(module: str, package: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
import trio_graphile, trio_graphile.plugins.logging, trio_graphile.plugins.pages
from trio_graphile import Worker
try:
    import trio_graphile.plugins.{module}
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'trio-graphile[{extra}]'" in run.stdout


def test_nobody_pays_for_what_is_not_used() -> None:
    program = """
import sys
from trio_graphile import Worker, Client
import trio_graphile.hooks
unwanted = ("prometheus", "opentelemetry", "trio_graphile.plugins")
print(*[name for name in sys.modules if name.startswith(unwanted)])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


@pytest.mark.parametrize("ending", [event for event in ENDINGS if issubclass(event, JobEvent)])
async def test_each_way_in_which_a_run_ends_is_counted(
    database: Database, plugin: Prometheus, ending: Any
) -> None:
    hooks = Hooks(worker=Worker(database, TaskRegistry()))
    plugin.register(hooks)
    [count] = [hook.function for hook in hooks.entries if hook.event is ending]
    facts = {
        "worker_id": "w",
        "job": make_job(1),
        "error": "no",
        "reason": None,
        "delay": 1.0,
        "duration": 1.0,
    }
    count(ending(**{name: facts.get(name) for name in attrs.fields_dict(ending)}))
    text = prometheus_client.generate_latest(plugin.registry).decode()
    counted = [
        value for (name, _), value in parse(text).samples.items() if name == "trio_graphile_jobs_ended_total"
    ]
    assert counted == [1]
