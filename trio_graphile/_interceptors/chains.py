"""Chains: the hooks that were registered, sorted by when they are called."""

from __future__ import annotations

import attrs

from trio_graphile.hooks._event import Event
from trio_graphile.hooks._registry import Hook, Hooks


@attrs.frozen(eq=False)
class Chains:
    """The hooks of a worker or client, a chain for each kind of interceptor, each in its order."""

    before_job_run: tuple[Hook, ...] = ()
    after_job_run: tuple[Hook, ...] = ()
    before_job_schedule: tuple[Hook, ...] = ()
    recover_job: tuple[Hook, ...] = ()
    around_job_run: tuple[Hook, ...] = ()
    around_job_schedule: tuple[Hook, ...] = ()
    _observers: tuple[Hook, ...] = ()

    @classmethod
    def of(cls, hooks: Hooks) -> Chains:
        """Return the chains of the hooks in a registry."""
        chains = {
            field.name: tuple(hook for hook in hooks.entries if hook.kind == field.name)
            for field in attrs.fields(cls)
            if not field.name.startswith("_")
        }
        return cls(**chains, observers=tuple(hook for hook in hooks.entries if hook.event is not None))

    def observers_of(self, event: type[Event]) -> tuple[Hook, ...]:
        """Return the observers of a class of events, and of the classes above it."""
        return tuple(
            hook for hook in self._observers if hook.event is not None and issubclass(event, hook.event)
        )

    @property
    def has_observers(self) -> bool:
        """Whether there is an observer of any event."""
        return bool(self._observers)

    @property
    def touches_runs(self) -> bool:
        """Whether a hook is called before, after or around a handler."""
        return bool(self.before_job_run or self.after_job_run or self.around_job_run)

    @property
    def touches_additions(self) -> bool:
        """Whether a hook is called before or around the adding of jobs."""
        return bool(self.before_job_schedule or self.around_job_schedule)


NO_CHAINS = Chains()
