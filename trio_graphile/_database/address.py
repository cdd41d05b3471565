"""The address of a database: URLs, service files and `PG*` variables, read as libpq reads them.

Pure, except that it reads the files that they name. Parameters that we cannot follow are left out and noted,
or refused if leaving them out would be less secure.
"""

from __future__ import annotations

import configparser
import getpass
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import attrs

from trio_graphile._database.passfile import PasswordFile
from trio_graphile._database.tls_files import SYSTEM, TlsFiles
from trio_graphile._exceptions import DatabaseUrlInvalid
from trio_graphile._model.counted import counted

EXAMPLE = (
    "a database URL looks like postgresql://user:password@host:5432/database, with the characters / ? # @ : "
    "of a password written as %2F %3F %23 %40 %3A"
)
_SCHEMES = ("postgres://", "postgresql://")
_CONFIGURED_BY = ("PGHOST", "PGDATABASE", "PGUSER")
_HOST = re.compile(r"(?P<name> \[ [0-9A-Fa-f:.%]+ \] | [^\s\[\]:@]* ) (?: : (?P<port> \d* ) )?", re.VERBOSE)

_SOCKET_OPTIONS = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")

_VARIABLES = {
    # Those that the driver does not read. It would go on without what they ask for.
    "PGAPPNAME": "application_name",
    "PGCHANNELBINDING": "channel_binding",
    "PGCONNECT_TIMEOUT": "connect_timeout",
    "PGGSSENCMODE": "gssencmode",
    "PGHOSTADDR": "hostaddr",
    "PGLOADBALANCEHOSTS": "load_balance_hosts",
    "PGOPTIONS": "options",
    "PGREQUIREAUTH": "require_auth",
    "PGREQUIREPEER": "requirepeer",
    "PGREQUIRESSL": "requiressl",
    "PGSSLCOMPRESSION": "sslcompression",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLSNI": "sslsni",
}

_NOT_ENCRYPTED = ("disable", "allow", "prefer")  # values of sslmode with which a session may be readable
_HARMLESS = {
    # We do what these ask for anyway, or it makes no difference.
    "channel_binding": ("disable", "prefer"),
    "client_encoding": ("auto", "unicode", "utf8", "utf-8"),
    "gssencmode": ("allow", "disable", "prefer"),
    "keepalives": ("1",),
    "load_balance_hosts": ("disable",),
    "replication": ("0", "false", "no", "off"),
    "require_auth": ("",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
}
_REFUSED = {
    # If we left these out, we would trust a server that was not to be trusted.
    "gssencmode": "encryption by GSSAPI is not supported: use TLS, sslmode=verify-full",
    "hostaddr": "write the address as the host",
    "require_auth": "the way to authenticate is up to the server: use TLS, sslmode=verify-full",
    "requirepeer": "who runs the server is not looked at",
    "sslcrldir": "write sslcrl=FILE",
    "client_encoding": "only UTF-8 is supported",
    "replication": "a replication connection cannot run jobs",
}


@attrs.frozen(kw_only=True)
class Address:
    """The address of a database, in the form that the driver takes."""

    url: str | None
    """The URL for the driver, with only the parameters that it understands; None for the `PG*` variables. It
    may hold a password."""
    shown: str
    """The address for messages: without the password, and without parameters."""
    hosts: tuple[tuple[str, int], ...] = ()
    """The hosts, if there are several; empty if the driver may find the only one by itself."""
    first: tuple[str, int] = ("", 5432)
    """The only host, or the first one; empty for a UNIX socket that the driver finds."""
    passwords: PasswordFile | None = None
    """Where the password is looked up; None if it is given in the URL, or as `$PGPASSWORD`."""
    role: str = "any"
    """The role that a host must have, as in `target_session_attrs`."""
    is_shuffled: bool = False
    """Whether the hosts are tried in random order."""
    connect_timeout: float | None = None
    """The timeout for each of the hosts, in seconds."""
    application_name: str = "trio_graphile"
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    """Further arguments for the driver."""
    tls_files: TlsFiles = attrs.field(factory=TlsFiles)
    socket_options: Mapping[str, int] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()
    """Parameters that we do not follow."""

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def read_address(url: str | None, environment: Mapping[str, str]) -> Address:
    """Return the address in a URL; None stands for `$DATABASE_URL`, else the `PG*` variables.

    Raises `DatabaseUrlInvalid`, which repeats nothing that could be part of a password.
    """
    url = url or environment.get("DATABASE_URL") or None
    if url is None and environment.get("PGSERVICE"):
        url = f"postgresql://?service={quote(environment['PGSERVICE'])}"
    variables = {name: environment[key] for key, name in _VARIABLES.items() if environment.get(key)}
    if url is None:
        _check_configured(environment)
        if not variables:
            return _of_variables(environment)
    authority, database, parameters = _split(url or "postgresql://")
    if "service" in parameters:
        parameters = _service(parameters.pop("service"), environment) | parameters
    if parameters.get("sslmode") or environment.get("PGSSLMODE"):
        variables.pop("requiressl", None)  # as libpq has it
    parameters = variables | parameters
    user, _, hosts = authority.rpartition("@")
    places = _places(hosts, parameters, environment)
    return _address(user, places, database, parameters, environment)


def _check_configured(environment: Mapping[str, str]) -> None:
    if not any(environment.get(name) for name in _CONFIGURED_BY):
        raise DatabaseUrlInvalid(
            "no database is configured: give a URL, or set DATABASE_URL, or PGHOST and its like"
        )


def _of_variables(environment: Mapping[str, str]) -> Address:
    tls_files = TlsFiles.of({}, environment)
    places = _places("", {}, environment)
    return Address(
        url=None,
        shown="the PG* variables' address",
        hosts=tuple(places) if len(places) > 1 else (),
        first=places[0],
        passwords=_passwords("", "", "", environment),
        role=_role({}, environment),
        arguments=_ssl({}, environment, tls_files),
        tls_files=tls_files,
    )


def _split(url: str) -> tuple[str, str, dict[str, str]]:
    """Return the part between the slashes, the database, and the parameters."""
    if not url.startswith(_SCHEMES):
        scheme = re.match(r"[a-z][a-z0-9+.]*(?=://)", url)
        wrong = (
            f"{scheme.group()}:// is not PostgreSQL's" if scheme else "it does not begin with postgresql://"
        )
        raise DatabaseUrlInvalid(f"{wrong}; {EXAMPLE}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise DatabaseUrlInvalid(f"the host is not one; {EXAMPLE}") from None
    if "@" in parts.path + parts.query.partition("=")[0] + parts.fragment:
        raise DatabaseUrlInvalid(f"an @ stands where none can be; {EXAMPLE}")
    if parts.netloc.count("@") > 1:
        raise DatabaseUrlInvalid(f"an @ stands in the user or the password; {EXAMPLE}")
    if parts.fragment:
        raise DatabaseUrlInvalid(f"a # stands where none can be; {EXAMPLE}")
    try:
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise DatabaseUrlInvalid(f"the parameters after ? are not name=value; {EXAMPLE}") from None
    return parts.netloc, parts.path.removeprefix("/"), parameters


def _service(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a service, which a file defines."""
    home = environment.get("HOME") or str(Path("~").expanduser())
    files = [environment.get("PGSERVICEFILE") or f"{home}/.pg_service.conf"]
    if folder := environment.get("PGSYSCONFDIR"):
        files.append(f"{folder}/pg_service.conf")
    for file in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file)
        except (configparser.Error, OSError, UnicodeDecodeError):
            raise DatabaseUrlInvalid(f"the service file {file} cannot be read") from None
        if parser.has_section(name):
            return dict(parser[name])
    raise DatabaseUrlInvalid(f"there is no service {name!r} in {' or '.join(files)}")


def _places(
    authority: str, parameters: dict[str, str], environment: Mapping[str, str]
) -> list[tuple[str, int]]:
    """Return the hosts and their ports. Takes them out of the parameters."""
    hosts, ports = parameters.pop("host", ""), parameters.pop("port", "")
    found = [_place(host) for host in (authority or hosts or environment.get("PGHOST", "")).split(",")]
    if all(port is None for _, port in found):
        listed = (ports or environment.get("PGPORT", "")).split(",")
        if len(listed) not in {1, len(found)}:
            raise DatabaseUrlInvalid(
                f"{counted(len(found), 'host')} and {counted(len(listed), 'port')} do not match; {EXAMPLE}"
            )
        listed = listed * len(found) if len(listed) == 1 else listed
        found = [(host, _port(port)) for (host, _), port in zip(found, listed, strict=True)]
    return [(host, 5432 if port is None else port) for host, port in found]


def _place(text: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(unquote(text))
    if match is None:
        raise DatabaseUrlInvalid(f"the host or the port is not one; {EXAMPLE}")
    return match["name"].strip("[]"), _port(match["port"] or "")


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise DatabaseUrlInvalid(f"the port is not one: a number from 1 to 65535 is needed; {EXAMPLE}")
    return int(text)


def _address(
    user: str,
    places: list[tuple[str, int]],
    database: str,
    parameters: dict[str, str],
    environment: Mapping[str, str],
) -> Address:
    name = parameters.pop("application_name", "") or parameters.pop("fallback_application_name", "")
    parameters.pop("fallback_application_name", None)
    is_shuffled = parameters.get("load_balance_hosts") == "random"
    if is_shuffled:
        del parameters["load_balance_hosts"]
    timeout = _whole(parameters, "connect_timeout")
    options = {option: _whole(parameters, option) for option in _SOCKET_OPTIONS}
    tls_files = TlsFiles.of(parameters, environment)
    arguments = _ssl(parameters, environment, tls_files)
    notes = tuple(_leave_out(parameters))
    # The driver treats a URL without a host in a way of its own, so we name the host if there is one.
    hosts = ",".join(f"{_quoted(host)}:{port}" for host, port in places if host)
    named = parameters.pop("dbname", ""), parameters.pop("database", "")
    database = database or quote(named[0] or named[1])
    text = f"postgresql://{user + '@' if user else ''}{hosts}{'/' if database else ''}{database}"
    shown = ",".join(f"{host or 'localhost'}" + (f":{port}" if port != 5432 else "") for host, port in places)
    name_in_url, _, password = user.partition(":")
    whose = unquote(name_in_url) or parameters.get("user", "")
    file = parameters.pop("passfile", "")
    is_given = bool(password or parameters.get("password"))
    return Address(
        url=f"{text}?{urlencode(parameters, quote_via=quote)}" if parameters else text,
        shown=f"postgresql://{whose + '@' if whose else ''}{shown}/{database}",
        hosts=tuple(places) if len(places) > 1 else (),
        first=places[0],
        passwords=None if is_given else _passwords(file, whose, unquote(database), environment),
        role=_role(parameters, environment),
        is_shuffled=is_shuffled,
        connect_timeout=float(timeout) if timeout else None,
        application_name=name or "trio_graphile",
        arguments=arguments,
        socket_options={option: value for option, value in options.items() if value},
        notes=notes,
        tls_files=tls_files,
    )


def _passwords(file: str, user: str, database: str, environment: Mapping[str, str]) -> PasswordFile | None:
    if environment.get("PGPASSWORD"):
        return None
    home = environment.get("HOME") or str(Path("~").expanduser())
    file = file or environment.get("PGPASSFILE") or f"{home}/.pgpass"
    if not user:
        user = environment.get("PGUSER") or _account()
    database = database or environment.get("PGDATABASE") or user
    return PasswordFile(path=Path(file), database=database, user=user)


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return ""


def _role(parameters: Mapping[str, str], environment: Mapping[str, str]) -> str:
    return parameters.get("target_session_attrs") or environment.get("PGTARGETSESSIONATTRS") or "any"


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _whole(parameters: dict[str, str], name: str) -> int | None:
    text = parameters.pop(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise DatabaseUrlInvalid(f"{name}: a whole number is needed, not {text!r}")
    return int(text)


def _ssl(parameters: dict[str, str], environment: Mapping[str, str], files: TlsFiles) -> dict[str, Any]:
    """Return the arguments about TLS for the driver, besides the URL. Takes them out of the parameters."""
    if (asked := parameters.pop("ssl", None)) is not None:  # a parameter of Node's driver
        modes = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
        if asked not in modes:
            raise DatabaseUrlInvalid(f"ssl: true or false is needed, not {asked!r}; or write sslmode=require")
        parameters.setdefault("sslmode", modes[asked])
    if parameters.get("sslmode") == "no-verify":  # a value of Node's driver
        parameters["sslmode"] = "require"
    if (old := parameters.pop("requiressl", "0")) not in ("0", "1"):
        raise DatabaseUrlInvalid(f"requiressl: 0 or 1 is needed, not {old!r}; or write sslmode=require")
    if old == "1" and (environment.get("PGSSLMODE") or "prefer") in _NOT_ENCRYPTED:
        parameters.setdefault("sslmode", "require")
    if old == "1" and parameters.get("sslmode") in _NOT_ENCRYPTED:
        raise DatabaseUrlInvalid(f"requiressl=1 and sslmode={parameters['sslmode']}: write sslmode=require")
    if (parameters.get("sslrootcert") or environment.get("PGSSLROOTCERT")) != SYSTEM:
        return {}
    mode = parameters.get("sslmode") or environment.get("PGSSLMODE") or "verify-full"
    if mode != "verify-full":
        raise DatabaseUrlInvalid(f"sslrootcert=system needs sslmode=verify-full, not {mode}")
    for name in ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword"):
        parameters.pop(name, None)
    context = ssl.create_default_context()
    files.show_certificate(context)
    return {"ssl": context}


def _leave_out(parameters: dict[str, str]) -> list[str]:
    """Take out parameters that the driver does not know; return those we do not follow. May refuse some."""
    notes = []
    for name in [*parameters]:
        value = parameters[name].lower()
        if name in _HARMLESS and value in _HARMLESS[name]:
            del parameters[name]
        elif name in _REFUSED:
            raise DatabaseUrlInvalid(f"{name}={parameters[name]} is not supported: {_REFUSED[name]}")
        elif name in _HARMLESS:
            notes.append(f"{name}={parameters.pop(name)}")
    return notes
