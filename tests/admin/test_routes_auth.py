"""Every route there is, with every way to show who asks, right, wrong and not at all.

The routes are those of the router: a new one is asked for a credential here before anybody has thought of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import attrs
import pytest
import trio
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from tests.admin.guarded import CREDENTIALS, HOST, JSON, SECRET, browser, options_of
from trio_graphile import Client, Database, DatabaseOptions, JobSpec, open_database
from trio_graphile.admin import EVERYTHING, READING, Access, Action, Admin, AdminOptions
from trio_graphile.admin._api.routes import PathOfApi
from trio_graphile.admin._context import Context
from trio_graphile.admin._routes import list_routes, make_router
from trio_graphile.admin._safety.answering import StrictAnswers
from trio_graphile.admin._safety.audit import Audit
from trio_graphile.admin._safety.authentication import Lock
from trio_graphile.admin._safety.checks import CSRF_HEADER
from trio_graphile.admin._safety.guard import Guard

PUBLIC = {"/healthz": 200, "/static/{name}": 404}
"""What anybody may read, with the status of what the test asks for. Whatever is new here shows nothing of the
queue."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SESSION_COOKIE = "trio_graphile_session_5678"
MODES = (*CREDENTIALS, "authorize")
ACCESS = {"all": EVERYTHING, "reading": READING, "adding": frozenset({Action.ADD})}
BODIES: dict[str, tuple[Action, dict[str, Any]]] = {
    "add": (Action.ADD, {"identifier": "a"}),
    "complete": (Action.COMPLETE, {"action": "complete", "ids": [1]}),
    "fail": (Action.FAIL, {"action": "fail", "ids": [1]}),
    "run-now": (Action.RUN_NOW, {"action": "run-now", "ids": [1]}),
    "reschedule": (Action.RESCHEDULE, {"action": "reschedule", "ids": [1], "priority": 1}),
    "cancel": (Action.CANCEL, {"action": "cancel", "ids": [1]}),
    "a filter": (Action.COMPLETE, {"action": "complete", "filter": {"until_id": 9}}),
    "remove": (Action.REMOVE, {"key": "k"}),
    "migrate": (Action.MIGRATE, {"action": "migrate"}),
    "cleanup": (
        Action.CLEANUP,
        {
            "action": "cleanup",
            "cleanup_tasks": ["gc-job-queues", "gc-task-identifiers", "delete-permanently-failed-jobs"],
        },
    ),
    "force-unlock": (Action.FORCE_UNLOCK, {"action": "force-unlock", "worker_ids": ["w"]}),
    "sweep": (Action.SWEEP, {"action": "sweep-stale-workers"}),
}


def path_of(body: Mapping[str, Any]) -> str:
    if "identifier" in body:
        return "/api/jobs"
    if "key" in body:
        return "/api/jobs/remove-by-key"
    is_of_jobs = "ids" in body or "filter" in body
    return "/api/jobs/action" if is_of_jobs else "/api/maintenance"


async def authorize(request: Request) -> Access | None:
    """Know users by a header of the program's."""
    may = ACCESS.get(request.headers.get("x-user", ""))
    return None if may is None else Access("ada", may)


@attrs.frozen(kw_only=True)
class Case:
    """One mode, and how a request of it shows who asks."""

    mode: str
    headers: dict[str, str]
    is_right: bool
    is_browser: bool = False


def cases() -> Iterator[Case]:
    for mode in MODES:
        right = {"x-user": "all"} if mode == "authorize" else CREDENTIALS[mode]  # type: ignore[index]
        yield Case(mode=mode, headers={}, is_right=mode == "none")
        if mode != "none":
            name, value = next(iter(right.items()))
            yield Case(mode=mode, headers={name: f"{value[:-2]}AA"}, is_right=False)
        yield Case(mode=mode, headers=right, is_right=True)
        if mode not in ("none", "authorize"):
            yield Case(mode=mode, headers={}, is_right=True, is_browser=True)


def name_of(case: Case) -> str:
    shown = "a session" if case.is_browser else ", ".join(case.headers) or "nothing"
    return f"{case.mode}: {shown}, {'right' if case.is_right else 'wrong'}"


def options_for(mode: str, **rest: Any) -> AdminOptions:
    if mode == "authorize":
        return AdminOptions(authorize=authorize, **rest)
    return options_of(mode, **rest)  # type: ignore[arg-type]


def guard_of(router: ASGIApp, options: AdminOptions) -> Guard:
    """Return a guard that nobody has failed at: a table of wrong secrets is more than one may try."""
    return Guard(app=router, options=options, lock=Lock.of(options.login, SECRET), audit=Audit())


def routes_of(context: Context) -> Iterator[tuple[str, frozenset[str], bool]]:
    """Yield path, methods, and whether it is one of the API's."""
    for route in list_routes(context):
        assert isinstance(route, Route), route
        if isinstance(route.endpoint, PathOfApi):
            methods = {*route.endpoint.endpoints}
            yield route.path, frozenset(methods | ({"HEAD"} if "GET" in methods else set())), True
        else:
            yield route.path, frozenset(route.methods or ()), False


async def ask(guard: Guard, case: Case, method: str, path: str) -> tuple[int, str]:
    """Return status and Location of the answer to one request, with all that a page's script would send."""
    headers = dict(case.headers)
    if case.is_browser:
        headers["cookie"] = f"{SESSION_COOKIE}={guard.sessions.begin('admin', trio.current_time())}"
    async with browser(StrictAnswers(guard)) as visitor:
        if case.is_right and method not in ("GET", "HEAD", "OPTIONS"):
            seen = await visitor.get("/api/session", headers=headers)
            headers |= {**JSON, CSRF_HEADER: seen.json()["csrf_token"], "origin": HOST}
        answer = await visitor.request(method, path, headers=headers)
        assert answer.headers["x-frame-options"] == "DENY"
        return answer.status_code, answer.headers.get("location", "")


def expected(case: Case, method: str, path: str, methods: frozenset[str], *, is_api: bool) -> set[int]:
    """Return with which statuses a request may be answered."""
    if path in PUBLIC and method in ("GET", "HEAD", "OPTIONS"):
        return {PUBLIC[path]} if method in methods else {405}
    has_login = case.mode not in ("none", "authorize")
    if path == "/login" and has_login:
        # To log in is no route of the router's: it refuses a body that is neither a form nor JSON.
        sent = 400 if case.is_right else 403
        return {200} if method in ("GET", "HEAD") else {sent} if method == "POST" else {405}
    if case.is_right:
        if path == "/login" and method in ("GET", "HEAD", "OPTIONS"):
            return {303}
        if method not in methods:
            return {303} if path == "/login" else {405}
        return {400} if method == "POST" else {503} if path == "/api/events" else {200}
    is_visit = method in ("GET", "HEAD") and not is_api
    return {303} if is_visit and has_login and not case.headers else {401}


@contextlib.asynccontextmanager
async def context_for(database: Database, options: AdminOptions) -> AsyncIterator[Context]:
    client = Client(database)
    await client.add_raw_job("a")
    with trio.fail_after(60):  # noqa: ASYNC100  # the body has some
        yield Context(client=client, database=database, options=options)


@pytest.mark.parametrize("case", [*cases()], ids=name_of)
async def test_every_route_asks_who_comes(database: Database, case: Case) -> None:
    async with context_for(database, options_for(case.mode)) as context:
        router, wrong = make_router(context), []
        for path, methods, is_api in routes_of(context):
            for method in METHODS:
                concrete = path.replace("{id}", "1").replace("{name}", "x")
                guard = guard_of(router, context.options)
                status, location = await ask(guard, case, method, concrete)
                wanted = expected(case, method, path, methods, is_api=is_api)
                if status not in wanted or (
                    status == 303 and not case.is_right and "/login?" not in location
                ):
                    wrong.append(f"{method} {path}: {status} {location}, not {wanted}")
        assert wrong == []


async def test_no_route_is_without_methods(database: Database) -> None:
    context = Context(client=Client(database), database=database, options=options_of())
    found = [*routes_of(context)]
    assert len(found) > 25
    assert all(methods for _, methods, _ in found)
    assert {*PUBLIC} <= {path for path, _, _ in found}
    posts = {path for path, methods, _ in found if "POST" in methods}
    assert posts == {path_of(body) for _, body in BODIES.values()}, "each way to change something is below"


async def test_a_route_of_another_kind_is_noticed(database: Database) -> None:
    """A Mount would have routes of its own, which nobody looks at here."""
    context = Context(client=Client(database), database=database, options=options_of())
    kinds: set[type[BaseRoute]] = {type(route) for route in list_routes(context)}
    assert kinds == {Route}


# --- who may only read, or only some of it ---


@pytest.mark.parametrize("may", ["read-only", "reading", "adding"])
async def test_who_may_not_change_something_does_not(
    database: Database, may: str, caplog: pytest.LogCaptureFixture
) -> None:
    is_read_only = may == "read-only"
    options = options_for("authorize", read_only=is_read_only)
    async with contextlib.AsyncExitStack() as stack:
        context = await stack.enter_async_context(context_for(database, options))
        guard = guard_of(make_router(context), options)
        visitor = await stack.enter_async_context(browser(StrictAnswers(guard)))
        headers = {"x-user": "all" if is_read_only else may, **JSON}
        headers[CSRF_HEADER] = (await visitor.get("/api/session", headers=headers)).json()["csrf_token"]
        for name, (action, body) in BODIES.items():
            answer = await visitor.post(path_of(body), json=body, headers=headers)
            wanted = 200 if not is_read_only and action in ACCESS[may] else 403
            assert (answer.status_code, [*answer.json()][:1]) == (
                wanted,
                ["error"] if wanted == 403 else ["message"],
            ), name
    assert [record.name for record in caplog.records if "action=" in record.message] == []


@attrs.frozen(init=False)
class Forced(Access):
    """May everything, whatever somebody takes away."""

    def __init__(self, user: str, may: frozenset[Action] = EVERYTHING) -> None:  # noqa: ARG002
        super().__init__(user, EVERYTHING)


@pytest.mark.parametrize("name", BODIES)
async def test_the_database_refuses_what_gets_past_the_checks(
    database: Database, database_url: str, name: str
) -> None:
    async def let_in(_: Request) -> Access:
        return Forced("mallory")

    await Client(database).add_raw_job("a", {}, JobSpec(job_key="k"))
    _, body = BODIES[name]
    # Where there is nothing to migrate, nothing would be written.
    options = DatabaseOptions(schema="elsewhere" if name == "migrate" else database.schema, pool_size=1)
    with trio.fail_after(30):
        async with open_database(database_url, options) as seen, trio.open_nursery() as nursery:
            admin = Admin(Client(seen), AdminOptions(authorize=let_in, read_only=True))
            await nursery.start(admin.run)
            async with browser(admin) as visitor:
                token = (await visitor.get("/api/session")).json()["csrf_token"]
                answer = await visitor.post(path_of(body), json=body, headers={CSRF_HEADER: token})
            assert (answer.status_code, answer.json()) == (
                403,
                {"error": "the database takes no writes here"},
            )
            nursery.cancel_scope.cancel()
