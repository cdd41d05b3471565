"""The shapes of classes with fields and of typed dictionaries, which are objects in JSON."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

import attrs

from trio_graphile._model.annotations import (
    core_of,
    expected,
    hints_of,
    is_typed_dict,
    name_of,
    origin_of,
    wrappers_of,
)
from trio_graphile._model.shape import Keys, Mistake, Shape, Unfit, Unstorable
from trio_graphile._model.simple_shapes import literal_values

_ABSENT = object()


@attrs.frozen
class Field:
    """One field of a class, or one key of a typed dictionary."""

    name: str
    """The name of the field, and its key in JSON."""
    argument: str
    """The name of its argument where values are made."""
    hint: Any
    is_required: bool
    is_changed: bool = False
    """Whether a validator or converter may change or refuse its value."""


def is_class_with_fields(wanted: Any) -> bool:
    origin = origin_of(wanted)
    return isinstance(origin, type) and (attrs.has(origin) or is_dataclass(origin))


def fields_of(wanted: Any, scope: Mapping[str, Any], path: str) -> list[Field]:
    """Return the fields of a class or typed dictionary to be stored. Raises `NameError` and `Unstorable`."""
    hints = hints_of(wanted, scope)
    if is_typed_dict(wanted):
        return list(_keys_of_typed_dict(origin_of(wanted), hints))
    read = _attributes_of if attrs.has(origin_of(wanted)) else _dataclass_fields_of
    fields = list(read(origin_of(wanted), hints))
    _check_arguments(wanted, fields, path)
    return fields


def keys_of(fields: Sequence[Field]) -> Keys:
    tags = {field.name: literal_values(core_of(field.hint)) for field in fields}
    return Keys(
        known=frozenset(field.name for field in fields),
        required=frozenset(field.name for field in fields if field.is_required),
        tags={name: values for name, values in tags.items() if values},
    )


def _keys_of_typed_dict(origin: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    for name, hint in hints.items():
        wrappers = wrappers_of(hint)  # Python 3.11 overlooks qualifiers in annotations that are text
        is_required = "Required" in wrappers or (
            name in origin.__required_keys__ and "NotRequired" not in wrappers
        )
        yield Field(name, name, hint, is_required)


def _attributes_of(origin: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    for field in attrs.fields(origin):
        if field.init:
            hint = hints.get(field.name, Any if field.type is None else field.type)
            is_changed = field.validator is not None or field.converter is not None
            yield Field(field.name, field.alias, hint, field.default is attrs.NOTHING, is_changed)


def _dataclass_fields_of(origin: Any, hints: Mapping[str, Any]) -> Iterator[Field]:
    for field in dataclass_fields(origin):
        if field.init:
            is_required = field.default is MISSING and field.default_factory is MISSING
            yield Field(field.name, field.name, hints[field.name], is_required)


def _check_arguments(wanted: Any, fields: Sequence[Field], path: str) -> None:
    """Refuse a class that cannot be made from the fields that are stored."""
    try:
        inspect.signature(origin_of(wanted)).bind(**{field.argument: None for field in fields})
    except TypeError as error:
        raise Unstorable(
            f"{name_of(wanted)} cannot be made of its fields alone, {error}: make fields of what it takes",
            path,
        ) from None


def class_shape(
    wanted: Any, fields: Sequence[Field], parts: Sequence[Shape], *, refuse_unknown: bool
) -> Shape:
    """Return the shape of a class with fields."""
    cls, keys = origin_of(wanted), keys_of(fields)
    written = [(field.name, part.exact, part.write) for field, part in zip(fields, parts, strict=True)]
    read_arguments = _object_reader(wanted, fields, parts, refuse_unknown=refuse_unknown)

    def write(value: Any) -> dict[str, Any]:
        if type(value) is not cls:
            raise Unfit.here(expected(wanted, value))
        plain = {}
        mistakes: list[Mistake] = []
        for name, exact, convert in written:
            item = getattr(value, name)
            try:
                plain[name] = item if type(item) in exact else convert(item)
            except Unfit as unfit:
                mistakes += unfit.below(f".{name}")
        if mistakes:
            raise Unfit(mistakes)
        return plain

    def read(value: Any) -> Any:
        arguments = read_arguments(value)
        try:
            return cls(**arguments)
        except Exception as error:  # noqa: BLE001  # validators and converters may raise anything
            raise Unfit.here(f"{type(error).__name__} when made into {name_of(wanted)}") from None

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=(cls,),
        forms=frozenset({dict}),
        keys=keys,
        is_faithful=_is_made_as_given(cls)
        and not any(field.is_changed for field in fields)
        and all(part.is_faithful for part in parts),
    )


def typed_dict_shape(
    wanted: Any, fields: Sequence[Field], parts: Sequence[Shape], *, refuse_unknown: bool
) -> Shape:
    """Return the shape of a typed dictionary."""
    of_write = [attrs.evolve(part, read=part.write) for part in parts]
    write = _object_reader(wanted, fields, of_write, refuse_unknown=True)  # unknown keys would be lost
    return Shape(
        wanted=wanted,
        write=lambda value: write(dict(value) if isinstance(value, dict) else value),
        read=_object_reader(wanted, fields, parts, refuse_unknown=refuse_unknown),
        classes=(dict,),
        forms=frozenset({dict}),
        keys=keys_of(fields),
        is_plain=refuse_unknown and all(part.is_plain for part in parts),
        is_faithful=all(part.is_faithful for part in parts),
    )


def _object_reader(
    wanted: Any, fields: Sequence[Field], parts: Sequence[Shape], *, refuse_unknown: bool
) -> Callable[[Any], dict[str, Any]]:
    """Return a function that turns an object of JSON into arguments by name."""
    known = frozenset(field.name for field in fields)
    each = [
        (field.name, field.argument, field.is_required, part.exact, part.read)
        for field, part in zip(fields, parts, strict=True)
    ]

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise Unfit.here(expected(wanted, value))
        arguments = {}
        mistakes: list[Mistake] = []
        for name, argument, is_required, exact, convert in each:
            item = value.get(name, _ABSENT)
            if type(item) in exact:
                arguments[argument] = item
            elif item is not _ABSENT:
                try:
                    arguments[argument] = convert(item)
                except Unfit as unfit:
                    mistakes += unfit.below(f".{name}")
            elif is_required:
                mistakes.append((f".{name}", "required, but missing"))
        if refuse_unknown and not known.issuperset(value):
            names = ", ".join(sorted(map(repr, value.keys() - known)))
            mistakes.append(("", f"unknown: {names}"))
        if mistakes:
            raise Unfit(mistakes)
        return arguments

    return read


_OF_THE_INTERPRETER = (types.WrapperDescriptorType, types.BuiltinFunctionType, types.MethodWrapperType)


def _is_made_as_given(cls: Any) -> bool:
    """Whether making a value of a class only stores its fields as they are given."""
    hooks = ("__attrs_pre_init__", "__attrs_post_init__", "__post_init__")
    all_are_given = all(
        field.init for field in (attrs.fields(cls) if attrs.has(cls) else dataclass_fields(cls))
    )
    return (
        all_are_given
        and not any(hasattr(cls, hook) for hook in hooks)
        and type(cls) is type
        and all(is_generated(getattr(cls, name)) for name in ("__init__", "__new__", "__setattr__"))
    )


def is_generated(function: Any) -> bool:
    """Whether a method is Python's own, or written by attrs, by dataclasses, or for a named tuple."""
    if isinstance(function, _OF_THE_INTERPRETER):
        return True
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    module = getattr(function, "__module__", None)
    return file == "<string>" or file.startswith("<attrs generated") or module in ("attr._make", "attr")
