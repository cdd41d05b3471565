"""Tasks: which functions can be handlers, and which payloads fit which types."""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import AsyncIterator, Iterator, MutableSequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypedDict, cast
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import (
    Client,
    Database,
    DuplicateTask,
    Job,
    JobContext,
    JobPayloadInvalid,
    OptionInvalid,
    PayloadInvalid,
    Task,
    TaskInvalid,
    TaskRegistry,
    UnknownTask,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 1


@attrs.frozen(kw_only=True)
class Address:
    street: str
    number: int = 1


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"


@attrs.frozen(kw_only=True)
class Traced:
    to: str
    _trace: object = attrs.field(default=None, alias="trace")


@dataclass(frozen=True)
class Resize:
    path: str
    sizes: list[int] = field(default_factory=list)


class Options(TypedDict, total=False):
    quality: int
    address: Address


@attrs.frozen(kw_only=True)
class Everything:
    text: str
    whole: int
    real: float
    yes: bool
    maybe: int | None
    tags: list[str]
    pair: tuple[int, str]
    many: tuple[int, ...]
    unique: frozenset[int]
    counts: dict[str, int]
    address: Address | None
    resize: Resize
    options: Options
    colour: Colour
    level: Level
    mode: Literal["fast", "slow"]
    at: datetime
    on: date
    clock: time
    id: UUID
    price: Decimal
    path: Path
    raw: bytes
    either: int | str | list[int]
    anything: Any


EVERYTHING = Everything(
    text="é",
    whole=2**70,
    real=0.5,
    yes=True,
    maybe=None,
    tags=["a"],
    pair=(1, "a"),
    many=(1, 2, 3),
    unique=frozenset({1}),
    counts={"a": 1},
    address=Address(street="s"),
    resize=Resize("p", [1]),
    options={"quality": 1, "address": Address(street="s")},
    colour=Colour.RED,
    level=Level.HIGH,
    mode="fast",
    at=NOW,
    on=NOW.date(),
    clock=NOW.time(),
    id=UUID(int=1),
    price=Decimal("1.10"),
    path=Path("a/b"),
    raw=b"\0\xff",
    either=[1],
    anything={"a": [1, None, "x"]},
)


def everything_but(**changes: Any) -> Everything:
    return attrs.evolve(EVERYTHING, **changes)


def task_for(payload_type: Any, **options: Any) -> Task[Any]:
    """Make a task whose handler's payload has this type."""

    async def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = payload_type
    return TaskRegistry(**options).task("t")(handler)


def context_for(payload: Any = None) -> JobContext:
    job = Job(
        id=1,
        task_identifier="t",
        payload_json=json.dumps(payload),
        attempts=2,
        run_at=NOW,
        created_at=NOW,
        updated_at=NOW,
    )
    return JobContext(job=job, client=cast("Client", None), database=cast("Database", None))


# --- handlers -----------------------------------------------------------------------------------


async def test_a_handler_gets_what_it_asks_for() -> None:
    tasks = TaskRegistry()
    calls: list[Any] = []

    @tasks.task("both")
    async def both(payload: Welcome, context: JobContext) -> None:
        calls.append((payload, context))

    @tasks.task("payload")
    async def payload_alone(payload: Welcome) -> None:
        calls.append(payload)

    @tasks.task("context")
    async def context_alone(job: JobContext) -> None:
        calls.append(job)

    @tasks.task("nothing")
    async def nothing() -> None:
        calls.append(None)

    payload, context = Welcome(to="ada"), context_for()
    for task in tasks:
        await task.call(payload, context)
    assert calls == [(payload, context), payload, context, None]
    assert [task.payload_type for task in tasks] == [Welcome, Welcome, type(None), type(None)]


def test_a_context_is_easily_made_and_counts_the_attempt() -> None:
    context = context_for()
    assert (context.attempt, context.worker_id, context.state) == (2, "", None)
    assert not context.stopping.is_set()


def test_methods_partials_and_callable_objects_can_be_handlers() -> None:
    class Mailer:
        async def send(self, payload: Welcome) -> None: ...

        async def __call__(self, payload: Welcome, context: JobContext) -> None: ...

    async def with_service(service: str, payload: Welcome, *, retries: int = 3) -> None: ...

    tasks = TaskRegistry()
    assert tasks.task("method")(Mailer().send).payload_type is Welcome
    assert tasks.task("object")(Mailer()).payload_type is Welcome
    assert tasks.task("partial")(functools.partial(with_service, "smtp")).payload_type is Welcome


send_welcome_payload = Welcome


async def welcome_from_this_module(payload: Welcome) -> None: ...


def plain(payload: Welcome) -> None: ...


def generator() -> Iterator[None]:
    yield


async def async_generator() -> AsyncIterator[None]:
    yield


async def three(payload: Welcome, context: JobContext, more: str) -> None: ...
async def two_payloads(payload: Welcome, more: str) -> None: ...
async def wrong_way_round(context: JobContext, payload: Welcome) -> None: ...
async def any_number(*payloads: Welcome) -> None: ...
async def unfillable(payload: Welcome, *, service: str) -> None: ...
async def unreadable(payload: timedelta) -> None: ...
async def unreadable_inside(payload: list[complex]) -> None: ...
async def unknown(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (generator, "a function that returns is needed, not a generator"),
        (async_generator, "a function that returns is needed, not a generator"),
        (5, "a function is needed, not 5"),
        (Welcome, "a function is needed, not <class"),
        (three, "its parameters are (payload, context, more); right are (payload, context)"),
        (two_payloads, "its parameters are (payload, more); right are (payload, context)"),
        (wrong_way_round, "its parameters are (context, payload); right are (payload, context)"),
        (any_number, "*payloads does not say what it takes"),
        (unfillable, "no value is passed for the keyword-only parameter 'service'"),
        (unreadable, "timedelta cannot be stored as JSON: write float, for seconds @ $"),
        (unreadable_inside, "complex cannot be stored as JSON: write tuple[float, float] @ $[*]"),
        (unknown, "names 'Nowhere', which is not known where the task is made"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused_with_what_would_be_right(
    handler: Any, reason: str
) -> None:
    tasks = TaskRegistry()
    with pytest.raises(TaskInvalid) as caught:
        tasks.task("t")(handler)
    assert reason in str(caught.value)
    assert len(tasks) == 0


def test_classes_local_to_a_function_are_found() -> None:
    @attrs.frozen
    class Inner:
        n: int

    @attrs.frozen
    class Local:
        inner: Inner
        more: list[Inner]

    @TaskRegistry().task("t")
    async def handler(payload: Local) -> None: ...

    payload = Local(Inner(1), [Inner(2)])
    assert handler.from_json(handler.to_json(payload)) == payload


def test_names_mean_what_they_mean_where_they_were_written() -> None:
    """A local class of the same name does not take the place of the one that a handler was written with."""

    @attrs.frozen
    class Welcome:
        pass

    async def local(payload: Welcome) -> None: ...

    tasks = TaskRegistry()
    assert tasks.task("local")(local).payload_type is Welcome
    assert tasks.task("global")(welcome_from_this_module).payload_type is send_welcome_payload


def test_an_unannotated_payload_is_any_json() -> None:
    async def handler(payload):  # type: ignore[no-untyped-def]
        ...

    task: Task[Any] = TaskRegistry().task("t")(handler)
    assert task.from_json(task.to_json({"a": [1, None]})) == {"a": [1, None]}


# --- the registry -------------------------------------------------------------------------------


def test_a_registry_is_a_collection_by_identifier() -> None:
    tasks = TaskRegistry()

    @tasks.task("a")
    async def a() -> None: ...

    @tasks.task("b")
    async def b() -> None: ...

    assert tasks["a"] is a
    assert list(tasks) == [a, b]
    assert tasks.identifiers == ("a", "b")
    assert (len(tasks), "a" in tasks, "c" in tasks) == (2, True, False)
    with pytest.raises(UnknownTask, match="'c'") as caught:
        tasks["c"]
    assert caught.value.identifier == "c"


def test_an_identifier_names_one_task() -> None:
    tasks = TaskRegistry()

    async def handler() -> None: ...

    tasks.task("a")(handler)
    with pytest.raises(DuplicateTask, match="'a'"):
        tasks.task("a")(handler)


def test_registries_are_joined_whole_or_not_at_all() -> None:
    async def handler() -> None: ...

    one, two = TaskRegistry(), TaskRegistry()
    one.task("a")(handler)
    for identifier in ("b", "a"):
        two.task(identifier)(handler)
    with pytest.raises(DuplicateTask):
        one.include(two)
    assert one.identifiers == ("a",)
    three = TaskRegistry()
    three.include(two)
    assert three["b"] is two["b"]


@pytest.mark.parametrize(("other", "given"), [([plain], "of the type list"), (None, "None")])
def test_only_a_registry_is_included(other: Any, given: str) -> None:
    with pytest.raises(OptionInvalid, match=rf"^tasks: a TaskRegistry is needed, not .*{given}$"):
        TaskRegistry().include(other)


@pytest.mark.parametrize("identifier", ["", "a" * 129, "a\0", None, plain])
def test_an_identifier_is_text_of_a_length_that_the_database_can_hold(identifier: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^identifier: "):
        TaskRegistry().task(identifier)


# --- payloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [
        (Everything, EVERYTHING),
        (Everything, everything_but(address=None, maybe=1, either="a")),
        (Resize, Resize("p")),
        (Options, {"quality": 1}),
        (int, 5),
        (float, 5.5),
        (str, ""),
        (bool, False),
        (list, [1, "a", None]),
        (list[Welcome], [Welcome(to="a"), Welcome(to="b")]),
        (dict[str, Any], {"a": None, "_cron": {}, "_trace": {}}),
        (dict, {"a": {"b": [1]}}),
        (Welcome | None, None),
        (Welcome | None, Welcome(to="a")),
        (Welcome | Resize, Resize("p")),
        (int | str, "5"),
        (Any, None),
        (object, [1]),
        (type(None), None),
        (Traced, Traced(to="a", trace={"span_id": "x"})),
    ],
)
def test_a_payload_comes_back_as_it_was_added(payload_type: Any, payload: Any) -> None:
    task = task_for(payload_type)
    assert task.from_json(task.to_json(payload)) == payload


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_comes_back_as_it_was_added(value: Any) -> None:
    task = task_for(Any)
    assert task.from_json(task.to_json(value)) == value


@pytest.mark.parametrize(
    ("payload_type", "payload", "reason"),
    [
        (int, "5", "expected int, not str @ $"),
        (int, 1.9, "expected int, not float @ $"),
        (int, 1.0, "expected int, not float @ $"),
        (int, True, "expected int, not bool @ $"),
        (int | None, True, "expected int | None, not bool @ $"),
        (str, 1, "expected str, not int @ $"),
        (bool, 1, "expected bool, not int @ $"),
        (float, "1", "expected float, not str @ $"),
        (float, True, "expected float, not bool @ $"),
        (float, float("nan"), "nan is not a JSON number @ $"),
        (list[str], "abc", "expected list[str], not str @ $"),
        (list[str], 5, "expected list[str], not int @ $"),
        (list[str], ["a", 5], "expected str, not int @ $[1]"),
        (MutableSequence[str], "abc", "expected MutableSequence[str], not str @ $"),
        (dict, [1], "expected dict, not list @ $"),
        (dict[str, int], {"a": "x"}, "expected int, not str @ $['a']"),
        (dict, {1: 2}, "a key: expected str, not int @ $"),
        (type(None), 5, "expected None, not int @ $"),
        (Welcome, Resize("p"), "expected Welcome, not Resize @ $"),
        (Welcome, {"to": "ada"}, "expected Welcome, not dict @ $"),
        (Welcome, Welcome(to=cast("str", 5)), "expected str, not int @ $.to"),
        (Resize, Resize("p", cast("Any", "12")), "expected list[int], not str @ $.sizes"),
        (Everything, everything_but(address=5), "expected Address | None, not int @ $.address"),
        (
            Everything,
            everything_but(address=Welcome(to="a")),
            "expected Address | None, not Welcome @ $.address",
        ),
        (Everything, everything_but(level=7), "expected Level, not int @ $.level"),
        (Everything, everything_but(anything={"a": [object()]}), "object is not JSON @ $.anything.a[0]"),
        (Options, {"quality": "best"}, "expected int, not str @ $.quality"),
        (Options, {"qualty": 1}, "unknown: 'qualty' @ $"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_its_path(
    payload_type: Any, payload: Any, reason: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        task_for(payload_type).to_json(payload)
    assert caught.value.reasons == (reason,)
    assert caught.value.identifier == "t"


def test_a_stored_payload_that_does_not_fit_is_refused_with_every_mistake() -> None:
    task = task_for(Everything)
    wrong = {"whole": "5", "address": {"number": 1.5}, "tags": [1, "a", 2], "new": 1}
    with pytest.raises(JobPayloadInvalid) as caught:
        task.from_json(json.dumps(json.loads(task.to_json(EVERYTHING)) | wrong))
    assert set(caught.value.reasons) == {
        "expected int, not str @ $.whole",
        "expected int, not float @ $.address.number",
        "required, but missing @ $.address.street",
        "expected str, not int @ $.tags[0]",
        "expected str, not int @ $.tags[2]",
        "unknown: 'new' @ $",
    }


def test_a_default_keeps_old_rows_readable() -> None:
    assert task_for(Welcome).from_json('{"to": "ada"}') == Welcome(to="ada")


@pytest.mark.parametrize("text", ["", "{", "[]", '"secret"', "5", "null"])
def test_what_is_no_object_is_no_payload_of_a_class(text: str) -> None:
    with pytest.raises(JobPayloadInvalid, match=r"@ \$$"):
        task_for(Welcome).from_json(text)


def test_unknown_keys_can_be_ignored() -> None:
    text = '{"to": "ada", "priority": 1}'
    assert task_for(Welcome, unknown_keys="ignore").from_json(text) == Welcome(to="ada")
    with pytest.raises(JobPayloadInvalid, match="unknown: 'priority'"):
        task_for(Welcome).from_json(text)


@pytest.mark.parametrize("unknown_keys", ["refuse", "ignore"])
def test_what_crontabs_and_tracing_add_is_not_part_of_a_payload(unknown_keys: str) -> None:
    def read(payload_type: Any, value: Any) -> Any:
        return task_for(payload_type, unknown_keys=unknown_keys).from_json(json.dumps(value))

    extra = {"_cron": {"ts": "2026-01-01T00:00:00Z"}, "_trace": {"span_id": "x"}}
    assert read(Welcome, {"to": "ada"} | extra) == Welcome(to="ada")
    assert read(Resize, {"path": "p"} | extra) == Resize("p")
    assert read(Options, extra) == {}
    assert read(type(None), extra) is None
    assert read(Welcome | None, {"to": "ada"} | extra) == Welcome(to="ada")
    assert read(list[Welcome], [{"to": "ada"} | extra]) == [Welcome(to="ada")]
    assert read(dict[str, Any], extra) == extra
    assert read(Any, extra) == extra
    assert read(Traced, {"to": "ada"} | extra) == Traced(to="ada", trace=extra["_trace"])


@pytest.mark.parametrize("text", ["null", "{}"])
def test_a_task_without_payload_takes_null_and_the_empty_object(text: str) -> None:
    assert task_for(type(None)).from_json(text) is None


def test_a_task_without_payload_takes_no_other() -> None:
    with pytest.raises(JobPayloadInvalid, match="expected None, not dict"):
        task_for(type(None)).from_json('{"a": 1}')


def short(_: object, __: object, value: str) -> None:
    if len(value) > 3:
        raise ValueError(f"{value} is too long")


@attrs.frozen
class Secretive:
    name: str = attrs.field(default="", validator=short)
    at: datetime | None = None
    colour: Colour | None = None
    number: int | None = None
    price: Decimal | None = None
    raw: bytes | None = None
    mode: Literal["fast"] = "fast"


@pytest.mark.parametrize("name", [attribute.name for attribute in attrs.fields(Secretive)])
def test_no_error_shows_a_value(name: str) -> None:
    """Errors are logged and stored with the job; payloads hold secrets."""
    with pytest.raises(JobPayloadInvalid) as caught:
        task_for(Secretive).from_json(json.dumps({name: "hunter2"}))
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
