"""The OpenAPI document, derived from the classes of requests and answers."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from trio_graphile._model.annotations import is_union, origin_of
from trio_graphile._model.verbatim import Verbatim
from trio_graphile._model.version import installed_version
from trio_graphile.admin._api.endpoint import Endpoint
from trio_graphile.admin._operations.answers import Problem
from trio_graphile.admin._operations.reading import choices_of, is_choice, kinds_of
from trio_graphile.admin._operations.requests import JobId
from trio_graphile.admin._options import AdminOptions

_SIMPLE: Mapping[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string", "pattern": r"^[^\x00]*$"},
    types.NoneType: {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
    Verbatim: {},
}
_REFUSALS = {
    400: "The request cannot be meant.",
    401: "Credentials are missing or wrong.",
    403: "It is not allowed.",
    404: "There is no such job.",
    408: "The request did not arrive in time.",
    409: "It cannot be done as things stand.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is not JSON.",
    421: "The host is not ours.",
    429: "Too many failures to log in, or too many streams.",
    431: "The headers are too long.",
    500: "It failed; the log says why.",
    503: "The database does not answer, or not in time.",
}
_OF_ANY = (400, 401, 403, 408, 414, 421, 429, 431, 500, 503)
_OF_BODIES = (413, 415)


def document_of(
    endpoints: Iterable[Endpoint],
    *,
    prefix: str = "",
    security: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document of endpoints below a prefix; without `security` no login is needed."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "trio_graphile admin", "version": installed_version() or "0"},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": schemas.named},
    }
    if security is not None:
        document["components"]["securitySchemes"] = {"secret": dict(security)}
        document["security"] = [{"secret": []}]
    return document


def security_of(options: AdminOptions) -> dict[str, Any] | None:
    """Return the security scheme of a login; None if the program has its own."""
    if options.authorize is not None:
        return None
    match options.login.mode:
        case "basic" | "bearer" as scheme:
            return {"type": "http", "scheme": scheme}
        case "header":
            return {"type": "apiKey", "in": "header", "name": options.login.header_name}
        case "none":
            return None


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    serve = endpoint.serve
    operation: dict[str, Any] = {"operationId": serve.__name__, "summary": inspect.getdoc(serve)}
    parameters = _parameters(endpoint, schemas)
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.of(endpoint.body)}},
        }
    statuses = {*_OF_ANY, *endpoint.refusals, *(() if endpoint.body is None else _OF_BODIES)}
    refused = {"application/json": {"schema": schemas.of(Problem)}}
    operation["responses"] = {
        "200": {"description": "It is done.", "content": _content(endpoint, schemas)},
        **{
            str(status): {"description": _REFUSALS[status], "content": refused} for status in sorted(statuses)
        },
    }
    return operation


def _content(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    if isinstance(endpoint.answer, type):
        return {"application/json": {"schema": schemas.of(endpoint.answer)}}
    return {media: {"schema": {} if "json" in media else {"type": "string"}} for media in endpoint.answer}


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{id}" in endpoint.path:
        found.append({"name": "id", "in": "path", "required": True, "schema": schemas.of(JobId)})
    if endpoint.query is not None:
        hints = typing.get_type_hints(endpoint.query, include_extras=True)
        for name in kinds_of(endpoint.query):
            schema = schemas.of(_without_none(hints[name]))
            found.append({"name": name, "in": "query", "schema": schema})
    return found


def _without_none(wanted: Any) -> Any:
    members = [member for member in typing.get_args(wanted) if member is not types.NoneType]
    return members[0] if is_union(wanted) and len(members) == 1 else wanted


class Schemas:
    """The JSON schemas of types. Those of classes have names, and are referred to."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}

    def of(self, wanted: Any) -> dict[str, Any]:
        """Return the schema of a type."""
        if hasattr(wanted, "__metadata__"):
            return self._limited(*typing.get_args(wanted))
        if is_choice(wanted):
            return {"type": "string", "enum": choices_of(wanted)}
        if is_union(wanted):
            return _any_of([self.of(member) for member in typing.get_args(wanted)])
        if attrs.has(wanted) and wanted not in _SIMPLE:
            return self._reference(wanted)
        origin, arguments = origin_of(wanted), typing.get_args(wanted)
        if origin is dict or origin is Mapping:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
            return {"type": "array", "items": self.of(arguments[0])}
        return dict(_SIMPLE[wanted])

    def _limited(self, inner: Any, *limits: Any) -> dict[str, Any]:
        schema = self.of(inner)
        for limit in limits:
            schema |= limit.schema()
        return schema

    def _reference(self, wanted: Any) -> dict[str, Any]:
        if wanted.__name__ not in self.named:
            self.named[wanted.__name__] = {}  # the class may refer to itself
            self.named[wanted.__name__] = self._object(wanted)
        return {"$ref": f"#/components/schemas/{wanted.__name__}"}

    def _object(self, wanted: Any) -> dict[str, Any]:
        hints = typing.get_type_hints(wanted, include_extras=True)
        fields = attrs.fields(wanted)
        properties = {field.name: self.of(hints[field.name]) for field in fields}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": properties,
            "required": [field.name for field in fields if field.default is attrs.NOTHING],
            "additionalProperties": False,
        }
        rules = getattr(wanted, "RULES", ())
        if rules:
            schema["allOf"] = [rule.schema(properties) for rule in rules]
        return schema


def _any_of(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a union, without an `anyOf` where `type` is enough."""
    if len(schemas) == 2 and schemas[1] == {"type": "null"} and isinstance(schemas[0].get("type"), str):
        first = dict(schemas[0])
        if "enum" in first:
            first["enum"] = [*first["enum"], None]
        return first | {"type": [first["type"], "null"]}
    return {"anyOf": [*schemas]}
