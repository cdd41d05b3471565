"""Recurring jobs, from the crontabs in the database and the crontab of the admin."""

from __future__ import annotations

from trio_graphile._cron.recurring import recurring
from trio_graphile._database.crontabs import list_known_crontabs
from trio_graphile._database.inspection import now
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import CrontabsAnswer


async def list_crontabs(context: Context) -> CrontabsAnswer:
    """Return each entry once: those of the crontab in its order, then those that only the database knows."""
    known = await list_known_crontabs(context.database)
    at = await now(context.database)
    return CrontabsAnswer(crontabs=[*recurring(known, context.options.crontab, at)])
