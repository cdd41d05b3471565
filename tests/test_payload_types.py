"""Payload types: which come back from JSON as what they were, and what is said of the others."""

from __future__ import annotations

import collections
import enum
from collections import abc
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import PayloadInvalid, Task, TaskInvalid, TaskRegistry

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"


class Shape(enum.Enum):
    SQUARE = (1, 1)


@attrs.frozen
class Box(Generic[T]):
    item: T


@dataclass
class Crate(Generic[T]):
    items: list[T]


class Pair(NamedTuple, Generic[T]):
    one: T


class Point(NamedTuple):
    x: int
    at: date


class Page(TypedDict, Generic[T]):
    rows: list[T]


class Unseen(TypedDict):
    next: NotRequired[int]


@attrs.frozen
class Colours(Box[Colour]):
    pass


@attrs.frozen
class Letter(Box[list[Literal["a"]] | None]):
    pass


@attrs.frozen
class Holder:
    box: Box[int] | None


@attrs.frozen
class Node:
    name: str
    children: list[Node] = attrs.field(factory=list)


@attrs.frozen
class Cat:
    meow: str


@attrs.frozen
class Dog:
    bark: int


@attrs.frozen
class Puppy:
    bark: int


@attrs.frozen
class Loose:
    numbers: abc.Sequence[int]


@dataclass
class Rounded:
    number: float
    half: float = field(init=False)

    def __post_init__(self) -> None:
        self.number = round(self.number, 1)
        self.half = self.number / 2


@dataclass
class Unmakeable:
    number: int
    scale: InitVar[int]


@attrs.frozen
class Owner:
    pet: Dog | Puppy


@attrs.define(on_setattr=[])
class Checked:
    number: int = attrs.field(validator=attrs.validators.gt(0))


def shouted(text: str) -> str:
    return text.upper()


@attrs.define
class Shouted:
    text: str = attrs.field(converter=shouted, on_setattr=[])


@dataclass(init=False)
class OwnInit:
    number: int

    def __init__(self, number: int) -> None:
        self.number = number + 1


UserId = NewType("UserId", int)


def task_for(payload_type: Any) -> Task[Any]:
    async def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = payload_type
    return TaskRegistry().task("t")(handler)


def scalars() -> st.SearchStrategy[tuple[Any, Any]]:
    """Types without parts, each with a value."""
    offsets = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
    values: dict[Any, st.SearchStrategy[Any]] = {
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: st.text(),
        type(None): st.none(),
        bytes: st.binary(),
        UUID: st.uuids(),
        Decimal: st.decimals(allow_nan=False),
        date: st.dates(),
        datetime: st.datetimes(timezones=st.none() | offsets).map(lambda moment: moment.replace(fold=0)),
        time: st.times(timezones=st.none() | offsets).map(lambda moment: moment.replace(fold=0)),
        Path: st.text("ab/. ", min_size=1).map(Path),
        Colour: st.sampled_from(Colour),
        UserId: st.integers(),
        Annotated[int, "of cents"]: st.integers(),
        UUID | int: st.uuids() | st.integers(),
        str | int | None: st.text() | st.integers() | st.none(),
        int | float: st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    }
    return st.sampled_from(list(values)).flatmap(lambda kind: st.tuples(st.just(kind), values[kind]))


def containing(inner: st.SearchStrategy[tuple[Any, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Types made of one other type, each with a value."""

    def with_part(pair: tuple[Any, Any]) -> st.SearchStrategy[tuple[Any, Any]]:
        part: Any
        part, value = pair
        return st.sampled_from(
            [
                (list[part], [value, value]),
                (tuple[part, ...], (value,)),
                (tuple[part, int], (value, 1)),
                (dict[str, part], {"a": value}),
                (part | None, value),
                (part | None, None),
                (Box[part], Box(value)),
                (Crate[part], Crate([value])),
            ]
        )

    return inner.flatmap(with_part)


@given(st.recursive(scalars(), containing, max_leaves=4))
def test_a_value_of_a_type_comes_back_as_itself(case: tuple[Any, Any]) -> None:
    payload_type, value = case
    task = task_for(payload_type)
    back = task.from_json(task.to_json(value))
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("payload_type", "value"),
    [
        (Colours, Colours(Colour.RED)),
        (Letter, Letter(["a"])),
        (list[Literal["a", 1]], ["a", 1]),
        (Holder, Holder(Box(1))),
        (Holder, Holder(None)),
        (Node, Node("a", [Node("b"), Node("c")])),
        (Cat | Dog, Dog(1)),
        (Cat | int | list[date] | None, [date(2026, 1, 2)]),
        (set[Box[int]], {Box(1), Box(2)}),
        (list[Point], [Point(1, date(2026, 1, 2))]),
        (Point | None, Point(1, date(2026, 1, 2))),
        (Annotated[int, "of cents"] | Any, 5),
        (collections.OrderedDict[str, int], collections.OrderedDict(b=1, a=2)),
        (Any, {"a": [1, 1.5, "x", None, True]}),
        (Any | None, None),
        (Rounded, Rounded(0.52)),
        (float, 3),
        (Decimal, Decimal("NaN")),
    ],
)
def test_so_does_one_of_a_class_or_a_union(payload_type: Any, value: Any) -> None:
    task = task_for(payload_type)
    back = task.from_json(task.to_json(value))
    assert repr(back) == repr(value) or back == value


@pytest.mark.parametrize(
    ("payload_type", "reason"),
    [
        (UUID | str, "UUID | str: UUID and str look alike in JSON"),
        (Colour | str, "look alike in JSON"),
        (date | datetime, "look alike in JSON"),
        (bytes | Decimal | None, "look alike in JSON"),
        (list[int] | tuple[int, ...], "look alike in JSON"),
        (Cat | dict[str, str], "look alike in JSON"),
        (
            list[Path | str],
            "Path and str look alike in JSON, so one may come back as the other: write one of",
        ),
        (Dog | Puppy, "Dog | Puppy: no field tells its classes apart: give each one without default"),
        (abc.Sequence[int], "Sequence[int]: it does not come back from JSON as what it was: write list @ $"),
        (abc.Mapping[str, int], "write dict @ $"),
        (abc.MutableMapping[str, int], "write dict @ $"),
        (collections.defaultdict[str, int], "write dict @ $"),
        (collections.Counter[str], "write dict @ $"),
        (abc.Set[int], "write set or frozenset @ $"),
        (collections.deque[int], "write list @ $"),
        (Owner, "Dog | Puppy: no field tells its classes apart"),
        (Unmakeable, "Unmakeable: making one needs 'scale', which is not stored: make it a field"),
        (Box[list[Literal["a"]] | None], "a generic class takes no type with a Literal inside"),
        (Loose, "write list @ $.numbers"),
        (Box[Loose], "write list @ $.item.numbers"),
        (dict[str, list[tuple[int, bytearray]]], "write bytes @ $[][][1]"),
        (dict[int, str], "dict[int, str]: keys are text in JSON: write dict[str, str] @ $"),
        (Box, "~T may be anything: name a type for it, as in Box[int] @ $.item"),
        (Pair[int], "Pair[int]: only attrs classes and dataclasses may be generic @ $"),
        (Page[int], "Page[int]: only attrs classes and dataclasses may be generic @ $"),
        (Unseen, "Unseen: Python does not see NotRequired under `from __future__ import annotations`"),
        (Shape, "Shape: its values are not JSON: give its members texts or numbers @ $"),
    ],
)
def test_a_type_that_may_come_back_as_another_is_refused(payload_type: Any, reason: str) -> None:
    with pytest.raises(TaskInvalid) as caught:
        task_for(payload_type)
    assert reason in str(caught.value)


@attrs.frozen
class Kept:
    id: UUID | None = None
    numbers: list[int] = attrs.field(factory=list)
    anything: Any = None
    pet: Cat | None = None
    real: float = 0


@attrs.frozen
class Kitten(Cat):
    age: int = 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Kept(id=str(UUID(int=1))), "str comes back as UUID @ $.id"),  # type: ignore[arg-type]  # the point
        (Kept(numbers=(1, 2)), "tuple comes back as list @ $.numbers"),  # type: ignore[arg-type]  # the point
        (Kept(anything={"at": [date(2026, 1, 2)]}), "date comes back as str @ $.anything.at[0]"),
        (Kept(pet=Kitten("m", 1)), "Kitten comes back as Cat @ $.pet"),
        (Kept(real=2**53 + 1), "int comes back as float @ $.real"),
    ],
)
def test_a_value_that_would_come_back_as_another_is_refused(value: Kept, reason: str) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        task_for(Kept).to_json(value)
    assert caught.value.reasons == (reason,)


def test_a_value_of_another_type_in_a_generic_class_is_refused() -> None:
    with pytest.raises(PayloadInvalid, match=r"expected int, not str @ \$.item"):
        task_for(Box[int]).to_json(Box("x"))


def spoiled(payload: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(payload, name, value)
    return payload


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (spoiled(Checked(1), number=0), "ValueError when made into an object @ $"),
        (spoiled(Shouted("a"), text="a"), "str comes back as another value @ $.text"),
        (OwnInit(1), "int comes back as another value @ $.number"),
    ],
)
def test_what_making_the_class_would_refuse_or_change_is_refused(payload: Any, reason: str) -> None:
    """Before it is stored: what a class does when it is made may not suit what it has become since."""
    with pytest.raises(PayloadInvalid) as caught:
        task_for(type(payload)).to_json(payload)
    assert caught.value.reasons == (reason,)


def test_a_value_that_is_plainly_of_its_type_is_not_read_back() -> None:
    """Reading back would take more time than all else that a client does to add a job."""
    hashed: list[Any] = []

    @attrs.frozen(eq=False)
    class Hashed:
        number: int

        def __hash__(self) -> int:
            hashed.append(self.number)
            return self.number

    task, payload = task_for(set[Hashed]), {Hashed(1)}
    hashed.clear()
    text = task.to_json(payload)
    assert hashed == []
    task.from_json(text)
    assert hashed == [1]
