"""The stream of events as an ASGI application: what it sends, and how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from trio_graphile import Client, Database
from trio_graphile._model.bell import Bell
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._live.streams import stream_events

PATIENCE = 20
NEVER = 3600.0


@attrs.define(eq=False)
class Reader:
    """A client: reads what it is sent, or does not."""

    host: str = "client"
    stopping: trio.Event = attrs.field(factory=trio.Event)
    access_ended: trio.Event = attrs.field(factory=trio.Event)
    gone: trio.Event = attrs.field(factory=trio.Event)
    may_read: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    access_ends_at: float | None = None
    behind: str | None = None
    """The client whose proxy this is."""
    head: dict[str, Any] = attrs.field(factory=dict)
    text: str = ""
    is_complete: bool = False
    got_more: Bell = attrs.field(factory=Bell)

    async def run(self, looks: Looks, *, sign_of_life: float = NEVER) -> None:
        state: dict[str, Any] = {
            "stopping": self.stopping,
            "access_ended": self.access_ended,
            "access_ends_at": self.access_ends_at,
        }
        if self.behind is not None:
            state["client"] = self.behind
        scope = {"type": "http", "client": (self.host, 1), "state": state}
        await stream_events(looks, scope, self.receive, self.send, sign_of_life=sign_of_life)
        self.ended.set()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.head = message
            return
        await self.may_read.wait()
        self.text += message["body"].decode()
        self.is_complete = not message.get("more_body", False)
        self.got_more.ring()

    @property
    def events(self) -> list[tuple[str, Any]]:
        return list(self._events())

    def _events(self) -> Iterator[tuple[str, Any]]:
        for block in self.text.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                yield fields["event"], json.loads(fields["data"])

    def count(self, kind: str) -> int:
        return [name for name, _ in self.events].count(kind)

    async def wait_for(self, kind: str, count: int = 1) -> None:
        while self.count(kind) < count:
            await self.got_more.wait()


@asynccontextmanager
async def streaming(
    database: Database, *readers: Reader, sign_of_life: float = NEVER, interval: float = 0.02
) -> AsyncIterator[Looks]:
    looks = Looks(database=database, interval=interval)
    async with trio.open_nursery() as nursery:
        await nursery.start(looks.run)
        for reader in readers:
            nursery.start_soon(lambda reader: reader.run(looks, sign_of_life=sign_of_life), reader)
        with trio.fail_after(PATIENCE):  # noqa: ASYNC100  # the body has some
            yield looks
        nursery.cancel_scope.cancel()


def reader(host: str = "client") -> Reader:
    one = Reader(host)
    one.may_read.set()
    return one


async def test_a_client_is_told_what_is_there_and_what_changes(database: Database) -> None:
    client, one = Client(database), reader()
    await client.add_raw_job("a")
    async with streaming(database, one):
        await one.wait_for("overview")
        assert one.head["status"] == 200
        assert (b"content-type", b"text/event-stream; charset=utf-8") in one.head["headers"]
        kind, overview = one.events[0]
        assert (kind, overview["stats"]["ready"], overview["estimated"]) == ("overview", 1, [])
        await client.add_raw_job("a")
        await one.wait_for("overview", 2)
        await one.wait_for("changed")
    overviews = [overview for kind, overview in one.events if kind == "overview"]
    assert overviews[1]["stats"]["ready"] == 2


async def test_silence_is_broken_by_comments(database: Database) -> None:
    one = reader()
    async with streaming(database, one, sign_of_life=0.01):
        await one.wait_for("overview")
        while one.text.count(": \n\n") < 3:
            await one.got_more.wait()


@pytest.mark.parametrize("ending", ["stopping", "access_ended"])
async def test_the_end_is_said(database: Database, ending: str) -> None:
    one = reader()
    async with streaming(database, one):
        await one.wait_for("overview")
        getattr(one, ending).set()
        await one.ended.wait()
    assert one.events[-1] == ("bye", {})
    assert one.is_complete


async def test_a_stream_ends_no_later_than_its_session(database: Database) -> None:
    one = reader()
    one.access_ends_at = trio.current_time()
    async with streaming(database, one):
        await one.ended.wait()
    assert one.events[-1] == ("bye", {})
    assert one.is_complete


async def test_a_server_that_stops_and_says_that_the_client_is_gone_gets_the_last_word(
    database: Database,
) -> None:
    one = reader()
    async with streaming(database, one):
        await one.wait_for("overview")
        one.stopping.set()
        one.gone.set()
        await one.ended.wait()
    assert one.events[-1] == ("bye", {})


async def test_a_client_that_leaves_is_gone_even_while_it_does_not_read(database: Database) -> None:
    for one in (reader(), Reader()):
        async with streaming(database, one) as looks:
            while looks.latest is None:
                await looks.news.wait()
            one.gone.set()
            await one.ended.wait()
        assert one.count("bye") == 0


async def test_a_slow_reader_gets_the_latest_alone(database: Database) -> None:
    client, slow, quick = Client(database), Reader(), reader("quick")
    async with streaming(database, slow, quick):
        for number in range(5):
            await quick.wait_for("overview", number + 1)
            await client.add_raw_job("a")
        await quick.wait_for("overview", 6)
        slow.may_read.set()
        await slow.wait_for("changed")
    kinds = [kind for kind, _ in slow.events]
    assert kinds == ["overview", "changed"]
    assert slow.events[0][1]["stats"]["ready"] == 5


async def test_the_seventh_stream_of_a_client_is_refused_and_others_are_not(database: Database) -> None:
    readers = [reader() for _ in range(6)]
    async with streaming(database, *readers) as looks:
        for one in readers:
            await one.wait_for("overview")
        refused = reader()
        await refused.run(looks)
        assert refused.head["status"] == 503
        assert (b"retry-after", b"5") in refused.head["headers"]
        assert "too many" in json.loads(refused.text)["error"]
        assert refused.is_complete
        async with trio.open_nursery() as nursery:
            for one in (reader("another"), readers[0]):
                one.gone.set()
            await readers[0].ended.wait()
            admitted = reader()
            nursery.start_soon(admitted.run, looks)
            await admitted.wait_for("overview")
            nursery.cancel_scope.cancel()


async def test_clients_behind_one_proxy_are_told_apart(database: Database) -> None:
    readers = [reader("proxy") for _ in range(7)]
    for number, one in enumerate(readers):
        one.behind = f"192.0.2.{number}"
    async with streaming(database, *readers):
        for one in readers:
            await one.wait_for("overview")


async def test_a_cancellation_ends_it_though_nobody_reads(database: Database) -> None:
    slow = Reader()
    async with streaming(database, slow) as looks:
        while looks.latest is None:
            await looks.news.wait()
    assert not slow.ended.is_set()
