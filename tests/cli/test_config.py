"""Settings from a file, the environment and flags: which counts, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.cli.program import Program
from trio_graphile import RecoveryOptions, WorkerOptions
from trio_graphile.cli._config import load_settings
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import RunFlags, WorkerFlags, given
from trio_graphile.cli._settings import KeyPath, Settings, all_settings, flattened

POLL = ("worker", "poll_interval")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with no variables set."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "GRAPHILE_WORKER_SCHEMA", *(setting.variable for setting in all_settings())):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def load(flags: Mapping[KeyPath, Any] | None = None, file: Path | None = None) -> Settings:
    return load_settings(file, flags or {})


def test_without_anything_all_is_as_the_options_say() -> None:
    assert load() == Settings()
    assert load().worker == WorkerOptions()


def test_a_flag_counts_before_a_variable_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "trio_graphile.toml").write_text("[worker]\npoll_interval = 1\nconcurrency = 3\nfail_delay = 2")
    assert load().worker.poll_interval == 1
    monkeypatch.setenv("TRIO_GRAPHILE_POLL_INTERVAL", "4")
    monkeypatch.setenv("TRIO_GRAPHILE_CONCURRENCY", "5")
    settings = load({POLL: 6.0})
    assert settings.worker.poll_interval == 6
    assert settings.worker.concurrency == 5
    assert settings.worker.fail_delay == 2


def test_the_file_is_the_one_named_or_one_of_the_current_folder(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.trio_graphile]\ntasks = "a:b"\n[tool.other]\nx = 1')
    assert load().tasks == "a:b"
    (folder / "trio_graphile.toml").write_text('tasks = "c:d"')
    assert load().tasks == "c:d"
    (folder / "other.toml").write_text('tasks = "e:f"\ncrontab = "jobs.cron"')
    named = load(file=folder / "other.toml")
    assert (named.tasks, named.crontab) == ("e:f", Path("jobs.cron"))


def test_what_other_programs_read_is_read_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "trio_graphile.toml").write_text('[database]\nurl = "postgresql:///file"\nschema = "of_file"')
    monkeypatch.setenv("DATABASE_URL", "postgresql:///shared")
    monkeypatch.setenv("GRAPHILE_WORKER_SCHEMA", "shared")
    assert (load().database.url, load().database.schema) == ("postgresql:///shared", "shared")
    monkeypatch.setenv("TRIO_GRAPHILE_DATABASE_URL", "postgresql:///ours")
    monkeypatch.setenv("TRIO_GRAPHILE_SCHEMA", "ours")
    assert (load().database.url, load().database.schema) == ("postgresql:///ours", "ours")


def test_a_part_is_turned_off_and_on_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "trio_graphile.toml").write_text("[worker]\nrecovery = false")
    assert load().worker.recovery is None
    monkeypatch.setenv("TRIO_GRAPHILE_RECOVERY", "true")
    assert load().worker.recovery == RecoveryOptions()
    monkeypatch.setenv("TRIO_GRAPHILE_RECOVERY_RECOVERY_DELAY", "7")
    recovery = load().worker.recovery
    assert recovery is not None
    assert recovery.recovery_delay == 7
    assert load({("worker", "recovery"): False}).worker.recovery is None


LONGER = {"catch_up_window": "61", "sweep_threshold": "301", "orphan_threshold": "14401"}
"""What has to be longer than others."""
SHORTER = {"probe_interval": "2", "probe_timeout": "1", "fence_after": "6.5"}
"""What has to be shorter than others."""
OTHERS = {"auth": "bearer"}
"""What is one of a few."""


@pytest.mark.parametrize("setting", all_settings(), ids=lambda setting: setting.key)
def test_everything_can_be_set_by_a_variable(setting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that an option can be, its text included: whatever is added to the options can be set at once."""
    switched = "off" if setting.default else "on"
    texts = {bool: switched, int: "59", float: "59", None: "false", tuple[str, ...]: "one, two"}
    monkeypatch.setenv(
        setting.variable, (LONGER | SHORTER | OTHERS).get(setting.path[-1]) or texts.get(setting.kind, "text")
    )
    if setting.path[-2:-1] == ("refetch_delay",):  # which cannot be without this, and is at most the interval
        monkeypatch.setenv("TRIO_GRAPHILE_LOCAL_QUEUE_REFETCH_DELAY_DURATION", "60")
        monkeypatch.setenv("TRIO_GRAPHILE_POLL_INTERVAL", "60")
    value: Any = load()
    for name in setting.path:
        value = getattr(value, name)
    assert value != setting.default or setting.kind is None
    assert setting.text, "it says what it does"


def test_no_two_settings_have_one_name() -> None:
    for names in (
        [setting.flag for setting in all_settings()],
        [setting.variable for setting in all_settings()],
    ):
        assert len(set(names)) == len(names)


def test_flags_mean_what_a_file_would() -> None:
    flags = attrs.evolve(
        WorkerFlags(), worker__forbidden_flags=("a", "b"), worker__local_queue__size=3, worker__fail_delay=1.0
    )
    run_flags = attrs.evolve(RunFlags(), crontab=Path("x.cron"), plugins=("a:b",), processes=2)
    settings = load(given(flags, run_flags))
    assert settings.worker.forbidden_flags == ("a", "b")
    assert settings.worker.local_queue.size == 3
    assert (settings.crontab, settings.plugins, settings.processes) == (Path("x.cron"), ("a:b",), 2)


def test_an_empty_list_of_allowed_flags_is_not_as_if_there_were_none(folder: Path) -> None:
    assert load().worker.allowed_flags is None
    (folder / "trio_graphile.toml").write_text("[worker]\nallowed_flags = []")
    assert load().worker.allowed_flags == ()


def test_what_was_not_given_as_a_flag_is_not_said() -> None:
    assert given(WorkerFlags(), RunFlags()) == {}
    flags = attrs.evolve(WorkerFlags(), worker__recovery=True, worker__notifications=False)
    assert given(flags) == {("worker", "recovery"): False, ("worker", "notifications"): False}


MISTAKES = {
    "wurker = 1": "trio_graphile.toml: there is no setting wurker; did you mean worker?",
    "[worker]\nconcurency = 3": "there is no setting worker.concurency; did you mean concurrency?",
    "[worker.lease]\nlenght = 3": "there is no setting worker.lease.lenght; did you mean length?",
    "[worker]\npoll_interval = 2000": "trio_graphile.toml: worker.poll_interval: 2000 seconds are over",
    '[worker]\nconcurrency = "3"': "trio_graphile.toml: worker.concurrency: expected int, not str",
    "worker = 3": "trio_graphile.toml: worker is a table",
    "[worker]\nrecovery = true": "trio_graphile.toml: worker.recovery is a table or false",
    "[worker.local_queue.refetch_delay]\nthreshold = 3": "refetch-delay.duration: required, but missing",
    "[worker.lease]\nlength = 400": "trio_graphile.toml: worker.lease.length: 400.0 s is longer than ",
    "tasks =": "trio_graphile.toml is not TOML: Invalid value (at end of document)",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_the_file_is_named_with_its_place(folder: Path, text: str) -> None:
    (folder / "trio_graphile.toml").write_text(text)
    with pytest.raises(UsageError) as raised:
        load()
    assert MISTAKES[text] in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("TRIO_GRAPHILE_CONCURENCY", "3", "; did you mean TRIO_GRAPHILE_CONCURRENCY?"),
        ("TRIO_GRAPHILE_POLL_INTERVAL", "soon", "$TRIO_GRAPHILE_POLL_INTERVAL: a number is needed"),
        (
            "TRIO_GRAPHILE_POLL_INTERVAL",
            "2000",
            "$TRIO_GRAPHILE_POLL_INTERVAL: 2000 seconds are over",
        ),
        ("TRIO_GRAPHILE_NOTIFICATIONS", "maybe", "$TRIO_GRAPHILE_NOTIFICATIONS: true or false is needed"),
        ("TRIO_GRAPHILE_PROCESSES", "0", "$TRIO_GRAPHILE_PROCESSES: 0 is not between 1 and 1000"),
        (
            "TRIO_GRAPHILE_ADMIN_AUTH",
            "digest",
            "$TRIO_GRAPHILE_ADMIN_AUTH: 'digest' is none of basic, bearer,",
        ),
    ],
)
def test_a_mistake_in_a_variable_is_named_with_it(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, reason: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError) as raised:
        load()
    assert reason in str(raised.value)


def test_where_the_embedded_postgres_is_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_GRAPHILE_PG_BIN", "/somewhere")
    assert load() == Settings()


@pytest.mark.parametrize("service", ["TRIO_GRAPHILE", "TRIO_GRAPHILE_METRICS"])
def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    port = f"{service}_PORT_9000_TCP"
    ours = (f"{service}_PORT", f"{service}_SERVICE_HOST", f"{service}_SERVICE_PORT", port)
    for name in (*ours, f"{service}_SERVICE_PORT_HTTP", f"{port}_PROTO", f"{port}_PORT", f"{port}_ADDR"):
        monkeypatch.setenv(name, "tcp://10.0.0.7:9000")
    assert load() == Settings()


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml cannot be read: No such file"):
        load(file=Path("missing.toml"))


def test_tables_are_read_into_paths() -> None:
    assert flattened({"worker": {"lease": {"length": 3}}, "tasks": "a:b"}, "x") == {
        ("worker", "lease", "length"): 3,
        ("tasks",): "a:b",
    }


async def test_the_program_runs_from_a_file_alone(shop: Program, folder: Path) -> None:
    """The same folder: `tmp_path` is one for all fixtures of a test."""
    (folder / "trio_graphile.toml").write_text(
        'tasks = "shop:tasks"\n[database]\nschema = "of_file"\n[worker]\nconcurrency = 3'
    )
    ended = await shop.run("run", "--once")
    assert (ended.exit_code, ended.errors) == (0, "")
    assert "; 3 at once; " in ended.output
    assert "schema of_file\n" in ended.output
    listed = await shop.with_environment(TRIO_GRAPHILE_SCHEMA="other").run("stats")
    assert "the schema 'other' is missing" in listed.error
