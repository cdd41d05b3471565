"""`run --health-listen` and `--metrics-listen`."""

from __future__ import annotations

import re
import signal
import socket
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import trio

from tests.cli.program import Program
from trio_graphile import Client, Database
from trio_graphile.cli._pages import shifted

SERVING = re.compile(r"serving (\S.*) on (127\.0\.0\.1:\d+)")


async def get(address: str, path: str) -> str:
    def fetch() -> str:
        with urlopen(f"http://{address}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    return await trio.to_thread.run_sync(fetch)


async def test_health_and_metrics_are_served_beside_the_worker(shop: Program, database: Database) -> None:
    await Client(database).add_raw_job("greet", "ada")
    flags = ("--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    async with shop.running("run", "shop:tasks", *flags) as running:
        await running.wait_for("schema graphile_worker\n")
        await running.wait_for("greeted ada")
        [(pages, address)] = SERVING.findall(running.output)
        assert pages == "/livez, /readyz, /metrics"
        assert '"ok":true' in await get(address, "/livez")
        assert '"ok":true' in await get(address, "/readyz")
        assert 'trio_graphile_jobs_started_total{task="greet"} 1.0' in await get(address, "/metrics")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0


async def test_a_program_that_waits_for_its_server_is_alive_and_not_ready(program: Program) -> None:
    waiting = ("--wait-for-server", "600", "--database-url", "postgresql://nobody@127.0.0.1:1/x")
    flags = ("--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    async with program.running("run", "shop:tasks", *flags, *waiting) as running:
        await running.wait_until(lambda output: SERVING.search(output) is not None)
        [(_, address)] = SERVING.findall(running.output)
        assert '"ok":true' in await get(address, "/livez")
        with pytest.raises(HTTPError) as raised:
            await get(address, "/readyz")
        with raised.value as answer:
            assert b"it has not started yet" in answer.read()
        assert "trio_graphile_jobs" in await get(address, "/metrics")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0


async def test_each_process_has_an_address_of_its_own(shop: Program) -> None:
    flags = ("--health-listen", "127.0.0.1:0", "--processes", "2")
    async with shop.running("run", "shop:tasks", *flags) as running:
        await running.wait_until(lambda output: output.count("schema graphile_worker\n") == 2)
        addresses = {address for _, address in SERVING.findall(running.output)}
        assert len(addresses) == 2
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0


async def test_an_address_that_cannot_be_is_one_line(shop: Program) -> None:
    ended = await shop.run("run", "shop:tasks", "--health-listen", "9000")
    assert "--health-listen: an address such as 127.0.0.1:9000 is needed, not '9000'" in ended.error
    assert ended.exit_code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = await shop.run("run", "shop:tasks", "--metrics-listen", address)
    assert f"--metrics-listen: {address} cannot be listened to: " in ended.error
    assert ended.exit_code == 1


async def test_without_the_library_metrics_say_what_to_install(shop: Program) -> None:
    source = "import sys; sys.modules['prometheus_client'] = None; from trio_graphile.cli import main; main()"
    ended = await shop.run_python("-c", source, "run", "shop:tasks", "--metrics-listen", ":0")
    assert "pip install 'trio-graphile[prometheus]'" in ended.error
    assert ended.exit_code == 2


@pytest.mark.parametrize(
    ("address", "found"),
    [("127.0.0.1:9000", "127.0.0.1:9002"), (":0", ":0"), ("[::]:9", "[::]:11"), ("nonsense", "nonsense")],
)
def test_further_processes_listen_on_the_next_ports(address: str, found: str) -> None:
    assert shifted(address, 2) == found
