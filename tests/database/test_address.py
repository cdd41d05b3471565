"""Addresses: what libpq documents and hosters print is heeded, left out by name, or refused by name."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from trio_graphile import DatabaseUrlInvalid
from trio_graphile._database.address import read_address


def read(url: str | None, **environment: str) -> object:
    return read_address(url, environment)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://ada@a:1,b:2/queue", (("a", 1), ("b", 2))),
        ("postgresql://a,b:2/queue", (("a", 5432), ("b", 2))),
        ("postgresql://ada@/queue?host=a,b&port=1,2", (("a", 1), ("b", 2))),
        ("postgresql://ada@/queue?host=a,b&port=7", (("a", 7), ("b", 7))),
        ("postgresql://a,b/queue?port=1,2", (("a", 1), ("b", 2))),
        ("postgresql:///queue?host=a:1,b:2", (("a", 1), ("b", 2))),
        ("postgresql://[::1]:1,[fe80::1]/queue", (("::1", 1), ("fe80::1", 5432))),
        ("postgresql://%2Frun%2Fa,%2Frun%2Fb/queue", (("/run/a", 5432), ("/run/b", 5432))),
        ("postgresql://a:1/queue", ()),
    ],
)
def test_several_hosts_are_read_as_libpq_does(url: str, hosts: tuple[tuple[str, int], ...]) -> None:
    assert read_address(url, {}).hosts == hosts


def test_hosts_may_stand_in_variables() -> None:
    environment = {"PGHOST": "a,b", "PGPORT": "1,2"}
    assert read_address(None, environment).hosts == (("a", 1), ("b", 2))
    assert read_address("postgresql:///queue", environment).hosts == (("a", 1), ("b", 2))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://ada@a/queue", "mysql:// is not PostgreSQL's"),
        ("nonsense", "it does not begin with postgresql://; a database URL looks like postgresql://"),
        ("postgresql://ada:p@secret@a/queue", "an @ stands in the user or the password"),
        ("postgresql://ada:secret/more@a/queue", "an @ stands where none can be"),
        ("postgresql://ada:secret@a b/queue", "the host or the port is not one"),
        ("postgresql://ada:secret@a:x/queue", "the host or the port is not one"),
        ("postgresql://ada:secret@[::1/queue", "the host is not one"),
        ("postgresql://ada:secret@a:0/queue", "the port is not one"),
        ("postgresql://ada:secret@a:70000/queue", "the port is not one"),
        ("postgresql://ada:secret@a,b/queue?port=1,2,3", "2 hosts and 3 ports do not match"),
        ("postgresql://ada:secret@a/queue?port=1,2,3", "1 host and 3 ports do not match"),
        ("postgresql://ada:secret@a/queue?sslmode", "not name=value"),
        ("postgresql://ada:secret@a/queue#fragment", "a # stands"),
        ("postgresql://ada:secret@a/queue?connect_timeout=soon", "connect_timeout: a whole number"),
        ("postgresql://ada:secret@a/queue?ssl=maybe", "ssl: true or false"),
        (
            "postgresql://ada:secret@a/queue?requiressl=yes",
            "requiressl: 0 or 1 is needed, not 'yes'; or write ssl",
        ),
        (
            "postgresql://ada:secret@a/queue?requiressl=1&sslmode=prefer",
            "sslmode=prefer: write sslmode=require",
        ),
        ("postgresql://ada:secret@a/queue?requiressl=1&ssl=false", "sslmode=disable: write sslmode=require"),
        ("postgresql://ada:secret@a/queue?sslrootcert=/nowhere/ca.crt", "sslrootcert: there is no file"),
        ("postgresql://ada:secret@a/queue?sslcert=/nowhere/c.crt", "sslcert: there is no file"),
        ("postgresql://ada:secret@a/queue?sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
        ("postgresql://ada:secret@a/queue?gssencmode=require", "gssencmode=require is not supported"),
        ("postgresql://ada:secret@a/queue?require_auth=scram-sha-256", "require_auth=scram-sha-256 is not"),
        ("postgresql://ada:secret@a/queue?requirepeer=postgres", "requirepeer=postgres is not"),
        ("postgresql://ada:secret@/queue?hostaddr=127.0.0.1", "write the address as the host"),
        ("postgresql://?service=q", "there is no service 'q'"),
    ],
)
def test_what_is_wrong_is_named_and_no_password_shown(url: str, text: str) -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        read(url, HOME="/nowhere")
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_address_at_all_says_where_one_can_come_from() -> None:
    with pytest.raises(DatabaseUrlInvalid, match="DATABASE_URL"):
        read(None)


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=prefer",
        "client_encoding=UTF8",
        "gssencmode=disable",
        "keepalives=1",
        "load_balance_hosts=disable",
        "requiressl=0",
        "sslcompression=0",
        "sslsni=1",
    ],
)
def test_what_asks_for_nothing_special_is_left_out(parameter: str) -> None:
    address = read_address(f"postgresql://ada@a/queue?{parameter}&work_mem=8MB", {})
    assert address.url == "postgresql://ada@a:5432/queue?work_mem=8MB"
    assert address.notes == ()


def test_what_is_not_heeded_is_noted() -> None:
    address = read_address("postgresql://ada@a/queue?channel_binding=require&sslsni=0", {})
    assert (address.url, address.notes) == (
        "postgresql://ada@a:5432/queue",
        ("channel_binding=require", "sslsni=0"),
    )


def test_what_is_heeded_here_does_not_go_to_the_server() -> None:
    address = read_address(
        "postgresql://ada@a,b/queue?connect_timeout=7&keepalives_idle=30&keepalives_interval=5"
        "&keepalives_count=3&tcp_user_timeout=9000&load_balance_hosts=random&application_name=shop"
        "&fallback_application_name=other",
        {},
    )
    assert address.url == "postgresql://ada@a:5432,b:5432/queue"
    assert (address.connect_timeout, address.application_name, address.is_shuffled) == (7.0, "shop", True)
    assert address.socket_options == {
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 9000,
    }


@pytest.mark.parametrize(
    ("asked", "environment", "mode"),
    [
        ("?requiressl=1", {}, "?sslmode=require"),
        ("?requiressl=1&sslmode=verify-full", {}, "?sslmode=verify-full"),
        ("?requiressl=1", {"PGSSLMODE": "allow"}, "?sslmode=require"),
        ("?requiressl=1", {"PGSSLMODE": "verify-ca"}, ""),  # the driver reads that variable
        ("?requiressl=0", {"PGREQUIRESSL": "1"}, ""),
        ("", {"PGREQUIRESSL": "1"}, "?sslmode=require"),
        ("", {"PGREQUIRESSL": "1", "PGSSLMODE": "allow"}, ""),
        ("?sslmode=prefer", {"PGREQUIRESSL": "1"}, "?sslmode=prefer"),
    ],
)
def test_the_old_name_of_sslmode_require_is_heeded(
    asked: str, environment: dict[str, str], mode: str
) -> None:
    address = read_address(f"postgresql://a/queue{asked}", environment)
    assert (address.url, address.notes) == (f"postgresql://a:5432/queue{mode}", ())


def test_the_old_variable_is_heeded_without_a_url() -> None:
    environment = {"PGHOST": "a", "PGREQUIRESSL": "1"}
    assert read_address(None, environment).url == "postgresql://a:5432?sslmode=require"


@pytest.mark.parametrize(
    ("asked", "mode"),
    [("ssl=true", "require"), ("ssl=0", "disable"), ("sslmode=no-verify", "require")],
)
def test_tls_may_be_asked_for_as_in_node(asked: str, mode: str) -> None:
    assert (
        read_address(f"postgresql://a/queue?{asked}", {}).url == f"postgresql://a:5432/queue?sslmode={mode}"
    )


def test_the_certificates_of_the_system_can_be_trusted() -> None:
    address = read_address("postgresql://a/queue?sslmode=verify-full&sslrootcert=system", {})
    assert address.url == "postgresql://a:5432/queue"
    context = address.arguments["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_service_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "service.conf"
    file.write_text("host=a\n")  # before any [service]
    with pytest.raises(DatabaseUrlInvalid, match=r"the service file .*service\.conf cannot be read"):
        read(None, PGSERVICE="queue", PGSERVICEFILE=str(file))


def test_services_of_the_system_are_found(tmp_path: Path) -> None:
    (tmp_path / "pg_service.conf").write_text("[queue]\nhost=a\nport=1\nuser=ada\ndbname=queue\n")
    address = read_address(None, {"PGSERVICE": "queue", "PGSYSCONFDIR": str(tmp_path), "HOME": "/nowhere"})
    assert address.shown == "postgresql://ada@a:1/queue"


def test_a_service_is_found_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "service.conf"
    file.write_text("[queue]\nhost=a,b\nport=1,2\nuser=ada\npassword=100%\ndbname=queue\n")
    environment = {"PGSERVICEFILE": str(file)}
    for address in (
        read_address(None, environment | {"PGSERVICE": "queue"}),
        read_address("postgresql:///?service=queue", environment),
    ):
        assert address.hosts == (("a", 1), ("b", 2))
        assert address.url == "postgresql://a:1,b:2/queue?user=ada&password=100%25"
        assert address.shown == "postgresql://ada@a:1,b:2/queue"
        assert "100" not in repr(address)
    assert "user=eve" in str(read_address("postgresql://?service=queue&user=eve", environment).url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@db.example:5433/queue", "postgresql://ada@db.example:5433/queue"),
        ("postgresql://ada@/queue?host=/run/pg&password=secret", "postgresql://ada@/run/pg/queue"),
        ("postgres://a,b:1/queue", "postgresql://a,b:1/queue"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert read_address(url, {}).shown == shown


@pytest.mark.parametrize("url", [None, "postgresql://db/shop"])
def test_variables_that_the_driver_does_not_know_are_heeded(url: str | None) -> None:
    environment = {
        "PGHOST": "db",
        "PGDATABASE": "shop",
        "PGOPTIONS": "-c work_mem=8MB",
        "PGAPPNAME": "shop",
        "PGCONNECT_TIMEOUT": "7",
        "PGCHANNELBINDING": "require",
    }
    address = read_address(url, environment)
    assert address.url is not None
    assert address.url.startswith("postgresql://db:5432")
    assert address.url.endswith("?options=-c%20work_mem%3D8MB")
    assert (address.application_name, address.connect_timeout) == ("shop", 7.0)
    assert address.notes == ("channel_binding=require",)
    assert read_address("postgresql://db/shop?application_name=ours", environment).application_name == "ours"


@pytest.mark.parametrize("variable", ["PGHOSTADDR", "PGREQUIREAUTH", "PGGSSENCMODE"])
def test_variables_without_which_it_would_be_less_safe_are_refused(variable: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="is not supported"):
        read_address("postgresql://db/shop", {variable: "require"})
