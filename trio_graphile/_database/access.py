"""The way into a database: its hosts, its password, and what to do when it refuses a session."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
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
from trio_graphile._model.validators import check_kind, function_or_none

PasswordSource: TypeAlias = Callable[[], str | Awaitable[str]]
Host: TypeAlias = tuple[str, int] | None
"""A host and its port; None lets the driver find them."""

CONNECT_ARGUMENTS = frozenset({"direct_tls", "gsslib", "krbsrvname", "passfile", "server_settings", "ssl"})
_POOLERS = "unsupported startup parameter"
_NO_TLS = "rejected SSL upgrade"
_OF_A_FILE = (ssl.SSLError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What the driver raises for a file that it cannot use, but also for a handshake or a socket."""


def _known(_instance: object, _attribute: attrs.Attribute[Any], value: Mapping[str, object]) -> None:
    check_kind("connect_arguments", value, Mapping)
    if unknown := value.keys() - CONNECT_ARGUMENTS:
        known = ", ".join(sorted(CONNECT_ARGUMENTS))
        raise OptionInvalid("connect_arguments", f"{min(unknown)} is none; these are: {known}")


@attrs.define(eq=False, kw_only=True)
class Access:
    """The way into one database.

    If the same address has let us in before, we wait until what keeps us out is over; if it never has, we
    report a mistake at once. The threads of a worker share this object.
    """

    address: Address
    password: PasswordSource | None = attrs.field(default=None, repr=False, validator=function_or_none)
    """A function that returns the password, called in Trio each time. Without it the address has the
    password."""
    connect_arguments: Mapping[str, Any] = attrs.field(factory=dict, repr=False, validator=_known)
    """Arguments that the user passes to the driver."""
    _host: Host = None
    """The host that let us in last. It is tried first for the next session, so that all are on the same
    host."""
    _was_let_in: bool = False
    _was_usable: bool = False
    """Whether the driver has once used the address and its files for TLS. A mistake in them is an outage from
    then on: somebody may be replacing a file."""
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

    def stored_password(self, host: Host) -> str | None:
        """Return the password that a password file has for a host; None leaves it to the driver."""
        passwords = self.address.passwords
        if passwords is None:
            return None
        if file := self.connect_arguments.get("passfile"):
            passwords = attrs.evolve(passwords, path=Path(file))
        return passwords.find(*(host or self.address.first))

    def granted(self, host: Host) -> None:
        """Note that a session was opened."""
        self._host = host
        self._was_let_in = self._was_usable = True
        self._kept_out_since = None

    def denied(self, error: BaseException, *, is_misfit: bool) -> GraphileError:
        """Return our exception for an error in opening a session.

        `is_misfit` says that the server wants what the driver cannot do, such as a way to authenticate.
        """
        sqlstate: str | None = getattr(error, "sqlstate", None)
        where, why = self.address.shown, f"{describe(error)}{self._since()}"
        if _POOLERS in why:
            return DatabaseRefused(
                f"the pooler at {where} does not pass settings on ({why}): set pooled=True (--pooled), best "
                "with a direct_url (--direct-url) that bypasses the pooler. In session mode "
                "prepared_statements=False (--no-prepared-statements) is enough",
                sqlstate=sqlstate,
            )
        is_distrusted = isinstance(error, ssl.SSLCertVerificationError)  # a ValueError, too
        if isinstance(error, ValueError) and not is_distrusted:
            # The driver does not understand the URL, or a file that it names.
            if not self._was_usable:
                return DatabaseUrlInvalid(f"{describe(error)}; {EXAMPLE}")
            is_misfit = False
        elif not is_distrusted and (mistake := self._find_tls_mistake(error)):
            if not self._was_usable:
                return DatabaseUrlInvalid(mistake)
            why = f"{mistake}{self._since()}"
        else:
            self._was_usable = True
        if is_distrusted or _NO_TLS in why:
            is_misfit = True  # the driver asks for TLS that the server does not have, now or soon
        if is_misfit or not (sqlstate is None or is_transient(sqlstate) or ends_session(sqlstate)):
            return DatabaseRefused(
                f"PostgreSQL at {where} turned us away: {why}", sqlstate=sqlstate, was_let_in=self._was_let_in
            )
        # Without an SQLSTATE there is no server, or none of several in the wanted role. That is also so for a
        # moment in each switchover, when all servers are standbys.
        return DatabaseUnavailable(f"cannot reach PostgreSQL at {where}: {why}", sqlstate=sqlstate)

    def _find_tls_mistake(self, error: BaseException) -> str | None:
        """Say which file for TLS the driver could not use; None if that is not the reason."""
        kinds = (
            _OF_A_FILE if self._was_usable else ssl.SSLError
        )  # at first, the socket of a server is missing
        if not any(isinstance(each, kinds) for each in (error, error.__cause__)):
            return None
        return self.address.tls_files.find_mistake()

    def _since(self) -> str:
        now = time.monotonic()
        if self._kept_out_since is None:
            self._kept_out_since = now
        seconds = now - self._kept_out_since
        return f" (for {seconds:.0f} s now)" if seconds >= 1 else ""
