"""Renders templates: every text that a page shows passes here, and is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from trio_graphile.admin._options import Access, Action
from trio_graphile.admin._pages.filters import FILTERS
from trio_graphile.admin._pages.links import link
from trio_graphile.admin._pages.static_files import StaticFile
from trio_graphile.admin._safety.display import visible, visible_lines


@attrs.frozen
class Section:
    """A page in the navigation."""

    path: str
    title: str
    key: str
    """The letter that, after a g, leads to the page."""


SECTIONS = (
    Section("", "Overview", "o"),
    Section("jobs", "Jobs", "j"),
    Section("failures", "Failures", "f"),
    Section("tasks", "Tasks", "t"),
    Section("queues", "Queues", "q"),
    Section("workers", "Workers", "w"),
    Section("recurring", "Recurring", "r"),
    Section("maintenance", "Maintenance", "m"),
)


@attrs.frozen(kw_only=True)
class Frame:
    """The frame that all pages have around their contents."""

    root: str
    """The prefix of all our paths."""
    section: str
    theme: str
    schema: str
    access: Access
    csrf_header: str
    csrf_token: str | None
    may_log_out: bool = False
    now: datetime

    @property
    def user(self) -> str:
        """The user."""
        return self.access.user

    @property
    def is_reading(self) -> bool:
        """Whether the user may only read."""
        return not any(self.access.allows(action) for action in Action)

    def may(self, name: str) -> bool:
        """Return whether the user may take an action; otherwise it has no button."""
        return self.access.allows(Action(name))


def make_environment() -> Environment:
    """Return all templates, compiled."""
    environment = Environment(
        loader=PackageLoader("trio_graphile.admin._pages"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
    )
    environment.filters |= FILTERS | {"visible": _visible, "visible_lines": visible_lines}
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


def _visible(text: str | None) -> str:
    """Return a text from a row with control characters as escapes; nothing for None."""
    return "" if text is None else visible(str(text))


def render(
    environment: Environment,
    files: Mapping[str, StaticFile],
    template: str,
    frame: Frame,
    values: Mapping[str, Any],
) -> str:
    """Return a page."""
    common: dict[str, Any] = {"missing": (), **values}
    return environment.get_template(template).render(
        frame=frame,
        may=frame.may,
        sections=SECTIONS,
        url=partial(link, frame.root),
        static=static_url(files, frame.root),
        **common,
    )


def static_url(files: Mapping[str, StaticFile], root: str) -> Callable[[str], str]:
    """Return a function that returns the address of a static file."""
    return lambda name: f"{root}/static/{files[name].name}"
