"""The shortcuts: what we do with private parts of asyncio, trio-asyncio and asyncpg, and could do without.

What a shortcut relies on is looked at when it would first be taken: when a loop or a session is opened. If it
is not as expected, we say so, and take the plain way. Nothing but speed, or what the list says, is lost.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import attrs

from trio_graphile._database.driver.libraries import asyncpg, describe_versions, trio_asyncio

logger = logging.getLogger("trio_graphile.database")


@attrs.frozen(kw_only=True)
class Shortcut:
    """One of them."""

    name: str
    why: str = attrs.field(repr=False)
    without: str = attrs.field(repr=False)
    """What is lost on the plain way; times are those of one statement, a `select 1`, on Python 3.11, where it
    takes 38 us of the client's CPU time with all of them."""
    find: Callable[[], str | None] = attrs.field(eq=False, repr=False)
    """Says what is not as expected."""


_turned_off: set[Shortcut] = set()


def turn_off(*shortcuts: Shortcut) -> None:
    """Take the plain way from now on, in loops and sessions that are opened later."""
    _turned_off.update(shortcuts)


def turn_on(*shortcuts: Shortcut) -> None:
    """Take these again, if what they rely on is there: it is looked at once more."""
    _turned_off.difference_update(shortcuts)
    _fits.cache_clear()


def is_on(shortcut: Shortcut) -> bool:
    """Whether it is taken: nobody has turned it off, and what it relies on is there."""
    return shortcut not in _turned_off and _fits(shortcut)


def find_misfit(shortcut: Shortcut) -> str | None:
    """Say what is not as a shortcut expects it; None if all is."""
    try:
        return shortcut.find()
    except Exception as error:  # noqa: BLE001  # what is not as expected may break whoever looks at it
        return f"{type(error).__name__}: {error}"


@functools.cache
def _fits(shortcut: Shortcut) -> bool:
    misfit = find_misfit(shortcut)
    if misfit is not None:
        logger.warning(
            "the shortcut %s is not taken: %s (%s); without it: %s",
            *(shortcut.name, misfit, describe_versions(), shortcut.without),
        )
    return misfit is None


# --- what they rely on ------------------------------------------------------------------------


def _find_other_parameters(owner: Any, name: str, *expected: str) -> str | None:
    """Say if a method is not there, or takes other positional arguments first than expected."""
    method = getattr(owner, name, None)
    if not callable(method):
        return f"{owner.__name__}.{name} is not there"
    signature = inspect.signature(method)
    parameters = [*signature.parameters.values()]
    ours, others = parameters[: len(expected) + 1], parameters[len(expected) + 1 :]
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    is_more_needed = any(one.default is one.empty and one.kind not in variable for one in others)
    if [one.name for one in ours] != ["self", *expected] or is_more_needed:
        return f"{owner.__name__}.{name} takes other arguments: {signature}"
    return None


def _find_missing(owner: Any, *names: str) -> str | None:
    missing = [name for name in names if not hasattr(owner, name)]
    return f"{owner.__name__} has no {', '.join(missing)}" if missing else None


def _find_misfit_of_protection() -> str | None:
    opening = getattr(trio_asyncio.open_loop, "__wrapped__", None)
    if opening is None or opening.__closure__ or "TrioEventLoop" not in opening.__code__.co_names:
        return "open_loop makes its loop in another way"
    loop = trio_asyncio.TrioEventLoop
    return (
        _find_other_parameters(loop, "_main_loop", "task_status")
        or _find_other_parameters(loop, "_main_loop_exit")
        or _find_other_parameters(loop, "_io_task", "fd", "handle", "wait_ready")
    )


def _find_misfit_of_reading() -> str | None:
    handle = trio_asyncio._base.ScopedHandle
    return _find_other_parameters(
        trio_asyncio.TrioEventLoop, "_io_task", "fd", "handle", "wait_ready"
    ) or _find_missing(handle, "_scope", "_run", "_raise")


def _find_misfit_of_steps() -> str | None:
    async def wait(future: Any) -> None:
        await future

    no_loop: Any = _NoLoop()
    future: Any = asyncio.Future(loop=no_loop)
    waiting = wait(future)
    try:
        is_future = waiting.send(None) is future
    finally:
        waiting.close()
    if not (is_future and getattr(future, "_asyncio_future_blocking", None) is True):
        return "who awaits a future does not say so as expected"
    return None


class _NoLoop:
    """As much of a loop as a future wants of it that is never done."""

    def get_debug(self) -> bool:
        return False


def _find_misfit_of_listeners() -> str | None:
    misfit = _find_other_parameters(
        asyncpg.Connection, "_process_notification", "pid", "channel", "payload"
    ) or _find_missing(asyncpg.Connection, "_listeners")
    if misfit is None and "cb" not in getattr(asyncpg.connection._Callback, "_fields", ()):
        misfit = "asyncpg keeps its listeners in another way"
    return misfit


def _find_misfit_of_survival() -> str | None:
    return _find_other_parameters(trio_asyncio.TrioEventLoop, "_main_loop_one", "no_wait") or _find_missing(
        trio_asyncio._base, "TrioAsyncioExit"
    )


# --- the list ---------------------------------------------------------------------------------

PROTECTION = Shortcut(
    name="protection",
    why="A KeyboardInterrupt in the middle of asyncpg's compiled code crashes the interpreter, and in that of"
    " the loop's leaves everybody waiting for ever. In our loops it reaches Trio's main task instead.",
    without="Ctrl-C without a signal handler may end the process without its jobs given back",
    find=_find_misfit_of_protection,
)
READING = Shortcut(
    name="reading",
    why="trio-asyncio's reader waits, after each call, until the loop has come to all its callbacks.",
    without="1.6 times as much of the client's CPU time",
    find=_find_misfit_of_reading,
)
ANSWERS = Shortcut(
    name="answers",
    why="A future calls who waits for it when the loop comes to that. Ours calls at once; so it does with a"
    " callback that asyncpg has at each answer, known by its name, that need not wait, either.",
    without="a turn of the event loop more, or two: 2.1 times as much of the client's CPU time",
    find=lambda: _find_missing(asyncpg.protocol.Protocol, "_on_waiter_completed"),
)
STEPS = Shortcut(
    name="steps",
    why="asyncio's code runs in the Trio task that wants its result: nothing is started, or handed over.",
    without="three turns of the event loop more, one of them before anything is sent: 3.0 times as much of"
    " the client's CPU time, and 3.8 times without all three",
    find=_find_misfit_of_steps,
)
NOTIFICATIONS = Shortcut(
    name="notifications",
    why="asyncpg calls a listener in the next turn of the loop. Ours are called at once.",
    without="a job that was added starts a turn of the event loop later",
    find=_find_misfit_of_listeners,
)
TRANSPORTS = Shortcut(
    name="transports",
    why="Attempts to connect that are under way when a loop ends would leave half a TLS connection to the"
    " garbage collector. So we know what the loop has open.",
    without="such a connection is closed later, with a ResourceWarning",
    find=lambda: _find_other_parameters(
        trio_asyncio.TrioEventLoop, "_make_socket_transport", "sock", "protocol"
    ),
)
SURVIVAL = Shortcut(
    name="survival",
    why="A SystemExit in what asyncio code has left behind would end the loop of all handlers.",
    without="it does",
    find=_find_misfit_of_survival,
)
OWN_RUN = Shortcut(
    name="own_run",
    why="A thread inherits the name of the asyncio loop that is open, which is none of its own Trio's.",
    without="a thread with a Trio of its own, started by a handler, cannot open a database",
    find=lambda: _find_missing(trio_asyncio.TrioEventLoop, "_token"),
)
CANCEL_REQUESTS = Shortcut(
    name="cancel_requests",
    why="To cancel asyncpg's call sends a CancelRequest, too, but throws away the answer of a statement that"
    " was faster.",
    without="a statement whose caller is cancelled is never asked to end; it is given up after a while",
    find=lambda: _find_other_parameters(asyncpg.Connection, "_cancel", "waiter"),
)
PREPARATION = Shortcut(
    name="preparation",
    why="There is no public way to have asyncpg parse a statement ahead of its first run.",
    without="the server bounds brief transactions by a timeout, from PostgreSQL 17 on, and not at all before",
    find=lambda: _find_other_parameters(asyncpg.Connection, "_get_statement", "query", "timeout"),
)
REFUSED_BEGINS = Shortcut(
    name="refused_begins",
    why="asyncpg remembers a BEGIN that the server has refused as a transaction that is open.",
    without="the session is closed after that",
    find=lambda: _find_missing(asyncpg.Connection, "_top_xact"),
)
SOCKETS = Shortcut(
    name="sockets",
    why="asyncpg does not let its socket be seen, whose keepalives the address sets.",
    without="keepalives are as the operating system has them",
    find=lambda: _find_missing(asyncpg.Connection, "_transport"),
)
FOR_SPEED = (READING, ANSWERS, STEPS, NOTIFICATIONS)
"""Without these all is as with them, but slower."""
FOR_MORE = (
    *(PROTECTION, TRANSPORTS, SURVIVAL, OWN_RUN),
    *(CANCEL_REQUESTS, PREPARATION, REFUSED_BEGINS, SOCKETS),
)
"""Without these something is missing, in cases that are rare."""
