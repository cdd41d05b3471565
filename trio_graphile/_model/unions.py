"""Reading unions: which member a value is for is told by what it is in JSON, as `faithful` has made sure."""

from __future__ import annotations

import typing
from typing import Any

from cattrs.disambiguators import create_default_dis_func

from trio_graphile._model.faithful import KIND_OF, TypeReader, Unfaithful
from trio_graphile._model.strict import Hook, Mismatch, expected, is_union, name_of

if typing.TYPE_CHECKING:
    from cattrs.preconf.orjson import OrjsonConverter


def tell_members_apart(converter: OrjsonConverter) -> None:
    """Have unions read as the member whose form in JSON a value has; cattrs would take a bool for an int."""

    def make_structure(wanted: Any) -> Hook:
        hooks: dict[str, tuple[Hook, Any]] = {}
        objects = []
        for member in typing.get_args(wanted):
            hook = converter.get_structure_hook(member)
            for kind in TypeReader().read(member).kinds:
                hooks.setdefault(kind, (hook, member))
                if kind == "object":
                    objects.append(member)
        if len(objects) > 1:
            hooks["object"] = _class_hook(converter, wanted, objects), wanted
        if "number" in hooks:
            hooks.setdefault("integer", hooks["number"])

        def structure(value: Any, _: Any) -> Any:
            chosen = hooks.get(KIND_OF[type(value)])
            if chosen is None:
                raise Mismatch(expected(wanted, value))
            hook, member = chosen
            return hook(value, member)

        return structure

    converter.register_structure_hook_factory(is_union, make_structure)


def _class_hook(converter: OrjsonConverter, wanted: Any, classes: list[Any]) -> Hook:
    """Return how objects are read as one of several classes. Raises `Unfaithful` if they look alike."""
    try:
        class_for = create_default_dis_func(converter, *classes)
    except TypeError as error:
        raise Unfaithful(
            f"{name_of(wanted)}: no field tells its classes apart: give each one without default "
            'that the others lack, or one like `kind: Literal["a"]` @ $'
        ) from error

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(expected(wanted, value))
        cls: Any = class_for(value)
        return converter.structure(value, cls)

    return structure
