"""The shapes of arrays and of mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from trio_graphile._model.annotations import expected
from trio_graphile._model.counted import counted
from trio_graphile._model.shape import Mistake, Shape, Unfit

_TEXT_KEYS = frozenset({str})


def array_shape(wanted: Any, kind: Any, items: Shape) -> Shape:
    """Return the shape of an array whose items are alike; `kind` is the class of its values."""
    is_set = issubclass(kind, (set, frozenset))

    def write(value: Any) -> list[Any]:
        if not isinstance(value, kind):
            raise Unfit.here(expected(wanted, value))
        is_done = items.exact.issuperset(map(type, value))
        plain = list(value) if is_done else _each(repeat(items.write), value)
        return _in_order(plain) if is_set else plain

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise Unfit.here(expected(wanted, value))
        if not items.exact.issuperset(map(type, value)):
            value = _each(repeat(items.read), value)
        try:
            return value if kind is list else kind(value)
        except TypeError:  # an item has no hash
            raise Unfit.here(f"TypeError when made into {kind.__name__}") from None

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=(kind,),
        forms=frozenset({list}),
        items=items,
        is_plain=kind is list and items.is_plain,
        is_faithful=items.is_faithful,
    )


def _each(converts: Iterable[Callable[[Any], Any]], values: Iterable[Any]) -> list[Any]:
    """Convert each value by its function; if one function is for all, the caller repeats it."""
    converted: list[Any] = []
    mistakes: list[Mistake] = []
    for index, (convert, value) in enumerate(zip(converts, values, strict=False)):
        try:
            converted.append(convert(value))
        except Unfit as unfit:
            mistakes += unfit.below(f"[{index}]")
    if mistakes:
        raise Unfit(mistakes)
    return converted


def _in_order(plain: list[Any]) -> list[Any]:
    """Return the items of a set in a fixed order, so that equal sets have the same text."""
    try:
        return sorted(plain)
    except TypeError:
        return sorted(plain, key=repr)


def row_shape(wanted: Any, kind: type, parts: Sequence[Shape], make: Callable[[list[Any]], Any]) -> Shape:
    """Return the shape of an array of a fixed length, in which each item has a type of its own."""

    def all_of(values: Any, converts: Sequence[Callable[[Any], Any]]) -> list[Any]:
        if len(values) != len(parts):
            raise Unfit.here(f"an array of {counted(len(parts), 'item')} is needed, not of {len(values)}")
        return _each(converts, values)

    def write(value: Any) -> list[Any]:
        if not isinstance(value, kind):
            raise Unfit.here(expected(wanted, value))
        return all_of(value, writers)

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise Unfit.here(expected(wanted, value))
        return make(all_of(value, readers))

    writers, readers = [part.write for part in parts], [part.read for part in parts]
    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=(kind,),
        forms=frozenset({list}),
        is_faithful=all(part.is_faithful for part in parts),
    )


def mapping_shape(wanted: Any, kind: type, keys: Shape, values: Shape) -> Shape:
    """Return the shape of a mapping; `kind` is the class of its values."""
    plain_keys = keys.exact == _TEXT_KEYS

    def convert(value: Any, key_of: Callable[[Any], Any], item_of: Callable[[Any], Any]) -> dict[Any, Any]:
        converted: dict[Any, Any] = {}
        mistakes: list[Mistake] = []
        for key, item in value.items():
            try:
                new_key = key if plain_keys and type(key) is str else key_of(key)
            except Unfit as unfit:
                mistakes += [(path, f"a key: {reason}") for path, reason in unfit.mistakes]
                continue
            try:
                converted[new_key] = item if type(item) in values.exact else item_of(item)
            except Unfit as unfit:
                mistakes += unfit.below(f"[{key!r}]")
        if mistakes:
            raise Unfit(mistakes)
        return converted

    def write(value: Any) -> dict[str, Any]:
        if not isinstance(value, kind):
            raise Unfit.here(expected(wanted, value))
        return convert(value, keys.write, values.write)

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise Unfit.here(expected(wanted, value))
        converted = convert(value, keys.read, values.read)
        return converted if kind is dict else kind(converted)

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=(kind,),
        forms=frozenset({dict}),
        is_plain=kind is dict and plain_keys and values.is_plain,
        is_faithful=keys.is_faithful and values.is_faithful,
    )


def _read_whole_number(text: Any) -> int:
    try:
        number = int(text)
    except ValueError:
        raise Unfit.here("not the text of an int") from None
    if str(number) != text:  # otherwise two keys of an object could become one
        raise Unfit.here("not the usual text of an int")
    return number


def key_shape(keys: Shape) -> Shape | None:
    """Return the shape of the keys of a mapping, which are text in JSON; None if the type cannot be a key."""
    if keys.wanted is Any or keys.wanted is object:
        return _PLAIN_KEYS
    if keys.wanted is int:
        return Shape(
            wanted=int,
            write=lambda value: str(keys.write(value)),
            read=_read_whole_number,
            classes=(int,),
            forms=_TEXT_KEYS,
        )
    return keys if keys.forms == _TEXT_KEYS else None


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit.here(f"expected str, not {type(value).__name__}")
    return str.__str__(value)


_PLAIN_KEYS = Shape(
    wanted=str,
    write=_any_text,
    read=_any_text,
    classes=(str,),
    forms=_TEXT_KEYS,
    exact=_TEXT_KEYS,
    is_plain=True,
)
