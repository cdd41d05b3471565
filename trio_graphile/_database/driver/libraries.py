"""asyncpg and trio-asyncio, imported: the only module that does, and where newer Pythons are made up for.

trio-asyncio 0.16 was written for Python up to 3.13, and changes asyncio when it is imported. Here it is
brought to work on newer ones, and kept from changing anything for those who use asyncio without Trio:

- Names that are gone (event loop policies, the child watcher) are there while it is imported, and only then.
- From 3.14 on a task of asyncio's checks, in C, that its loop is the one that runs in its thread, which
  trio-asyncio says in Python only. So the handles that its loops run say it in C, too, and afterwards what
  was said before. asyncio's own handles, and with them other loops, are left alone.
- From 3.15 on asyncio tells a loop in which context a reader or writer is to be called.
- `asyncio.run` and `asyncio.new_event_loop`, called outside of Trio, would make a loop of trio-asyncio's from
  then on. Here they make the loop that they would have made.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, TypeVar, TypeVarTuple, Unpack

import asyncpg  # type: ignore[import-untyped]  # it has no py.typed

__all__ = ["LOOP_IS_CHECKED", "asyncpg", "call_in", "describe_versions", "trio_asyncio"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LOOP_IS_CHECKED = sys.version_info >= (3, 14)
"""Whether tasks check which loop is running in their thread, in C."""

READERS_HAVE_CONTEXT = sys.version_info >= (3, 15)


def describe_versions() -> str:
    """Return what is installed, for an error that says what does not fit together."""
    names = ("trio", "trio-asyncio", "asyncpg")
    return ", ".join([f"Python {sys.version.split()[0]}", *(f"{name} {version(name)}" for name in names)])


@contextlib.contextmanager
def _old_names() -> Iterator[None]:
    """Have in asyncio what trio-asyncio looks for when it is imported: `_name`, or else an empty class."""
    added: list[tuple[Any, str]] = []
    unix_events: Any = getattr(asyncio, "unix_events", asyncio.events)
    for where, name, new in (
        (asyncio.events, "BaseDefaultEventLoopPolicy", "_BaseDefaultEventLoopPolicy"),
        (asyncio, "AbstractEventLoopPolicy", "_AbstractEventLoopPolicy"),
        (asyncio, "DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"),
        (asyncio, "AbstractChildWatcher", None),
    ):
        if name not in vars(where):
            value: Any = type(name, (), {})
            if new is not None:
                value = getattr(asyncio.events, new, None) or getattr(unix_events, new)
            setattr(where, name, value)
            added.append((where, name))
    try:
        yield
    finally:
        for where, name in added:
            delattr(where, name)


def _import_trio_asyncio() -> Any:
    is_ours = "trio_asyncio" not in sys.modules
    try:
        with warnings.catch_warnings(), _old_names():
            # Of what it is built on. On Pythons where it is only deprecated, that is no news to our users.
            warnings.simplefilter("ignore", DeprecationWarning)
            import trio_asyncio  # type: ignore[import-untyped]  # noqa: PLC0415  # it has no py.typed
        if LOOP_IS_CHECKED:
            _say_which_loop_runs(trio_asyncio.BaseTrioEventLoop)
        if READERS_HAVE_CONTEXT:
            _take_contexts(trio_asyncio.BaseTrioEventLoop)
        if is_ours:  # else its loops are what somebody wants
            _leave_other_loops_alone(sys.modules["trio_asyncio._loop"])
    except Exception as error:
        raise ImportError(
            f"trio-asyncio cannot be used: {type(error).__name__}: {error} ({describe_versions()})"
        ) from error
    return trio_asyncio


# trio-asyncio replaces asyncio's own, in Python.
_get_running_loop: Callable[[], Any] = vars(sys.modules.get("_asyncio", asyncio))["_get_running_loop"]
_set_running_loop: Callable[[Any], None] = vars(sys.modules.get("_asyncio", asyncio))["_set_running_loop"]


def call_in(loop: Any, function: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Call a function in a loop, by what C is told. From 3.14 on that matters to asyncio's tasks."""
    before = _get_running_loop()
    _set_running_loop(loop)
    try:
        return function(*args)
    finally:
        _set_running_loop(before)


def _run_in_its_loop(handle: Any) -> None:
    call_in(handle._loop, asyncio.Handle._run, handle)


class _Handle(asyncio.Handle):
    __slots__ = ()
    _run = _run_in_its_loop


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ()
    _run = _run_in_its_loop


def _say_which_loop_runs(loop_class: Any) -> None:
    """Have trio-asyncio make handles of ours, and run its own for readers and writers as these."""
    module = loop_class.call_soon.__globals__
    its_asyncio = types.ModuleType("asyncio")
    vars(its_asyncio).update(vars(asyncio), Handle=_Handle, TimerHandle=_TimerHandle)
    module["asyncio"] = its_asyncio
    module["ScopedHandle"]._run = _run_in_its_loop


def _take_contexts(loop_class: Any) -> None:
    """Have loops take the context in which a reader or writer is to be called."""

    def with_context(add: Callable[..., Any]) -> Callable[..., Any]:
        def add_in(
            self: Any, file: Any, callback: Any, *args: Any, context: Any = None, **options: Any
        ) -> Any:
            handle = add(self, file, callback, *args, **options)
            if context is not None and handle is not None:
                handle._context = context
            return handle

        return add_in

    for name in ("_add_reader", "_add_writer"):
        add = getattr(loop_class, name)
        if "context" not in inspect.signature(add).parameters:
            setattr(loop_class, name, with_context(add))


def _leave_other_loops_alone(module: Any) -> None:
    """Have a thread without Trio use the policy that was there, as long as it sets no other."""
    original = module._original_policy

    class Policies(threading.local):
        _own: Any = None

        @property
        def policy(self) -> Any:
            return original if self._own is None else self._own

        @policy.setter
        def policy(self, policy: Any) -> None:
            self._own = policy

    if module._faked_policy.policy is not None:
        raise RuntimeError("it has another policy than its own")
    module._faked_policy = Policies()


trio_asyncio = _import_trio_asyncio()
