"""Interceptors of runs: their answers, as failures of the job where they are failures."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from outcome import Error

from trio_graphile._interceptors.calls import ask, wrong_answer
from trio_graphile._model.failures import Failure, Verdict, failure_of, storable
from trio_graphile.hooks._questions import Continue, Fail, JobRun, JobRunEnd, Skip
from trio_graphile.hooks._registry import Hook

logger = logging.getLogger("trio_graphile.hooks")


async def ask_about_run(chain: Iterable[Hook], question: JobRun | JobRunEnd) -> Skip | Failure | None:
    """Ask interceptors in turn, up to the first that decides. Return None if none does.

    An interceptor that fails decides that the job fails.
    """
    for hook in chain:
        match await ask(hook, question):
            case None | Continue():
                pass
            case Skip() as skip:
                return skip
            case Fail(reason, permanent=permanent):
                text = storable(reason) or "an interceptor gave no reason"
                return Failure(text, Verdict.PERMANENT if permanent else Verdict.RETRY)
            case Error(error):
                failure = failure_of(error)
                if failure.verdict is Verdict.RETRY:  # else the interceptor raised `Snooze` or its like
                    logger.error("%s raised: job %d fails", hook, question.job.id, exc_info=error)
                return failure
            case answer:
                return Failure(wrong_answer(hook, answer, "Continue, Skip or Fail"))
    return None
