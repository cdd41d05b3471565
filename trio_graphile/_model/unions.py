"""The shapes of unions. JSON has to show to which member a value belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from trio_graphile._model.annotations import expected, name_of
from trio_graphile._model.shape import Keys, Shape, Unfit, Unstorable


def union_shape(wanted: Any, members: Sequence[Shape], path: str) -> Shape:
    """Return the shape of a union. Raises `Unstorable` if two members look alike in JSON."""
    forms = frozenset[type]().union(*(member.forms for member in members))
    by_form = {form: _told_apart(form, [m for m in members if form in m.forms], path) for form in forms}
    by_class: dict[type, list[Shape]] = {}
    for member in members:
        for cls in member.classes:
            by_class[cls] = _exact_first(cls, [*by_class.get(cls, ()), member])

    def write(value: Any) -> Any:
        candidates = by_class.get(type(value))
        if candidates is None:
            candidates = [member for member in members if isinstance(value, member.classes)]
        return _first(wanted, value, [candidate.write for candidate in candidates])

    def read(value: Any) -> Any:
        choose = by_form.get(type(value))
        return _first(wanted, value, [] if choose is None else [member.read for member in choose(value)])

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=tuple(by_class),
        forms=forms,
        exact=frozenset[type]().union(*(member.exact for member in members)),
        texts=_texts_of(members),
        keys=_keys_of([member for member in members if dict in member.forms]),
        is_plain=all(member.is_plain for member in members),
        is_faithful=all(member.is_faithful for member in members),
    )


def _exact_first(kind: type, members: list[Shape]) -> list[Shape]:
    """Return the members, first those with exact values of a class: an int is one before it is a float."""
    return sorted(members, key=lambda member: kind not in member.exact)


def _first(wanted: Any, value: Any, attempts: Sequence[Callable[[Any], Any]]) -> Any:
    """Return the result of the first attempt that does not fail. A single one raises its own mistake."""
    for attempt in attempts:
        try:
            return attempt(value)
        except Unfit as unfit:
            if len(attempts) == 1 and not unfit.is_about_the_type:
                raise
    raise Unfit.here(expected(wanted, value))


def _texts_of(members: Sequence[Shape]) -> frozenset[object] | None:
    texts: set[object] = set()
    for member in members:
        if member.texts is None:
            return None
        texts |= member.texts
    return frozenset(texts)


def _keys_of(objects: Sequence[Shape]) -> Keys | None:
    """Return the keys that all these objects know; None if there are no objects, or one knows every key."""
    keys = [member.keys for member in objects if member.keys is not None]
    if not keys or len(keys) < len(objects):
        return None
    known = frozenset[str]().union(*(each.known for each in keys))
    return Keys(known, frozenset.intersection(*(each.required for each in keys)))


def _told_apart(form: type, members: list[Shape], path: str) -> Callable[[Any], Iterable[Shape]]:
    """Return a function that chooses the members to which a value of one kind of JSON may belong."""
    if len(members) == 1 or all(member.is_plain for member in members) or _are_few_texts(members):
        candidates = _exact_first(form, members)
        return lambda _: candidates
    keys = [member.keys for member in members]
    choose = None
    if all(each is not None for each in keys):
        objects = [(member, member.keys) for member in members if member.keys is not None]
        choose = _by_tag(objects) or _by_key(objects)
    if choose is None:
        raise Unstorable(_look_alike(members), path)
    return choose


def _are_few_texts(members: Sequence[Shape]) -> bool:
    return all(
        one.texts is not None and other.texts is not None and one.texts.isdisjoint(other.texts)
        for one, other in combinations(members, 2)
    )


def _by_tag(objects: Sequence[tuple[Shape, Keys]]) -> Callable[[Any], Iterable[Shape]] | None:
    """Choose by a key whose value says which class an object is."""
    for tag in sorted(frozenset.intersection(*(frozenset(keys.tags) for _, keys in objects))):
        values = [(value, member) for member, keys in objects for value in keys.tags[tag]]
        by_value = dict(values)
        if len(by_value) == len(values):

            def choose(value: dict[str, Any], tag: str = tag, by_value: Any = by_value) -> Iterable[Shape]:
                said = value.get(tag)
                if tag not in value:
                    raise Unfit([(f".{tag}", "required, but missing")])
                if not isinstance(said, (str, int)) or said not in by_value:
                    raise Unfit([(f".{tag}", f"not one of {', '.join(map(repr, by_value))}")])
                return (by_value[said],)

            return choose
    return None


def _by_key(objects: Sequence[tuple[Shape, Keys]]) -> Callable[[Any], Iterable[Shape]] | None:
    """Choose by keys that only one class has, and always has; one class may be the rest."""
    own: list[tuple[frozenset[str], Shape]] = []
    rest: list[Shape] = []
    for member, keys in objects:
        others = frozenset[str]().union(*(other.known for shape, other in objects if shape is not member))
        if unique := keys.required - others:
            own.append((unique, member))
        else:
            rest.append(member)
    if len(rest) > 1:
        return None
    return lambda value: [member for keys, member in own if not keys.isdisjoint(value)] or rest


def _look_alike(members: Sequence[Shape]) -> str:
    names = " and ".join(name_of(member.wanted) for member in members)
    if all(dict in member.forms for member in members):
        advice = 'give each a field of its own, or a tag, as in kind: Literal["a"]'
    else:
        advice = "write one of them"
    return f"{names} look alike in JSON: {advice}"
