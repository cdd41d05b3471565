"""Options of the admin: each field with its unit, default and limits, in one place; and permissions."""

from __future__ import annotations

import enum
import inspect
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import attrs
from starlette.requests import Request

from trio_graphile._cron.item import CronItem, cron_items
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.texts import check_text
from trio_graphile._model.validators import check_kind, function_or_none, of_kind, seconds, whole_number
from trio_graphile.admin._safety.redaction import SECRET_NAMES

Mode: TypeAlias = Literal["basic", "bearer", "header", "none"]
Redact: TypeAlias = Callable[[str, Any], Any]
"""Takes the identifier of a task and a payload as plain Python values; returns what may be shown."""


class Action(enum.StrEnum):
    """The actions that a user may be allowed to take, besides reading."""

    ADD = "add"
    COMPLETE = "complete"
    FAIL = "fail"
    RUN_NOW = "run-now"
    RESCHEDULE = "reschedule"
    CANCEL = "cancel"
    REMOVE = "remove"
    """To remove the job under a key."""
    MIGRATE = "migrate"
    CLEANUP = "cleanup"
    FORCE_UNLOCK = "force-unlock"
    SWEEP = "sweep-stale-workers"


EVERYTHING = frozenset(Action)
READING: frozenset[Action] = frozenset()


def _actions(value: Iterable[str]) -> frozenset[Action]:
    names = [value] if isinstance(value, str) else [*value]
    try:
        return frozenset(map(Action, names))
    except ValueError:
        known = ", ".join(Action)
        raise OptionInvalid("may", f"{', '.join(map(str, names))}: there are {known}") from None


@attrs.frozen
class Access:
    """A user, and what they may do besides reading: `EVERYTHING`, `READING`, or some of the actions."""

    user: str = attrs.field(validator=of_kind(str))
    may: frozenset[Action] = attrs.field(default=READING, converter=_actions)

    def allows(self, action: Action | None) -> bool:
        """Return whether the user may take an action; None stands for reading."""
        return action is None or action in self.may


Authorize: TypeAlias = Callable[[Request], Awaitable[Access | None]]
"""Called with each request; returns None for users who may not even read."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TAKEN_HEADERS = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "host", "origin", "referer"}
)
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?")


def _mode(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in get_args(Mode):
        raise OptionInvalid(attribute.name, f"{value!r} is none of {', '.join(get_args(Mode))}")


def _username(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    check_kind(attribute.name, value, str)
    if not value or ":" in value or not value.isprintable():
        raise OptionInvalid(attribute.name, "a name without colons and control characters is needed")


def _secret(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is None:
        return
    check_kind(attribute.name, value, str)
    if not value or not value.isprintable():
        raise OptionInvalid(attribute.name, "a text without control characters is needed")


def _header_name(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    check_kind(attribute.name, value, str)
    if not _HEADER_NAME.fullmatch(value):
        raise OptionInvalid(attribute.name, f"{value!r} is no name of a header")
    if value.lower() in _TAKEN_HEADERS:
        raise OptionInvalid(attribute.name, f"{value} has another meaning, and browsers may add it")


@attrs.frozen(kw_only=True)
class LoginOptions:
    """How users authenticate. Raises `OptionInvalid`. Durations are seconds."""

    mode: Mode = attrs.field(default="basic", validator=_mode)
    """How requests authenticate: `basic`, a user name and a password; `bearer`, a token; `header`, a token in
    a header of your own; `none`, not at all. Browsers log in once with the same secret."""
    username: str = attrs.field(default="admin", validator=_username)
    """The name for the mode basic, which also appears in audit lines in all modes."""
    secret: str | None = attrs.field(default=None, repr=False, validator=_secret)
    """The password or token. Without one, the admin makes one up: `Admin.generated_secret`."""
    header_name: str = attrs.field(default="x-graphile-worker-admin-token", validator=_header_name)
    """The name of the header in the mode header."""
    session_length: float = attrs.field(default=43_200.0, validator=seconds(2_592_000))
    """How long a session lasts at most before the user has to log in again."""
    session_idle: float = attrs.field(default=1800.0, validator=seconds(2_592_000))
    """How long a session may be idle before the user has to log in again."""


def _hosts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(host.lower().rstrip(".") for host in _several("allowed_hosts", value))


def _several(option: str, value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise OptionInvalid(option, f"a sequence is needed, not the one string {value!r}")
    texts = tuple(value)
    for text in texts:
        check_text(option, text)
    return texts


def _host_names(_: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for host in value:
        if not _HOST_NAME.fullmatch(host):
            raise OptionInvalid(attribute.name, f"{host!r} is no name of a host: leave out scheme and port")


def _public_url(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is None:
        return
    if not _is_public_url(value):
        raise OptionInvalid(attribute.name, f"{value!r} is no URL such as https://example.org/queue")


def _is_public_url(value: str) -> bool:
    try:
        url = urlsplit(value)
        has_host = bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    has_more = url.username is not None or url.query or url.fragment or not value.isprintable()
    return url.scheme in ("http", "https") and has_host and not has_more


def _without_slash(value: str | None) -> str | None:
    if value is None:
        return None
    check_kind("public_url", value, str)
    return value.rstrip("/")


def _networks(value: Iterable[str]) -> tuple[str, ...]:
    return _several("trusted_proxies", value)


def _proxies(_: object, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for proxy in value:
        if proxy != "unix":
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise OptionInvalid(attribute.name, f"{error}; addresses, networks or unix") from None


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return _several("redacted_names", value)


def _plain_function(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    function_or_none(_, attribute, value)
    if inspect.iscoroutinefunction(value):
        raise OptionInvalid(attribute.name, "a plain function is needed, not an async one")


@attrs.frozen(kw_only=True)
class AdminOptions:
    """How the admin serves. Raises `OptionInvalid`. Durations are seconds."""

    login: LoginOptions = attrs.field(factory=LoginOptions, validator=of_kind(LoginOptions))
    authorize: Authorize | None = attrs.field(default=None, repr=False, validator=function_or_none)
    """Replaces the login: an async function that returns the user of a request with their permissions, or
    None. Useful if the program that mounts the admin knows its users."""
    read_only: bool = attrs.field(default=False, validator=of_kind(bool))
    """Whether all changes are refused, also by the database sessions of the admin."""
    allowed_hosts: tuple[str, ...] = attrs.field(default=(), converter=_hosts, validator=_host_names)
    """The host names of the admin, besides IP addresses, localhost and that of the public URL. Other names
    are refused, since other sites could have theirs point here."""
    public_url: str | None = attrs.field(default=None, converter=_without_slash, validator=_public_url)
    """The URL that browsers use if a proxy stands before the admin: scheme, name and path."""
    trusted_proxies: tuple[str, ...] = attrs.field(default=(), converter=_networks, validator=_proxies)
    """Addresses and networks of proxies whose X-Forwarded-For is trusted; `unix` stands for all clients of a
    socket."""
    redact: Redact | None = attrs.field(default=None, repr=False, validator=_plain_function)
    """A function that takes the identifier of a task and a payload, and returns what may be shown. For large
    payloads it is called in a thread."""
    redacted_names: tuple[str, ...] = attrs.field(default=SECRET_NAMES, converter=_names)
    """The names under which values in payloads are hidden."""
    crontab: tuple[CronItem, ...] = attrs.field(default=(), converter=cron_items)
    """The recurring jobs, which are shown together with what the database knows of them."""
    pool_size: int = attrs.field(default=4, validator=whole_number(1, 1000))
    """How many database sessions the admin has."""
    statement_timeout: float = attrs.field(default=5.0, validator=seconds(3600))
    """How long a statement of a page may take; then the page is shown without that part."""
