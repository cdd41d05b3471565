"""A model of presence: every order of events, up to a bound on nothing but the ages of what is remembered.

One worker, whose session `holder` holds a lock that stands for it; its registration names the key of the lock
and the incarnation of the server. The network between them, the server, the worker's process, and a sweeper
that takes the jobs of a worker whose registered key nobody holds. Time comes in ticks; whatever has no
deadline may take any number of them. What is claimed: **no job is taken from a worker while its handlers run
and it lives**. A process that is suspended does not run, and one that has just woken looks around before it
counts as running: in reality it needs half a second for that.

The rules, each of which can be broken to see what it is for:

- Each session of the worker's has a key of its own, drawn anew. So a key that is registered and that nobody
  holds is never held again: whoever lives has changed its registration since, or is about to fence itself.
- A sweeper takes jobs `grace` ticks after it has first seen that the key is gone, through a new session that
  the server lets in, where it checks all of it again. It need not have looked in between.
- The registration counts on the incarnation of the server that it names. One that stops, crashes or fails
  over is another afterwards: there, the lease decides until the worker has registered anew.
- A worker fences itself when its holder is known to be lost, `fence` ticks after it has last seen that its
  kernel has it, and has one tick for that: fence + 1 < grace. Silence alone does not fence it: the kernel
  would know. A question that was answered, and sent later, counts in place of such a look.
- It never closes a holder that is silent before it has another with its lock. On that one it first asks
  whether the old lock is still held, ends the old session, which counts as lost from then on, and registers
  the new key only when nothing that was on its way on an older session can take effect any more.
- A server that lets nobody in, at the very address of the holder, has ended its incarnation or is about to:
  nobody takes a job there any more, and nothing that comes later changes that. So there is no risk until the
  worker has registered anew.
- All of that is for a session with nothing between its ends. A proxy may end one side and keep the other, and
  refuses connections in the server's name. Behind one, any silence fences, and no refusal is evidence.
- Where it cannot have a holder, it takes its key out of the registration, and the lease decides.

Assumed, and false in the worst of worlds (`ends_unheard` shows what happens then): whoever ends the server's
side of the holder is heard by the worker's kernel, or the worker's next packet is answered with a reset. It
is not if all of the worker's packets vanish, silently, while somebody resets the server's side of the holder
(a middlebox, or pg_terminate_backend), and nothing else. The server by itself gives up a silent holder later
than the lease. Left out: two primaries at once, and clocks that go at different speeds by more than a tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import attrs

UP, DOWN, FROZEN, CLOSING = "up", "down", "frozen", "closing"
AWAKE, ASLEEP, WAKING, DEAD = "awake", "asleep", "waking", "dead"
OPEN, RESET, LOST = "open", "reset", "lost"
"""A holder as its worker knows it; that it was reset the kernel knows first."""
DIAL, LOCK, END, REGISTER = "dial", "lock", "end", "register"
"""What a new session does, in this order; each is a question that is answered later, or never."""
NONE, HOLDER, NEW, STALE = "none", "holder", "new", "stale"
"""Whose key the registration names: the last for a key that nobody will ever hold again."""


@attrs.frozen(kw_only=True)
class Rules:
    """What is obeyed."""

    fence: int = 1
    grace: int = 3
    draws_keys: bool = True
    parks_silent_sessions: bool = True
    ends_older_sessions: bool = True
    counts_ended_as_lost: bool = True
    takes_through_a_new_session: bool = True
    sees_crashes: bool = True
    """Whether a crash of the server is another incarnation."""
    renounces: bool = True
    """Whether a worker without a holder goes on only after it has taken its key out of its registration."""
    is_direct: bool = True
    """Whether nothing is between worker and server. A proxy may end one side only, and refuse by itself."""
    silence_fences: bool = False
    """Whether a worker fences itself however it has come to know nothing."""
    trusts_kernel: bool = True
    """Whether a session that the worker's kernel has counts as one that the server has."""
    believes_refusals: bool = True
    refused_by_others: bool = False
    """Whether somebody else may refuse a connection in the server's name: a firewall, say."""
    ends_unheard: bool = False
    """Whether the server's side of a holder may end while nothing comes through to the worker."""
    is_prompt: bool = False
    """Whether server and worker answer within the tick, as far as they can."""


class Question(NamedTuple):
    """What a new session of the worker's asks."""

    stage: str
    age: int
    """Ticks since it was asked."""
    answer: str | None
    """None while the server has not come to it."""


class State(NamedTuple):
    """All of it at one moment."""

    sends: bool = True
    """Whether the worker's packets arrive."""
    hears: bool = True
    """Whether the server's do."""
    server: str = UP
    process: str = AWAKE
    runs: bool = True
    """Whether handlers do: the worker has not fenced itself."""
    at_risk: bool = True
    """Whether its registration may name a key of its."""
    age: int = 0
    """Ticks since the last sign that the server has the holder."""
    held: bool = True
    """Whether the server has the holder."""
    holder: str = OPEN
    probe: tuple[int, bool] | None = None
    """Its age, and whether it was answered."""
    new: Question | None = None
    new_held: bool = False
    ghost: bool = False
    """Whether a registration of a session that was given up may still take effect."""
    renouncing: str | None = None
    registered: str = HOLDER
    is_current: bool = True
    """Whether the registration names this incarnation."""
    absent: int | None = None
    """Ticks since a sweeper first saw that nobody holds the registered key."""


def is_held(s: State) -> bool:
    """Whether somebody holds the key that is registered."""
    return (s.registered == HOLDER and s.held) or (s.registered == NEW and s.new_held)


def must_fence(s: State, rules: Rules) -> bool:
    knows_nothing = s.holder == LOST or rules.silence_fences
    return s.runs and s.at_risk and knows_nothing and s.age >= rules.fence


def steps(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Yield what can happen next."""
    yield from _time(s, rules)
    yield from _network(s, rules)
    yield from _server(s, rules)
    yield from _process(s)
    yield from _answers(s, rules)
    yield from _sweeper(s, rules)
    if s.process in {AWAKE, WAKING}:
        yield from _worker(s, rules)


def _time(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if s.process == WAKING or (rules.is_prompt and _is_due(s, rules)):
        return
    if s.process == AWAKE and (s.holder == RESET or (must_fence(s, rules) and s.age > rules.fence)):
        return  # whoever is awake comes to it
    if _goes_unheard(s) and s.sends and s.hears and rules.is_direct:
        return  # the next packet is answered with a reset
    most = rules.fence + 1
    yield (
        "tick",
        s._replace(
            age=min(s.age + 1, most),
            probe=s.probe and (min(s.probe[0] + 1, most), s.probe[1]),
            new=s.new and s.new._replace(age=min(s.new.age + 1, most)),
            absent=None if s.absent is None else min(s.absent + 1, rules.grace),
        ),
    )


def _is_due(s: State, rules: Rules) -> bool:
    """Whether somebody has something to do who is never late."""
    if s.process == AWAKE and s.age > 0 and s.new is None and s.probe is None:
        return True  # to probe, or to dial again
    if rules.trusts_kernel and s.process == AWAKE and s.age > 0 and s.holder == OPEN:
        return True
    answers = any(True for _ in _answers(s, rules))
    return answers or any(name.startswith(_PROMPT) for name, _ in _worker(s, rules))


_PROMPT = ("notices", "hears", "asks", "ends", "registers", "is present")


def _goes_unheard(s: State) -> bool:
    return not s.held and s.holder == OPEN


def _network(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if s.process == DEAD:
        return
    for sends, hears in ((True, True), (False, False), (True, False), (False, True)):
        if (sends, hears) != (s.sends, s.hears) and (
            rules.ends_unheard or not (_goes_unheard(s) and s.is_current) or (sends and hears)
        ):
            yield f"network {sends} {hears}", s._replace(sends=sends, hears=hears)
    if s.sends and s.hears and _goes_unheard(s):
        yield "reset heard", s._replace(holder=RESET, probe=None)
    if s.holder == OPEN:
        yield "client's side reset", s._replace(holder=RESET, probe=None)
    if s.held and s.server in {UP, CLOSING, FROZEN}:
        if s.hears:
            yield "holder terminated", _end_holder(s)
        if rules.ends_unheard or (s.sends and s.hears):
            yield "server's side reset", s._replace(held=False)
    if s.new is not None and s.new.stage != DIAL:
        yield "new session lost", _lose_new(s)._replace(new_held=False)


def _end_holder(s: State) -> State:
    heard = s.hears and s.holder == OPEN
    return s._replace(held=False, holder=RESET if heard else s.holder, probe=None if heard else s.probe)


def _lose_new(s: State) -> State:
    """Have the worker give up its new session: what it has sent there may still arrive."""
    assert s.new is not None
    under_way = s.new.stage == REGISTER and s.new.answer is None
    registered = STALE if s.registered == NEW else s.registered
    return s._replace(new=None, new_held=False, ghost=s.ghost or under_way, registered=registered)


def _server(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if s.server == UP:
        yield "freeze", s._replace(server=FROZEN)
        yield "smart shutdown", s._replace(server=CLOSING)
    if s.server == FROZEN:
        yield "thaw", s._replace(server=UP)
    if s.server == DOWN:
        yield "start", s._replace(server=UP)
    else:
        gone = _end_holder(s)
        if gone.new is not None:
            gone = _lose_new(gone)
        gone = gone._replace(ghost=False, renouncing=None, server=DOWN, registered=_stale(gone.registered))
        yield "stop", gone._replace(is_current=False)
        yield "crash", gone._replace(is_current=s.is_current and not rules.sees_crashes)


def _stale(registered: str) -> str:
    return NONE if registered == NONE else STALE


def _process(s: State) -> Iterator[tuple[str, State]]:
    if s.process == AWAKE:
        yield "suspend", s._replace(process=ASLEEP)
    if s.process == ASLEEP:
        yield "resume", s._replace(process=WAKING)
    if s.process != DEAD:
        dead = _end_holder(s) if s.sends else s
        dead = _lose_new(dead) if dead.new is not None else dead
        yield "die", dead._replace(process=DEAD, runs=False, holder=LOST, probe=None, renouncing=None)


def _answers(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    """Yield what the server does of what it was asked."""
    works = s.server in {UP, CLOSING}
    if works and s.sends and s.held and s.probe is not None and not s.probe[1]:
        yield "probe answered", s._replace(probe=(s.probe[0], True))
    if works and s.ghost:
        yield "ghost registers", s._replace(ghost=False, registered=STALE, is_current=True, absent=None)
    if works and s.renouncing == "asked" and s.sends:
        ended = _end_holder(s) if rules.ends_older_sessions else s
        ghost = s.ghost and not rules.ends_older_sessions
        yield "renounced", ended._replace(renouncing="done", ghost=ghost, registered=NONE, absent=None)
    q = s.new
    if q is None or q.answer is not None or not s.sends:
        return
    if q.stage == DIAL:
        if s.server in {DOWN, CLOSING} or rules.refused_by_others or not rules.is_direct:
            yield "refused", s._replace(new=q._replace(answer="refused"))
        if s.server == UP:
            yield "let in", s._replace(new=q._replace(answer="done"))
    elif works and q.stage == LOCK:
        evident = s.held or not s.is_current
        yield "locked", s._replace(new=q._replace(answer="held" if evident else "gone"), new_held=True)
    elif works and q.stage == END:
        ended = _end_holder(s) if rules.ends_older_sessions else s
        ghost = s.ghost and not rules.ends_older_sessions
        yield "ended", ended._replace(new=q._replace(answer="done"), ghost=ghost)
    elif works and q.stage == REGISTER:
        absent = None if rules.draws_keys else s.absent
        done = s._replace(new=q._replace(answer="done"), registered=NEW, is_current=True, absent=absent)
        yield "registered", done


def _worker(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if s.process == WAKING and s.holder != RESET and not must_fence(s, rules):
        yield "awake", s._replace(process=AWAKE)
    if s.holder == RESET:
        yield "notices", s._replace(holder=LOST)
    if must_fence(s, rules):
        yield "fences", s._replace(runs=False)
    if s.holder == OPEN and rules.trusts_kernel and s.age > 0:
        yield "sees that its kernel has it", s._replace(age=0)
    if s.holder == OPEN and s.probe is None:
        yield "probes", s._replace(probe=(0, False))
    if s.probe is not None and s.probe[1] and s.hears:
        at_risk = s.at_risk or s.registered == HOLDER
        yield "hears probe", s._replace(probe=None, age=min(s.probe[0], s.age), at_risk=at_risk)
    if s.probe is not None and not rules.parks_silent_sessions:
        closed = _end_holder(s) if s.sends else s
        yield "gives the holder up", closed._replace(holder=OPEN, probe=None)  # "silence does not fence"
    if s.holder == LOST and s.renouncing is None and s.at_risk and (s.new is None or s.new.stage != REGISTER):
        yield "renounces", s._replace(renouncing="asked")
    if s.renouncing == "done" and s.hears:
        yield "hears that it renounced", s._replace(renouncing=None, at_risk=False, runs=True)
    if not rules.renounces and s.holder == LOST and not s.runs:
        yield "goes on", s._replace(runs=True, age=0)
    yield from _new_session(s, rules)


def _new_session(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    q = s.new
    if q is None:
        if s.holder == LOST or (s.probe is not None and s.probe[0] > 0):
            yield "dials", s._replace(new=Question(DIAL, 0, None), new_held=False)
        return
    if q.stage == DIAL or not s.hears:
        yield "gives its new session up", _lose_new(s)
    if q.answer is None or not s.hears:
        return
    if q.stage == DIAL:
        if q.answer == "refused":
            is_evidence = rules.believes_refusals
            yield "hears refusal", s._replace(new=None, at_risk=s.at_risk and not is_evidence)
        else:
            yield "asks for the lock", s._replace(new=Question(LOCK, 0, None))
    elif q.stage == LOCK:
        known = s._replace(age=min(q.age, s.age)) if q.answer == "held" else s
        lost = LOST if rules.counts_ended_as_lost or q.answer == "gone" else known.holder
        yield "ends older", known._replace(new=Question(END, 0, None), holder=lost, probe=None)
    elif q.stage == END:
        # What takes effect of it does so while the new lock is held.
        age = s.age if s.at_risk else 0
        yield "registers", s._replace(new=Question(REGISTER, 0, None), at_risk=True, age=age, renouncing=None)
    else:
        yield (
            "is present again",
            s._replace(
                new=None,
                new_held=False,
                held=s.new_held,
                holder=OPEN,
                probe=None,
                age=q.age,
                at_risk=True,
                runs=True,
                registered=HOLDER if s.registered == NEW else s.registered,
            ),
        )


def _sweeper(s: State, rules: Rules) -> Iterator[tuple[str, State]]:
    if s.server not in {UP, CLOSING}:
        return
    is_gone = s.registered != NONE and s.is_current and not is_held(s)
    if is_gone and s.absent is None:
        yield "seen absent", s._replace(absent=0)
    if not is_gone and s.absent is not None:
        yield "seen present", s._replace(absent=None)
    can_take = s.server == UP or not rules.takes_through_a_new_session
    if is_gone and can_take and s.absent is not None and s.absent >= rules.grace:
        yield TAKEN, s


TAKEN = "taken"
DISTURBANCES = frozenset(
    {
        "network True True",
        "network True False",
        "network False True",
        "network False False",
        "client's side reset",
        "server's side reset",
        "holder terminated",
        "new session lost",
        "freeze",
        "thaw",
        "smart shutdown",
        "stop",
        "crash",
        "start",
        "suspend",
        "resume",
        "die",
    }
)


FREEZING = frozenset({"freeze", "thaw"})
"""Left out of a search where nobody need be prompt: whoever is frozen is somebody who does not act yet."""


@attrs.frozen
class Found:
    """What a search of all orders of events has found."""

    states: int
    violation: tuple[str, ...] | None
    """The shortest way to it."""
    takes_from_dead: bool
    fences: tuple[str, ...] | None
    """The shortest way to a worker that fences itself."""


Node: TypeAlias = tuple[State, int]
"""A state, and how much of a script has happened."""


def explore(rules: Rules, script: Sequence[str] | None = None) -> Found:
    """Go through all orders of events, the shortest first, up to a violation.

    If there is a script, of what disturbs only this happens, in this order, each at any time.
    """
    first: Node = (State(), 0)
    came_from: dict[Node, tuple[Node, str] | None] = {first: None}
    left, takes_from_dead = deque([first]), False
    fences: tuple[str, ...] | None = None
    while left:
        node = left.popleft()
        s, done = node
        for name, after in steps(s, rules):
            disturbs = name in DISTURBANCES
            if disturbs and (name in FREEZING if script is None else name not in script[done : done + 1]):
                continue
            following = (after, done + (disturbs and script is not None))
            if name == TAKEN:
                takes_from_dead = takes_from_dead or s.process == DEAD
                if s.runs and s.process == AWAKE:
                    return Found(len(came_from), (*_way(came_from, node), TAKEN), takes_from_dead, fences)
            elif following not in came_from:
                came_from[following] = (node, name)
                left.append(following)
                if name == "fences" and fences is None:
                    fences = tuple(_way(came_from, following))
    return Found(len(came_from), None, takes_from_dead, fences)


def _way(came_from: dict[Node, tuple[Node, str] | None], node: Node) -> list[str]:
    way: list[str] = []
    while (step := came_from[node]) is not None:
        node, name = step
        way.append(name)
    return way[::-1]
