"""The scheduler without its surroundings, under a clock that is a number."""

import pytest

from kindling.platform.errors import (
    DataLossError,
    DeadlineExceededError,
    KindlingError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.values import InstanceState
from support import scheduler_views as views


def planner_with(workers: int = 1, **settings: float) -> Planner:
    planner = views.planner(no_workers_wait_seconds=30.0, max_start_attempts=3)
    views.add_node(planner.view, views.node("n"), workers=workers)
    planner.view.models["m"] = views.model(**settings)
    return planner


def ask(planner: Planner, name: str, now: float = 0.0) -> None:
    request = views.request(name, now=now)
    assert planner.try_grant(request, now) is None
    planner.hold(request, now)


def small(worker: str) -> KindlingError:
    return ResourceExhaustedError(f"{worker} is too small", reason="POOL_TOO_SMALL")


def test_a_plan_is_entered_into_the_view_so_that_asking_again_adds_nothing() -> None:
    planner = planner_with(workers=3)
    ask(planner, "g1")
    plan = planner.plan(1.0)
    assert [start.instance.worker_id for start in plan.starts] == ["n/w0"]
    assert planner.view.instances[plan.starts[0].instance.instance_id].state is InstanceState.STARTING
    again = planner.plan(2.0)
    assert (again.starts, again.stops, again.grants, again.refusals) == ([], [], [], [])


def test_those_who_wait_are_granted_in_turn_as_far_as_there_is_room() -> None:
    planner = planner_with(concurrency_target=2, max_instances=1)
    for number in range(3):
        ask(planner, f"g{number}", now=float(number))
    (start,) = planner.plan(3.0).starts
    views.ready(planner, start.instance.instance_id, 4.0)
    plan = planner.plan(4.0)
    assert [(grant.request.generation_id, grant.cold) for grant in plan.grants] == [("g0", True), ("g1", True)]
    planner.release("g0", 5.0)
    assert [grant.request.generation_id for grant in planner.plan(5.0).grants] == ["g2"]
    planner.view.check_integrity()


def test_nobody_jumps_the_queue() -> None:
    planner = planner_with(concurrency_target=1, max_instances=1)
    ask(planner, "g1")
    (start,) = planner.plan(0.0).starts
    views.ready(planner, start.instance.instance_id, 1.0)
    assert planner.try_grant(views.request("g2"), 1.0) is None
    assert [grant.request.generation_id for grant in planner.plan(1.0).grants] == ["g1"]


def test_the_longest_wait_is_served_first_across_models() -> None:
    planner = planner_with(workers=1)
    planner.view.models["b"] = views.model("b")
    planner.hold(views.request("late", "m", 2.0), 2.0)
    planner.hold(views.request("early", "b", 1.0), 2.0)
    assert [start.instance.model for start in planner.plan(3.0).starts] == ["b"]


def test_a_failed_start_tries_the_other_workers_then_gives_up_with_the_first_error() -> None:
    planner = planner_with(workers=2)
    ask(planner, "g1")
    (first,) = planner.plan(0.0).starts
    assert planner.start_failed(first.instance.instance_id, small("w0"), 1.0) == []
    (second,) = planner.plan(1.0).starts
    assert second.instance.worker_id != first.instance.worker_id
    planner.start_failed(second.instance.instance_id, small("w1"), 2.0)
    (refusal,) = planner.plan(2.0).refusals
    assert (refusal.request.generation_id, refusal.error.message) == ("g1", "w0 is too small")


def test_a_worker_is_tried_again_if_no_other_ever_has_room() -> None:
    planner = planner_with(workers=2)
    planner.view.models["other"] = views.model("other", min_instances=1)
    (kept,) = planner.plan(0.0).starts
    views.ready(planner, kept.instance.instance_id, 1.0)
    ask(planner, "g1", 1.0)
    (start,) = planner.plan(1.0).starts
    planner.start_failed(start.instance.instance_id, small("w"), 2.0)
    assert planner.plan(2.0).starts == []
    again = planner.next_deadline(2.0)
    assert again == 12.0
    assert [one.instance.worker_id for one in planner.plan(again).starts] == [start.instance.worker_id]


def test_after_giving_up_requests_fail_at_once_until_the_pause_is_over() -> None:
    planner = planner_with()
    ask(planner, "g1")
    (start,) = planner.plan(0.0).starts
    corrupt = DataLossError("chunk 1 is bad", reason="CHUNK_CORRUPT")
    assert [r.request.generation_id for r in planner.start_failed(start.instance.instance_id, corrupt, 1.0)] == ["g1"]
    with pytest.raises(DataLossError) as refused:
        ask(planner, "g2", now=1.5)
    assert refused.value.retry_after_seconds == 1.0
    assert planner.next_deadline(1.5) == 2.0
    ask(planner, "g3", now=2.0)
    assert len(planner.plan(2.0).starts) == 1


def test_a_failing_minimum_is_tried_again_later_and_later() -> None:
    planner = planner_with(min_instances=1)
    now, pauses = 0.0, []
    for _ in range(3):
        (start,) = planner.plan(now).starts
        planner.start_failed(start.instance.instance_id, DataLossError("bad", reason="CHUNK_CORRUPT"), now)
        assert planner.plan(now).starts == []
        deadline = planner.next_deadline(now)
        assert deadline is not None
        pauses.append(deadline - now)
        now = deadline
    assert pauses == [1.0, 2.0, 4.0]


def test_a_failed_scale_out_does_not_refuse_those_whom_another_instance_will_serve() -> None:
    planner = planner_with(workers=2, concurrency_target=1)
    ask(planner, "g1")
    (first,) = planner.plan(0.0).starts
    views.ready(planner, first.instance.instance_id, 1.0)
    planner.plan(1.0)
    ask(planner, "g2", now=2.0)
    (second,) = planner.plan(2.0).starts
    assert planner.start_failed(second.instance.instance_id, DataLossError("bad", reason="X"), 3.0) == []
    planner.release("g1", 4.0)
    assert [grant.request.generation_id for grant in planner.plan(4.0).grants] == ["g2"]


def test_requests_are_held_only_so_long_and_so_many() -> None:
    planner = planner_with(max_queued_requests=1, max_queue_wait_seconds=60.0)
    ask(planner, "g1")
    with pytest.raises(ResourceExhaustedError) as full:
        ask(planner, "g2")
    assert full.value.reason == "QUEUE_FULL"
    planner.plan(0.0)
    assert planner.next_deadline(0.0) == 60.0
    (refusal,) = planner.plan(60.0).refusals
    assert isinstance(refusal.error, DeadlineExceededError)


def test_who_waits_in_vain_is_told_whose_instances_are_kept_ready() -> None:
    planner = planner_with(max_queue_wait_seconds=60.0)
    views.put(planner.view, "kept-1", views.model("kept", min_instances=1), "n/w0")
    ask(planner, "g1")
    (refusal,) = planner.plan(60.0).refusals
    assert "even without work, devices are kept by kept: lower `--min-instances`" in refusal.error.message
    assert planner.view.instances.keys() == {"kept-1"}


def test_without_any_worker_the_wait_is_shorter() -> None:
    planner = planner_with(workers=0)
    ask(planner, "g1")
    planner.plan(5.0)
    assert planner.next_deadline(5.0) == 35.0
    (refusal,) = planner.plan(35.0).refusals
    assert isinstance(refusal.error, UnavailableError)
    assert refusal.error.reason == "NO_WORKERS"


def test_keep_alive_ends_what_is_idle_but_not_the_minimum() -> None:
    planner = planner_with(workers=2, keep_alive_seconds=100.0, min_instances=1)
    model = planner.view.models["m"]
    views.put(planner.view, "m-1", model, "n/w0", now=0.0)
    views.put(planner.view, "m-2", model, "n/w1", now=10.0)
    assert planner.next_deadline(20.0) == 100.0
    assert [stop.instance.instance_id for stop in planner.plan(100.0).stops] == ["m-1"]
    assert planner.plan(1000.0).stops == []


def test_a_grant_on_an_instance_that_cannot_be_reached_is_given_up_when_asked_again() -> None:
    planner = planner_with(workers=2)
    views.put(planner.view, "m-1", planner.view.models["m"], "n/w0")
    assert planner.try_grant(views.request("g1"), 1.0) is not None
    planner.view.disconnect("n/w0", 2.0)
    ask(planner, "g1", now=2.0)
    assert [start.instance.worker_id for start in planner.plan(2.0).starts] == ["n/w1"]


def test_a_silent_worker_is_lost_after_its_lease() -> None:
    planner = planner_with()
    views.put(planner.view, "m-1", planner.view.models["m"], "n/w0")
    assert planner.lost_workers(100.0) == []
    planner.view.disconnect("n/w0", 100.0)
    assert planner.lost_workers(104.9) == []
    assert planner.lost_workers(105.0) == ["n/w0"]
