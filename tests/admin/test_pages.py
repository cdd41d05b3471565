"""What pages are made of: nothing from a row becomes markup, and whoever cannot see a page can read it."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import attrs
import httpx2
import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.admin.api import ADA, As
from tests.admin.page_examples import HOSTILE, PAGES, frame
from trio_graphile._client import Client
from trio_graphile._cron.crontab import parse_crontab
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.jobs import JobSpec
from trio_graphile._model.listing import JobOrder
from trio_graphile.admin._context import Context
from trio_graphile.admin._options import Access, AdminOptions
from trio_graphile.admin._pages import routes
from trio_graphile.admin._pages.filters import laid_out, rounded, size
from trio_graphile.admin._pages.jobs import JobsPageRequest, filter_of
from trio_graphile.admin._pages.links import Place
from trio_graphile.admin._pages.parts import read_parts
from trio_graphile.admin._pages.rendering import Frame, make_environment, render
from trio_graphile.admin._pages.static_files import load_static_files

ENVIRONMENT = make_environment()
FILES = load_static_files()
CONTROLS = {"input", "select", "textarea"}
VOID = {"input", "meta", "link", "br", "rect", "path", "line"}


class Page(HTMLParser):
    """The elements of a page, with what stands around each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}, tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}, tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is closed where another element is open"


@attrs.frozen(kw_only=True)
class LoginForm:
    action: str
    token: str
    next: str
    asks_for_name: bool
    secret_name: str
    username: str = "ada"
    error: str | None


def page_of(template: str, text: str = HOSTILE, whose: Frame | None = None) -> str:
    section, values = PAGES[template]
    return render(ENVIRONMENT, FILES, template, whose or frame(section, text), values(text))


@pytest.fixture(params=PAGES, name="template")
def _template(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nothing_from_a_row_becomes_an_element_or_an_attribute(template: str) -> None:
    ours, hostile = Page(page_of(template, "plain")).elements, Page(page_of(template)).elements
    assert [(tag, [*attributes]) for tag, attributes, _ in hostile] == [
        (tag, [*attributes]) for tag, attributes, _ in ours
    ]
    for tag, attributes, _ in hostile:
        assert tag not in {"img", "style", "iframe", "base", "object"}
        assert not any(name == "style" or name.startswith("on") for name in attributes), attributes
        if tag == "script":
            assert attributes["src"].startswith("/queue/static/")
        for name in ("href", "src", "action"):
            assert attributes.get(name, "/").startswith(("/", "#")), attributes


def test_what_is_invisible_is_shown_as_escapes(template: str) -> None:
    text = re.sub(
        r"<(input|option|textarea)\b[^>]*>[^<]*", "", page_of(template)
    )  # values are what is stored
    assert not re.search("[\x1b\u200b\u202e]", text)
    assert r"\u202e" in text


def test_a_template_is_no_template_for_texts(template: str) -> None:
    assert "{{ 7 * 7 }}" in page_of(template)


def test_each_id_stands_once_and_each_reference_leads_somewhere(template: str) -> None:
    elements = Page(page_of(template)).elements
    ids = Counter(attributes["id"] for _, attributes, _ in elements if "id" in attributes)
    assert [id_ for id_, count in ids.items() if count > 1] == []
    for _, attributes, _ in elements:
        for name in ("aria-labelledby", "aria-describedby", "list", "data-opens", "data-shows"):
            for id_ in attributes.get(name, "").split():
                assert id_ in ids, f"{name} names {id_}"


def test_each_control_has_a_name(template: str) -> None:
    for tag, attributes, around in Page(page_of(template)).elements:
        if tag in CONTROLS and attributes.get("type") != "hidden":
            assert "label" in around or "aria-label" in attributes, attributes


def test_each_table_has_a_caption_and_headings_with_a_scope(template: str) -> None:
    elements = Page(page_of(template)).elements
    tables = sum(tag == "table" for tag, _, _ in elements)
    assert sum(tag == "caption" for tag, _, _ in elements) == tables
    assert all("scope" in attributes for tag, attributes, _ in elements if tag == "th")


def test_headings_come_in_order(template: str) -> None:
    main = [
        int(tag[1])
        for tag, _, around in Page(page_of(template)).elements
        if re.fullmatch("h[1-6]", tag) and "dialog" not in around
    ]
    assert main[0] == 1
    assert main.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(main))


def test_each_time_is_in_utc_and_readable_by_programs(template: str) -> None:
    text = page_of(template)
    for given, shown in re.findall(r'<time datetime="([^"]*)">([^<]*)</time>', text):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", given)
        assert shown == f"{given[:10]} {given[11:19]} UTC"


def test_whoever_may_only_read_has_no_button_that_does_anything(template: str) -> None:
    whose = frame(text="plain", may=frozenset())
    for _, attributes, _ in Page(page_of(template, "plain", whose)).elements:
        assert "data-opens" not in attributes
        assert "data-api" not in attributes


def test_a_group_that_no_filter_tells_apart_is_only_listed() -> None:
    bodies = [
        json.loads(attributes["data-body"])["filter"]
        for _, attributes, _ in Page(page_of("failures.html")).elements
        if "data-body" in attributes
    ]
    assert len(bodies) == 2  # to run again and to complete the group that has an error
    assert all(body["error"] and body["identifier"] == [HOSTILE] and body["until_id"] for body in bodies)


def test_a_part_that_took_too_long_is_named() -> None:
    section, values = PAGES["overview.html"]
    text = render(
        ENVIRONMENT,
        FILES,
        "overview.html",
        frame(section),
        values("plain") | {"missing": ("failures",), "failures": None},
    )
    assert "Left out, since the database did not answer in time: failures." in text


def test_what_is_estimated_is_marked() -> None:
    text = page_of("overview.html")
    assert "≈&nbsp;2,790,000" in text
    assert "<strong>30</strong>" in text


async def test_a_part_that_is_out_of_time_leaves_the_others() -> None:
    async def slow() -> None:
        raise StatementFailed("too slow", sqlstate="57014")

    async def quick() -> int:
        return 7

    parts = await read_parts(slow=slow, quick=quick)
    assert parts.values == {"slow": None, "quick": 7}
    assert parts.missing == ("slow",)


async def test_what_else_goes_wrong_is_raised_alone() -> None:
    async def broken() -> None:
        raise StatementFailed("no such column", sqlstate="42703")

    with pytest.raises(StatementFailed, match="no such column"):
        await read_parts(broken=broken)


def test_the_way_back_leads_through_the_same_pages() -> None:
    first = Place(after=None, next="a")
    assert first.backward() is None
    assert first.onward() == {"after": "a", "back": []}
    second = Place(after="a", next="b")
    assert second.backward() == {}
    assert second.onward() == {"after": "b", "back": ["a"]}
    third = Place(after="b", back=["a"])
    assert third.backward() == {"after": "a", "back": []}
    assert third.onward() is None


def test_all_that_match_are_those_that_the_order_shows() -> None:
    assert filter_of(JobsPageRequest(order=JobOrder.LATEST_FAILURE), 9)["state"] == ["failed"]
    assert filter_of(JobsPageRequest(), 9) == {"until_id": 9}
    assert filter_of(JobsPageRequest(until_id=4, key="k"), 9) == {"key": "k", "until_id": 4}


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("{}", "{}"),
        ("[]", "[]"),
        ('"a, b"', '"a, b"'),
        ("1.10", "1.10"),
        (
            '{"a":1e400,"b":[1,{"c":"}"}]}',
            '{\n  "a": 1e400,\n  "b": [\n    1,\n    {\n      "c": "}"\n    }\n  ]\n}',
        ),
        ('{"a": {}, "b": []}', '{\n  "a": {},\n  "b": []\n}'),
    ],
)
def test_a_payload_is_laid_out_and_its_numbers_stay(stored: str, shown: str) -> None:
    assert laid_out(stored) == shown


def test_an_estimate_has_three_digits() -> None:
    assert [size(value) for value in (0, 1, 2, 2048)] == ["0 bytes", "1 byte", "2 bytes", "2 KiB"]
    assert [rounded(value) for value in (0, 999, 1234, 2_790_013)] == ["0", "999", "1,230", "2,790,000"]


def test_the_script_and_the_styles_have_no_sink_and_fit() -> None:
    script = FILES["admin.js"].content.decode()
    assert len(FILES["admin.js"].content) < 20_000
    for sink in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "DOMParser",
        "eval(",
        "document.write",
        "srcdoc",
    ):
        assert sink not in script
    assert "http" not in re.sub(r"\s//.*", "", script)
    assert "url(" not in FILES["admin.css"].content.decode()


CRONTAB = """
0 8 * * * send ?id=morning&max=3 {to: 'ada'}
0 9 * * * send ?id=late {password: 'p'}
"""


def client_of(database: Database, root: str = "", access: Access = ADA) -> httpx2.AsyncClient:
    client = Client(database)
    crontab: Any = parse_crontab(CRONTAB)
    context = Context(client=client, database=database, options=AdminOptions(crontab=crontab))
    app = As(
        Starlette(routes=[Mount(root, routes=routes(context))] if root else routes(context)),
        access,
        trio.Event(),
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")


PATHS = (
    "/?span=day",
    "/jobs",
    "/jobs?state=ready&search=a&order=next-run&limit=25",
    "/jobs/add",
    "/jobs/suggestions?of=task&prefix=s",
    "/failures",
    "/tasks",
    "/queues?search=a",
    "/workers",
    "/recurring",
    "/maintenance",
)


@pytest.mark.parametrize("root", ["", "/ops/queue"])
async def test_each_page_can_be_had_below_any_prefix(database: Database, root: str) -> None:
    job = await Client(database).add_raw_job("send", {"n": 1}, JobSpec(queue_name="mail"))
    async with client_of(database, root) as http:
        for path in (*PATHS, f"/jobs/{job.id}", f"/jobs/add?like={job.id}"):
            response = await http.get(root + path)
            assert response.status_code == 200, (path, response.text)
            assert response.headers["content-type"] == "text/html; charset=utf-8"
            for _, attributes, _ in Page(response.text).elements:
                for name in ("href", "src", "action"):
                    assert attributes.get(name, f"{root}/").startswith((f"{root}/", "#")), attributes


async def test_an_entry_whose_payload_is_hidden_cannot_be_run_from_its_page(database: Database) -> None:
    async with client_of(database) as http:
        text = (await http.get("/recurring")).text
    bodies = {
        attributes["data-what"]: json.loads(attributes["data-body"])
        for _, attributes, _ in Page(text).elements
        if "data-body" in attributes
    }
    assert bodies == {"morning": {"identifier": "send", "payload": {"to": "ada"}, "max_attempts": 3}}


async def test_an_exact_count_is_shown_until_it_is_old(database: Database) -> None:
    async with client_of(database) as http:
        await http.get("/?exact=true")
        await Client(database).add_raw_job("send", {})
        for path, count in (("/", 0), ("/?exact=true", 0)):
            assert f"<span>All jobs</span><strong>{count}</strong>" in (await http.get(path)).text


async def test_the_form_to_log_in_is_what_the_state_says(database: Database) -> None:
    form = LoginForm(
        action="/login",
        token="t",
        next=f"/{HOSTILE}",
        asks_for_name=True,
        secret_name="Password",
        error=HOSTILE,
    )
    text = ENVIRONMENT.get_template("login.html").render(
        form=form, theme="dark", static=lambda name: f"/{name}"
    )
    names = [attributes.get("name") for tag, attributes, _ in Page(text).elements if tag == "input"]
    assert names == ["token", "next", "username", "secret"]
    assert "<script" not in text
    # Else browsers send it with the origin "null", which is nobody's.
    assert '<meta name="referrer" content="same-origin">' in text
    async with client_of(database) as http:
        assert (await http.get("/login")).status_code == 404


async def test_a_page_that_cannot_be_had_says_why(database: Database) -> None:
    async with client_of(database) as http:
        for path, status, why in (
            ("/jobs/7", 404, "there is no job 7"),
            ("/jobs/nothing", 404, "no job has such an id"),
            ("/jobs?limit=x", 400, "limit"),
            ("/jobs?nothing=1", 400, "nothing"),
            ("/jobs?after=<svg>", 400, "after"),
        ):
            response = await http.get(path)
            assert response.status_code == status, path
            assert why in response.text
            assert "<svg>" not in response.text


async def test_static_files_are_immutable_and_few(database: Database) -> None:
    async with client_of(database) as http:
        for file in FILES.values():
            response = await http.get(f"/static/{file.name}")
            assert response.content == file.content
            assert "immutable" in response.headers["cache-control"]
        for name in ("admin.css", "..%2f__init__.py", "admin.0.js", "%00"):
            assert (await http.get(f"/static/{name}")).status_code == 404


async def test_the_theme_is_in_the_page_from_the_first_byte(database: Database) -> None:
    async with client_of(database) as http:
        for cookie, theme in (("dark", "dark"), ("light", "light"), ('"><b>', "system"), (None, "system")):
            headers = {} if cookie is None else {"cookie": f"theme={cookie}"}
            response = await http.get("/tasks", headers=headers)
            assert f'<html lang="en" data-theme="{theme}">' in response.text
