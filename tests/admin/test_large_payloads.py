"""Payloads that are large or many: others have their turn meanwhile, and pages hold a bounded amount."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest
import trio

from tests.admin.api import open_api
from trio_graphile import Client, Database
from trio_graphile._database.search.find import find_jobs
from trio_graphile._model.listing import JobSearch
from trio_graphile.admin import AdminOptions

BOUND = 30
LARGE = "x" * 200_000


@attrs.define
class Redacting:
    """Takes note of when, and in which thread, payloads are redacted."""

    turns: int = 0
    seen: list[tuple[int, int]] = attrs.field(factory=list)

    def __call__(self, _: str, payload: Any) -> Any:
        self.seen.append((self.turns, threading.get_ident()))
        return payload

    async def take_turns(self) -> None:
        while True:
            self.turns += 1
            await trio.lowlevel.checkpoint()

    @property
    def options(self) -> AdminOptions:
        return AdminOptions(redact=self)


async def test_between_the_jobs_of_a_list_others_have_their_turn(database: Database) -> None:
    client, redacting = Client(database), Redacting()
    ids = [(await client.add_raw_job("a", {"n": number})).id for number in range(5)]
    with trio.fail_after(BOUND):
        async with open_api(client, options=redacting.options) as api, trio.open_nursery() as nursery:
            nursery.start_soon(redacting.take_turns)
            for method, path, body in (
                ("GET", "/api/jobs", None),
                ("GET", "/api/jobs/export?format=json", None),
                ("POST", "/api/jobs/action", {"action": "run-now", "ids": ids}),
            ):
                answer = await api.http.request(method, path, json=body)
                assert answer.status_code == 200
                turns = [turn for turn, _ in redacting.seen]
                assert (len(turns), turns[0] < turns[-1]) == (5, True), path
                redacting.seen.clear()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/api/jobs/{}", "/api/jobs/{}/payload"])
async def test_a_large_payload_is_made_fit_to_be_seen_elsewhere(database: Database, path: str) -> None:
    client, redacting = Client(database), Redacting()
    job = await client.add_raw_job("a", {"a": LARGE})
    with trio.fail_after(BOUND):
        async with open_api(client, options=redacting.options) as api:
            shown = await api.get(path.format(job.id))
    assert shown.get("payload", shown) == {"a": LARGE}
    assert threading.get_ident() not in {thread for _, thread in redacting.seen}


async def test_a_file_without_payloads_reads_none(database: Database) -> None:
    client, redacting = Client(database), Redacting()
    await client.add_raw_job("a", {})
    async with open_api(client, options=redacting.options) as api:
        answer = await api.http.get("/api/jobs/export?format=csv")
        assert answer.text.count("\r\n") == 2
    assert redacting.seen == []


async def test_what_is_small_as_stored_is_left_out_of_lists_where_it_is_long(database: Database) -> None:
    job = await Client(database).add_raw_job("a", {"a": LARGE})
    await database.execute(
        "update graphile_worker._private_jobs set last_error = repeat('y', 200000) where id = $1", job.id
    )
    [found] = (await find_jobs(database, JobSearch(), None)).jobs
    assert found.payload_size <= 16_384
    assert (found.has_payload, found.listed.job.payload_json) == (False, "null")
    assert (found.has_whole_error, found.listed.job.last_error) == (False, "y" * 4000)
