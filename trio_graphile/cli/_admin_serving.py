"""Serves the admin that the settings describe."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database.database import open_database
from trio_graphile._worker.stop_signals import stop_on_signals
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, serve_admin
from trio_graphile.admin._options import Redact
from trio_graphile.admin._safety.exposure import check_exposure
from trio_graphile.admin._server.listening import tls_context
from trio_graphile.cli._crontab import load_items
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._output import note
from trio_graphile.cli._plugins import load_plugins
from trio_graphile.cli._references import load_named
from trio_graphile.cli._settings import AdminSettings, Settings
from trio_graphile.cli._tasks import load_tasks

_SECRETS = {"basic": "password", "bearer": "bearer_token", "header": "header_token"}


async def serve(settings: Settings) -> None:
    """Serve the admin until a signal ends it. Raises `UsageError`, `OptionInvalid`, `AddressUnavailable`."""
    chosen = settings.admin
    check_exposure(chosen.auth, chosen.listen)
    options = _options(settings)
    tls = _tls(chosen)
    tasks = None if settings.tasks is None else load_tasks(settings.tasks)
    plugins = load_plugins(settings.plugins)
    async with open_database(settings.database.url, settings.database) as database:
        admin = Admin(Client(database, tasks, plugins=plugins), options)
        ending = _Ending()
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signals, ending, name="signals")
            await nursery.start(admin.run, name="admin")
            with ending.scope:
                async with trio.open_nursery() as serving:
                    listening = partial(serve_admin, admin, chosen.listen, tls=tls, stopping=ending.stopping)
                    urls: Sequence[str] = await serving.start(listening, name="server")
                    _announce(admin, urls)
            ending.ended.set()
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Ending:
    """Ends the server on signals: the first lets current requests finish."""

    stopping: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # for `cancel`, never a shield

    def stop(self) -> None:
        self.stopping.set()

    def cancel(self) -> None:
        self.scope.cancel()

    async def wait_ended(self) -> None:
        await self.ended.wait()


def _options(settings: Settings) -> AdminOptions:
    chosen = settings.admin
    login = LoginOptions(
        mode=chosen.auth,
        username=chosen.username,
        secret=_secret(chosen),
        header_name=chosen.header_name,
    )
    return AdminOptions(
        login=login,
        read_only=chosen.read_only,
        allowed_hosts=chosen.allowed_hosts,
        public_url=chosen.public_url,
        trusted_proxies=chosen.trusted_proxies,
        redact=None if chosen.redact is None else _load_redact(chosen.redact),
        crontab=() if settings.crontab is None else load_items(settings.crontab),
    )


def _secret(chosen: AdminSettings) -> str | None:
    if chosen.auth == "none":
        return None
    name = _SECRETS[chosen.auth]
    given: str | None = getattr(chosen, name)
    flag = f"--{name.replace('_', '-')}"
    if given is not None and not (given and given.isprintable()):
        raise UsageError(f"{flag}: a text without control characters is needed")
    if chosen.secret_file is None:
        return given
    if given is not None:
        raise UsageError(f"--secret-file: {flag} is given, too")
    try:
        secret = chosen.secret_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"--secret-file: {chosen.secret_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--secret-file: {chosen.secret_file} is not UTF-8") from None
    if not secret:
        raise UsageError(f"--secret-file: {chosen.secret_file} is empty")
    return secret


def _tls(chosen: AdminSettings) -> ssl.SSLContext | None:
    if chosen.certificate is None:
        if chosen.key is not None:
            raise UsageError("--key: --certificate is needed, too")
        return None
    return tls_context(chosen.certificate, chosen.key or chosen.certificate)


def _load_redact(reference: str) -> Redact:
    malformed = f"--redact: {reference!r} is not MODULE:FUNCTION, such as app.jobs:redact"
    function: Any = load_named("redact", reference, malformed)
    if not callable(function):
        raise UsageError(f"--redact: {reference} is no function")
    return function  # type: ignore[no-any-return]  # as far as we can check


def _announce(admin: Admin, urls: Sequence[str]) -> None:
    """Print the address, and how to log in. Shows a secret that was made up, but not one that was given."""
    login = admin.options.login
    public = admin.options.public_url
    places = ", ".join(urls) if public is None else f"{', '.join(urls)}, as {public}"
    reading = ", read-only" if admin.options.read_only else ""
    note(f"the admin of schema {admin.client.database.schema} is at {places}{reading}")
    shown = "that you gave" if admin.generated_secret is None else admin.generated_secret
    match login.mode:
        case "basic":
            note(f"log in as {login.username}, with the password {shown}")
        case "bearer":
            note(f"log in with the token {shown}; requests send it as Authorization: Bearer")
        case "header":
            note(f"log in with the token {shown}; requests send it as {login.header_name}")
        case "none":
            note("no login is needed")
