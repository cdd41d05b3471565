"""What is asked of the API, as values: strict, and each refusal says what is wrong where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from trio_graphile._model.inspection import JobState
from trio_graphile._model.listing import JobOrder, JobSearch
from trio_graphile.admin._operations.json_text import parse_json
from trio_graphile.admin._operations.reading import read_query, read_value
from trio_graphile.admin._operations.refusals import Malformed
from trio_graphile.admin._operations.requests import (
    ActionRequest,
    AddRequest,
    JobsRequest,
    MaintenanceRequest,
    RemoveRequest,
)


def test_a_query_is_read_by_the_types_of_its_fields() -> None:
    asked = read_query(
        b"state=ready&state=failed&identifier=a%20b&limit=7&order=newest&search=%25&until_id=9", JobsRequest
    )
    assert asked == JobsRequest(
        state=["ready", "failed"],
        identifier=["a b"],
        limit=7,
        order=JobOrder.NEWEST,
        search="%",
        until_id=9,
    )
    assert asked.as_search() == JobSearch(
        states=(JobState.READY, JobState.FAILED), identifiers=("a b",), text="%", until_id=9
    )


def test_empty_and_blank_conditions_are_none() -> None:
    asked = read_query(
        b"identifier=&queue=&flag=&search=+%09&locked_by=&error=&key=&after=&state=all", JobsRequest
    )
    assert asked.as_search() == JobSearch()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (b"limt=3", "there is no 'limt' to ask for; did you mean limit?"),
        (b"limit=501", "limit: a number from 1 to 500 is needed"),
        (b"limit=-1", "limit: a number from 1 to 500 is needed"),
        (b"limit=0", "limit: a number from 1 to 500 is needed"),
        (b"limit=", "limit: a whole number is needed"),
        (b"limit=1e2", "limit: a whole number is needed"),
        (b"limit=" + b"9" * 5000, "limit: a whole number is needed"),
        (b"limit=%D9%A3", "limit: a whole number is needed"),
        (b"limit=1&limit=2", "limit is given twice"),
        (b"offset=-1", "offset: a number from 0 to 10000 is needed"),
        (b"offset=10001", "offset: a number from 0 to 10000 is needed"),
        (b"until_id=9223372036854775808", "until_id: a number from 1 to 9223372036854775807 is needed"),
        (b"state=dead", "state[0]: one of all, ready, scheduled, locked, failed is needed"),
        (b"order=sideways", "order: one of oldest, newest, next-run, latest-failure is needed"),
        (b"search=%00", "search: PostgreSQL cannot hold a NUL character"),
        (b"search=%FF", "the query is not UTF-8"),
        (b"key=" + b"k" * 513, "key: 513 characters are over the limit of 512"),
        (b"a=1&" * 1001, "the query has more than 1000 fields"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(query: bytes, complaint: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_query(query, JobsRequest)
    assert refused.value.text == complaint


@pytest.mark.parametrize(
    ("wanted", "body", "complaint"),
    [
        (AddRequest, [], "the request: a JSON object is needed"),
        (AddRequest, {}, "identifier: it is missing"),
        (AddRequest, {"identifier": ""}, "identifier: it is empty"),
        (AddRequest, {"identifier": 5}, "identifier: a text is needed"),
        (
            AddRequest,
            {"identifier": "a", "priorty": 1},
            "the request: there is no 'priorty' here;",
        ),
        (AddRequest, {"identifier": "a", "priority": "1"}, "priority: expected int, not str"),
        (AddRequest, {"identifier": "a", "priority": True}, "priority: expected int, not bool"),
        (AddRequest, {"identifier": "a", "priority": 10**400}, "priority: a number from -32768 to 32767"),
        (AddRequest, {"identifier": "a", "max_attempts": 0}, "max_attempts: a number from 1 to 32767"),
        (AddRequest, {"identifier": "a", "run_at": "tomorrow"}, "run_at: a time such as 2030"),
        (AddRequest, {"identifier": "a", "run_at": "2030-01-31T08:00:00"}, "run_at: a time such as 2030"),
        (AddRequest, {"identifier": "a", "run_at": "2030-02-30T08:00:00Z"}, "run_at: a time such as 2030"),
        (AddRequest, {"identifier": "a", "flags": "x"}, "flags: a list is needed, also of one"),
        (AddRequest, {"identifier": "a", "flags": ["x", 1]}, "flags[1]: a text is needed"),
        (AddRequest, {"identifier": "a\0"}, "identifier: PostgreSQL cannot hold a NUL"),
        (AddRequest, {"identifier": "a\ud800"}, "identifier: '\\ud800' is half of a character"),
        (AddRequest, {"identifier": "a", "job_key_mode": "preserve_run_at"}, "job_key_mode: one of replace"),
        (
            AddRequest,
            {"identifier": "a", "job_key_mode": "replace"},
            "job_key_mode says what is done",
        ),
        (AddRequest, {"identifier": "a", "job_key_mode": "replace", "key": ""}, "key: it is empty"),
        (RemoveRequest, {"key": "  "}, "key: it is blank"),
        (ActionRequest, {"action": "complete"}, "no jobs: give ids or a filter"),
        (ActionRequest, {"action": "complete", "ids": []}, "no jobs: give ids or a filter"),
        (ActionRequest, {"action": "complete", "ids": ["1"]}, "ids[0]: expected int, not str"),
        (ActionRequest, {"action": "complete", "ids": [1] * 1001}, "ids: 1001 are over the limit of 1000"),
        (
            ActionRequest,
            {"action": "complete", "filter": {"until_id": 1, "state": "failed"}},
            "filter.state: a list is needed, also of one",
        ),
        (ActionRequest, {"action": "complete", "filter": {}}, "filter.until_id: it is missing"),
        (ActionRequest, {"action": "explode", "ids": [1]}, "action: one of complete, fail"),
        (ActionRequest, {"action": "fail", "ids": [1], "filter": {"until_id": 1}}, "ids and filter exclude"),
        (ActionRequest, {"action": "reschedule", "ids": [1]}, "nothing to change: give at least one of"),
        (MaintenanceRequest, {"action": "cleanup"}, "nothing to clean up: name cleanup_tasks, of delete-"),
        (MaintenanceRequest, {"action": "force-unlock", "worker_ids": []}, "no worker to unlock"),
        (
            MaintenanceRequest,
            {"action": "force-unlock", "worker_ids": ["a"], "dry_run": True},
            "there is no dry run of this action",
        ),
        (MaintenanceRequest, {"action": "migrate", "dry_run": 1}, "dry_run: expected bool, not int"),
    ],
)
def test_a_body_that_cannot_be_meant_is_refused(wanted: type, body: Any, complaint: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_value(body, wanted)
    assert refused.value.text.startswith(complaint)


def test_each_mistake_of_a_body_is_named_but_not_thousands() -> None:
    with pytest.raises(Malformed) as refused:
        read_value({"identifier": 1, "priority": "x", "flags": [1] * 100}, AddRequest)
    assert refused.value.text.startswith(
        "identifier: a text is needed; priority: expected int, not str; flags[0]"
    )
    assert len(refused.value.text) < 300


def test_times_have_an_offset_of_their_own() -> None:
    asked = read_value({"identifier": "a", "run_at": "2030-01-31t10:00:00.25+02:00"}, AddRequest)
    assert asked.run_at == datetime(2030, 1, 31, 8, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{", "malformed JSON: "),
        (b"", "malformed JSON: "),
        (b"\xff", "the body is not UTF-8"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "malformed JSON: the key 'c' stands twice in one object"),
        (b"[" * 101 + b"]" * 101, "the JSON is nested deeper than 100"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "the JSON is nested deeper than 100"),
        (b"[" * 500_000, "the JSON is nested deeper than 100"),
        (b"[NaN]", "malformed JSON: NaN is no number"),
        (b"[-Infinity]", "malformed JSON: -Infinity is no number"),
        (b"1e400", "the number 1e400 is out of range"),
        (b"1e-400", "the number 1e-400 is out of range"),
        (b"1e-99999999999999999999", "the number 1e-99999999999999999999 is out of range"),
        (b"12345678901234567890.5", "the number 12345678901234567890.5 is out of range, or has more digits"),
        (b"1" * 5000, "malformed JSON: "),
    ],
)
def test_json_that_cannot_be_kept_as_it_is_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_json(text)
    assert refused.value.text.startswith(complaint)


def test_json_that_can_be_kept_is() -> None:
    text = b'{"a": [1.0, -0.1, 1E5, 5e-324, true, null, "\\u0000"], "b": ' + b"1" * 400 + b"}"
    assert parse_json(text) == {"a": [1.0, -0.1, 1e5, 5e-324, True, None, "\0"], "b": int("1" * 400)}
    parse_json(b"[" * 100 + b"]" * 100)
