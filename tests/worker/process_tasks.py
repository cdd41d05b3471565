"""Tasks that run in processes, which call the test to say that they do."""

from __future__ import annotations

import asyncio  # noqa: TID251  # whose cancellation is one of the errors
import concurrent.futures
import json
import multiprocessing
import os
import socket
import subprocess

from trio_graphile import PermanentFailure, RetryAfter, Snooze, TaskRegistry, current_job

tasks = TaskRegistry()
misnamed = TaskRegistry()


def call(port: int) -> socket.socket:
    """Tell the test which process this is and which job it runs."""
    line = socket.create_connection(("127.0.0.1", port), timeout=20)
    job = current_job()
    line.sendall(json.dumps([os.getpid(), None if job is None else job.id]).encode())
    return line


@tasks.task("attentive", lane="process")
def attentive(port: int) -> None:
    """Wait for the test's answer."""
    with call(port) as line:
        assert line.recv(1) == b"."


@tasks.task("starting", lane="process")
def starting(port: int) -> None:
    """Start a process, say its number, and wait for ever."""
    started = subprocess.Popen(["sleep", "600"])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(json.dumps([started.pid, None]).encode())
        started.wait()


def square(number: int) -> int:
    return number * number


@tasks.task("multiplying", lane="process")
def multiplying(method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(square, [2, 3]) == [4, 9]
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        assert list(executor.map(square, [2, 3])) == [4, 9]


@tasks.task("busy", lane="process")
def busy(port: int) -> None:
    with call(port):
        compute_for_ever()


@tasks.task("briefly_busy", lane="process", timeout=0.3)
def briefly_busy() -> None:
    compute_for_ever()


def compute_for_ever() -> None:
    number = 0
    while True:
        number = (number * 31 + 7) % 1_000_003


@tasks.task("unlucky", lane="process")
def unlucky(payload: dict[str, str]) -> None:
    secret = payload["password"]
    raise ValueError(f"no such luck with {len(secret)} letters")


@tasks.task("hopeless", lane="process")
def hopeless() -> None:
    raise PermanentFailure("never again")


@tasks.task("sleepy", lane="process")
def sleepy() -> None:
    raise Snooze(1000)


@tasks.task("patient", lane="process")
def patient() -> None:
    raise RetryAfter(2000, "busy there")


@tasks.task("leaving", lane="process")
def leaving() -> None:
    os._exit(3)


@tasks.batch_task("index", lane="process")
def index(numbers: list[int]) -> list[Exception | None]:
    return [ValueError(f"{number} is even") if number % 2 == 0 else None for number in numbers]


def original() -> None: ...


renamed = misnamed.task("renamed", lane="process")(original)


class Unforeseen(BaseException):
    """As a library may have it."""


@tasks.task("strange", lane="process")
def strange(kind: str) -> None:
    raise {
        "SystemExit": SystemExit(3),
        "GeneratorExit": GeneratorExit(),
        "CancelledError": asyncio.CancelledError(),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "Unforeseen": Unforeseen("a library's"),
    }[kind]
