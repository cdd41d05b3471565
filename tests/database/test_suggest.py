"""Suggestions of names."""

from __future__ import annotations

import pytest

from trio_graphile import Connection
from trio_graphile._database.search.suggest import suggest_queues, suggest_tasks
from trio_graphile._exceptions import OptionInvalid

ADD_NAMES = """
    with queues as (
      insert into graphile_worker._private_job_queues (queue_name)
      select unnest($1::text[])
    )
    insert into graphile_worker._private_tasks (identifier)
    select unnest($1::text[])
"""
NAMES = ["a", "a%b", "a%c", "a-b", "ab", "aXc", "a_b", "a\\b", "B", "b", "\u00e9t\u00e9", "zoo"]


@pytest.mark.parametrize("suggest", [suggest_tasks, suggest_queues])
@pytest.mark.parametrize("prefix", ["", "a", "a%", "a_", "a\\", "a-", "b", "\u00e9", "zoo", "zoom"])
async def test_names_begin_as_it_was_typed(connection: Connection, suggest: object, prefix: str) -> None:
    await connection.execute(ADD_NAMES, NAMES)
    function = suggest_tasks if suggest is suggest_tasks else suggest_queues
    found = await function(connection, prefix)
    assert sorted(found) == sorted(name for name in NAMES if name.startswith(prefix))
    assert await function(connection, prefix, 2) == found[:2]


async def test_no_more_names_are_looked_at_than_a_window_has(connection: Connection) -> None:
    await connection.execute(ADD_NAMES, [f"name-{number:03}" for number in range(100)])
    assert await suggest_queues(connection, "name-00", window=4) == [
        f"name-00{number}" for number in range(4)
    ]


async def test_a_prefix_that_no_name_can_have_is_refused(connection: Connection) -> None:
    for suggest in (suggest_tasks, suggest_queues):
        with pytest.raises(OptionInvalid, match="NUL"):
            await suggest(connection, "a\0")
