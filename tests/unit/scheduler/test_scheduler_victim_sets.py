"""A model that needs the memory of several instances of a worker: they leave together, and it starts once they have."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Plan
from kindling.scheduler.domain.values import Model, Worker
from support import scheduler_views as views
from support.scheduler_views import GB

BIG = views.model("big", total_bytes=20 * GB)
SMALL = views.model("small", total_bytes=8 * GB)
OTHER = views.model("other", total_bytes=8 * GB)
TINY = views.model("tiny", total_bytes=4 * GB)


def add_worker(planner: Planner, name: str, gigabytes: int = 24, slots: int = 3) -> Worker:
    (added,) = views.add_node(planner.view, views.node(name, ssd=1e9, remote=1e8), slots=slots)
    planner.view.workers[added.worker_id] = worker = replace(added, memory_bytes=gigabytes * GB)
    return worker


@pytest.fixture
def planner() -> Planner:
    """A worker of 24 GB whose three slots have 8 GB each."""
    planner = views.planner()
    for model in (BIG, SMALL, OTHER, TINY):
        planner.view.models[model.name] = model
    add_worker(planner, "a")
    return planner


def run(planner: Planner, name: str, model: Model, *, busy: bool = False, worker_id: str = "a/w0") -> None:
    views.put(planner.view, name, model, worker_id)
    if busy:
        planner.view.grants.grant(f"g-{name}", name, 99.0)


def ask(planner: Planner, model: Model, now: float = 100.0) -> None:
    planner.hold(views.request(f"g-{model.name}", model=model.name, now=now), now)


def plan(planner: Planner, now: float = 100.0) -> Plan:
    decided = planner.plan(now)
    planner.view.check_integrity()
    return decided


def stops(decided: Plan) -> list[str]:
    return sorted(stop.instance.instance_id for stop in decided.stops)


def starts(decided: Plan) -> list[tuple[str, str]]:
    return [(start.instance.model, start.instance.worker_id) for start in decided.starts]


def end(planner: Planner, *names: str) -> None:
    for name in names:
        planner.view.remove_instance(name)
    views.report(planner.view, "a/w0", now=101.0)


def test_idle_ones_stop_together_and_are_awaited_until_all_are_gone(planner: Planner) -> None:
    for name, model in (("small-1", SMALL), ("other-1", OTHER)):
        run(planner, name, model)
    ask(planner, BIG)
    first = plan(planner)
    assert (stops(first), starts(first)) == (["other-1", "small-1"], [])
    again = plan(planner)
    assert (stops(again), starts(again)) == ([], [])
    end(planner, "small-1")
    half = plan(planner, 101.0)
    assert (stops(half), starts(half)) == ([], []), "one of them does not free enough"
    end(planner, "other-1")
    assert starts(plan(planner, 102.0)) == [("big", "a/w0")]


def test_one_that_frees_enough_leaves_alone(planner: Planner) -> None:
    planner.view.models["medium"] = medium = views.model("medium", total_bytes=8 * GB)
    for name, model in (("small-1", SMALL), ("other-1", OTHER), ("big-ish-1", SMALL)):
        run(planner, name, model)
    ask(planner, medium)
    assert len(stops(plan(planner))) == 1


def test_who_is_not_needed_stays(planner: Planner) -> None:
    run(planner, "small-1", SMALL)
    run(planner, "other-1", OTHER)
    run(planner, "tiny-1", TINY, busy=True)
    ask(planner, BIG)
    assert stops(plan(planner)) == ["other-1", "small-1"]


def test_a_busy_one_moves_while_an_idle_one_stops(planner: Planner) -> None:
    add_worker(planner, "b", gigabytes=8, slots=1)
    run(planner, "small-1", SMALL, busy=True)
    run(planner, "other-1", OTHER)
    ask(planner, BIG)
    decided = plan(planner)
    assert stops(decided) == ["other-1"]
    (move,) = decided.moves
    assert move.migration.source_id == "small-1"
    assert move.start is not None
    assert move.start.instance.worker_id == "b/w0"


def test_two_busy_ones_go_to_different_workers(planner: Planner) -> None:
    for name in ("b", "c"):
        add_worker(planner, name, gigabytes=8, slots=1)
    run(planner, "small-1", SMALL, busy=True)
    run(planner, "other-1", OTHER, busy=True)
    ask(planner, BIG)
    targets = [move.start.instance.worker_id for move in plan(planner).moves if move.start is not None]
    assert sorted(targets) == ["b/w0", "c/w0"]


def test_nobody_leaves_if_all_that_may_do_not_free_enough(planner: Planner) -> None:
    run(planner, "small-1", SMALL, busy=True)
    run(planner, "other-1", OTHER)
    ask(planner, BIG)
    decided = plan(planner)
    assert (stops(decided), decided.moves) == ([], []), "the busy one has nowhere to go"


def test_the_free_memory_besides_is_not_given_to_another_in_the_same_plan(planner: Planner) -> None:
    run(planner, "small-1", SMALL)
    run(planner, "other-1", OTHER)
    ask(planner, BIG, 90.0)
    planner.view.models["medium"] = medium = views.model("medium", total_bytes=6 * GB)
    ask(planner, medium, 95.0)
    assert starts(plan(planner)) == []
    ask(planner, TINY, 96.0)
    assert starts(plan(planner)) == [("tiny", "a/w0")], "24 - 20 GB are left"


def test_a_set_does_not_undercut_a_minimum(planner: Planner) -> None:
    kept = replace(SMALL, settings=replace(SMALL.settings, min_instances=1))
    planner.view.models["small"] = kept
    run(planner, "small-1", kept)
    run(planner, "small-2", kept)
    ask(planner, BIG)
    assert stops(plan(planner)) == []


def test_several_make_way_for_what_leaves_a_drained_node(planner: Planner) -> None:
    add_worker(planner, "d")
    run(planner, "big-1", BIG, busy=True, worker_id="d/w0")
    run(planner, "small-1", SMALL)
    run(planner, "other-1", OTHER)
    planner.view.drained.add("d")
    assert stops(plan(planner)) == ["other-1", "small-1"]
    end(planner, "small-1", "other-1")
    (move,) = plan(planner, 102.0).moves
    assert move.start is not None
    assert move.start.instance.worker_id == "a/w0"


def test_where_the_set_costs_more_than_it_saves_the_model_starts_elsewhere(planner: Planner) -> None:
    add_worker(planner, "b")
    run(planner, "small-1", SMALL)
    run(planner, "other-1", OTHER)
    ask(planner, BIG)
    decided = plan(planner)
    assert (stops(decided), starts(decided)) == ([], [("big", "b/w0")])
