"""Traces: spans around what is added and what runs, connected across programs and languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.scenarios.tempers import PROCESS_TASKS
from tests.support.handlers import Handlers
from tests.support.jobs import make_job
from tests.support.signals import SIGNALS
from tests.support.tables import payloads
from tests.support.tempers import add_endings
from tests.support.workers import SOON, running
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    OptionInvalid,
    PermanentFailure,
    RetryAfter,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.hooks import Hooks, JobRun
from trio_graphile.plugins.opentelemetry import Connect, OpenTelemetry, remote_contexts

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RUST_SHAPED = {"trace_id": TRACE_ID, "span_id": SPAN_ID, "flags": 1}


@attrs.define(eq=False)
class Telescope:
    """What is exported, in memory."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    provider: TracerProvider = attrs.field(init=False)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    def plugin(self, connect: Connect = "link") -> OpenTelemetry:
        return OpenTelemetry(self.provider, self.meters, connect=connect)

    def spans(self, kind: SpanKind | None = None) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if kind in (None, span.kind)]

    def points(self, name: str) -> list[Any]:
        found: list[Any] = []
        read = self.reader.get_metrics_data()
        for resource in read.resource_metrics if read is not None else []:
            for scope in resource.scope_metrics:
                found += [
                    point for each in scope.metrics if each.name == name for point in each.data.data_points
                ]
        return found


@pytest.fixture
def telescope() -> Iterator[Telescope]:
    telescope = Telescope()
    yield telescope
    telescope.meters.shutdown()


@attrs.define(eq=False)
class Watched:
    """Tasks whose handlers note what they see."""

    tasks: TaskRegistry = attrs.field(factory=TaskRegistry)
    payloads: list[object] = attrs.field(factory=list)
    spans: list[int] = attrs.field(factory=list)
    carried: list[object] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        add_endings(self.tasks)

        @self.tasks.task("greet")
        async def greet(payload: Greeting) -> None:
            self._note(payload)

        @self.tasks.task("threaded")
        def threaded(payload: Greeting) -> None:
            self._note(payload)

        @self.tasks.task("bad")
        async def bad() -> None:
            raise ValueError("no such luck")

        @self.tasks.batch_task("batch")
        async def batch(items: list[Greeting]) -> list[BaseException | None]:
            self.payloads.append(items)
            return [None for _ in items]

        @self.tasks.batch_task("half")
        async def half(items: list[int]) -> list[BaseException | None]:
            return [None if item else ValueError("zero") for item in items]

        @self.tasks.task("parent")
        async def parent(context: JobContext) -> None:
            self._note(None)
            await context.client.add_raw_job("greet", {"to": "grace"}, JobSpec(priority=1))

    def _note(self, payload: object) -> None:
        self.payloads.append(payload)
        self.spans.append(trace.get_current_span().get_span_context().span_id)
        self.carried.append(baggage.get_baggage("customer"))


@attrs.frozen
class Greeting:
    to: str


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def decoded_payloads(database: Database) -> list[Any]:
    return [json.loads(payload) for payload in await payloads(database)]


def hex_of(context: trace.SpanContext | None) -> tuple[str, str]:
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def mark_of(span: ReadableSpan) -> dict[str, object]:
    """Return what a Rust program would write for a span."""
    assert span.context is not None
    trace_id, span_id = hex_of(span.context)
    return {"trace_id": trace_id, "span_id": span_id, "flags": int(span.context.trace_flags)}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- adding -------------------------------------------------------------------------------------


async def test_what_is_written_is_what_rust_writes(
    database: Database, watched: Watched, telescope: Telescope
) -> None:
    client = Client(database, watched.tasks, plugins=[telescope.plugin()])
    await client.add_job(watched.tasks["greet"], Greeting("ada"))
    [span] = telescope.spans()
    assert await decoded_payloads(database) == [{"to": "ada", "_trace": mark_of(span)}]
    assert (span.name, span.kind) == ("add_job greet", SpanKind.PRODUCER)
    assert attributes(span) == {
        "messaging.system": "graphile-worker",
        "messaging.operation.name": "add_job",
        "messaging.operation.type": "send",
        "messaging.destination.name": "greet",
    }


@pytest.mark.parametrize(
    ("payload", "marked"),
    [
        ({}, {"_trace"}),
        ({"_trace": "old", "a": 1}, {"_trace"}),
        ([{"a": 1}, 2, {"b": 3}], {0, 2}),
        ([1, 2], set()),
        ("text", set()),
        (7, set()),
        ([], set()),
    ],
)
async def test_objects_and_the_objects_of_an_array_are_marked(
    database: Database, telescope: Telescope, payload: Any, marked: set[object]
) -> None:
    await Client(database, plugins=[telescope.plugin()]).add_raw_job("a", payload)
    [found] = await decoded_payloads(database)
    mark = mark_of(telescope.spans()[0])
    if isinstance(payload, dict):
        assert found == {**payload, "_trace": mark}
    elif isinstance(payload, list):
        assert found == [{**item, "_trace": mark} if n in marked else item for n, item in enumerate(payload)]
    else:
        assert found == payload


async def test_each_job_of_many_is_marked_with_one_span(database: Database, telescope: Telescope) -> None:
    client = Client(database, plugins=[telescope.plugin()])
    await client.add_raw_jobs([("a", {}), ("a", {"b": 1})])
    await client.add_raw_jobs([("a", {}), ("b", {})])
    alike, mixed = telescope.spans()
    assert [payload["_trace"]["span_id"] for payload in await decoded_payloads(database)] == [
        *[mark_of(alike)["span_id"]] * 2,
        *[mark_of(mixed)["span_id"]] * 2,
    ]
    assert attributes(alike)["messaging.batch.message_count"] == 2
    assert attributes(alike)["messaging.destination.name"] == "a"
    assert "messaging.destination.name" not in attributes(mixed)
    assert mixed.name == "add_jobs"


async def test_without_an_sdk_payloads_stay_as_they_are(database: Database) -> None:
    await Client(database, plugins=[OpenTelemetry(trace.NoOpTracerProvider())]).add_raw_job("a", {"b": 1})
    assert await decoded_payloads(database) == [{"b": 1}]


async def test_what_fails_to_be_added_is_an_error(database: Database, telescope: Telescope) -> None:
    client = Client(database, plugins=[telescope.plugin()])
    await database.execute("drop schema graphile_worker cascade")
    with pytest.raises(Exception, match="missing"):
        await client.add_raw_job("a")
    [span] = telescope.spans()
    assert span.status.status_code is StatusCode.ERROR


# --- running ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["greet", "threaded"])
async def test_a_run_links_to_where_its_job_was_added(
    database: Database, watched: Watched, telescope: Telescope, task: str
) -> None:
    plugin = telescope.plugin()
    client = Client(database, watched.tasks, plugins=[plugin])
    job = await client.add_job(watched.tasks[task], Greeting("ada"), JobSpec(queue_name="q"))
    await Worker(database, watched.tasks, plugins=[plugin]).run_once()
    [added], [run] = telescope.spans(SpanKind.PRODUCER), telescope.spans(SpanKind.CONSUMER)
    [link] = run.links
    assert hex_of(link.context) == hex_of(added.context)
    assert link.context.is_remote
    assert run.context is not None
    assert added.context is not None
    assert run.context.trace_id != added.context.trace_id
    assert run.parent is None
    assert watched.payloads == [Greeting("ada")], "the handler does not see the trace"
    assert watched.spans == [run.context.span_id], "but is in the span, in whatever thread"
    assert (run.name, run.status.status_code) == (task, StatusCode.UNSET)
    assert attributes(run) == {
        "messaging.system": "graphile-worker",
        "messaging.operation.name": "run_job",
        "messaging.operation.type": "process",
        "messaging.destination.name": task,
        "messaging.message.id": str(job.id),
        "trio_graphile.attempt": 1,
        "trio_graphile.queue": "q",
    }


async def test_or_is_part_of_that_trace(database: Database, watched: Watched, telescope: Telescope) -> None:
    plugin = telescope.plugin("parent")
    await Client(database, watched.tasks, plugins=[plugin]).add_job(watched.tasks["greet"], Greeting("ada"))
    await Worker(database, watched.tasks, plugins=[plugin]).run_once()
    [added], [run] = telescope.spans(SpanKind.PRODUCER), telescope.spans(SpanKind.CONSUMER)
    assert run.parent is not None
    assert added.context is not None
    assert (run.parent.trace_id, run.parent.span_id) == (added.context.trace_id, added.context.span_id)
    assert run.links == ()


@pytest.mark.parametrize(
    ("payload", "linked"),
    [
        ({"_trace": RUST_SHAPED}, True),
        ({"_trace": {**RUST_SHAPED, "trace_id": TRACE_ID.upper()}}, True),
        ({"_trace": {"trace_id": TRACE_ID, "span_id": SPAN_ID}}, True),
        ({"_trace": {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}}, True),
        ([{"a": 1, "_trace": RUST_SHAPED}, {"_trace": RUST_SHAPED}, 3], True),
        ({}, False),
        ({"_trace": None}, False),
        ({"_trace": TRACE_ID}, False),
        ({"_trace": {"trace_id": TRACE_ID}}, False),
        ({"_trace": {**RUST_SHAPED, "trace_id": "0" * 32}}, False),
        ({"_trace": {**RUST_SHAPED, "span_id": "0" * 16}}, False),
        ({"_trace": {**RUST_SHAPED, "trace_id": "x" * 32}}, False),
        ({"_trace": {**RUST_SHAPED, "trace_id": TRACE_ID[:-1]}}, False),
        ({"_trace": {**RUST_SHAPED, "span_id": 7}}, False),
        ({"_trace": {**RUST_SHAPED, "flags": "many"}}, True),
        ({"text": '"_trace"'}, False),
    ],
)
def test_what_other_programs_write_is_read_and_what_is_malformed_ignored(payload: Any, linked: bool) -> None:  # noqa: FBT001  # a column of the table
    found = [
        trace.get_current_span(each).get_span_context()
        for each in remote_contexts(make_job(1, payload_json=json.dumps(payload)))
    ]
    assert [(f"{each.trace_id:032x}", f"{each.span_id:016x}", each.is_remote) for each in found] == (
        [(TRACE_ID, SPAN_ID, True)] if linked else []
    )


async def test_a_payload_that_rust_or_node_wrote_is_linked(
    database: Database, watched: Watched, telescope: Telescope
) -> None:
    """Added as any other program adds it: by SQL, with the mark of a Rust program in it."""
    await database.execute(
        "select graphile_worker.add_job('greet', $1::text::json)",
        json.dumps({"to": "ada", "_trace": RUST_SHAPED}),
    )
    await database.execute(
        "select graphile_worker.add_job('batch', $1::text::json)",
        json.dumps([{"to": "a", "_trace": RUST_SHAPED}, {"to": "b"}]),
    )
    await Worker(database, watched.tasks, plugins=[telescope.plugin()]).run_once()
    assert len(telescope.spans()) == 2
    for span in telescope.spans():
        [link] = span.links
        assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert watched.payloads == [Greeting("ada"), [Greeting("a"), Greeting("b")]] or watched.payloads == [
        [Greeting("a"), Greeting("b")],
        Greeting("ada"),
    ]
    [batch] = [span for span in telescope.spans() if span.name == "batch"]
    assert attributes(batch)["messaging.batch.message_count"] == 2


async def test_state_and_baggage_travel_too(
    database: Database, watched: Watched, telescope: Telescope
) -> None:
    plugin = telescope.plugin()
    client = Client(database, watched.tasks, plugins=[plugin])
    token = context.attach(baggage.set_baggage("customer", "ada"))
    try:
        await client.add_job(watched.tasks["greet"], Greeting("ada"))
    finally:
        context.detach(token)
    [payload] = await decoded_payloads(database)
    assert payload["_trace"]["baggage"] == "customer=ada"
    await Worker(database, watched.tasks, plugins=[plugin]).run_once()
    assert watched.carried == ["ada"]
    with_state = {"_trace": {**RUST_SHAPED, "tracestate": "vendor=1"}}
    [found] = remote_contexts(make_job(1, payload_json=json.dumps(with_state)))
    assert trace.get_current_span(found).get_span_context().trace_state.get("vendor") == "1"


async def test_what_a_handler_adds_is_part_of_its_run(
    database: Database, watched: Watched, telescope: Telescope
) -> None:
    await Client(database).add_raw_job("parent")
    await Worker(
        database, watched.tasks, WorkerOptions(concurrency=1), plugins=[telescope.plugin()]
    ).run_once()
    parent, child = telescope.spans(SpanKind.CONSUMER)
    [added] = telescope.spans(SpanKind.PRODUCER)
    assert added.parent is not None
    assert parent.context is not None
    assert added.parent.span_id == parent.context.span_id
    assert [hex_of(link.context) for link in child.links] == [hex_of(added.context)]


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (("bad", None), "ValueError"),
        (("slow", None), "HandlerInterrupted"),
        (("half", [1, 0]), "HandlerFailed"),
        (("greet", {"too": "much"}), "JobPayloadInvalid"),
        (("sleepy", None), None),
    ],
)
async def test_a_run_that_fails_is_an_error_and_one_that_snoozes_is_none(
    database: Database, watched: Watched, telescope: Telescope, job: tuple[str, Any], error: str | None
) -> None:
    await Client(database).add_raw_job(*job)
    await Worker(database, watched.tasks, plugins=[telescope.plugin()]).run_once()
    [span] = telescope.spans()
    assert attributes(span).get("error.type") == error
    assert span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    assert [event.name for event in span.events] == ([] if error is None else ["exception"])


@pytest.mark.parametrize("signal", sorted(SIGNALS, key=str))
def test_of_what_says_what_becomes_of_a_job_only_a_snooze_is_no_error(
    signal: type[Exception], telescope: Telescope
) -> None:
    """Another that is none needs a word in `_note`."""
    [error] = [error for error in (PermanentFailure(), RetryAfter(1), Snooze(1)) if type(error) is signal]
    hooks = Hooks()
    telescope.plugin().register(hooks)
    [around] = [hook.function for hook in hooks.entries if hook.kind == "around_job_run"]
    with pytest.raises(signal), around(JobRun(job=make_job(1), worker_id="w")):
        raise error
    [span] = telescope.spans()
    assert span.status.status_code is (StatusCode.UNSET if signal is Snooze else StatusCode.ERROR)


async def test_a_run_in_a_process_has_a_span(database: Database, telescope: Telescope) -> None:
    await Client(database).add_raw_job("computing")
    await Worker(database, PROCESS_TASKS, plugins=[telescope.plugin()]).run_once()
    [span] = telescope.spans()
    assert span.name == "computing"


async def test_an_interrupted_run_is_no_error(
    database: Database, client: Client, handlers: Handlers, telescope: Telescope
) -> None:
    options = WorkerOptions(shutdown=SOON)
    async with running(Worker(database, handlers.tasks, options, plugins=[telescope.plugin()])):
        await client.add_raw_job("held")
        await handlers.wait_started(1)
    [span] = telescope.spans()
    assert attributes(span)["trio_graphile.interrupted"] is True
    assert span.status.status_code is StatusCode.UNSET


async def test_metrics_go_through_the_api(database: Database, watched: Watched, telescope: Telescope) -> None:
    plugin = telescope.plugin()
    client = Client(database, watched.tasks, plugins=[plugin])
    await client.add_raw_jobs([("greet", {"to": "ada"})] * 3 + [("bad", None)])
    await Worker(database, watched.tasks, plugins=[plugin]).run_once()
    sent = {
        point.attributes["messaging.destination.name"]: point.value
        for point in telescope.points("messaging.client.sent.messages")
    }
    assert sent == {"greet": 3, "bad": 1}
    consumed = {
        (point.attributes["messaging.destination.name"], point.attributes.get("error.type")): point.value
        for point in telescope.points("messaging.client.consumed.messages")
    }
    assert consumed == {("greet", None): 3, ("bad", "ValueError"): 1}
    durations = telescope.points("messaging.process.duration")
    assert sum(point.count for point in durations) == 4


def test_a_run_is_linked_or_has_a_parent() -> None:
    connect: Any = "parents"
    with pytest.raises(OptionInvalid, match=r"^connect: 'parents' is not one of 'link', 'parent'$"):
        OpenTelemetry(connect=connect)
