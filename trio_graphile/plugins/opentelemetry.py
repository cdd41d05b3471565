"""Traces and metrics through OpenTelemetry's API. Needs the extra `opentelemetry`, and an SDK of your choice.

The key `_trace` of a payload carries the trace from the program that adds a job to the one that runs it.
Workers in other languages read and write it, too. Handlers do not see it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import trio

from trio_graphile._model.handler_exceptions import Snooze
from trio_graphile._model.jobs import Job
from trio_graphile._model.validators import check_one_of
from trio_graphile.hooks import (
    Addition,
    Hooks,
    JobCompleted,
    JobFailed,
    JobFailedPermanently,
    JobRun,
    JobToAdd,
    Rewrite,
)

try:
    from opentelemetry import baggage, context, metrics, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "OpenTelemetry needs opentelemetry-api: pip install 'trio-graphile[opentelemetry]'",
        name=_missing.name,
    ) from None

__all__ = ["OpenTelemetry"]

TRACE_KEY = "_trace"
Connect: TypeAlias = Literal["link", "parent"]

_SYSTEM = {"messaging.system": "graphile-worker"}
_MOST_LINKS = 128  # of one run; also the SDK's default
_W3C, _BAGGAGE = TraceContextTextMapPropagator(), W3CBaggagePropagator()


class OpenTelemetry:
    """Makes a span for each call that adds jobs and for each run, connects the two, and measures runs.

    Give one to the client and to the worker. `connect` defaults to "link": a run begins a trace of its own,
    with a link to the span that added the job. With "parent" the run is part of that span's trace. The
    providers default to OpenTelemetry's global ones.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        connect: Connect = "link",
    ) -> None:
        check_one_of("connect", connect, Connect)
        self._tracer = trace.get_tracer("trio_graphile", tracer_provider=tracer_provider)
        self._connect = connect
        meter = metrics.get_meter("trio_graphile", meter_provider=meter_provider)
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs added.")
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Runs that ended."
        )
        self._duration = meter.create_histogram("messaging.process.duration", "s", "How long runs took.")

    def register(self, hooks: Hooks, /) -> None:
        """Register the spans around additions and runs and, with a worker, an observer that measures runs."""
        hooks.around_job_schedule(self._producing)
        hooks.before_job_schedule(mark_with_trace)
        hooks.around_job_run(self._consuming)
        if hooks.worker is not None:
            for event in (JobCompleted, JobFailed, JobFailedPermanently):
                hooks.on(event, self._measure)

    @contextlib.contextmanager
    def _producing(self, addition: Addition) -> Iterator[None]:
        tasks = {*addition.identifiers}
        attributes: dict[str, Any] = {
            **_SYSTEM,
            "messaging.operation.name": addition.operation,
            "messaging.operation.type": "send",
        }
        if len(tasks) == 1:
            attributes["messaging.destination.name"] = addition.identifiers[0]
        if addition.operation == "add_jobs":
            attributes["messaging.batch.message_count"] = len(addition.identifiers)
        name = f"{addition.operation} {addition.identifiers[0]}" if len(tasks) == 1 else addition.operation
        with self._span(name, trace.SpanKind.PRODUCER, attributes):
            yield
        for task in tasks:
            self._sent.add(addition.identifiers.count(task), {**_SYSTEM, "messaging.destination.name": task})

    @contextlib.contextmanager
    def _consuming(self, run: JobRun) -> Iterator[None]:
        job = run.job
        found = remote_contexts(job)
        within = found[0] if found and self._connect == "parent" else context.get_current()
        carried = baggage.get_all(found[0]) if found else {}
        for key, value in carried.items():
            within = baggage.set_baggage(key, value, within)
        links = [trace.Link(trace.get_current_span(each).get_span_context()) for each in found]
        token = context.attach(within)
        try:
            with self._span(
                job.task_identifier,
                trace.SpanKind.CONSUMER,
                _run_attributes(job),
                links=links[1:] if self._connect == "parent" else links,
            ):
                yield
        finally:
            context.detach(token)

    @contextlib.contextmanager
    def _span(
        self, name: str, kind: trace.SpanKind, attributes: Mapping[str, Any], links: Sequence[trace.Link] = ()
    ) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name,
            kind=kind,
            attributes=attributes,
            links=links,
            record_exception=False,  # `_note` records those that are errors
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                _note(span, error)
                raise

    def _measure(self, event: JobCompleted | JobFailed | JobFailedPermanently) -> None:
        attributes = {
            **_SYSTEM,
            "messaging.operation.name": "run_job",
            "messaging.destination.name": event.job.task_identifier,
        }
        if not isinstance(event, JobCompleted):
            attributes["error.type"] = event.error.partition(":")[0][:100]
        self._consumed.add(1, attributes)
        self._duration.record(event.duration, attributes)


def _run_attributes(job: Job) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        **_SYSTEM,
        "messaging.operation.name": "run_job",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.task_identifier,
        "messaging.message.id": str(job.id),
        "trio_graphile.attempt": job.attempts,
    }
    if job.queue_name is not None:
        attributes["trio_graphile.queue"] = job.queue_name
    if job.payload_json.lstrip().startswith("["):
        attributes["messaging.batch.message_count"] = len(job.payload)
    return attributes


def _note(span: trace.Span, error: BaseException) -> None:
    """Record on a span the exception that was raised inside of it."""
    if isinstance(error, trio.Cancelled):
        span.set_attribute("trio_graphile.interrupted", value=True)
    elif not isinstance(error, Snooze):
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__qualname__))


# --- traces in payloads -------------------------------------------------------------------------


def mark_with_trace(job: JobToAdd) -> Rewrite | None:
    """Put the current span into a payload that is an object, or into each object of an array."""
    mark = trace_mark()
    if mark is None or job.operation == "cron":
        return None
    payload = job.payload
    if isinstance(payload, dict):
        return Rewrite({**payload, TRACE_KEY: mark})
    if isinstance(payload, list) and any(isinstance(item, dict) for item in payload):
        return Rewrite([{**item, TRACE_KEY: mark} if isinstance(item, dict) else item for item in payload])
    return None


def trace_mark() -> dict[str, Any] | None:
    """Return the mark for the current span, to be put into a payload; None without a valid span."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    mark: dict[str, Any] = {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
        "flags": int(span.trace_flags),
    }
    carrier: dict[str, str] = {}
    _BAGGAGE.inject(carrier)
    if span.trace_state:
        carrier["tracestate"] = span.trace_state.to_header()
    return {**mark, **carrier}


def remote_contexts(job: Job) -> list[context.Context]:
    """Return the contexts of the spans in a payload, at most 128. Malformed marks are ignored."""
    if f'"{TRACE_KEY}"' not in job.payload_json:
        return []
    payload = job.payload
    items = payload if isinstance(payload, list) else [payload]
    marks = [item.get(TRACE_KEY) for item in items if isinstance(item, dict)]
    unique = {str(mark): mark for mark in marks if isinstance(mark, dict)}
    found = [_context_of(mark) for mark in [*unique.values()][:_MOST_LINKS]]
    return [each for each in found if trace.get_current_span(each).get_span_context().is_valid]


def _context_of(mark: Mapping[str, Any]) -> context.Context:
    """Return the context of a mark, which has either `trace_id` and `span_id` or W3C's `traceparent`."""
    carrier = {key: value for key, value in mark.items() if isinstance(value, str)}
    trace_id, span_id, flags = (mark.get(key) for key in ("trace_id", "span_id", "flags"))
    if isinstance(trace_id, str) and isinstance(span_id, str):
        number = flags if type(flags) is int and 0 <= flags <= 255 else 0
        carrier["traceparent"] = f"00-{trace_id.lower()}-{span_id.lower()}-{number:02x}"
    return _BAGGAGE.extract(carrier, _W3C.extract(carrier, context.Context()))
