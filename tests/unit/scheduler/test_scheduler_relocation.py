"""Where running instances go, case by case."""

import pytest

from kindling.platform.errors import FailedPreconditionError, ResourceExhaustedError, UnavailableError
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Move
from kindling.scheduler.domain.values import Instance, InstanceState
from support import scheduler_views as views


def planner_with(*nodes: str, slots: int = 1, **settings: float) -> Planner:
    """Nodes with one worker each."""
    planner = views.planner(max_start_attempts=3)
    for name in nodes:
        views.add_node(planner.view, views.node(name), slots=slots)
    planner.view.models["m"] = views.model(**settings)
    return planner


def put(planner: Planner, name: str, node: str, *generations: str, model: str = "m") -> Instance:
    """An instance that serves, with grants."""
    of = planner.view.models.setdefault(model, views.model(model))
    instance = views.put(planner.view, name, of, f"{node}/w0")
    for generation_id in generations:
        planner.view.grants.grant(generation_id, name, 0.0)
    return instance


def ask_to_move(planner: Planner, node: str, *sources: Instance) -> list[Move]:
    worker = planner.view.workers[f"{node}/w0"]
    moves = planner.relocation.to_worker(planner.view.models["m"], worker, sources, 1.0)
    planner.view.check_integrity()
    return moves


def drain(planner: Planner, node: str, now: float = 1.0):
    planner.view.drained.add(node)
    plan = planner.plan(now)
    planner.view.check_integrity()
    again = planner.plan(now)
    assert (again.moves, again.stops, again.starts, again.has_news) == ([], [], [], False)
    return plan


def test_source_and_target_both_hold_their_slots() -> None:
    planner = planner_with("a", "b")
    source = put(planner, "m-1", "a", "g1")
    (move,) = ask_to_move(planner, "b", source)
    assert move.start is not None
    assert [planner.view.free_slots(worker) for worker in planner.view.workers.values()] == [0, 0]
    assert planner.view.serves(source), "until its generations move"
    planner.view.put_migration(type(move.migration)("m-1", move.migration.target_id, moving=True))
    assert not planner.view.serves(source)


def test_several_sources_share_one_target_and_its_start_comes_first() -> None:
    planner = planner_with("a", "b", "c")
    sources = [put(planner, "m-1", "a"), put(planner, "m-2", "b")]
    moves = ask_to_move(planner, "c", *sources)
    assert [move.start is not None for move in moves] == [True, False]
    assert len({move.migration.target_id for move in moves}) == 1
    (late,) = ask_to_move(planner_with("a", "b"), "b") or [None]
    assert late is None


def test_what_comes_to_a_target_takes_its_room() -> None:
    planner = planner_with("a", "b", concurrency_target=3)
    source = put(planner, "m-1", "a", "g1", "g2")
    put(planner, "m-2", "b")
    (move,) = ask_to_move(planner, "b", source)
    planner.view.put_migration(type(move.migration)("m-1", "m-2", moving=True))
    assert planner.try_grant(views.request("g3"), 1.0) is not None
    assert planner.try_grant(views.request("g4"), 1.0) is None


def test_neither_end_of_a_migration_is_stopped_as_surplus() -> None:
    planner = planner_with("a", "b", keep_alive_seconds=0.0)
    source = put(planner, "m-1", "a", "g1")
    put(planner, "m-2", "b")
    ask_to_move(planner, "b", source)
    planner.release("g1", 2.0)
    assert planner.plan(1000.0).stops == []


def test_who_takes_part_in_a_migration_cannot_take_part_in_another() -> None:
    planner = planner_with("a", "b", "c")
    source = put(planner, "m-1", "a", "g1")
    target = put(planner, "m-2", "b")
    ask_to_move(planner, "b", source)
    for moving in (source, target):
        with pytest.raises(FailedPreconditionError, match="another migration"):
            ask_to_move(planner, "c", moving)


def test_what_cannot_take_an_instance_is_refused() -> None:
    planner = planner_with("a", "b")
    source = put(planner, "m-1", "a", "g1")
    put(planner, "x-1", "b", model="x")
    with pytest.raises(ResourceExhaustedError, match="it runs x"):
        ask_to_move(planner, "b", source)
    planner.view.drained.add("b")
    with pytest.raises(FailedPreconditionError, match="undrain b"):
        ask_to_move(planner, "b", source)
    planner.view.drained.clear()
    planner.view.disconnect("b/w0", 1.0)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        ask_to_move(planner, "b", source)


def test_an_instance_that_is_gone_ends_its_migration() -> None:
    for gone in ("m-1", "m-2"):
        planner = planner_with("a", "b")
        source = put(planner, "m-1", "a", "g1")
        put(planner, "m-2", "b")
        (move,) = ask_to_move(planner, "b", source)
        planner.view.remove_instance(gone)
        assert not planner.view.is_under_way(move.migration)
        planner.view.check_integrity()


def test_a_target_that_fails_to_start_does_not_refuse_those_whom_the_source_serves() -> None:
    planner = planner_with("a", "b", concurrency_target=1)
    source = put(planner, "m-1", "a", "g1")
    (move,) = ask_to_move(planner, "b", source)
    planner.hold(views.request("g2"), 1.0)
    broken = UnavailableError("broken", reason="X")
    assert planner.start_failed(move.migration.target_id, broken, 2.0) == []
    planner.release("g1", 3.0)
    assert [grant.instance.instance_id for grant in planner.plan(3.0).grants] == ["m-1"]


def test_a_drained_node_is_left_by_what_is_busy_and_what_is_idle_there_stops() -> None:
    planner = planner_with("a", "b", slots=2)
    put(planner, "m-1", "a", "g1")
    put(planner, "x-1", "a", model="x")
    plan = drain(planner, "a")
    (move,) = plan.moves
    assert move.start is not None
    assert move.start.instance.worker_id == "b/w0"
    assert [stop.instance.instance_id for stop in plan.stops] == ["x-1"]


def test_nothing_is_placed_on_a_drained_node() -> None:
    planner = planner_with("a", "b")
    planner.view.drained.add("a")
    planner.hold(views.request("g1"), 0.0)
    planner.hold(views.request("g2"), 0.0)
    assert [start.instance.worker_id for start in planner.plan(0.0).starts] == ["b/w0"]


def test_what_starts_on_a_drained_node_is_not_waited_for() -> None:
    planner = planner_with("a", "b")
    planner.hold(views.request("g1"), 0.0)
    (start,) = planner.plan(0.0).starts
    planner.view.drained.add(start.instance.node_id)
    (other,) = planner.plan(1.0).starts
    assert other.instance.node_id != start.instance.node_id


def test_a_roomy_instance_elsewhere_is_used_rather_than_started() -> None:
    planner = planner_with("a", "b", "c", concurrency_target=2)
    put(planner, "m-1", "a", "g1")
    put(planner, "m-2", "b", "g2")
    (move,) = drain(planner, "a").moves
    assert (move.start, move.migration.target_id) == (None, "m-2")


def test_a_full_instance_elsewhere_is_used_only_if_nothing_can_be_started() -> None:
    planner = planner_with("a", "b", "c", concurrency_target=1)
    put(planner, "m-1", "a", "g1")
    put(planner, "m-2", "b", "g2")
    (move,) = drain(planner, "a").moves
    assert move.start is not None
    full = planner_with("a", "b", concurrency_target=1)
    put(full, "m-1", "a", "g1")
    put(full, "m-2", "b", "g2")
    (move,) = drain(full, "a").moves
    assert (move.start, move.migration.target_id) == (None, "m-2")


def test_without_a_place_it_waits_takes_nothing_new_and_says_why() -> None:
    planner = planner_with("a", "b", max_queued_requests=9)
    put(planner, "m-1", "a", "g1")
    put(planner, "x-1", "b", "g2", model="x")
    plan = drain(planner, "a")
    assert (plan.moves, plan.stops, plan.has_news) == ([], [], True)
    assert "m-1 has generations and nowhere to go" in planner.relocation.obstacle("a")
    assert planner.try_grant(views.request("g3"), 1.0) is None
    planner.release("g1", 2.0)
    assert [stop.instance.instance_id for stop in planner.plan(2.0).stops] == ["m-1"]
    assert planner.relocation.obstacle("a") == ""


def test_an_idle_instance_elsewhere_makes_room_first() -> None:
    planner = planner_with("a", "b")
    put(planner, "m-1", "a", "g1")
    put(planner, "x-1", "b", model="x")
    plan = drain(planner, "a")
    assert ([stop.instance.instance_id for stop in plan.stops], plan.moves) == (["x-1"], [])
    assert planner.relocation.obstacle("a") == ""
    planner.view.remove_instance("x-1")
    views.report(planner.view, "b/w0")
    assert len(planner.plan(2.0).moves) == 1


def test_what_failed_is_tried_again_after_a_pause_that_grows() -> None:
    planner = planner_with("a", "b")
    source = put(planner, "m-1", "a", "g1")
    now, pauses = 1.0, []
    for _ in range(3):
        (move,) = drain(planner, "a", now).moves
        planner.view.end_migration(move.migration)
        planner.relocation.failed(source, UnavailableError("the line broke", reason="X"), now)
        assert planner.plan(now).moves == []
        assert "the line broke" in planner.relocation.obstacle("a")
        deadline = planner.relocation.next_retry(now)
        assert deadline is not None
        assert planner.next_deadline(now) is not None
        pauses.append(deadline - now)
        now = deadline
    assert pauses == [1.0, 2.0, 4.0]


def test_a_model_that_starts_nowhere_else_is_tried_again_too() -> None:
    planner = planner_with("a", "b")
    put(planner, "m-1", "a", "g1")
    (move,) = drain(planner, "a").moves
    planner.start_failed(move.migration.target_id, UnavailableError("small", reason="X"), 2.0)
    assert planner.plan(2.0).moves == []
    assert "failed on every worker" in planner.relocation.obstacle("a")
    assert planner.next_deadline(2.0) == 3.0
    assert len(planner.plan(3.0).moves) == 1


def test_what_was_told_to_stop_before_is_named() -> None:
    planner = planner_with("a", "b")
    instance = put(planner, "m-1", "a", "g1")
    planner.stop("m-1", "for a reason", 1.0)
    assert planner.view.instances["m-1"].state is InstanceState.STOPPING
    drain(planner, instance.node_id)
    assert planner.relocation.obstacle("a") == "m-1 was told to stop before and still has 1 generation(s)"


def test_what_starts_on_a_drained_node_is_given_up_and_started_elsewhere() -> None:
    planner = planner_with("a", "b", max_instances=1)
    planner.view.drained.add("b")
    planner.hold(views.request("g1"), 1.0)
    (start,) = planner.plan(1.0).starts
    planner.view.drained.discard("b")
    plan = drain(planner, "a")
    assert [stop.instance.instance_id for stop in plan.stops] == [start.instance.instance_id]
    (anew,) = plan.starts
    assert anew.instance.worker_id == "b/w0"
    gone = UnavailableError("the start was given up", reason="START_CANCELLED")
    assert planner.start_failed(start.instance.instance_id, gone, 2.0) == []
    assert planner.lines.length("m") == 1, "that is no trouble of the model's"
