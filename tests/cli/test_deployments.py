"""The files for deployments: the program takes what stands in them."""

from __future__ import annotations

import json
import re
import signal
from urllib.request import urlopen

import pytest
import trio

from tests.cli.program import Program
from tests.support.documents import DOCS
from trio_graphile import Database

SERVING = re.compile(r"serving \S.* on (127\.0\.0\.1:\d+)")


def text_of(file: str) -> str:
    return (DOCS / "operations" / file).read_text()


def command_line(file: str) -> list[str]:
    """Return what the file has after `trio-graphile`, with the tasks and the addresses of these tests."""
    match file:
        case "Containerfile":
            [command] = re.findall(r"^CMD (\[.*\])$", text_of(file), re.MULTILINE)
            words = json.loads(command)
        case "kubernetes.yaml":
            [items] = re.findall(r"^ +args:\n((?: +- .*\n)+)", text_of(file), re.MULTILINE)
            words = re.findall(r"- (\S+)\n", items)
        case _:
            [line] = re.findall(r"^ExecStart=\S+/trio-graphile (.*)$", text_of(file), re.MULTILINE)
            words = line.split()
    assert "shop.jobs:tasks" in words
    return [re.sub(r":9000$", "127.0.0.1:0", word.replace("shop.jobs:", "shop:")) for word in words]


async def get(address: str, path: str) -> str:
    def fetch() -> str:
        with urlopen(f"http://{address}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    return await trio.to_thread.run_sync(fetch)


@pytest.mark.parametrize("file", ["Containerfile", "kubernetes.yaml", "trio-graphile.service"])
async def test_the_program_runs_with_the_arguments_of_the_file(
    shop: Program, database: Database, file: str
) -> None:
    async with shop.running(*command_line(file)) as running:
        await running.wait_for("schema graphile_worker\n")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0


async def test_the_probes_of_kubernetes_and_its_scraper_find_their_pages(
    shop: Program, database: Database
) -> None:
    probes = re.findall(r"(\w+)Probe:\n +httpGet: \{path: (\S+), port: http\}", text_of("kubernetes.yaml"))
    assert [name for name, _ in probes] == ["readiness", "liveness"]
    async with shop.running(*command_line("kubernetes.yaml")) as running:
        await running.wait_for("schema graphile_worker\n")
        [address] = SERVING.findall(running.output)
        for _, path in probes:
            assert '"ok":true' in await get(address, path)
        assert "trio_graphile_worker_ready 1.0" in await get(address, "/metrics")


async def test_the_variables_of_the_compose_file_are_settings(shop: Program, database: Database) -> None:
    variables = dict(re.findall(r'^ +(TRIO_GRAPHILE_\w+): "(.*)"$', text_of("compose.yaml"), re.MULTILINE))
    assert variables
    ended = await shop.with_environment(**variables).run("run", "shop:tasks", "--once")
    assert (ended.exit_code, ended.errors) == (0, "")


def test_the_image_names_its_user_by_number_as_kubernetes_needs_it() -> None:
    """By a name the kubelet cannot tell that it is not root, and refuses to start the container."""
    assert "runAsNonRoot: true" in text_of("kubernetes.yaml")
    [user] = re.findall(r"^USER (\d+)$", text_of("Containerfile"), re.MULTILINE)
    assert int(user) > 0
    assert f"--uid {user} " in text_of("Containerfile")
