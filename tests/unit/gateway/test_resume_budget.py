"""How often generations may be tried again."""

import pytest

from kindling.gateway.domain.resume_budget import MOST_SAVED, PROGRESS_TOKENS, ResumeBudget, ResumeLimits, SharedBudget
from kindling.platform.errors import UnavailableError

ERROR = UnavailableError("gone", reason="RPC_UNAVAILABLE")


def drained(limits: ResumeLimits) -> SharedBudget:
    shared = SharedBudget(limits, 0.0)
    while shared.take(0.0):
        pass
    return shared


def taken(shared: SharedBudget, now: float) -> int:
    count = 0
    while shared.take(now):
        count += 1
    return count


def test_a_tenth_of_the_requests_and_some_each_second_may_be_tried_again():
    shared = drained(ResumeLimits(share=0.1, per_second=10))
    for _ in range(55):
        shared.earn()
    assert taken(shared, 0.0) == 5
    assert taken(shared, 2.0) == 20


def test_no_more_is_saved_than_what_a_large_worker_runs():
    shared = SharedBudget(ResumeLimits(share=1, per_second=1000), 0.0)
    shared.earn()
    assert taken(shared, 1000.0) == MOST_SAVED


def test_an_attempt_that_got_on_pays_for_the_next():
    limits = ResumeLimits(attempts=1, share=0, per_second=0)
    budget = ResumeBudget(limits, drained(limits))
    for times in range(1, 5):
        assert budget.broke_off(times * PROGRESS_TOKENS, ERROR, 0.0)
        assert budget.in_a_row == 1
    with pytest.raises(UnavailableError) as caught:
        budget.broke_off(5 * PROGRESS_TOKENS - 1, ERROR, 0.0)
    assert caught.value.reason == "RESUMES_EXHAUSTED"
    assert caught.value.__cause__ is ERROR


def test_one_that_did_not_is_paid_for_by_all():
    limits = ResumeLimits(attempts=9, share=1, per_second=0)
    shared = drained(limits)
    budget = ResumeBudget(limits, shared)
    shared.earn()
    assert not budget.broke_off(PROGRESS_TOKENS - 1, ERROR, 0.0)
    with pytest.raises(UnavailableError) as caught:
        budget.broke_off(PROGRESS_TOKENS - 1, ERROR, 0.0)
    assert caught.value.reason == "RESUMES_LIMITED"
    assert caught.value.metadata == {"last_reason": "RPC_UNAVAILABLE"}


def test_without_attempts_what_happened_is_the_error():
    limits = ResumeLimits(attempts=0)
    with pytest.raises(UnavailableError) as caught:
        ResumeBudget(limits, SharedBudget(limits, 0.0)).broke_off(100, ERROR, 0.0)
    assert caught.value is ERROR
