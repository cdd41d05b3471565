"""Whether a database lets us in: by which of its hosts, with what password, and what keeps us out."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import attrs

from trio_graphile._database.address import EXAMPLE, Address
from trio_graphile._database.errors import describe, ends_session
from trio_graphile._exceptions import (
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    GraphileError,
    OptionInvalid,
    is_transient,
)

PasswordSource: TypeAlias = Callable[[], str | Awaitable[str]]
Host: TypeAlias = tuple[str, int] | None
"""None is whatever the driver finds by itself."""

CONNECT_ARGUMENTS = frozenset({"direct_tls", "gsslib", "krbsrvname", "passfile", "server_settings", "ssl"})
_POOLERS = "unsupported startup parameter"
_NO_TLS = "rejected SSL upgrade"


def _known(_instance: object, _attribute: attrs.Attribute[Any], value: Mapping[str, object]) -> None:
    if unknown := value.keys() - CONNECT_ARGUMENTS:
        known = ", ".join(sorted(CONNECT_ARGUMENTS))
        raise OptionInvalid("connect_arguments", f"{min(unknown)} is none; these are: {known}")


@attrs.define(eq=False, kw_only=True)
class Access:
    """The way into one database.

    Whoever has been let in with the same address waits for whatever keeps it out now, and whoever never was
    hears of a mistake at once. Shared by the threads of a worker.
    """

    address: Address
    password: PasswordSource | None = attrs.field(default=None, repr=False)
    """What says the password, each time; called in Trio. Else it stands in the address."""
    connect_arguments: Mapping[str, Any] = attrs.field(factory=dict, repr=False, validator=_known)
    """What a user wants the driver to be told."""
    _host: Host = None
    """The host that let us in last: first to be asked for the next session, so that all are on the same."""
    _was_let_in: bool = False
    _kept_out_since: float | None = None

    def hosts(self) -> list[Host]:
        """Return the hosts in the order in which to try them."""
        hosts: list[Host] = [*self.address.hosts] or [None]
        if self.address.is_shuffled:
            random.shuffle(hosts)
        elif self._host in hosts:
            hosts.remove(self._host)
            hosts.insert(0, self._host)
        return hosts

    def granted(self, host: Host) -> None:
        """Take notice that a session was opened."""
        self._host = host
        self._was_let_in = True
        self._kept_out_since = None

    def denied(self, error: BaseException, *, is_misfit: bool) -> GraphileError:
        """Return our exception for what opening a session raised.

        `is_misfit` says that the server wants what the driver cannot do: a way to authenticate, say.
        """
        sqlstate: str | None = getattr(error, "sqlstate", None)
        where, why = self.address.shown, f"{describe(error)}{self._since()}"
        if _POOLERS in why:
            return DatabaseRefused(
                f"the pooler at {where} does not pass settings on ({why}). In transaction mode set "
                "prepared_statements=False and, without a direct_url, notifications=False; in session mode "
                "name these settings in the pooler's ignore_startup_parameters, or set "
                "prepared_statements=False, too",
                sqlstate=sqlstate,
            )
        if isinstance(error, ValueError):  # the URL, or a file that it names, cannot be understood
            if not self._was_let_in:
                return DatabaseUrlInvalid(f"{describe(error)}; {EXAMPLE}")
            is_misfit = False
        if isinstance(error, ssl.SSLCertVerificationError) or _NO_TLS in why:
            is_misfit = True  # what the driver asks of the server's TLS, it will not have in a moment, either
        if is_misfit or not (sqlstate is None or is_transient(sqlstate) or ends_session(sqlstate)):
            return DatabaseRefused(
                f"PostgreSQL at {where} turned us away: {why}", sqlstate=sqlstate, was_let_in=self._was_let_in
            )
        # Without an SQLSTATE: there is no server, or, of several, none in the role that is wanted. So it is
        # for a moment in each switchover, when all are standbys.
        return DatabaseUnavailable(f"cannot reach PostgreSQL at {where}: {why}", sqlstate=sqlstate)

    def _since(self) -> str:
        now = time.monotonic()
        if self._kept_out_since is None:
            self._kept_out_since = now
        seconds = now - self._kept_out_since
        return f" (for {seconds:.0f} s now)" if seconds >= 1 else ""
