"""Each action, as somebody clicks it, and what is in the database afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from playwright.sync_api import Page, expect

from tests.admin.browser.chromium import Chromium, Visit, visiting
from tests.admin.browser.rows import Rows
from tests.admin.browser.site import OPEN, serving
from trio_graphile import Client, Database, JobSpec, TaskRegistry
from trio_graphile._cron.crontab import parse_crontab
from trio_graphile.admin import AdminOptions, LoginOptions

COUNT = "select count(*) as count from graphile_worker._private_jobs"
HOLDERS = "select locked_by from graphile_worker._private_jobs where locked_by is not null order by 1"
SECRET = "swordfish-1"


@attrs.frozen(kw_only=True)
class Welcome:
    to: str


tasks = TaskRegistry()


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None:
    """Nobody runs it here."""


def press(page: Page, action: str, fields: dict[str, str] | None = None, submit: str = ".primary") -> str:
    """Open the dialog of an action, fill it in, and do it. Returns what it says of the result."""
    page.locator(f"button[data-opens={action}]:visible").first.click()
    return confirm(page, action, fields, submit)


def confirm(page: Page, action: str, fields: dict[str, str] | None = None, submit: str = ".primary") -> str:
    dialog = page.locator(f"dialog#{action}")
    for name, value in (fields or {}).items():
        field = dialog.locator(f"[name={name}]")
        if value == "checked":
            field.check()
        else:
            field.fill(value)
    dialog.locator(f"[type=submit]{submit}").click()
    result = dialog.locator("[data-result], [data-error]").filter(visible=True).first
    result.wait_for()
    # It counts as it goes on; at the end the button can be pressed again.
    expect(dialog.locator(f"[type=submit]{submit}")).to_be_enabled()
    said = result.inner_text()
    dialog.locator("[data-closes]").click()
    expect(dialog).to_be_hidden()
    return said


def choose(page: Page, *ids: int) -> None:
    for id_ in ids:
        page.locator(f"input[data-id='{id_}']").check()
    expect(page.locator("#selected-count")).to_have_text(f"{len(ids)} selected")


async def state_of(database: Database, id_: int) -> str | None:
    job = await Client(database).job(id_)
    return None if job is None else str(job.state.value)


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


async def test_chosen_jobs_are_acted_on_and_those_with_a_worker_are_left_alone(
    visit: Visit, rows: Rows, database: Database
) -> None:
    await visit.open("/jobs")
    await visit.do(choose, rows.ready, rows.running)
    said = await visit.do(press, "complete")
    assert "1 changed" in said
    assert f"{rows.running}:" in said
    assert await state_of(database, rows.ready) is None
    assert await state_of(database, rows.running) == "locked"
    await visit.do(lambda page: expect(page.locator(f"input[data-id='{rows.ready}']")).to_have_count(0))
    await visit.do(lambda page: expect(page.locator("#selected-count")).to_have_text("1 selected"))


async def test_jobs_fail_with_a_reason_run_now_and_are_rescheduled(
    visit: Visit, rows: Rows, database: Database
) -> None:
    client = Client(database)
    await visit.open("/jobs")
    await visit.do(choose, rows.ready)
    await visit.do(press, "fail", {"reason": "nobody wants it"})
    failed = await client.job(rows.ready)
    assert failed is not None
    assert (failed.state.value, failed.job.last_error) == ("failed", "nobody wants it")
    await visit.open(f"/jobs/{rows.ready}")
    await visit.do(press, "run-now", {"attempts": "checked"})
    assert await state_of(database, rows.ready) == "ready"
    await visit.open(f"/jobs/{rows.scheduled}")
    await visit.do(press, "run-now")
    assert await state_of(database, rows.scheduled) == "ready"
    await visit.do(press, "reschedule", {"run_at": "2040-01-02T03:04:05", "priority": "-7"})
    moved = await client.job(rows.scheduled)
    assert moved is not None
    assert (moved.job.run_at.year, moved.job.priority) == (2040, -7)
    await visit.do(lambda page: expect(page.locator("#job")).to_contain_text("2040"))


async def test_a_job_is_cancelled(visit: Visit, rows: Rows, database: Database) -> None:
    await visit.open(f"/jobs/{rows.waiting}")
    await visit.do(press, "cancel", {"reason": "changed our mind"})
    assert await state_of(database, rows.waiting) == "failed"
    await visit.do(lambda page: expect(page.locator("#job .state.is-failed")).to_be_visible())


async def test_all_that_match_want_to_be_confirmed(visit: Visit, rows: Rows, database: Database) -> None:
    await Client(database).add_raw_jobs([("bulk", number) for number in range(1203)])
    await visit.open("/jobs?identifier=bulk")

    def refuse(page: Page) -> str:
        page.locator("#all-matching").check()
        page.locator("button[data-opens=complete]").click()
        dialog = page.locator("dialog#complete")
        confirmation = dialog.locator("[data-confirm] input")
        confirmation.fill("some")
        dialog.locator("[type=submit]").click()
        error = dialog.locator("[data-error]")
        expect(error).to_be_visible()
        confirmation.fill("all")
        return error.inner_text()

    assert await visit.do(refuse) == "Type all to go on."
    assert await database.fetch_value(COUNT) == 1203 + 8
    assert "1203 changed" in await visit.do(confirm, "complete")
    assert await database.fetch_value(COUNT) == 8


async def test_above_a_hundred_their_number_is_to_be_typed(visit: Visit, database: Database) -> None:
    await Client(database).add_raw_jobs([("bulk", number) for number in range(101)])
    await visit.open("/jobs?limit=200")

    def start(page: Page) -> str:
        page.locator("#select-all").check()
        page.locator("button[data-opens=complete]").click()
        word = page.locator("dialog#complete [data-confirm] b").inner_text()
        page.locator("dialog#complete [data-confirm] input").fill(word)
        return word

    assert await visit.do(start) == "101"
    assert "101 changed" in await visit.do(confirm, "complete")
    assert await database.fetch_value(COUNT) == 0


async def test_a_job_is_added_if_its_payload_suits_its_task(chromium: Chromium, database: Database) -> None:
    async def fill_in(visit: Visit, payload: str) -> None:
        def fill(page: Page) -> None:
            page.locator("[name=identifier]").fill("send_welcome")
            page.locator("[name=payload]").fill(payload)
            page.locator("[name=key]").fill("welcome:ada")
            page.locator("[name=flags]").fill("slow, big")
            page.get_by_role("button", name="Add", exact=True).click()

        await visit.do(fill)

    client = Client(database, tasks)
    async with serving(client) as base, visiting(chromium, base) as visit:
        await visit.open("/jobs/add")
        await fill_in(visit, "{")
        await visit.do(lambda page: expect(page.locator("[data-error]")).to_contain_text("not JSON"))
        await fill_in(visit, '{"from": "ada"}')
        await visit.do(lambda page: expect(page.locator("[data-error]")).to_contain_text("to"))
        visit.forgive("status of 400")
        assert await database.fetch_value(COUNT) == 0
        await fill_in(visit, '{"to": "ada"}')
        await visit.arrive("/jobs/1")
    row = await database.fetch_row("select key, flags::text as flags from graphile_worker._private_jobs")
    assert row is not None
    assert (row["key"], row["flags"]) == ("welcome:ada", '{"big": true, "slow": true}')


async def test_one_like_another_has_the_values_of_its_numbers(visit: Visit, database: Database) -> None:
    async def store(payload: str) -> None:
        await database.execute("update graphile_worker._private_jobs set payload = $1::text::json", payload)

    def add(page: Page) -> None:
        page.get_by_role("button", name="Add", exact=True).click()

    await Client(database).add_raw_job("exact", {})
    await store('{"n": 12345678901234567890.10}')
    await visit.open("/jobs/1")
    await visit.do(
        lambda page: expect(page.locator("#payload-text")).to_contain_text("12345678901234567890.10")
    )
    await visit.open("/jobs/add?like=1")
    await visit.do(add)
    await visit.do(lambda page: expect(page.locator("[data-error]")).to_contain_text("more digits"))
    visit.forgive("status of 400")
    await store('{"n": 9007199254740993}')  # JavaScript would make it even
    await visit.open("/jobs/add?like=1")
    await visit.do(add)
    await visit.arrive("/jobs/2")
    await visit.do(lambda page: expect(page.locator("#payload-text")).to_contain_text("9007199254740993"))


async def test_maintenance_is_done(visit: Visit, rows: Rows, database: Database) -> None:
    client = Client(database)
    await client.add_raw_job("keyed", None, JobSpec(job_key="the key"))
    await visit.open("/maintenance")
    assert await visit.do(press, "remove", {"key": "the key"})
    assert await client.remove_job("the key") is None
    assert await visit.do(press, "migrate", submit="[name=dry_run]")
    assert await visit.do(press, "migrate")
    await visit.do(_check_cleanup)
    assert [await state_of(database, id_) for id_ in rows.failed] == [None] * 3


def _check_cleanup(page: Page) -> None:
    page.locator("button[data-opens=cleanup]:visible").first.click()
    page.locator("dialog#cleanup [value=delete-permanently-failed-jobs]").check()
    confirm(page, "cleanup")


async def test_dead_workers_are_swept_after_a_look(visit: Visit, rows: Rows, database: Database) -> None:
    await visit.open("/workers")
    assert rows.dead in await visit.do(press, "sweep", submit="[name=dry_run]")
    assert [row["locked_by"] for row in await database.fetch(HOLDERS)] == [rows.alive, rows.dead]
    assert rows.dead in await visit.do(press, "sweep")
    assert [row["locked_by"] for row in await database.fetch(HOLDERS)] == [rows.alive]


async def test_what_a_worker_has_is_unlocked(visit: Visit, rows: Rows, database: Database) -> None:
    await visit.open("/workers")
    await visit.do(
        lambda page: page.get_by_role("button", name=f"Unlock what {rows.dead} has locked").click()
    )
    assert await visit.do(confirm, "unlock")
    assert [row["locked_by"] for row in await database.fetch(HOLDERS)] == [rows.alive]


async def test_a_group_of_failures_is_run_again_and_completed(
    visit: Visit, rows: Rows, database: Database
) -> None:
    await visit.open("/failures")
    await visit.do(lambda page: page.get_by_role("button", name="Run again: resize, disk").click())
    assert "2 changed" in await visit.do(confirm, "retry-group")
    assert [await state_of(database, id_) for id_ in rows.failed] == ["ready", "ready", "failed"]
    await visit.do(lambda page: page.get_by_role("button", name="Complete: resize, no such").click())
    assert "1 changed" in await visit.do(confirm, "complete")
    assert await state_of(database, rows.failed[2]) is None


async def test_a_recurring_job_is_run_now(chromium: Chromium, database: Database) -> None:
    options = AdminOptions(login=OPEN, crontab=tuple(parse_crontab("0 3 * * * nightly ?id=nightly")))
    async with serving(Client(database), options=options) as base, visiting(chromium, base) as visit:
        await visit.open("/recurring")
        assert await visit.do(press, "run-entry")
    assert await database.fetch_value(COUNT) == 1


async def test_somebody_logs_in_and_out(chromium: Chromium, database: Database, rows: Rows) -> None:
    options = AdminOptions(login=LoginOptions(secret=SECRET))

    def log_in(page: Page, secret: str) -> None:
        page.get_by_label("User").fill("admin")
        page.get_by_label("Password").fill(secret)
        page.get_by_role("button", name="Log in").click()

    async with serving(Client(database), options=options) as base, visiting(chromium, base) as visit:
        await visit.do(lambda page: page.goto(f"{base}/jobs?state=failed"))
        await visit.do(log_in, "wrong")
        await visit.do(lambda page: expect(page.get_by_role("alert")).to_be_visible())
        visit.problems[:] = [problem for problem in visit.problems if "401" not in problem]
        await visit.do(log_in, SECRET)
        await visit.arrive("/jobs?state=failed")
        await visit.do(choose, rows.failed[0])
        await visit.do(press, "complete")
        assert await state_of(database, rows.failed[0]) is None
        await visit.do(lambda page: page.get_by_role("button", name="Log out").click())
        await visit.do(lambda page: expect(page.get_by_label("Password")).to_be_visible())
        await visit.do(lambda page: page.goto(f"{base}/jobs"))
        await visit.do(lambda page: expect(page.get_by_label("Password")).to_be_visible())


async def test_who_may_only_read_finds_no_actions(chromium: Chromium, database: Database, rows: Rows) -> None:
    options = AdminOptions(login=OPEN, read_only=True)

    def openers(page: Page) -> int:
        return page.locator("[data-opens]:visible:enabled").count()

    async with serving(Client(database), options=options) as base, visiting(chromium, base) as visit:
        for path in ("/jobs", f"/jobs/{rows.ready}", "/workers", "/failures", "/maintenance", "/recurring"):
            await visit.open(path)
            assert await visit.do(openers) == 0, path
