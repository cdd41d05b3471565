"""The OpenAPI document says what the API does, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import attrs
import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from openapi_spec_validator import validate

from tests.admin.api import open_api
from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._model.verbatim import Verbatim
from trio_graphile.admin._api.openapi import Schemas, document_of
from trio_graphile.admin._api.table import ENDPOINTS
from trio_graphile.admin._operations.limits import Between, Items, Length, Rule
from trio_graphile.admin._operations.reading import read_value
from trio_graphile.admin._operations.refusals import Malformed
from trio_graphile.admin._operations.requests import ActionRequest, AddRequest, MaintenanceRequest


class Colour(StrEnum):
    RED = "red"


@attrs.frozen
class Inner:
    value: Annotated[int, Between(0, 5)]


@attrs.frozen
class Outer:
    inner: list[Inner]
    colour: Colour | None
    at: datetime
    any: Verbatim
    size: Literal["s", "m"] = "s"
    flags: dict[str, bool] | None = None
    names: Annotated[list[Annotated[str, Length(1, 9)]], Items(3)] = attrs.field(factory=list)
    again: Inner | None = None


def test_types_become_schemas() -> None:
    schemas = Schemas()
    assert schemas.of(Outer) == {"$ref": "#/components/schemas/Outer"}
    assert schemas.named == {
        "Inner": {
            "type": "object",
            "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 5}},
            "required": ["value"],
            "additionalProperties": False,
        },
        "Outer": {
            "type": "object",
            "properties": {
                "inner": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
                "colour": {"type": ["string", "null"], "enum": ["red", None]},
                "at": {"type": "string", "format": "date-time"},
                "any": {},
                "size": {"type": "string", "enum": ["s", "m"]},
                "flags": {
                    "type": ["object", "null"],
                    "additionalProperties": {"type": "boolean"},
                },
                "names": {
                    "type": "array",
                    "items": {"type": "string", "pattern": r"^[^\x00]*$", "minLength": 1, "maxLength": 9},
                    "maxItems": 3,
                },
                "again": {"anyOf": [{"$ref": "#/components/schemas/Inner"}, {"type": "null"}]},
            },
            "required": ["inner", "colour", "at", "any"],
            "additionalProperties": False,
        },
    }


async def test_the_document_is_valid_and_served(database: Database) -> None:
    async with open_api(Client(database)) as api:
        document = await api.get("/api/openapi.json")
    validate(document)
    served = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert served == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    names = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(names) == len({*names})


@pytest.mark.parametrize(
    ("wanted", "body"),
    [
        (AddRequest, {"identifier": "a"}),
        (AddRequest, {"identifier": "a", "key": None, "job_key_mode": None}),
        (AddRequest, {"identifier": "a", "key": "k", "job_key_mode": "replace"}),
        (AddRequest, {"identifier": "a", "job_key_mode": "replace"}),
        (AddRequest, {"identifier": "a", "job_key_mode": "replace", "key": None}),
        (AddRequest, {"identifier": ""}),
        (AddRequest, {"identifier": "a" * 129}),
        (AddRequest, {"identifier": "a", "priority": 40_000}),
        (AddRequest, {"identifier": "a", "unknown": 1}),
        (ActionRequest, {"action": "complete", "ids": [1]}),
        (ActionRequest, {"action": "complete", "ids": [0]}),
        (ActionRequest, {"action": "complete", "ids": []}),
        (ActionRequest, {"action": "complete", "filter": {"until_id": 4}}),
        (ActionRequest, {"action": "complete", "filter": {"until_id": 4}, "ids": []}),
        (ActionRequest, {"action": "complete", "filter": {"until_id": 4}, "ids": [1]}),
        (ActionRequest, {"action": "complete", "filter": {}}),
        (ActionRequest, {"action": "reschedule", "ids": [1]}),
        (ActionRequest, {"action": "reschedule", "ids": [1], "priority": None}),
        (ActionRequest, {"action": "reschedule", "ids": [1], "priority": 0}),
        (MaintenanceRequest, {"action": "migrate"}),
        (MaintenanceRequest, {"action": "cleanup"}),
        (MaintenanceRequest, {"action": "cleanup", "cleanup_tasks": ["GcJobQueues"]}),
        (MaintenanceRequest, {"action": "cleanup", "cleanup_tasks": ["GcJobQueues"], "dry_run": True}),
        (MaintenanceRequest, {"action": "force-unlock", "worker_ids": []}),
    ],
)
def test_the_document_allows_what_is_accepted_and_no_more(wanted: type, body: Any) -> None:
    document = document_of(ENDPOINTS)
    schema = {"$ref": f"#/components/schemas/{wanted.__name__}", "components": document["components"]}
    is_allowed = jsonschema.Draft202012Validator(schema).is_valid(body)
    try:
        read_value(body, wanted)
    except Malformed:
        assert not is_allowed
    else:
        assert is_allowed


def test_a_rule_without_a_condition_always_holds() -> None:
    rule = Rule(needed=("a", "b"), forbidden=("c",), text="")
    properties = {"a": {"type": "array"}, "b": {}, "c": {"type": "boolean"}}
    validator = jsonschema.Draft202012Validator(rule.schema(properties))
    assert validator.is_valid({"a": [1]})
    assert validator.is_valid({"b": 0, "c": False})
    assert not validator.is_valid({"a": [], "b": None})
    assert not validator.is_valid({"a": [1], "c": True})


async def test_answers_are_what_the_document_says(database: Database) -> None:
    client = Client(database)
    job = await client.add_raw_job("print", {"at": datetime.now(UTC).isoformat()})
    document = document_of(ENDPOINTS)
    async with open_api(client) as api:
        for endpoint in ENDPOINTS:
            if endpoint.method == "GET" and isinstance(endpoint.answer, type):
                reference = f"#/components/schemas/{endpoint.answer.__name__}"
                schema = {"$ref": reference, "components": document["components"]}
                answer = await api.get(endpoint.path.replace("{id}", str(job.id)))
                jsonschema.Draft202012Validator(schema).validate(answer)
