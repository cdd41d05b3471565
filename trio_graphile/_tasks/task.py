"""A task: an identifier, a payload type and a handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import attrs

from trio_graphile._exceptions import JobPayloadInvalid, PayloadInvalid, TaskInvalid
from trio_graphile._model.batches import batch_failure, check_result, split_array
from trio_graphile._model.failures import Failure, Verdict, failure_of
from trio_graphile._model.jobs import JobSpec
from trio_graphile._model.payloads import PayloadFormat, PayloadMismatch
from trio_graphile._model.task_options import Lane, TaskOptions
from trio_graphile._tasks.context import JobContext

PayloadT = TypeVar("PayloadT")


@attrs.frozen(kw_only=True, eq=False)
class Task(Generic[PayloadT]):
    """An identifier, a payload type and a handler. `TaskRegistry.task` and `batch_task` make tasks."""

    identifier: str
    """The name under which jobs are stored; other programs may add and run them under it."""
    handler: Callable[..., object]
    """The function as the program wrote it."""
    lane: Lane
    """Where the handler runs: in the event loop, a thread or a process."""
    is_batch: bool
    """Whether the payload is a list of items, each of which may fail by itself."""
    wants_payload: bool
    wants_context: bool
    options: TaskOptions
    home: str
    """The top-level package of the handler: error texts name the frames that belong to it."""
    _format: PayloadFormat[PayloadT] = attrs.field(repr=False)

    @property
    def payload_type(self) -> Any:
        """The type of the payload; `NoneType` if there is none."""
        return self._format.payload_type

    def to_json(self, payload: PayloadT) -> str:
        """Return a payload as JSON text that `from_json` can read. Raises `PayloadInvalid`."""
        try:
            return self._format.to_json(payload)
        except PayloadMismatch as mismatch:
            raise PayloadInvalid(self.identifier, mismatch.reasons) from None

    def from_json(self, text: str) -> PayloadT:
        """Return the payload of a stored job; None if the handler takes none. Raises `JobPayloadInvalid`."""
        if not self.wants_payload:
            return cast("PayloadT", None)
        try:
            return self._format.from_json(text)
        except PayloadMismatch as mismatch:
            reasons: tuple[str, ...] = mismatch.reasons
        if self.is_batch and not text.lstrip().startswith("["):
            reasons = ("a batch needs a JSON array @ $",)
        raise JobPayloadInvalid(self.identifier, reasons)

    def complete_spec(self, spec: JobSpec) -> JobSpec:
        """Return a spec in which the defaults of the task replace what was left out."""
        return self.options.complete(spec)

    def call(self, payload: PayloadT, context: JobContext | None) -> Any:
        """Call the handler with the arguments it takes; return its result, an awaitable if it is async."""
        if not self.wants_context:
            return self.handler(payload) if self.wants_payload else self.handler()
        return self.handler(payload, context) if self.wants_payload else self.handler(context)

    def failure_of_result(self, result: Any, payload_json: str) -> Failure | None:
        """Return the failure that a handler's result means; None if all succeeded. Raises `TaskInvalid`."""
        if result is None:
            return None
        if hasattr(result, "__await__"):
            raise TaskInvalid(self.identifier, "its handler returned an awaitable: make it an async function")
        if not self.is_batch:
            return None
        mistake = check_result(result, len(split_array(payload_json)))
        if mistake is not None:
            raise TaskInvalid(self.identifier, mistake)
        return batch_failure(result, payload_json, self.home)

    def failure(self, error: BaseException) -> Failure:
        """Return the failure that an exception means, of the handler or of reading its payload."""
        failure = failure_of(error, self.home)
        if isinstance(error, JobPayloadInvalid) and self.options.on_invalid_payload == "fail":
            return attrs.evolve(failure, verdict=Verdict.PERMANENT)
        return failure
