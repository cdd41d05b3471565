"""The ledger: whatever happens to claims and outcomes, in whatever order, it knows what the worker holds."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.jobs import make_job
from trio_graphile import Job
from trio_graphile._worker.ledger import Ledger, Unfound

IDS = range(1, 5)  # few, so that a job is often claimed again while its first run goes on


def claim(ledger: Ledger, *jobs: Job) -> None:
    """Have the ledger hold jobs."""
    ledger.claim_sent()
    ledger.claimed(jobs)


# --- one rule each ------------------------------------------------------------------------------


def test_an_empty_ledger_is_certain_whatever_the_server() -> None:
    """What never claimed has no lock to look for."""
    assert Ledger().is_certain(trusts_server=False)


def test_what_was_claimed_and_settled_leaves_it_certain() -> None:
    ledger, job = Ledger(), make_job(1)
    claim(ledger, job)
    assert not ledger.is_certain(trusts_server=True)
    assert ledger.settled([job], {1}) == Unfound(lost=[], completed=[])
    assert ledger.is_certain(trusts_server=True)
    assert not ledger.is_certain(trusts_server=False)


def test_a_claim_without_an_answer_leaves_it_uncertain_though_the_next_has_one() -> None:
    ledger = Ledger()
    ledger.claim_sent()
    claim(ledger)
    assert ledger.is_empty
    assert not ledger.is_certain(trusts_server=True)


def test_the_end_of_an_older_claim_says_nothing_about_the_newer() -> None:
    ledger, old, new = Ledger(), make_job(1), make_job(1)
    claim(ledger, old)
    claim(ledger, new)
    assert ledger.was_claimed_again(old)
    assert ledger.may_be_ours_anew([old])
    assert not ledger.may_be_ours_anew([new])
    assert ledger.settled([old], set()) == Unfound(lost=[old], completed=[])
    assert ledger.job(1) is new


def test_a_doubt_about_an_older_claim_does_not_excuse_the_newer() -> None:
    """The newer was taken from us, whatever is unknown about the older."""
    ledger, old, new = Ledger(), make_job(1), make_job(1)
    claim(ledger, old)
    ledger.unanswered([old], deletes=False)
    claim(ledger, new)
    [lost] = ledger.settled([new], set()).lost
    assert lost is new
    assert ledger.settled([old], set()).lost == []


def test_the_loss_of_an_older_claim_before_it_ran_leaves_the_newer() -> None:
    ledger, old, new = Ledger(), make_job(1), make_job(1)
    claim(ledger, old)
    claim(ledger, new)
    ledger.dropped(old)
    assert ledger.job(1) is new


def test_what_the_handler_may_have_completed_is_completed_if_it_is_not_found() -> None:
    ledger, job, other = Ledger(), make_job(1), make_job(2)
    claim(ledger, job, other)
    ledger.completed_maybe(job)
    ledger.completed_maybe(other)
    assert ledger.settled([job, other], {2}) == Unfound(lost=[], completed=[job])


def test_what_the_handler_may_have_completed_is_lost_if_its_row_is_there_and_another_has_it() -> None:
    ledger, job, returned = Ledger(), make_job(1), make_job(2)
    claim(ledger, job, returned)
    ledger.completed_maybe(job)
    ledger.completed_maybe(returned)
    ledger.unanswered([returned], deletes=False)  # it was given back: its transaction was rolled back
    assert ledger.may_be_deleted([job, returned]) == [job, returned]
    ledger.undeleted([job, returned])
    assert ledger.settled([job, returned], set()) == Unfound(lost=[job], completed=[])


def test_a_job_that_was_claimed_again_was_not_completed_before() -> None:
    """Whatever became of the newer claim, and though both are in one batch."""
    ledger, old, older, new = Ledger(), make_job(1), make_job(1), make_job(1)
    claim(ledger, older)
    ledger.completed_maybe(older)
    claim(ledger, old)
    ledger.unanswered([old], deletes=True)
    claim(ledger, new)
    assert ledger.may_be_deleted([older, old, new]) == []
    assert ledger.settled([old, new], {1}) == Unfound(lost=[old], completed=[])
    assert ledger.was_claimed_again(older)
    assert ledger.settled([older], set()) == Unfound(lost=[older], completed=[])


def test_a_lapse_leaves_a_doubt_about_all_that_is_held_and_about_nothing_later() -> None:
    ledger, before, after = Ledger(), make_job(1), make_job(2)
    claim(ledger, before)
    ledger.lapsed()
    claim(ledger, after)
    assert ledger.may_be_ours_anew([before])
    assert not ledger.may_be_ours_anew([after])
    assert ledger.lapses == 1


@pytest.mark.parametrize(
    "lose",
    [
        lambda ledger, job: ledger.settled([job], set()),
        Ledger.lost,
        Ledger.dropped,
    ],
)
def test_a_job_that_was_taken_from_us_leaves_it_uncertain(lose: Callable[[Ledger, Job], object]) -> None:
    """Its queue may still be locked by us."""
    ledger, job = Ledger(), make_job(1)
    claim(ledger, job)
    lose(ledger, job)
    assert ledger.is_empty
    assert not ledger.is_certain(trusts_server=True)


def test_a_run_whose_outcome_is_refused_is_over() -> None:
    """One of the same job that was claimed again is not."""
    ledger, job, again = Ledger(), make_job(1), make_job(1)
    claim(ledger, job)
    ledger.refused(job)
    assert list(ledger.unended()) == []
    assert not ledger.is_empty
    claim(ledger, again)
    [unended] = ledger.unended()
    assert unended is again


# --- any order ----------------------------------------------------------------------------------


class Doubt(Enum):
    """What is unknown about a claim of a job."""

    MAYBE_OTHERS = auto()
    """Others may have had it."""
    WRITTEN_MAYBE = auto()
    DELETED_MAYBE = auto()
    COMPLETED_MAYBE = auto()


@attrs.define(eq=False)
class Claim:
    """One claim of a job, until its outcome is settled."""

    job: Job
    is_held: bool = True
    is_refused: bool = False
    doubts: set[Doubt] = attrs.field(factory=set)

    was_claimed_again: bool = False

    def raise_doubt(self, doubt: Doubt) -> None:
        """Know less than before."""
        self.doubts.add(doubt)

    def row_is_there(self) -> None:
        """Know that it was not completed."""
        self.doubts -= {Doubt.DELETED_MAYBE, Doubt.COMPLETED_MAYBE}
        self.raise_doubt(Doubt.MAYBE_OTHERS)


class Histories(RuleBasedStateMachine):
    """Tells the ledger and a list of claims the same, in any order, and compares what they say.

    The list has claims as objects, and finds them by no id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.claims: list[Claim] = []
        self.ended: list[Job] = []
        self.is_uncertain = False
        self.has_claimed = False

    def some(self, data: st.DataObject) -> list[Claim]:
        """Draw claims that are not settled yet, each of another job: as an outcome's batch has them."""
        drawn = data.draw(st.lists(st.sampled_from(self.claims), unique_by=id))
        return list({claim.job.id: claim for claim in drawn}.values())

    def forget(self, *claims: Claim) -> None:
        """Take away what has ended."""
        self.ended += [claim.job for claim in claims]
        self.claims = [claim for claim in self.claims if not any(claim is gone for gone in claims)]

    @rule(ids=st.sets(st.sampled_from(IDS)))
    def claim(self, ids: set[int]) -> None:
        """Hold what a claim brought; what was held of the same jobs is a claim of before."""
        jobs = [make_job(id_) for id_ in sorted(ids)]
        claim(self.ledger, *jobs)
        self.has_claimed = True
        for older in self.claims:
            if older.is_held and older.job.id in ids:
                older.is_held = False
                older.was_claimed_again = True
                older.row_is_there()
        self.claims += map(Claim, jobs)

    @rule()
    def lose_the_answer_to_a_claim(self) -> None:
        """Never come to know what it locked."""
        self.ledger.claim_sent()
        self.has_claimed = self.is_uncertain = True

    @rule()
    def let_the_lease_lapse(self) -> None:
        """Others may have had all that is held."""
        self.ledger.lapsed()
        self.is_uncertain = True
        for claim in self.claims:
            if claim.is_held:
                claim.raise_doubt(Doubt.MAYBE_OTHERS)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), deletes=st.booleans())
    def lose_the_answer_to_a_record(self, data: st.DataObject, *, deletes: bool) -> None:
        """Send outcomes that may have been written."""
        claims = self.some(data)
        self.ledger.unanswered([claim.job for claim in claims], deletes=deletes)
        for claim in claims:
            claim.raise_doubt(Doubt.DELETED_MAYBE if deletes else Doubt.WRITTEN_MAYBE)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def lose_the_answer_to_a_completion(self, data: st.DataObject) -> None:
        """Have a handler complete its job, and not know whether it did."""
        claim = data.draw(st.sampled_from(self.claims))
        self.ledger.completed_maybe(claim.job)
        claim.raise_doubt(Doubt.COMPLETED_MAYBE)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def find_rows(self, data: st.DataObject) -> None:
        """Find rows that would not be there if what is unknown had happened."""
        claims = self.some(data)
        asked = [claim for claim in claims if claim.doubts & {Doubt.DELETED_MAYBE, Doubt.COMPLETED_MAYBE}]
        said = self.ledger.may_be_deleted(claim.job for claim in claims)
        assert [*map(id, said)] == [id(claim.job) for claim in asked]
        self.ledger.undeleted(said)
        for claim in asked:
            claim.row_is_there()

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        """Do not take an outcome of what is held."""
        claim = data.draw(st.sampled_from(self.claims))
        if claim.is_held:
            self.ledger.refused(claim.job)
            claim.is_refused = True
            claim.raise_doubt(Doubt.MAYBE_OTHERS)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Write outcomes, some of which find no row."""
        claims = self.some(data)
        found = data.draw(st.sets(st.sampled_from(claims))) if claims else set()
        all_found = len({claim.job.id for claim in found}) == len(claims)
        unfound = [c for c in claims if not all_found and (c not in found or c.was_claimed_again)]
        said = self.ledger.settled([claim.job for claim in claims], {claim.job.id for claim in found})
        lost = [c.job for c in unfound if c.doubts <= {Doubt.MAYBE_OTHERS}]
        completed = [c.job for c in unfound if Doubt.COMPLETED_MAYBE in c.doubts]
        assert [*map(id, said.lost)] == [*map(id, lost)]
        assert [*map(id, said.completed)] == [*map(id, completed)]
        self.is_uncertain |= bool(lost)
        self.forget(*claims)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), is_lost=st.booleans())
    def end(self, data: st.DataObject, *, is_lost: bool) -> None:
        """End a run about which nothing is to be written."""
        claim = data.draw(st.sampled_from(self.claims))
        (self.ledger.lost if is_lost else self.ledger.ended)(claim.job)
        self.is_uncertain |= is_lost
        self.forget(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """Have a job taken from us before it runs."""
        claim = data.draw(st.sampled_from(self.claims))
        self.ledger.dropped(claim.job)
        self.is_uncertain = True
        self.forget(claim)

    @invariant()
    def holds_the_newest_claim_of_each_job(self) -> None:
        """By the object, not by the id."""
        held = {id(claim.job) for claim in self.claims if claim.is_held}
        assert {*map(id, self.ledger.snapshot())} == held
        assert {id(job) for id_ in IDS if (job := self.ledger.job(id_)) is not None} == held
        assert self.ledger.is_empty == (not held)
        unended = {id(claim.job) for claim in self.claims if claim.is_held and not claim.is_refused}
        assert {*map(id, self.ledger.unended())} == unended

    @invariant()
    def doubts_what_may_be_ours_anew_and_nothing_else(self) -> None:
        """Nor any longer than its outcome takes."""
        assert not self.ledger.may_be_ours_anew(self.ended)
        for claim in self.claims:
            assert self.ledger.may_be_ours_anew([claim.job]) == bool(claim.doubts)
        in_doubt = any(claim.doubts for claim in self.claims)
        assert self.ledger.may_be_ours_anew([claim.job for claim in self.claims]) == in_doubt

    @invariant()
    def writes_nothing_over_a_newer_claim(self) -> None:
        """Whatever became of the row in between."""
        for claim in self.claims:
            assert self.ledger.was_claimed_again(claim.job) == claim.was_claimed_again

    @invariant()
    def is_certain_only_if_all_went_by_the_book(self) -> None:
        """Else the database is to be asked."""
        is_certain = not self.is_uncertain and not any(claim.is_held for claim in self.claims)
        assert self.ledger.is_certain(trusts_server=True) == is_certain
        assert self.ledger.is_certain(trusts_server=False) == (is_certain and not self.has_claimed)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30)
