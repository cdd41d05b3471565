"""`trio-graphile admin`: the admin as a program."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import NOTHING_GIVEN, AdminFlags, CommonFlags, given

_NO_ADMIN_FLAGS = AdminFlags()
_EXTRA = ("h11", "jinja2", "starlette")


async def admin(
    *,
    admin_flags: Annotated[AdminFlags, Parameter(name="*")] = _NO_ADMIN_FLAGS,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Serve pages and a JSON API to see, understand and repair the queue, until a signal ends it."""
    settings = common.settings(given(admin_flags))
    try:
        from trio_graphile.cli._admin_serving import serve
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise UsageError('the admin is an extra: pip install "trio-graphile[admin]"') from None
    await serve(settings)
