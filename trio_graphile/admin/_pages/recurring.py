"""The page of crontabs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from trio_graphile._cron.item import CronItem
from trio_graphile._model.verbatim import Verbatim, encode_shown
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.payloads import payload_for
from trio_graphile.admin._operations.recurring import list_crontabs
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.serving import Pages


async def recurring(pages: Pages, request: Request) -> Response:
    """Show the entries of crontabs, with the last time that got a job and the next times."""
    parts = await read_parts(crontabs=partial(list_crontabs, pages.context))
    crontab = pages.context.options.crontab
    return pages.respond(
        request,
        "recurring",
        "recurring.html",
        missing=parts.missing,
        found=parts.values["crontabs"],
        knows_crontab=bool(crontab),
        requests=requests_of(pages.context, crontab),
    )


def requests_of(context: Context, items: Iterable[CronItem]) -> Mapping[str, str]:
    """Return for each entry the request that adds its job now, unless its payload may not be shown."""
    return {
        item.identifier: encode_shown(_request(item))
        for item in items
        if payload_for(context, item.task_identifier, item.payload_json).text == item.payload_json
    }


def _request(item: CronItem) -> dict[str, object]:
    spec = item.spec
    given = {
        "queue": spec.queue_name,
        "max_attempts": spec.max_attempts,
        "key": spec.job_key,
        "priority": spec.priority,
        "flags": None if spec.flags is None else [*spec.flags],
    }
    mode = {} if spec.job_key is None else {"job_key_mode": spec.job_key_mode.value.replace("_", "-")}
    return {
        "identifier": item.task_identifier,
        "payload": Verbatim(item.payload_json),
        **{name: value for name, value in given.items() if value is not None},
        **mode,
    }
