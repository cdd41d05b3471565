"""The admin as a program."""

from __future__ import annotations

import re
import shutil
import signal
import ssl

import httpx2
import pytest
import trio

from tests.cli.program import Program, Running
from tests.transports import make_certificate
from trio_graphile.cli._settings import all_settings

BOUND = 30.0


async def url_of(running: Running) -> str:
    with trio.fail_after(BOUND):
        await running.wait_until(lambda output: "log in" in output or "no login is needed" in output)
    found = re.search(r"https?://[^ ,\n]+", running.output)
    assert found is not None, running.output
    return found[0]


async def status_of(url: str, **arguments: object) -> int:
    with trio.fail_after(BOUND):
        async with httpx2.AsyncClient() as client:
            return (await client.get(f"{url}/api/nothing", **arguments)).status_code  # type: ignore[arg-type]


async def test_it_serves_until_a_signal_and_makes_a_password_up(shop: Program) -> None:
    async with shop.running("admin", "--listen", "127.0.0.1:0") as running:
        url = await url_of(running)
        [secret] = re.findall(r"[0-9a-f]{48}", running.output)
        assert "log in as admin" in running.output
        assert await status_of(url) == 401
        assert await status_of(url, auth=("admin", secret)) == 404
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert running.output.count(secret) == 1


async def test_who_tried_to_log_in_is_in_the_log(shop: Program) -> None:
    async with shop.running("admin", "--listen", "127.0.0.1:0", "--password", "swordfish") as running:
        url = await url_of(running)
        assert await status_of(url, auth=("admin", "wrong-one")) == 401
        await running.wait_for('action="login" ids=[] outcome={"client": "127.0.0.1", "succeeded": false}')
    assert "swordfish" not in running.output
    assert "wrong-one" not in running.output


@pytest.mark.parametrize(
    ("mode", "variable", "headers"),
    [
        ("bearer", "BEARER_TOKEN", {"authorization": "Bearer swordfish"}),
        ("header", "HEADER_TOKEN", {"x-own": "swordfish"}),
    ],
)
async def test_secrets_that_are_given_are_not_shown(
    shop: Program, mode: str, variable: str, headers: dict[str, str]
) -> None:
    shop = shop.with_environment(**{f"GRAPHILE_WORKER_ADMIN_{variable}": "swordfish"})
    arguments = ("--listen", "127.0.0.1:0", "--auth", mode, "--header-name", "x-own")
    async with shop.running("admin", *arguments) as running:
        url = await url_of(running)
        assert await status_of(url, headers=headers) == 404
        assert await status_of(url) == 401
        running.send(signal.SIGINT)
        assert await running.wait_ended() == 0
    assert "swordfish" not in running.output
    assert re.search(r"[0-9a-f]{48}", running.output) is None


async def test_the_file_says_what_flags_do(shop: Program) -> None:
    shop.write("secret", "sword fish\n")
    shop.write(
        "trio_graphile.toml",
        '[admin]\nlisten = "127.0.0.1:0"\nusername = "ada"\nsecret_file = "secret"\nread_only = true\n'
        'allowed_hosts = ["jobs.example"]\n',
    )
    async with shop.running("admin") as running:
        url = await url_of(running)
        assert "read-only" in running.output
        allowed = {"host": "jobs.example"}
        assert await status_of(url, auth=("ada", "sword fish"), headers=allowed) == 404
        assert await status_of(url, headers={"host": "evil.example"}) == 421
    assert "sword fish" not in running.output


async def test_without_a_login_on_loopback_and_sockets(shop: Program) -> None:
    async with shop.running("admin", "--listen", "127.0.0.1:0", "--auth", "none") as running:
        assert await status_of(await url_of(running)) == 404
    async with shop.running("admin", "--listen", "unix:admin.sock", "--auth", "none") as running:
        await running.wait_for("no login is needed")
        transport = httpx2.AsyncHTTPTransport(uds=str(shop.folder / "admin.sock"))
        with trio.fail_after(BOUND):
            async with httpx2.AsyncClient(transport=transport) as client:
                assert (await client.get("http://localhost/api/nothing")).status_code == 404
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert not (shop.folder / "admin.sock").exists()


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:0", "[::]:0", ":0", "localhost:0", "jobs.example:80", "192.0.2.1:80"]
)
async def test_without_a_login_nowhere_else(program: Program, listen: str) -> None:
    ended = await program.run("admin", "--auth", "none", "--listen", listen)
    assert ended.exit_code == 2
    assert ended.error.startswith("trio-graphile: --auth: none is for loopback addresses and unix sockets")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--header-name", "x y"), "--header-name"),
        (("--listen", "nowhere"), "--listen"),
        (("--auth", "digest"), "--auth"),
        (("--allowed-host", "https://jobs.example"), "--allowed-host"),
        (("--trusted-proxy", "proxy.example"), "--trusted-proxy"),
        (("--public-url", "jobs.example"), "--public-url"),
        (("--key", "key.pem"), "--key"),
        (("--certificate", "missing.pem"), "--certificate: missing.pem cannot be read: No such file"),
        (("--password", ""), "--password: a text"),
        (("--secret-file", "missing"), "--secret-file: missing: No such file or directory"),
        (("--secret-file", "empty"), "--secret-file: empty is empty"),
        (("--secret-file", "latin"), "--secret-file: latin is not UTF-8"),
        (("--secret-file", "empty", "--password", "x"), "--secret-file: --password is given, too"),
        (("--redact", "shop"), "--redact: 'shop' is not MODULE:FUNCTION, such as app.jobs:redact"),
        (("--redact", "os:sep"), "--redact: os:sep is no function"),
        (("--redact", "shop:missing"), "--redact: shop:missing does not exist"),
    ],
)
async def test_what_cannot_be_right_is_named(
    program: Program, arguments: tuple[str, ...], named: str
) -> None:
    program.write("empty", "\n")
    (program.folder / "latin").write_bytes(b"caf\xe9")
    ended = await program.run("admin", *arguments)
    assert (ended.exit_code, named in ended.error) == (2, True)


async def test_it_serves_https(shop: Program) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = str(shop.folder / "certificate.pem"), str(shop.folder / "key.pem")
    make_certificate(certificate, key)
    context = ssl.create_default_context(cafile=certificate)
    arguments = ("--listen", "127.0.0.1:0", "--auth", "none", "--certificate", certificate, "--key", key)
    async with shop.running("admin", *arguments) as running:
        url = await url_of(running)
        assert url.startswith("https://")
        with trio.fail_after(BOUND):
            async with httpx2.AsyncClient(verify=context) as client:
                assert (await client.get(f"{url}/healthz")).status_code == 200


async def test_an_address_that_is_taken_is_named(shop: Program) -> None:
    async with shop.running("admin", "--listen", "127.0.0.1:0", "--auth", "none") as running:
        place = (await url_of(running)).removeprefix("http://")
        ended = await shop.run("admin", "--auth", "none", "--listen", place)
        assert ended.exit_code == 1
        assert ended.error.startswith(f"trio-graphile: cannot listen on {place}")


async def test_its_help_lists_everything_that_can_be_set(program: Program) -> None:
    ended = await program.with_environment(COLUMNS="200").run("admin", "--help")
    expected = [setting.flag for setting in all_settings() if setting.path[0] == "admin"]
    missing = [flag for flag in (*expected, "tasks", "crontab") if f"--{flag}" not in ended.output]
    assert missing == []


async def test_a_second_signal_ends_what_does_not_stop(shop: Program) -> None:
    """A request that is under way has its time after the first one."""
    async with shop.running("admin", "--listen", "127.0.0.1:0", "--auth", "none") as running:
        host, _, port = (await url_of(running)).removeprefix("http://").partition(":")
        with trio.fail_after(BOUND):
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(b"POST /api/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n\r\n")
            running.send(signal.SIGTERM)
            running.send(signal.SIGINT)
            assert await running.wait_ended() == 0
            await stream.aclose()
