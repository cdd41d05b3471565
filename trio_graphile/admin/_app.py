"""`Admin`: the ASGI application, and its one service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from trio_graphile._client import Client
from trio_graphile._model.validators import check_kind
from trio_graphile.admin._context import Context
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._options import AdminOptions
from trio_graphile.admin._routes import make_router
from trio_graphile.admin._safety.answering import StrictAnswers, error_answer
from trio_graphile.admin._safety.authentication import Lock, generate_secret
from trio_graphile.admin._safety.guard import Guard

_MOST_CHANGES = 2
"""How many sessions are reserved for changes."""


@attrs.define(eq=False)
class Admin:
    """Pages and a JSON API to see, understand and repair the queue; an ASGI application on Trio.

    You can mount it below any prefix, and serve it by `serve_admin` or any other server on Trio. `run` has to
    run beside it: it lends the database sessions. `client.tasks` validates the payloads of jobs that are
    added, and `client.plugins` intercept these.
    """

    client: Client
    options: AdminOptions = attrs.field(factory=AdminOptions)
    generated_secret: str | None = attrs.field(init=False, repr=False)
    """The secret that was made up, if one is needed and none was given."""
    _app: ASGIApp = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        check_kind("client", self.client, Client, "Client(database, tasks)")
        check_kind("options", self.options, AdminOptions)
        login = self.options.login
        is_needed = login.mode != "none" and self.options.authorize is None and login.secret is None
        self.generated_secret = generate_secret() if is_needed else None
        self._app = StrictAnswers(_refuse_until_run)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        if scope["type"] != "http":  # servers go on without lifespan and the like
            raise NotImplementedError(f"there is no {scope['type']} here")
        await self._app(scope, receive, send)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lend the database sessions that pages need, and watch the queue for them, until cancelled.

        Requests before or after are answered with 503.
        """
        options, of_program = self.options, self.client.database
        reading = of_program.beside(
            "admin",
            pool_size=options.pool_size,
            statement_timeout=options.statement_timeout,
            read_only=options.read_only,
            steady_plans=True,
        )
        # Changes may take as long as in the program: cleaning up, say.
        changing = of_program.beside(
            "admin changes",
            pool_size=_MOST_CHANGES,
            statement_timeout=of_program.options.statement_timeout,
            read_only=options.read_only,
        )
        async with reading as database, changing as patient:
            looks = Looks(database=database, writes=not options.read_only)
            client = attrs.evolve(self.client, database=patient)
            context = Context(client=client, database=database, options=options, looks=looks)
            with self._serving(context):
                await looks.run(task_status=task_status)

    @contextlib.contextmanager
    def _serving(self, context: Context) -> Iterator[None]:
        guard = Guard(app=make_router(context), options=self.options, lock=self._lock(), audit=context.audit)
        before, self._app = self._app, StrictAnswers(guard)
        try:
            yield
        finally:
            self._app = before

    def _lock(self) -> Lock:
        return Lock.of(self.options.login, self.options.login.secret or self.generated_secret or "")


async def _refuse_until_run(scope: Scope, receive: Receive, send: Send) -> None:
    await error_answer(scope, 503, "the admin does not run")(scope, receive, send)
