"""What a role lacks, by the refusals that the tests of roles do not meet."""

from __future__ import annotations

import pytest

from trio_graphile import StatementFailed
from trio_graphile._database.rights import name_missing_right


@pytest.mark.parametrize(
    ("refusal", "needed"),
    [
        ("must be owner of table jobs", "only the owner may do this"),
        (
            "permission denied for database shop",
            "create on the database, or a schema that exists",
        ),
        ("permission denied for function add_job", "the role needs execute on add_job"),
        ("permission denied for sequence jobs_id_seq1", "the role needs usage on jobs_id_seq1"),
        ("permission denied for schema queue", "the role needs usage on the schema"),
        ("permission denied for language plpgsql", "the role lacks a right"),
        ("keine Berechtigung", "the role lacks a right"),
    ],
)
def test_it_says_what_a_role_needs(refusal: str, needed: str) -> None:
    error = name_missing_right(StatementFailed(refusal, sqlstate="42501"), "select 1")
    assert f"{refusal}: " in str(error)
    assert needed in str(error)
    assert "; `trio-graphile roles` prints the SQL" in str(error)
    assert error.sqlstate == "42501"
