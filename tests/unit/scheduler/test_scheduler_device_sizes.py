"""Models go only where the device can hold them; one that no device can ever hold is refused at once."""

from dataclasses import replace

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.scheduler.domain.device_sizes import DeviceSizes
from kindling.scheduler.domain.planner import Planner
from support import scheduler_views as views

BIG = views.model("big", total_bytes=30 * views.GB)
SMALL = views.model("small", total_bytes=10 * views.GB)


def planner_with(**memory_gigabytes: int) -> Planner:
    """A planner with a node of one worker for each, named after it; 0 is a worker that does not tell."""
    planner = views.planner(max_start_attempts=3)
    for name, gigabytes in memory_gigabytes.items():
        (worker,) = views.add_node(planner.view, views.node(name))
        planner.view.workers[worker.worker_id] = replace(worker, memory_bytes=gigabytes * views.GB)
    planner.view.models["big"], planner.view.models["small"] = BIG, SMALL
    planner.view.check_integrity()
    return planner


def ask(planner: Planner, model: str, name: str = "g") -> None:
    request = views.request(name, model=model)
    assert planner.try_grant(request, 0.0) is None
    planner.hold(request, 0.0)


def test_a_model_is_placed_where_it_fits() -> None:
    planner = planner_with(a=24, b=80)
    ask(planner, "big")
    assert [start.instance.worker_id for start in planner.plan(0.0).starts] == ["b/w0"]


def test_it_waits_for_the_device_that_is_large_enough_and_stops_nobody_elsewhere() -> None:
    planner = planner_with(a=24, b=80)
    for name in ("a", "b"):
        views.put(planner.view, f"small-{name}", SMALL, f"{name}/w0")
    ask(planner, "big")
    plan = planner.plan(100.0)
    assert [stop.instance.worker_id for stop in plan.stops] == ["b/w0"]
    planner.view.check_integrity()


def test_a_model_that_fits_nowhere_now_holds_up_no_other() -> None:
    planner = planner_with(a=24, b=80)
    planner.view.disconnect("b/w0", 0.0)
    ask(planner, "big", "g1")
    ask(planner, "small", "g2")
    plan = planner.plan(0.0)
    assert ([start.instance.model for start in plan.starts], plan.refusals) == (["small"], [])


def test_what_no_device_can_ever_hold_is_refused_with_what_to_do() -> None:
    planner = planner_with(a=16, b=24)
    with pytest.raises(FailedPreconditionError) as told:
        ask(planner, "big")
    assert told.value.reason == "NO_DEVICE_LARGE_ENOUGH"
    assert told.value.metadata["largest_device_bytes"] == str(24 * views.GB)
    assert "add a worker" in told.value.message
    ask(planner, "small")
    assert len(planner.plan(0.0).starts) == 1


def test_a_worker_that_does_not_tell_may_hold_anything() -> None:
    planner = planner_with(a=16, b=0)
    ask(planner, "big")
    assert [start.instance.worker_id for start in planner.plan(0.0).starts] == ["b/w0"]


def test_sizes_follow_the_workers_that_are_there() -> None:
    sizes = DeviceSizes()
    worker = views.add_node(views.planner().view, views.node("n"))[0]
    assert sizes.can_hold(1), "without workers, that is what is missing"
    sizes.enter("a", replace(worker, memory_bytes=5))
    assert (sizes.can_hold(6), sizes.can_hold(5), sizes.largest_bytes()) == (False, True, 5)
    sizes.enter("b", replace(worker, memory_bytes=7))
    assert (sizes.too_small(6), sizes.can_hold(6)) == (frozenset({"a"}), True)
    sizes.enter("b", worker)
    assert sizes.can_hold(100)
    sizes.enter("b", None)
    assert not sizes.can_hold(100)
    sizes.enter("a", None)
    assert (sizes.can_hold(100), sizes.largest_bytes()) == (True, -1)
