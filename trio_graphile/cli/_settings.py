"""Settings: what a file, the environment and flags can set, from one definition, and their precedence.

`Settings` is made of the options' own classes. Each of their fields has a path, which is its place in the
file (`worker.local_queue.size`). The names of its flag and of its variable are derived from the path.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
from cattrs import ForbiddenExtraKeysError, transform_error

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.options import DatabaseOptions, Flags, WorkerOptions
from trio_graphile._model.similar import did_you_mean
from trio_graphile._model.strict_converter import Mismatch, strict_converter
from trio_graphile._model.validators import seconds, whole_number
from trio_graphile.cli._errors import UsageError

ENVIRONMENT_PREFIX = "TRIO_GRAPHILE_"
_FLATTENED = ("admin", "database", "worker", "shutdown")
"""The parts whose fields become flags without a prefix."""

KeyPath: TypeAlias = tuple[str, ...]
"""The place of a setting, such as `("worker", "poll_interval")`."""
_FLAGS_OF_JOBS: tuple[Any, ...] = (Flags, Flags | None)
"""The types of options that are flags of jobs, or a function that returns some."""
_FLAG_NAMES: Mapping[KeyPath, str] = {
    ("admin", "allowed_hosts"): "allowed-host",
    ("admin", "trusted_proxies"): "trusted-proxy",
    ("database", "url"): "database-url",
    ("plugins",): "plugin",
}
"""The names of flags that differ from those of their fields."""


@attrs.frozen(kw_only=True)
class DatabaseSettings(DatabaseOptions):
    """The address of the database, and how to reach it."""

    url: str | None = attrs.field(default=None, repr=False)  # it may hold a password
    """The URL, such as postgresql://user@host:5432/database. Defaults to $DATABASE_URL, else to the PG*
    variables. A password is safer there than here, where every user of the machine sees it."""


@attrs.frozen(kw_only=True)
class AdminSettings:
    """How the admin is served."""

    listen: str = "127.0.0.1:5678"
    """The address: HOST:PORT, [IPV6]:PORT, :PORT for all addresses of the machine, or unix:PATH."""
    auth: Literal["basic", "bearer", "header", "none"] = "basic"
    """How requests authenticate: by a user name and a password, a token, a token in a header of your own, or
    not at all, which only loopback addresses and unix sockets allow. Browsers log in once."""
    username: str = "admin"
    """The user name, which also appears in the audit log."""
    password: str | None = attrs.field(default=None, repr=False)
    """The password for basic. Every user of the machine sees flags: better set
    $GRAPHILE_WORKER_ADMIN_PASSWORD. Without a password, one is made up and printed."""
    bearer_token: str | None = attrs.field(default=None, repr=False)
    """The token for bearer; better set $GRAPHILE_WORKER_ADMIN_BEARER_TOKEN."""
    header_token: str | None = attrs.field(default=None, repr=False)
    """The token for header; better set $GRAPHILE_WORKER_ADMIN_HEADER_TOKEN."""
    secret_file: Path | None = None
    """A file with the password or token."""
    header_name: str = "x-graphile-worker-admin-token"
    """The name of the header for header."""
    read_only: bool = False
    """Refuse all changes."""
    allowed_hosts: tuple[str, ...] = ()
    """A host name of the admin, besides addresses, localhost and that of the public URL."""
    public_url: str | None = None
    """The URL that browsers use if a proxy stands before the admin, such as https://example.org/queue."""
    trusted_proxies: tuple[str, ...] = ()
    """An address or a network of proxies whose X-Forwarded-For is trusted; unix for those that connect by a
    socket."""
    certificate: Path | None = None
    """A file with the certificate for https, and the certificates that lead to its issuer."""
    key: Path | None = None
    """A file with the key of the certificate, if the other file lacks it."""
    redact: str | None = None
    """A function that hides parts of payloads, as MODULE:FUNCTION: it gets the identifier of a task and a
    payload, and returns what may be shown. Values under names of secrets are always hidden."""


@attrs.frozen(kw_only=True)
class Settings:
    """All settings."""

    tasks: str | None = None
    """The TaskRegistry, as MODULE:NAME, such as app.jobs:tasks."""
    executables: Path | None = None
    """A folder with executable files, each of which is a task."""
    crontab: Path | None = None
    """A file with recurring jobs, which the worker adds when they are due."""
    processes: int = attrs.field(default=1, validator=whole_number(1, 1000))
    """How many processes run a worker each, under a supervisor that restarts those that crash."""
    plugins: tuple[str, ...] = ()
    """A plugin, as MODULE:NAME: an object with a method register(hooks), or a function that makes one without
    arguments."""
    setup: str | None = None
    """A function that lends the worker its state, plugins and recurring jobs, as MODULE:FUNCTION: an async
    context manager that gets the Database and yields a WorkerSetup."""
    health_listen: str | None = None
    """The address of /livez and /readyz, such as 127.0.0.1:9000 or :9000. Each further process listens on the
    next port."""
    metrics_listen: str | None = None
    """The address of /metrics for Prometheus; may be the same. Needs the extra prometheus."""
    status_interval: float = attrs.field(default=60.0, validator=seconds(86_400, zero=True))
    """How often to print how the workers are doing if there is no terminal, in seconds; 0 means never."""
    database: DatabaseSettings = attrs.field(factory=DatabaseSettings)
    worker: WorkerOptions = attrs.field(factory=WorkerOptions)
    admin: AdminSettings = attrs.field(factory=AdminSettings)


@attrs.frozen(kw_only=True)
class Setting:
    """One setting."""

    path: KeyPath
    kind: Any
    """The type of its values; None for a part that can be turned off, but has settings of its own."""
    text: str
    """What the setting does, as the docstring of its field says."""
    default: object

    @property
    def flag(self) -> str:
        """The name of its flag, without the dashes before it."""
        if self.path in _FLAG_NAMES:
            return _FLAG_NAMES[self.path]
        return ".".join(part.replace("_", "-") for part in self.path if part not in _FLATTENED)

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        part = "ADMIN_" if self.path[0] == "admin" else ""
        return ENVIRONMENT_PREFIX + part + self.flag.replace("-", "_").replace(".", "_").upper()

    @property
    def key(self) -> str:
        """Its place in the file."""
        return ".".join(self.path)


@attrs.frozen
class Source:
    """The values of one source, by path, and the place of each of them for messages."""

    values: Mapping[KeyPath, Any]
    place_of: Callable[[Setting], str]


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """Return all settings."""
    return tuple(_leaves_of(Settings, ()))


def _leaves_of(options: type, path: KeyPath) -> Iterator[Setting]:
    texts = _texts_of(options)
    kinds = typing.get_type_hints(options)
    for field in attrs.fields(options):
        here = (*path, field.name)
        kind, is_optional = _without_none(kinds[field.name])
        default = None if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]  # attrs types it as a function
        if attrs.has(kind):
            if is_optional and field.default is not None:
                yield Setting(path=here, kind=None, text=texts.get(field.name, ""), default=default)
            yield from _leaves_of(kind, here)
        else:
            yield Setting(path=here, kind=kind, text=texts.get(field.name, ""), default=default)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if kind in _FLAGS_OF_JOBS:
        return tuple[str, ...], False  # text cannot give a function
    members = typing.get_args(kind)
    rest = [member for member in members if member is not type(None)]
    return (
        (rest[0], True) if len(rest) == 1 and len(members) == 2 and type(None) in members else (kind, False)
    )


def _texts_of(options: type) -> dict[str, str]:
    """Return the docstrings of fields, including inherited ones."""
    texts: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if attrs.has(base):
            texts |= _texts_by_class(base.__module__)[base.__name__]
    return texts


@functools.cache  # to parse a module takes milliseconds, which every command would wait for
def _texts_by_class(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the fields of each class of a module."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: dict(_documented(node.body)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
            case _:
                pass


# --- putting together ---------------------------------------------------------------------------


def merge(sources: Sequence[Source]) -> Settings:
    """Return the settings of all sources together; a later source takes precedence.

    Raises `UsageError` for whatever cannot be right, and names the place.
    """
    tree: dict[str, Any] = {}
    places: dict[KeyPath, str] = {}
    known = {setting.path: setting for setting in all_settings()}
    for source in sources:
        for path, value in source.values.items():
            _put(tree, path, value)
            places[path] = source.place_of(known[path])
    try:
        settings: Settings = _converter().structure(tree, Settings)
    except Exception as error:  # noqa: BLE001  # cattrs raises groups of what validators raise
        raise UsageError("; ".join(_explain(error, places))) from None
    return settings


def flattened(mapping: Mapping[str, Any], name: str) -> dict[KeyPath, Any]:
    """Return the values of nested tables by path. Raises `UsageError` for an unknown name."""
    values: dict[KeyPath, Any] = {}
    _flatten(mapping, Settings, (), name, values)
    return values


def _flatten(
    mapping: Mapping[str, Any], options: type, path: KeyPath, name: str, values: dict[KeyPath, Any]
) -> None:
    kinds = typing.get_type_hints(options)
    fields = [field.name for field in attrs.fields(options)]
    for key, value in mapping.items():
        here = (*path, key)
        if key not in fields:
            raise UsageError(f"{name}: there is no setting {'.'.join(here)}{did_you_mean(key, fields)}")
        kind, is_optional = _without_none(kinds[key])
        if not attrs.has(kind):
            values[here] = value
        elif isinstance(value, dict):
            _flatten(value, kind, here, name, values)
        elif value is False and is_optional:
            values[here] = False
        else:
            raise UsageError(f"{name}: {'.'.join(here)} is a table{' or false' if is_optional else ''}")


def _put(tree: dict[str, Any], path: KeyPath, value: Any) -> None:
    *parents, last = path
    for parent in parents:
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}  # a setting inside turns the part on again
        tree = tree[parent]
    if value is True and _is_part(path):  # a variable turns the part on, with what is set inside of it
        value = tree[last] if isinstance(tree.get(last), dict) else {}
    tree[last] = None if value is False and _is_part(path) else value


def _is_part(path: KeyPath) -> bool:
    return any(setting.path == path and setting.kind is None for setting in all_settings())


@functools.cache
def _converter() -> Any:
    converter = strict_converter()
    flags_hook = converter.get_structure_hook(tuple[str, ...])
    converter.register_structure_hook_func(
        lambda wanted: wanted in _FLAGS_OF_JOBS, lambda value, _: flags_hook(value, tuple[str, ...])
    )
    converter.register_structure_hook_func(_is_literal, _structure_choice)
    return converter


def _is_literal(wanted: Any) -> bool:
    return typing.get_origin(wanted) is Literal


def _structure_choice(value: Any, wanted: Any) -> Any:
    choices = typing.get_args(wanted)
    if value not in choices:
        raise Mismatch(f"{value!r} is none of {', '.join(choices)}")
    return value


def _explain(error: Exception, places: Mapping[KeyPath, str]) -> list[str]:
    def explain(error: BaseException, _: Any) -> str:
        match error:
            case OptionInvalid():
                return f"{error.option}\0{error.reason}"
            case Mismatch():
                return f"\0{error}"
            case KeyError():
                return "\0required, but missing"
            case ForbiddenExtraKeysError():  # files were checked for these before
                return f"\0unknown: {', '.join(sorted(error.extra_fields))}"
            case _:
                return f"\0{error}"

    lines = transform_error(error, format_exception=explain)
    return [_located(*line.rpartition(" @ ")[::2], places) for line in lines]


def _located(reason: str, where: str, places: Mapping[KeyPath, str]) -> str:
    """Return a reason with the name of the place that set the value, or of its flag."""
    option, _, reason = reason.partition("\0")
    path = (*where.split(".")[1:], *filter(None, option.split(".")))
    place = places.get(path)
    if place is None:
        flag = next((setting.flag for setting in all_settings() if setting.path == path), None)
        place = f"--{flag}" if flag is not None else ".".join(path)
    return f"{place}: {reason}"
