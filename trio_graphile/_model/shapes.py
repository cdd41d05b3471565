"""Makes shapes of types. Types that JSON cannot hold are refused, with what to use instead."""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import typing
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from collections.abc import (
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import Any, Literal

import attrs

from trio_graphile._model.annotations import (
    core_of,
    hints_of,
    is_named_tuple,
    is_typed_dict,
    is_union,
    members_of,
    name_of,
    names_of,
    origin_of,
)
from trio_graphile._model.containers import array_shape, key_shape, mapping_shape, row_shape
from trio_graphile._model.objects import (
    class_shape,
    fields_of,
    is_class_with_fields,
    is_generated,
    keys_of,
    typed_dict_shape,
)
from trio_graphile._model.shape import Shape, Unstorable
from trio_graphile._model.simple_shapes import SIMPLE_SHAPES, enum_shape, literal_shape
from trio_graphile._model.unions import union_shape

# An abstract class stands for the concrete one that people usually mean.
_ARRAYS: dict[Any, type] = {
    list: list, MutableSequence: list, set: set, MutableSet: set, frozenset: frozenset, deque: deque,
}  # fmt: skip
_MAPPINGS: dict[Any, type] = {
    dict: dict, Mapping: dict, MutableMapping: dict, OrderedDict: OrderedDict,
}  # fmt: skip
_LIST_OR_TUPLE = ", where a list and a tuple look alike: write list[{0}] or tuple[{0}, ...]"
_INSTEAD: dict[Any, str] = {
    Sequence: _LIST_OR_TUPLE,
    Collection: _LIST_OR_TUPLE,
    Iterable: _LIST_OR_TUPLE,
    AbstractSet: ", where a set and a frozenset look alike: write set[{0}] or frozenset[{0}]",
    defaultdict: ", which has no defaults: write dict[{0}]",
    Counter: ": write dict[{0}, int]",
    ChainMap: ": write dict[{0}]",
    dt.timedelta: ": write float, for seconds",
    bytearray: ": write bytes",
    memoryview: ": write bytes",
    complex: ": write tuple[float, float]",
    range: ": write tuple[int, int]",
    pathlib.PurePath: ": write Path",
}
_CLASS = ": write an attrs class, a dataclass, a TypedDict or a NamedTuple"


@attrs.frozen
class Shapes:
    """Makes the shape of each type once."""

    refuse_unknown: bool
    """Whether an object is refused if it has a key that its class does not know."""
    _made: dict[Any, Shape] = attrs.field(init=False, factory=dict, repr=False)
    _open: set[Any] = attrs.field(init=False, factory=set, repr=False)

    def of(self, wanted: Any, scope: Mapping[str, Any], path: str = "$") -> Shape:
        """Return the shape of a type.

        `scope` holds the local names where the type is used. Raises `Unstorable` for a type whose values
        would not come back from JSON, and `NameError` for names that are not defined there.
        """
        key = _key_of(wanted)
        if key in self._made:
            return self._made[key]
        if key in self._open:
            return self._later(key, wanted, scope, path)
        self._open.add(key)
        try:
            shape = self._make(core_of(wanted), scope, path)
        finally:
            self._open.discard(key)
        self._made[key] = shape
        return shape

    def _later(self, key: Any, wanted: Any, scope: Mapping[str, Any], path: str) -> Shape:
        """Return a shape for a type inside itself, while its shape is being made."""
        core = core_of(wanted)
        has_fields = is_class_with_fields(core) or is_typed_dict(core)
        return Shape(
            wanted=wanted,
            write=lambda value: self._made[key].write(value),  # noqa: PLW0108  # it is not made yet
            read=lambda value: self._made[key].read(value),  # noqa: PLW0108  # as above
            classes=(dict if is_typed_dict(core) else origin_of(core),) if has_fields else (),
            forms=frozenset({dict} if has_fields else ()),
            keys=keys_of(fields_of(core, scope, path)) if has_fields else None,
            is_faithful=False,  # deeper values can be written than can be read
        )

    def _make(self, wanted: Any, scope: Mapping[str, Any], path: str) -> Shape:
        origin, members = origin_of(wanted), typing.get_args(wanted)
        if (key := _key_of(wanted)) in SIMPLE_SHAPES:
            return SIMPLE_SHAPES[key]
        if origin is Literal:
            return literal_shape(wanted, path)
        if is_union(wanted):
            parts = [self.of(member, scope, path) for member in members_of(wanted)]
            return union_shape(wanted, parts, path)
        if is_typed_dict(wanted) or is_class_with_fields(wanted):
            return self._object(wanted, scope, path)
        if origin in _ARRAYS:
            item = members[0] if members else Any
            return array_shape(wanted, _ARRAYS[origin], self.of(item, scope, f"{path}[*]"))
        if origin in _MAPPINGS:
            return self._mapping(wanted, scope, path)
        if isinstance(origin, type) and issubclass(origin, tuple):
            return self._tuple(wanted, scope, path)
        if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
            return enum_shape(wanted, path)
        raise Unstorable(_instead_of(wanted), path)

    def _object(self, wanted: Any, scope: Mapping[str, Any], path: str) -> Shape:
        fields = fields_of(wanted, scope, path)
        parts = [self.of(field.hint, scope, f"{path}.{field.name}") for field in fields]
        make = typed_dict_shape if is_typed_dict(wanted) else class_shape
        return make(wanted, fields, parts, refuse_unknown=self.refuse_unknown)

    def _mapping(self, wanted: Any, scope: Mapping[str, Any], path: str) -> Shape:
        key, value = typing.get_args(wanted) or (Any, Any)
        keys = key_shape(self.of(key, scope, path))
        if keys is None:
            raise Unstorable(
                f"a key is text in JSON, which {name_of(key)} is not: write dict[str, {name_of(value)}]", path
            )
        return mapping_shape(wanted, _MAPPINGS[origin_of(wanted)], keys, self.of(value, scope, f"{path}[*]"))

    def _tuple(self, wanted: Any, scope: Mapping[str, Any], path: str) -> Shape:
        origin, members = origin_of(wanted), typing.get_args(wanted)
        if wanted is tuple or (len(members) == 2 and members[1] is ...):
            item = members[0] if members else Any
            return array_shape(wanted, tuple, self.of(item, scope, f"{path}[*]"))
        if origin is tuple:
            parts = [self.of(member, scope, f"{path}[{place}]") for place, member in enumerate(members)]
            return row_shape(wanted, tuple, parts, tuple)
        if not is_named_tuple(wanted):
            raise Unstorable(_instead_of(wanted), path)
        hints = hints_of(wanted, scope)
        parts = [self.of(hints.get(name, Any), scope, f"{path}.{name}") for name in origin._fields]
        shape = row_shape(wanted, origin, parts, lambda values: origin(*values))
        return attrs.evolve(shape, is_faithful=shape.is_faithful and is_generated(origin.__new__))


def _key_of(wanted: Any) -> Any:
    try:
        hash(wanted)
    except TypeError:  # an annotation may hold anything
        return repr(wanted)
    return wanted


def _instead_of(wanted: Any) -> str:
    origin = origin_of(wanted)
    advice = _INSTEAD.get(origin, _CLASS)
    if isinstance(origin, type) and advice is _CLASS and issubclass(origin, (Mapping, Sequence, AbstractSet)):
        advice = ": write dict" if issubclass(origin, Mapping) else ": write list"
    return f"{name_of(wanted)} cannot be stored as JSON{advice.format(names_of(wanted) or 'Any')}"
