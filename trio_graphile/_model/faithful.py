"""Which types of payloads come back from JSON as what they were, and which values are certain to.

A type is read once, when its task is made. One that could come back as something else is refused there, by
its place in the payload's type and with what to write instead. For the others there is a check that looks at
a value in one walk: what passes it need not be read back before it is stored.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import inspect
import math
import pathlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import attrs
from cattrs.cols import is_namedtuple

from trio_graphile._model.strict import is_class_with_fields, is_union, name_of, origin_of

Fits: TypeAlias = Callable[[Any], bool]
Kind: TypeAlias = Literal["null", "boolean", "integer", "number", "string", "array", "object"]

KIND_OF: Mapping[type, Kind] = {
    types.NoneType: "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
"""What a value that was read from JSON was there."""
_EVERY_KIND: frozenset[Kind] = frozenset(KIND_OF.values())
_INSTEAD: Mapping[Any, str] = {
    **dict.fromkeys((abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Iterator), "list"),
    **dict.fromkeys((abc.Set, abc.MutableSet), "set or frozenset"),
    **dict.fromkeys((abc.Mapping, abc.MutableMapping), "dict"),
    **dict.fromkeys((collections.defaultdict, collections.Counter, collections.ChainMap), "dict"),
    collections.deque: "list",
    dt.timedelta: "float, in seconds",
    bytearray: "bytes",
    pathlib.PurePath: "Path or str",
    range: "list[int]",
}
_OTHERWISE = "one of the types that docs/tasks.md lists, or a class made of them"


class Unfaithful(Exception):
    """A type that could come back as something else, why, and where it stands."""


@attrs.frozen
class Form:
    """What values of a type are in JSON, and whether one of them is certain to come back as itself."""

    kinds: frozenset[Kind]
    fits: Fits


def _exactly(wanted: type) -> Fits:
    return lambda value: type(value) is wanted


def _never_certain(_: Any) -> bool:
    return False


def _is_json(value: Any) -> bool:
    cls = type(value)
    if cls is str or cls is int or cls is bool or value is None:
        return True
    if cls is float:
        return math.isfinite(value)
    if cls is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return cls is list and all(map(_is_json, value))


def _is_time(value: Any) -> bool:
    # A zone that needs the date to know its offset does not tell it.
    return type(value) is dt.time and (value.tzinfo is None or type(value.tzinfo) is dt.timezone)


_ANYTHING = Form(_EVERY_KIND, _is_json)
_SCALARS: Mapping[Any, Form] = {
    Any: _ANYTHING,
    object: _ANYTHING,
    None: Form(frozenset({"null"}), lambda value: value is None),
    types.NoneType: Form(frozenset({"null"}), lambda value: value is None),
    bool: Form(frozenset({"boolean"}), _exactly(bool)),
    int: Form(frozenset({"integer"}), _exactly(int)),
    float: Form(frozenset({"number"}), lambda value: type(value) is float and math.isfinite(value)),
    dt.time: Form(frozenset({"string"}), _is_time),
    pathlib.Path: Form(frozenset({"string"}), lambda value: isinstance(value, pathlib.Path)),
    **{
        cls: Form(frozenset({"string"}), _exactly(cls))
        for cls in (str, dt.datetime, dt.date, bytes, decimal.Decimal, uuid.UUID)
    },
}


@attrs.define
class TypeReader:
    """Reads types; one that contains itself is read once."""

    _seen: dict[Any, Form] = attrs.field(factory=dict)

    def read(self, wanted: Any, path: str = "$") -> Form:
        """Return the form of a type in JSON. Raises `Unfaithful`."""
        wanted = _bare(wanted)
        origin = origin_of(wanted)
        if (scalar := _SCALARS.get(wanted) if isinstance(wanted, abc.Hashable) else None) is not None:
            return scalar
        if isinstance(wanted, TypeVar):
            raise Unfaithful(
                f"{name_of(wanted)} may be anything: name a type for it, as in Box[int] @ {path}"
            )
        if is_union(wanted):
            return self._read_union(wanted, path)
        if origin is Literal:
            return _read_literal(wanted, path)
        if isinstance(origin, type) and issubclass(origin, enum.Enum):
            return _read_enum(wanted, path)
        is_class = is_class_with_fields(wanted)
        if not is_class and isinstance(origin, type) and getattr(origin, "__parameters__", None):
            raise Unfaithful(f"{name_of(wanted)}: only attrs classes and dataclasses may be generic @ {path}")
        if is_class or typing.is_typeddict(origin) or is_namedtuple(origin):
            return self._read_fields(wanted, path)
        if origin in (list, set, frozenset, tuple):
            return self._read_array(wanted, path)
        if origin in (dict, collections.OrderedDict):
            return self._read_dict(wanted, path)
        raise Unfaithful(_refusal(wanted, "it does not come back from JSON as what it was", path))

    def _read_union(self, wanted: Any, path: str) -> Form:
        members = [(member, self.read(member, path)) for member in typing.get_args(wanted)]
        for index, (member, form) in enumerate(members):
            for other, other_form in members[:index]:
                if form.kinds & other_form.kinds and not _may_look_alike(member, other):
                    raise Unfaithful(
                        f"{name_of(wanted)}: {name_of(other)} and {name_of(member)} look alike in JSON, so "
                        "one may come back as the other: write one of them, or a class with a field for each "
                        f"@ {path}"
                    )
        checks = tuple(form.fits for _, form in members)
        kinds = frozenset[Kind]().union(*(form.kinds for _, form in members))
        return Form(kinds, lambda value: any(fits(value) for fits in checks))

    def _read_array(self, wanted: Any, path: str) -> Form:
        origin, members = origin_of(wanted), typing.get_args(wanted)
        kinds: frozenset[Kind] = frozenset({"array"})
        if origin is tuple and members and members[-1] is not ...:
            checks = tuple(self.read(member, f"{path}[{index}]").fits for index, member in enumerate(members))
            return Form(
                kinds,
                lambda value: (
                    type(value) is tuple
                    and len(value) == len(checks)
                    and all(fits(item) for fits, item in zip(checks, value, strict=True))
                ),
            )
        item_fits = self.read(members[0] if members else Any, f"{path}[]").fits
        return Form(kinds, lambda value: type(value) is origin and all(map(item_fits, value)))

    def _read_dict(self, wanted: Any, path: str) -> Form:
        origin = origin_of(wanted)
        key, item = typing.get_args(wanted) or (Any, Any)
        key_form = self.read(key, f"{path} (key)")
        if _bare(key) is not Any and (key_form.kinds != {"string"} or _bare(key) not in _TEXT_KEYS):
            raise Unfaithful(
                f"{name_of(wanted)}: keys are text in JSON: write dict[str, {name_of(item)}] @ {path}"
            )
        item_fits = self.read(item, f"{path}[]").fits
        return Form(
            frozenset({"object"}),
            lambda value: (
                type(value) is origin
                and all(type(name) is str and item_fits(part) for name, part in value.items())
            ),
        )

    def _read_fields(self, wanted: Any, path: str) -> Form:
        if (seen := self._seen.get(wanted)) is not None:
            return seen
        made: list[Fits] = []  # filled below: a class may have fields of its own type
        kinds: frozenset[Kind] = frozenset({"array" if is_namedtuple(origin_of(wanted)) else "object"})
        form = self._seen[wanted] = Form(kinds, lambda value: made[0](value))  # noqa: PLW0108  # not made yet
        parts = field_types(wanted)
        if typing.is_typeddict(origin_of(wanted)):
            _check_required(wanted, parts, path)
        elif is_class_with_fields(wanted):
            _check_init(wanted, path)
        checks = {name: self.read(part, f"{path}.{name}").fits for name, part in parts.items()}
        made.append(_fields_check(origin_of(wanted), checks))
        return form


def _may_look_alike(one: Any, other: Any) -> bool:
    """Tell whether it does no harm: both are read as what is in JSON, or their fields tell them apart."""
    one, other = _bare(one), _bare(other)
    return {one, other} <= _AS_IN_JSON or (is_class_with_fields(one) and is_class_with_fields(other))


_AS_IN_JSON = frozenset({Any, object, *KIND_OF} - {list, dict})
_TEXT_KEYS = frozenset({str})


def _bare(wanted: Any) -> Any:
    """Return a type without what says nothing of its values."""
    while True:
        origin = typing.get_origin(wanted)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
            wanted = typing.get_args(wanted)[0]
        elif isinstance(wanted, typing.NewType):
            wanted = wanted.__supertype__
        elif hasattr(wanted, "__value__") and not isinstance(wanted, type | enum.Enum):  # a `type` statement
            wanted = wanted.__value__
        else:
            return wanted


def field_types(wanted: Any) -> dict[str, Any]:
    """Return the types of a class's fields, with its type arguments put in. Raises `NameError`."""
    origin = origin_of(wanted)
    if attrs.has(origin):
        found = {field.name: field.type or Any for field in attrs.fields(attrs.resolve_types(origin))}
    else:
        hints = typing.get_type_hints(origin, include_extras=True)
        if dataclasses.is_dataclass(origin):
            names: typing.Iterable[str] = [field.name for field in dataclasses.fields(origin)]
        else:
            names = getattr(origin, "_fields", hints)
        found = {name: hints.get(name, Any) for name in names}
    arguments = _arguments(wanted)
    return {name: _filled(part, arguments) for name, part in found.items()}


def _arguments(wanted: Any) -> dict[Any, Any]:
    origin = origin_of(wanted)
    found = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(wanted), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        if origin_of(base) not in (typing.Generic, typing.Protocol):
            inherited = _arguments(base)
            found = {name: _filled(part, found) for name, part in inherited.items()} | found
    return found


def _filled(part: Any, arguments: Mapping[Any, Any]) -> Any:
    if isinstance(part, TypeVar):
        return arguments.get(part, part)
    parameters = (
        () if isinstance(part, type) and not typing.get_args(part) else getattr(part, "__parameters__", ())
    )
    return part[tuple(arguments.get(one, one) for one in parameters)] if parameters else part


def _check_required(wanted: Any, parts: Mapping[str, Any], path: str) -> None:
    """Refuse what Python does not see in annotations that are texts: whether a key must be there."""
    required = origin_of(wanted).__required_keys__
    for name, part in parts.items():
        marked = typing.get_origin(part)
        if marked is (typing.NotRequired if name in required else typing.Required):
            raise Unfaithful(
                f"{name_of(wanted)}: Python does not see {name_of(marked)} under `from __future__ import "
                f"annotations`: write total=False, with a base class for the rest @ {path}.{name}"
            )


def _fields_check(cls: Any, checks: Mapping[str, Fits]) -> Fits:
    pairs = tuple(checks.items())
    if typing.is_typeddict(cls):
        needed: frozenset[str] = cls.__required_keys__
        return lambda value: (
            type(value) is dict
            and needed.issubset(value)
            and all((fits := checks.get(name)) is not None and fits(part) for name, part in value.items())
        )
    if not _is_plain(cls):
        return _never_certain
    return lambda value: type(value) is cls and all(fits(getattr(value, name)) for name, fits in pairs)


def _is_plain(cls: Any) -> bool:
    """Tell whether making an instance runs no code of the program's own, which may change values."""
    if is_namedtuple(cls):
        return bool(cls.__bases__ == (tuple,))
    if cls.__new__ is not object.__new__:
        return False
    if attrs.has(cls):
        own_code = ("__attrs_pre_init__", "__attrs_post_init__", "__attrs_init__")
        return (
            "__attrs_attrs__" in vars(cls)
            and not any(hasattr(cls, name) for name in own_code)
            and all(
                field.init and field.converter is None and field.validator is None
                for field in attrs.fields(cls)
            )
        )
    return bool(
        "__dataclass_fields__" in vars(cls)
        and cls.__dataclass_params__.init
        and not hasattr(cls, "__post_init__")
        and all(field.init for field in dataclasses.fields(cls))
    )


def _check_init(wanted: Any, path: str) -> None:
    """Refuse a class that nobody can make of its fields alone."""
    origin = origin_of(wanted)
    known = (
        {field.name for field in dataclasses.fields(origin)} if dataclasses.is_dataclass(origin) else set()
    )
    if attrs.has(origin):
        known = {field.alias for field in attrs.fields(origin)}
    for name, parameter in inspect.signature(origin).parameters.items():
        is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_one and parameter.default is parameter.empty and name not in known:
            raise Unfaithful(
                f"{name_of(wanted)}: making one needs {name!r}, which is not stored: make it a field, "
                f"or give it a default @ {path}"
            )


def _read_literal(wanted: Any, path: str) -> Form:
    values = typing.get_args(wanted)
    raw = [value.value if isinstance(value, enum.Enum) else value for value in values]
    kinds = frozenset(kind for value in raw if (kind := KIND_OF.get(type(value))) is not None)
    if any(type(value) not in _PLAIN for value in raw) or len(set(raw)) < len(raw):
        raise Unfaithful(_refusal(wanted, "its values do not differ in JSON", path))
    classes = frozenset(map(type, values))
    return Form(kinds, lambda value: type(value) in classes and value in values)


def _read_enum(wanted: Any, path: str) -> Form:
    values = [member.value for member in wanted]
    if not all(type(value) in _PLAIN for value in values):
        raise Unfaithful(
            f"{name_of(wanted)}: its values are not JSON: give its members texts or numbers @ {path}"
        )
    return Form(frozenset(KIND_OF[type(value)] for value in values), _exactly(wanted))


_PLAIN = frozenset({str, int, bool, float, types.NoneType})


def _refusal(wanted: Any, why: str, path: str) -> str:
    instead = _INSTEAD.get(origin_of(wanted), _OTHERWISE)
    return f"{name_of(wanted)}: {why}: write {instead} @ {path}"


def differences(value: Any, back: Any, path: str) -> typing.Iterator[str]:
    """Yield where a value and what it came back as are not the same; a float may have been an int."""
    if is_class_with_fields(type(back)) and type(value) is type(back):
        own = attrs.fields(type(back)) if attrs.has(type(back)) else dataclasses.fields(back)
        for field in own:
            yield from differences(
                getattr(value, field.name), getattr(back, field.name), f"{path}.{field.name}"
            )
    elif isinstance(value, Mapping) and isinstance(back, dict) and value.keys() == back.keys():
        for name, part in value.items():
            yield from differences(part, back[name], f"{path}.{name}")
    elif isinstance(back, list | tuple) and isinstance(value, type(back)) and len(value) == len(back):
        for index, (one, other) in enumerate(zip(value, back, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif not _same(value, back):
        yield f"{name_of(type(value))} comes back as {_as_what(value, back)} @ {path}"


def _same(value: Any, back: Any) -> bool:
    if isinstance(value, type(back)):
        return bool(value == back) or (type(back) is decimal.Decimal and str(value) == str(back))  # a NaN
    return type(back) is float and type(value) is int and value == back


def _as_what(value: Any, back: Any) -> str:
    return "another value" if type(value) is type(back) else name_of(type(back))
