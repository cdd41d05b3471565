"""Jobs as values: what a specification accepts and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import Job, JobKeyMode, JobSpec, OptionInvalid


def test_a_specification_leaves_everything_to_the_database_by_default() -> None:
    spec = JobSpec()
    assert spec.job_key_mode is JobKeyMode.REPLACE
    assert {getattr(spec, field.name) for field in attrs.fields(JobSpec)} == {None, JobKeyMode.REPLACE}


def test_modes_are_named_as_in_sql() -> None:
    assert [mode.value for mode in JobKeyMode] == ["replace", "preserve_run_at", "unsafe_dedupe"]
    assert JobSpec(job_key_mode="unsafe_dedupe").job_key_mode is JobKeyMode.UNSAFE_DEDUPE


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("queue_name", "q" * 129, "129 characters are over the limit of 128"),
        ("queue_name", "a\0", "NUL"),
        ("queue_name", "a\ud83d", "half of a character"),
        ("job_key", "\udc00", "half of a character"),
        ("flags", ["a", "\ud83d"], "half of a character"),
        ("queue_name", 5, "a string is needed"),
        ("job_key", "", "the empty string cannot be a key"),
        ("job_key", "k" * 513, "513 characters are over the limit of 512"),
        ("job_key", b"k", "a string is needed"),
        ("job_key_mode", "overwrite", "'overwrite' is not one of replace, preserve_run_at, unsafe_dedupe"),
        ("job_key_mode", None, "None is not one of"),
        ("max_attempts", 0, "0 is not between 1 and 32767"),
        ("max_attempts", 32768, "32768 is not between 1 and 32767"),
        ("max_attempts", True, "a whole number is needed"),
        ("max_attempts", 2.0, "a whole number is needed"),
        ("priority", -32769, "-32769 is not between -32768 and 32767"),
        ("priority", "high", "a whole number is needed"),
        ("run_at", datetime(2026, 1, 1), "has no time zone"),  # noqa: DTZ001  # that is the mistake
        ("run_at", "2026-01-01T00:00:00Z", "a datetime is needed"),
        ("run_at", 1_767_225_600, "a datetime is needed"),
        ("flags", "urgent", "a sequence of flags is needed, not the one string 'urgent'"),
        ("flags", ["a", 5], "5 is not a flag"),
        ("flags", [None], "None is not a flag"),
        ("flags", ["a\0"], "is not a flag"),
    ],
)
def test_what_the_database_could_never_store_is_refused(option: str, value: Any, reason: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        JobSpec(**{option: value})
    assert caught.value.option == option
    assert reason in str(caught.value)


@given(
    st.text(
        alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=128
    )
)
def test_any_text_can_name_a_queue_and_be_a_key(name: str) -> None:
    spec = JobSpec(queue_name=name, job_key=name)
    assert (spec.queue_name, spec.job_key) == (name, name)


def test_the_limits_themselves_are_accepted() -> None:
    spec = JobSpec(queue_name="", max_attempts=32767, priority=-32768, job_key="k" * 512, flags=[])
    assert (spec.queue_name, spec.flags) == ("", ())


def test_a_job_decodes_its_payload() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    job = Job(
        id=1, task_identifier="t", payload_json='{"a": [1]}', run_at=now, created_at=now, updated_at=now
    )
    assert job.payload == {"a": [1]}
    assert (job.max_attempts, job.attempts, job.flags) == (25, 0, ())
