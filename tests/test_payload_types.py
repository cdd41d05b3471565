"""Payload types: what is accepted comes back as what it was, and the rest is refused by name."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import InitVar, dataclass, field, make_dataclass
from decimal import Decimal
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
    Union,
    cast,
)
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from trio_graphile import PayloadInvalid, Task, TaskInvalid, TaskRegistry

T = TypeVar("T")
S = TypeVar("S", bound=str)
UserId = NewType("UserId", int)
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
Pair = TypeAliasType("Pair", tuple[T, T], type_params=(T,))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    NOTHING = None
    HALF = 0.5
    YES = True
    TWO = 2


class Lenient(enum.Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Lenient | None:
        return cls.RED if value == "RED" else None


Loose = namedtuple("Loose", ["a", "b"])  # noqa: PYI024  # as older programs have them


class Odd(enum.Enum):
    PAIR = (1, 2)


@attrs.frozen
class Box(Generic[T]):
    item: T


@attrs.frozen
class IntBox(Box[int]):
    pass


@attrs.frozen
class Both(Box[int], Generic[T]):
    """Its own `T` is not the one of the box."""

    other: T


@dataclass
class DataBox(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list)


class TypedBox(TypedDict, Generic[T]):
    item: T


class RowBox(NamedTuple, Generic[T]):
    item: T
    number: int = 0


@attrs.frozen
class Holder:
    box: Box[Box[dt.date]]
    name: Final[str] = "x"


@attrs.frozen
class Node:
    name: str
    children: list[Node] = attrs.field(factory=list)
    next: Node | None = None


@dataclass
class Tree:
    left: Tree | Leaf
    right: Tree | Leaf


@dataclass
class Leaf:
    value: Decimal


class Options(TypedDict, total=False):
    a: Required[int]
    b: NotRequired[dt.date]
    c: str


class Point(NamedTuple):
    x: int
    at: dt.date


@attrs.frozen
class Cat:
    name: str
    meow: str


@attrs.frozen
class Dog:
    name: str
    bark: int


@attrs.frozen
class Named:
    name: str


@attrs.frozen
class AlsoNamed:
    name: str
    age: int = 0


@attrs.frozen
class Circle:
    size: Decimal
    kind: Literal["circle"] = "circle"


@dataclass(frozen=True)
class Square:
    size: Decimal
    kind: Literal["square", "rectangle"] = "square"


class TaggedDict(TypedDict):
    kind: Literal["dict"]
    size: Decimal


@attrs.frozen
class Validated:
    name: str = attrs.field(validator=attrs.validators.max_len(3))
    _number: int = attrs.field(converter=int, default=0)


@dataclass
class Derived:
    a: int
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.a


def with_tax(price: int) -> int:
    return price + 1


@dataclass
class Rounded:
    number: float

    def __post_init__(self) -> None:
        self.number = round(self.number, 1)


@attrs.define
class Taxed:
    """What it is made with is not what it then has."""

    price: int = attrs.field(converter=with_tax)


@dataclass
class Initialized:
    a: int
    b: InitVar[int]


@dataclass(init=False)
class OwnTerms:
    a: int

    def __init__(self, b: int = 0) -> None:
        self.a = b


@dataclass(init=False)
class OwnInit:
    a: int

    def __init__(self, a: int) -> None:
        self.a = a + 1


@attrs.frozen
class Letter(Box[list[Literal["a"]] | None]):
    pass


@attrs.frozen
class OrderLine:
    prices: Sequence[int]


@attrs.frozen
class Order:
    lines: dict[str, list[OrderLine]]


def task_for(payload_type: Any, **options: Any) -> Task[Any]:
    async def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = payload_type
    return TaskRegistry(**options).task("t")(handler)


def comes_back(payload_type: Any, payload: Any) -> bool:
    task = task_for(payload_type)
    return same(task.from_json(task.to_json(payload)), payload)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, to the last part."""
    if type(one) is not type(other):
        return False
    match one:
        case dict():
            keys = {key: key for key in other}
            return one == other and all(same(key, keys[key]) and same(one[key], other[key]) for key in one)
        case list() | tuple() | deque():
            return len(one) == len(other) and all(map(same, one, other))
        case set() | frozenset():
            return one == other and Counter(map(type, one)) == Counter(map(type, other))
        case _ if attrs.has(type(one)) or hasattr(one, "__dataclass_fields__"):
            names = getattr(one, "__dataclass_fields__", None) or attrs.fields_dict(type(one))
            return all(same(getattr(one, name), getattr(other, name)) for name in names)
        case float():
            return repr(one) == repr(other)
        case _:
            return bool(one == other)


# --- whatever is accepted comes back --------------------------------------------------------------

Sample: TypeAlias = tuple[Any, st.SearchStrategy[Any]]
"""A type and its values."""

seconds = st.integers(-86_399, 86_399).map(lambda offset: dt.timedelta(seconds=offset))
zones = st.none() | seconds.map(dt.timezone)
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
LEAVES: list[Sample] = [
    (str, texts),
    (int, st.integers()),
    (bool, st.booleans()),
    (type(None), st.none()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (dt.datetime, st.datetimes(timezones=zones)),
    (dt.date, st.dates()),
    (dt.time, st.times(timezones=zones)),
    (Decimal, st.decimals(allow_nan=False)),
    (uuid.UUID, st.uuids()),
    (bytes, st.binary()),
    (Path, st.sampled_from([Path("a/b"), Path("/ü"), Path()])),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Mode, st.sampled_from(Mode)),
    (Mixed, st.sampled_from(Mixed)),
    (Right, st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0)])),
    (Literal["a", 1, False], st.sampled_from(["a", 1, False])),
    (Literal[Colour.RED, b"x", True], st.sampled_from([Colour.RED, b"x", True])),
    (UserId, st.integers()),
    (Annotated[int, "doc"], st.integers()),
    (Any, json_values),
    (object, json_values),
    (list, st.lists(json_values, max_size=2)),
    (dict, st.dictionaries(texts, json_values, max_size=2)),
]
KEYS = [sample for sample in LEAVES if sample[0] in (str, int, dt.date, uuid.UUID, Colour, Decimal, UserId)]
HASHABLE = [sample for sample in LEAVES if sample[0] not in (Any, object, list, dict)]
made = iter(range(10**9))


def lists_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=3)


def of(generic: Any, *arguments: Any) -> Any:
    return generic[arguments if len(arguments) > 1 else arguments[0]]


def arrays(sample: Sample) -> st.SearchStrategy[Sample]:
    wanted, values = sample
    return st.sampled_from(
        [
            (of(list, wanted), lists_of(values)),
            (of(MutableSequence, wanted), lists_of(values)),
            (of(tuple, wanted, ...), lists_of(values).map(tuple)),
            (of(deque, wanted), lists_of(values).map(deque)),
            (Annotated[of(list, wanted), "doc"], lists_of(values)),
            (of(Box, wanted), values.map(Box)),
            (of(DataBox, wanted), st.builds(DataBox, values, lists_of(values))),
            (of(RowBox, wanted), st.builds(RowBox, values, st.integers())),
            (of(TypedBox, wanted), st.fixed_dictionaries({"item": values})),
            (of(Pair, wanted), st.tuples(values, values)),
        ]
    )


def sets(sample: Sample) -> st.SearchStrategy[Sample]:
    wanted, values = sample
    return st.sampled_from(
        [
            (of(set, wanted), st.sets(values, max_size=3)),
            (of(frozenset, wanted), st.frozensets(values, max_size=3)),
        ]
    )


def mappings(key: Sample, sample: Sample) -> Sample:
    return of(Mapping, key[0], sample[0]), st.dictionaries(key[1], sample[1], max_size=3)


def ordered(key: Sample, sample: Sample) -> Sample:
    values = st.dictionaries(key[1], sample[1], max_size=3).map(OrderedDict)
    return of(OrderedDict, key[0], sample[0]), values


def rows(samples: list[Sample]) -> Sample:
    return of(tuple, *(wanted for wanted, _ in samples)), st.tuples(*(values for _, values in samples))


def unions(samples: list[Sample]) -> Sample:
    return of(Union, *(wanted for wanted, _ in samples)), st.one_of(*(values for _, values in samples))


def classes(samples: list[Sample]) -> st.SearchStrategy[Sample]:
    types = {f"f{number}": wanted for number, (wanted, _) in enumerate(samples)}
    values = {f"f{number}": values for number, (_, values) in enumerate(samples)}
    attrs_class = attrs.make_class(
        f"A{next(made)}", {name: attrs.field(type=each) for name, each in types.items()}
    )
    data_class = make_dataclass(f"D{next(made)}", list(types.items()))
    typed_dict = TypedDict(f"T{next(made)}", types)  # type: ignore[misc]
    return st.sampled_from(
        [
            (attrs_class, st.builds(attrs_class, **values)),
            (data_class, st.builds(data_class, **values)),
            (typed_dict, st.fixed_dictionaries(values)),
        ]
    )


def extended(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        inner.flatmap(arrays),
        st.sampled_from(HASHABLE).flatmap(sets),
        st.builds(mappings, st.sampled_from(KEYS), inner),
        st.builds(ordered, st.sampled_from(KEYS), inner),
        several.map(rows),
        several.map(unions),
        several.flatmap(classes),
    )


samples = st.recursive(st.sampled_from(LEAVES), extended, max_leaves=6)


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(samples, st.data())
def test_every_value_of_an_accepted_type_comes_back(sample: Sample, data: st.DataObject) -> None:
    wanted, values = sample
    try:
        task = task_for(wanted)
    except TaskInvalid:
        assume(False)  # noqa: FBT003  # it is what one says
    for _ in range(3):
        value = data.draw(values)
        assert same(task.from_json(task.to_json(value)), value)


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [
        (Box[int], Box(1)),
        (Box, Box({"a": [1]})),
        (list[Box[dt.date]], [Box(dt.date(2026, 1, 1))]),
        (dict[str, DataBox[uuid.UUID]], {"a": DataBox(uuid.UUID(int=1), [uuid.UUID(int=2)])}),
        (IntBox, IntBox(1)),
        (Both[dt.date], Both(1, dt.date(2026, 1, 1))),
        (Holder, Holder(Box(Box(dt.date(2026, 1, 1))))),
        (float | Any, 0),
        (float | Any, 0.0),
        (float | object, True),
        (Node, Node("a", [Node("b")], Node("c"))),
        (Tree, Tree(Leaf(Decimal(1)), Tree(Leaf(Decimal(2)), Leaf(Decimal(3))))),
        (Json, {"a": [None, {"b": 1.5}]}),
        (dict[str, Annotated[int, ["unhashable"]]], {"a": 1}),
        (Options, {"a": 1}),
        (Options, {"a": 1, "b": dt.date(2026, 1, 1), "c": ""}),
        (Point, Point(1, dt.date(2026, 1, 1))),
        (MutableMapping[str, int], {"a": 1}),
        (dict[int, str], {1: "a", -2: "b"}),
        (dict[Colour, int], {Colour.RED: 1}),
        (Cat | Dog | Named, Named("a")),
        (Cat | Dog | Named, Dog("a", 1)),
        (Circle | Square, Square(Decimal(1), "rectangle")),
        (Circle | Square | TaggedDict | None, {"kind": "dict", "size": Decimal(1)}),
        (list[int] | list[str], ["a"]),
        (Colour | Mode, Mode.FAST),
        (Colour | Literal["none"], "none"),
        (str | Literal["a"], "a"),  # noqa: PYI051  # as generic code may have it
        (float | int, 5),
        (list[float | int], [5, 0.5]),
        (int | float, 5.0),
        (bool | int, 1),
        (Decimal | float, Decimal("1.5")),
        (uuid.UUID | int, uuid.UUID(int=5)),
        (Lenient, Lenient.RED),
        (Loose, Loose(1, "a")),
        (Letter, Letter(["a"])),
        (Box[list[Literal["a"]] | None], Box(["a"])),
        (Rounded, Rounded(0.52)),
        (Any | None, None),
        (Validated, Validated("abc", 5)),
        (Derived, Derived(2)),
        (dt.datetime, dt.datetime(1900, 1, 1, tzinfo=dt.timezone(dt.timedelta(minutes=19, seconds=32)))),
    ],
)
def test_a_payload_comes_back_as_itself(payload_type: Any, payload: Any) -> None:
    assert comes_back(payload_type, payload)


# --- what is refused when the task is made -------------------------------------------------------


@pytest.mark.parametrize(
    ("payload_type", "reason"),
    [
        (Sequence[int], "a list and a tuple look alike: write list[int] or tuple[int, ...] @ $"),
        (Order, "write list[int] or tuple[int, ...] @ $.lines[*][*].prices"),
        (Collection[str], "write list[str] or tuple[str, ...] @ $"),
        (Iterable[str], "write list[str] or tuple[str, ...] @ $"),
        (AbstractSet[str], "write set[str] or frozenset[str] @ $"),
        (defaultdict[str, int], "which has no defaults: write dict[str, int] @ $"),
        (Counter[str], "write dict[str, int] @ $"),
        (dt.timedelta, "write float, for seconds @ $"),
        (list[bytearray], "write bytes @ $[*]"),
        (object.__class__, "type cannot be stored as JSON"),
        (ZoneInfo, "write an attrs class, a dataclass, a TypedDict or a NamedTuple @ $"),
        (
            Initialized,
            "Initialized cannot be made of its fields alone, missing a required argument: 'b': make fields",
        ),
        (OwnTerms, "got an unexpected keyword argument 'a'"),
        (Odd, "Odd.PAIR is not JSON by its value"),
        (dict[float, int], "a key is text in JSON, which float is not: write dict[str, int] @ $"),
        (dict[Level, int], "which Level is not"),
        (Literal["red", Colour.RED], "look alike in JSON"),
        (uuid.UUID | str, "UUID and str look alike in JSON: write one of them @ $"),
        (Colour | str, "look alike in JSON"),
        (dt.date | str, "look alike in JSON"),
        (dt.date | dt.datetime, "look alike in JSON"),
        (Decimal | str, "look alike in JSON"),
        (bytes | str, "look alike in JSON"),
        (Path | str, "look alike in JSON"),
        (Level | int, "look alike in JSON"),
        (Lenient | Mode, "look alike in JSON"),
        (Any | uuid.UUID, "look alike in JSON"),
        (list[int] | tuple[int, ...], "look alike in JSON"),
        (list[int] | set[int], "look alike in JSON"),
        (Point | list[int], "look alike in JSON"),
        (Named | AlsoNamed, "Named and AlsoNamed look alike in JSON: give each a field of its own"),
        (Box[int] | Box[str], 'or a tag, as in kind: Literal["a"] @ $'),
        (Named | dict[str, str], "look alike in JSON"),
        (dict[str, list[uuid.UUID | str]], "look alike in JSON: write one of them @ $[*][*]"),
    ],
)
def test_a_type_that_would_come_back_as_another_is_refused(payload_type: Any, reason: str) -> None:
    with pytest.raises(TaskInvalid) as caught:
        task_for(payload_type)
    assert reason in str(caught.value)


def test_a_batch_may_call_its_list_by_an_abstract_name() -> None:
    tasks = TaskRegistry()

    @tasks.batch_task("t")
    async def handler(items: Sequence[dt.date]) -> None: ...

    items = [dt.date(2026, 1, 1)]
    assert handler.from_json(handler.to_json(items)) == items


# --- what is refused when a job is added ---------------------------------------------------------


@attrs.frozen
class SpecialNamed(Named):
    secret: str = "hunter2"


@pytest.mark.parametrize(
    ("payload_type", "payload", "reason"),
    [
        (Named, SpecialNamed("a"), "expected Named, not SpecialNamed @ $"),
        (Box[int], Box("a"), "expected int, not str @ $.item"),
        (Box[int] | None, Box("a"), "expected int, not str @ $.item"),
        (tuple[int, ...], [1], "expected tuple[int, ...], not list @ $"),
        (tuple[int, str], (1,), "an array of 2 items is needed, not of 1 @ $"),
        (tuple[int], (), "an array of 1 item is needed, not of 0 @ $"),
        (list[int], (1,), "expected list[int], not tuple @ $"),
        (set[int], [1], "expected set[int], not list @ $"),
        (dt.date, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "expected date, not datetime @ $"),
        (dt.time, dt.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "offset depends on the day @ $"),
        (Any, (1, 2), "tuple is not JSON @ $"),
        (dict[str, Any], {"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, "datetime is not JSON @ $['at']"),
        (float, 2**53 + 1, "a whole number that no float equals @ $"),
        (float, 10**400, "too large for a float @ $"),
        (Literal[1, 2], True, "not one of Literal[1, 2] @ $"),
        (Colour | int, "red", "expected Colour | int, not str @ $"),
        (Circle | Square, Circle(Decimal(1), cast("Any", "square")), "not one of Literal['circle'] @ $.kind"),
        (Taxed, Taxed(1), "another value when read back @ $"),
        (OwnInit, OwnInit(1), "another value when read back @ $"),
    ],
)
def test_a_value_that_would_come_back_as_another_is_refused(
    payload_type: Any, payload: Any, reason: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        task_for(payload_type).to_json(payload)
    assert reason in str(caught.value)


def test_values_of_subclasses_come_back_as_equal_ones() -> None:
    for payload_type, payload in [(str, Mode.FAST), (int, Level.LOW), (float, 3), (dict, OrderedDict(a=1))]:
        task = task_for(payload_type)
        back = task.from_json(task.to_json(payload))
        assert (back, type(back)) == (payload, payload_type)


def test_a_value_that_a_class_refuses_is_not_added() -> None:
    payload = Validated("abc")
    object.__setattr__(payload, "name", "abcd")
    with pytest.raises(PayloadInvalid, match=r"ValueError when made into Validated @ \$"):
        task_for(Validated).to_json(payload)


def test_every_mistake_of_a_payload_is_named() -> None:
    payload: Any = Node(5, [Node("a", 6)])  # type: ignore[arg-type]
    with pytest.raises(PayloadInvalid) as caught:
        task_for(Node).to_json(payload)
    assert caught.value.reasons == (
        "expected str, not int @ $.name",
        "expected list[Node], not int @ $.children[0].children",
    )


def test_a_number_that_is_none_comes_back() -> None:
    task = task_for(Decimal)
    assert str(task.from_json(task.to_json(Decimal("NaN")))) == "NaN"


def test_what_was_checked_while_it_was_written_is_not_read_back() -> None:
    """Reading back would take more time than all else that a client does to add a job."""
    hashed: list[int] = []

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


def test_equal_sets_have_one_text() -> None:
    task = task_for(frozenset[int])
    one, other = frozenset([8, 0]), frozenset([0, 8])
    assert task.to_json(one) == task.to_json(other) == "[0,8]"


def test_what_is_a_part_of_itself_is_refused() -> None:
    node, anything = Node("a"), [0]
    node.children.append(node)
    anything.append(anything)  # type: ignore[arg-type]
    for payload_type, payload in ((Node, node), (Any, anything)):
        with pytest.raises(PayloadInvalid, match="nested too deeply, or a part of itself"):
            task_for(payload_type).to_json(payload)


def test_a_tag_says_what_is_wrong_with_it() -> None:
    task = task_for(Circle | Square)
    with pytest.raises(PayloadInvalid, match=r"not one of 'circle', .* @ \$\.kind"):
        task.from_json('{"kind": "hunter2", "size": "1"}')
    with pytest.raises(PayloadInvalid, match=r"required, but missing @ \$\.kind"):
        task.from_json('{"size": "1"}')
