"""What is copied from the remote store to an SSD ahead of calls, where, and at whose cost."""

import pytest

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.domain.promotions import GiveWay, PrefetchLimits, Promotion
from kindling.scheduler.domain.values import Instance, InstanceState, Model, Node, Tier, TierUse
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

GB = views.GB
PERIOD = 600.0
MODEL = views.model("m", 8 * GB)
LIMITS = PrefetchLimits(
    horizon_seconds=30.0, remote_horizon_seconds=120.0, min_probability=0.3, bandwidth_share=0.25, ssd_share=0.5
)


def node(node_id: str, ssd_bytes: int = 100 * GB, remote: float = GB / 10) -> Node:
    uses = (
        TierUse(Tier.DRAM, 32 * GB),
        TierUse(Tier.SSD, ssd_bytes, bandwidth_bytes_per_second=GB),
        TierUse(Tier.REMOTE, bandwidth_bytes_per_second=remote),
    )
    return Node(node_id, f"{node_id}:1", uses)


def cluster(*nodes: Node) -> ClusterView:
    view = ClusterView()
    for one in nodes or (node("a"),):
        views.add_node(view, one)
    view.models[MODEL.name] = MODEL
    return view


def prefetcher() -> Prefetcher:
    return Prefetcher(Arrivals(-100_000.0), Assumptions(init_seconds=1.0), LIMITS)


def called(of: Prefetcher, *models: Model, offset: float = 0.0) -> float:
    """Have the models called periodically; returns the time a minute before the next calls."""
    for call in range(8):
        for model in models:
            of.note(model, call * PERIOD + offset)
    return 8 * PERIOD - 60.0 + offset


def due(of: Prefetcher, view: ClusterView, now: float) -> list[Promotion]:
    return of.plan(view, now)


def test_what_no_ssd_has_is_copied_and_its_head_goes_on_to_dram() -> None:
    view, planner = cluster(), prefetcher()
    now = called(planner, MODEL)
    (copy,) = due(planner, view, now)
    assert (copy.node_id, copy.digest, copy.to) == ("a", MODEL.checkpoint.digest, Tier.SSD)
    assert (copy.head_bytes, copy.give_way) == (8 * GB, ())
    assert (copy.bytes_per_second, copy.unused_limit_bytes) == (GB / 40, 50 * GB)
    assert copy.seconds_saved_per_byte == pytest.approx(9 / GB)
    views.hold(view, "a", MODEL, ssd=8 * GB)
    planner.ended(copy, now, is_done=True)
    heads = [promotion for _ in range(8) for promotion in due(planner, view, planner.next_look())]
    assert [(one.to, one.stage) for one in heads] == [(Tier.DRAM, 0)], "once the call is near"


def test_it_is_copied_further_ahead_than_heads_are_brought() -> None:
    view, planner = cluster(), prefetcher()
    last = called(planner, MODEL) + 60.0 - PERIOD
    while not (begun := due(planner, view, look := planner.next_look())):
        pass
    assert begun[0].to is Tier.SSD
    assert last + 0.9 * PERIOD - 120.0 <= look <= last + PERIOD - 60.0


@pytest.mark.parametrize("case", ["drained", "loading", "busy", "too small", "instance", "remote is as fast"])
def test_nothing_is_copied_where_it_would_not_help(case: str) -> None:
    view, planner = cluster(node("a", remote=2 * GB) if case == "remote is as fast" else node("a")), prefetcher()
    now = called(planner, MODEL)
    other = views.model("o")
    if case == "drained":
        view.drained.add("a")
    elif case == "loading":
        view.models["o"] = other
        view.put_instance(Instance("o-1", "o", other.checkpoint.digest, "a/w0", InstanceState.STARTING), now)
    elif case == "busy":
        views.put(view, "o-1", other, "a/w0")
        view.grants.grant("g", "o-1", now)
    elif case == "too small":
        views.add_node(view, node("a", ssd_bytes=7 * GB))
    elif case == "instance":
        views.put(view, "m-1", MODEL, "a/w0")
    assert due(planner, view, now) == []


def test_one_copy_is_enough_unless_its_node_is_drained() -> None:
    view, planner = cluster(node("a"), node("b")), prefetcher()
    views.hold(view, "a", MODEL, ssd=8 * GB, dram=8 * GB)
    now = called(planner, MODEL)
    assert due(planner, view, now) == []
    view.drained.add("a")
    (copy,) = due(planner, view, planner.next_look())
    assert (copy.node_id, copy.to) == ("b", Tier.SSD)


def test_the_node_with_most_room_gets_it_and_one_at_a_time() -> None:
    other, third = views.model("o", 8 * GB), views.model("p", 8 * GB)
    view, planner = cluster(node("a"), node("b")), prefetcher()
    view.models |= {"o": other, "p": third}
    views.hold(view, "a", views.model("x", 50 * GB), ssd=50 * GB)
    begun = due(planner, view, called(planner, MODEL, other, third))
    assert [one.node_id for one in begun] == ["b"], "all of them want the node with most room"
    begun += due(planner, view, planner.next_look())
    assert [one.node_id for one in begun] == ["b", "a"]
    assert due(planner, view, planner.next_look()) == [], "both nodes are busy"


@pytest.mark.parametrize(("held", "given"), [(90, ()), (95, ("cold",)), (97, ("cold",))])
def test_copies_give_way_that_lose_clearly_less(held: int, given: tuple[str, ...]) -> None:
    cold, soon = views.model("cold", 5 * GB), views.model("soon", (held - 5) * GB)
    view, planner = cluster(), prefetcher()
    view.models |= {"cold": cold, "soon": soon}
    for model in (cold, soon):
        views.hold(view, "a", model, ssd=model.checkpoint.total_bytes, dram=model.checkpoint.total_bytes)
    planner.note(cold, -50_000.0)
    (copy,) = [one for one in due(planner, view, called(planner, MODEL, soon)) if one.to is Tier.SSD]
    assert copy.give_way == tuple(GiveWay(f"blake3:{name}") for name in given)


def test_nothing_gives_way_for_what_is_no_likelier() -> None:
    other = views.model("o", 96 * GB)
    view, planner = cluster(), prefetcher()
    view.models["o"] = other
    views.hold(view, "a", other, ssd=96 * GB, dram=96 * GB)
    assert due(planner, view, called(planner, MODEL, other)) == []


def test_a_copy_that_another_node_has_too_is_missed_less() -> None:
    other, busy = views.model("o", 8 * GB), views.model("busy")
    for elsewhere, expected in ((0, 0), (8 * GB, 1)):
        view, planner = cluster(node("a", ssd_bytes=10 * GB), node("b")), prefetcher()
        views.put(view, "busy-1", busy, "b/w0")
        view.grants.grant("g", "busy-1", 0.0)
        view.models["o"] = other
        views.hold(view, "a", other, ssd=8 * GB, dram=8 * GB)
        if elsewhere:
            views.hold(view, "b", other, ssd=8 * GB)
        assert len(due(planner, view, called(planner, MODEL, other))) == expected
