"""The rule that groups errors is the same in SQL as in Python."""

from __future__ import annotations

import pytest

from trio_graphile import Connection
from trio_graphile._database.folding import ERROR_GROUP
from trio_graphile._model.failure_groups import error_group

FOLD = f"select {ERROR_GROUP} from (values ($1::text)) as jobs(last_error)"


@pytest.mark.parametrize(
    "error",
    [
        None,
        "",
        "\n",
        "\nsecond line",
        "plain",
        "Error 17 of 23\nat line 4",
        "carriage 1\r\nreturn 2",
        "carriage 1\rreturn 2",
        "0123456789",
        "a1b22c333",
        "1.5e-10 -3 +4",
        "Arabic \u0661\u0662\u0663, fullwidth \uff11\uff12, superscript \u00b2, a half \u00bd, 7",
        "line separator 1\u2028next 2\u0085and 3\x0bfeed 4\x0c",
        "emoji \U0001f4a5 12 \u00e9\u00e8 3",
        "x" * 199 + "12345",
        "\U0001f4a5" * 250,
        "1" * 3999 + "2345",
        "1" * 4001 + "x",
        "y" * 3990 + "\n" + "7" * 3000,
        "'quoted' \\d+ % _ {schema} $1",
    ],
)
async def test_both_say_the_same(connection: Connection, error: str | None) -> None:
    assert await connection.fetch_value(FOLD, error) == error_group(error)
