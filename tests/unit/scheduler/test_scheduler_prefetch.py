"""What is promoted, where, and at whose cost."""

import math
from collections.abc import Iterator
from itertools import count, pairwise
from random import Random

import pytest

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.domain.promotions import GiveWay, PrefetchLimits, Promotion
from kindling.scheduler.domain.values import (
    Instance,
    InstanceState,
    Model,
    Node,
    ParkedCheckpoint,
    Tier,
    TierUse,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

GB = views.GB
PERIOD = 600.0
HOUR, DAY = 3_600.0, 86_400.0
MODEL = views.model("m", 8 * GB)
LIMITS = PrefetchLimits(horizon_seconds=60.0, min_probability=0.3, bandwidth_share=0.25, dram_share=0.5)


def node(node_id: str, ssd: float = GB, dram_bytes: int = 32 * GB) -> Node:
    """A node whose SSD gives so many bytes per second."""
    return Node(
        node_id,
        f"{node_id}:1",
        (TierUse(Tier.DRAM, capacity_bytes=dram_bytes), TierUse(Tier.SSD, bandwidth_bytes_per_second=ssd)),
    )


def cluster(*nodes: Node, **options: int) -> ClusterView:
    view = ClusterView()
    for one in nodes or (node("a"),):
        views.add_node(view, one, **options)
    return view


def called(prefetcher: Prefetcher, *models: Model, times: int = 6, period: float = PERIOD) -> float:
    """Have the models called periodically; returns the time shortly before the next calls."""
    for call in range(times):
        for model in models:
            prefetcher.note(model, call * period)
    return times * period - 20.0


def prefetcher(began: float = 0.0) -> Prefetcher:
    return Prefetcher(Arrivals(began), Assumptions(init_seconds=1.0), LIMITS)


def holding(view: ClusterView, *models: Model, node_id: str = "a", dram: int = 0) -> None:
    for model in models:
        view.models[model.name] = model
        views.hold(view, node_id, model, ssd=model.checkpoint.total_bytes, dram=dram)


def looked(of: Prefetcher, view: ClusterView, now: float) -> list[Promotion]:
    """Plan at every look up to ``now``; the promotions that were begun, as if each were done at once."""
    begun = []
    while (look := of.next_look()) <= now:
        for promotion in of.plan(view, look):
            begun.append(promotion)
            of.ended(promotion, look, is_done=False)
    return begun


def test_what_is_about_to_be_called_is_promoted_head_first_and_piece_by_piece() -> None:
    view, planner = cluster(), prefetcher()
    holding(view, MODEL)
    now = called(planner, MODEL)
    (first,) = planner.plan(view, now)
    assert (first.node_id, first.digest, first.stage) == ("a", MODEL.checkpoint.digest, 0)
    assert first.head_bytes == 2 * GB, "a quarter"
    assert (first.bytes_per_second, first.unused_limit_bytes) == (GB / 4, 16 * GB)
    assert first.seconds_saved_per_byte == pytest.approx(1 / GB)
    assert 0.7 < first.probability <= 1
    heads = []
    while first.head_bytes:
        heads.append(first.head_bytes)
        views.hold(view, "a", MODEL, ssd=8 * GB, dram=first.head_bytes)
        planner.ended(first, now, is_done=True)
        now = planner.next_look()
        if not (more := planner.plan(view, now)):
            break
        (first,) = more
    # The last gigabyte comes while the model is built: to bring it before saves nothing.
    assert heads == [2 * GB, 4 * GB, 6 * GB, 7 * GB]


def test_nothing_is_promoted_while_no_call_is_near() -> None:
    view, planner = cluster(), prefetcher()
    holding(view, MODEL)
    now = called(planner, MODEL)
    assert looked(planner, view, now - 100) == []
    assert len(looked(planner, view, now)) >= 1


def test_a_model_is_reviewed_in_time_for_its_next_call_without_being_asked_again_and_again() -> None:
    view, planner = cluster(), prefetcher()
    holding(view, MODEL)
    last = called(planner, MODEL) - PERIOD + 20
    times = []
    while (look := planner.next_look()) < last + PERIOD:
        times.append(look - last)
        if planner.plan(view, look):
            break
    assert len(times) < 12
    assert 0.9 * PERIOD - 60 <= times[-1] <= PERIOD - 30
    assert all(later > earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("case", ["drained", "loading", "busy", "instance", "parked", "small"])
def test_nothing_is_promoted_where_it_would_not_help(case: str) -> None:
    view, planner = cluster(), prefetcher()
    model = views.model("m", GB // 2) if case == "small" else MODEL
    holding(view, model)
    now = called(planner, model)
    other = views.model("o")
    if case == "drained":
        view.drained.add("a")
    elif case == "loading":
        view.models["o"] = other
        view.put_instance(Instance("o-1", "o", other.checkpoint.digest, "a/w0", InstanceState.STARTING), now)
    elif case == "busy":
        views.put(view, "o-1", other, "a/w0")
        view.grants.grant("g", "o-1", now)
    elif case == "instance":
        views.add_node(view, node("b"))
        holding(view, model, node_id="b")
        views.put(view, "m-1", model, "a/w0")
    elif case == "parked":
        parked = (ParkedCheckpoint(model.checkpoint.digest, 8 * GB),)
        view.apply_report(WorkerReport("a/w0", parked=parked), now)
    assert planner.plan(view, now) == []


def test_an_idle_instance_of_another_model_is_no_obstacle() -> None:
    view, planner = cluster(), prefetcher()
    holding(view, MODEL)
    views.put(view, "o-1", views.model("o"), "a/w0")
    assert len(planner.plan(view, called(planner, MODEL))) == 1


def test_the_node_that_has_most_of_it_goes_on_and_one_that_has_all_is_enough() -> None:
    view, planner = cluster(node("a"), node("b"), node("c")), prefetcher()
    for node_id, dram in (("a", 0), ("b", GB), ("c", 0)):
        holding(view, MODEL, node_id=node_id, dram=dram)
    now = called(planner, MODEL)
    (promotion,) = planner.plan(view, now)
    assert (promotion.node_id, promotion.head_bytes) == ("b", 3 * GB)
    planner.ended(promotion, now, is_done=True)
    holding(view, MODEL, node_id="c", dram=7 * GB)
    assert planner.plan(view, planner.next_look()) == []


def test_a_copy_in_the_dram_of_a_busy_node_is_enough() -> None:
    view, planner = cluster(node("a"), node("b")), prefetcher()
    holding(view, MODEL)
    holding(view, MODEL, node_id="b", dram=7 * GB)
    views.put(view, "o-1", views.model("o"), "b/w0")
    view.grants.grant("g", "o-1", 0.0)
    now = called(planner, MODEL)
    assert planner.plan(view, now) == []
    view.drained.add("b")
    (promotion,) = planner.plan(view, planner.next_look())
    assert promotion.node_id == "a", "a node that is drained does not count"


def test_where_everything_may_be_called_what_is_called_later_gives_way() -> None:
    sooner, later = views.model("sooner", 4 * GB), views.model("later", 4 * GB)
    view, planner = cluster(), prefetcher(began=-100_000.0)
    holding(view, MODEL)
    holding(view, sooner, later, dram=4 * GB)
    for call in range(10):
        planner.note(later, call * 40.0)
    for call in range(10):
        planner.note(MODEL, call * 40.0 - 35.0)
        planner.note(sooner, call * 40.0 - 38.0)
    (promotion,) = planner.plan(view, 9 * 40.0 + 1.0)
    useless = [GiveWay("blake3:later", 3 * GB), GiveWay("blake3:sooner", 3 * GB)]
    assert list(promotion.give_way) == [*useless, GiveWay("blake3:later", GB)], "but not its head"


def test_a_node_has_one_promotion_at_a_time_and_heads_come_before_tails() -> None:
    models = [views.model(name, 8 * GB) for name in "xyz"]
    view, planner = cluster(node("a"), node("b")), prefetcher()
    holding(view, models[0], dram=4 * GB)
    holding(view, models[1])
    holding(view, models[2], node_id="b")
    now = called(planner, *models)
    begun = {promotion.node_id: promotion for promotion in planner.plan(view, now)}
    assert {name: one.digest for name, one in begun.items()} == {"a": "blake3:y", "b": "blake3:z"}
    now = planner.next_look()
    assert planner.plan(view, now) == [], "both nodes are busy"
    holding(view, models[1], dram=6 * GB)
    planner.ended(begun["a"], now, is_done=True)
    (tail,) = planner.plan(view, planner.next_look())
    assert (tail.digest, tail.head_bytes) == ("blake3:x", 6 * GB)


def test_what_is_of_no_use_gives_way_first_then_what_is_clearly_colder_and_heads_last() -> None:
    cold, cool, hot, unknown = (views.model(name, 4 * GB) for name in ("cold", "cool", "hot", "unknown"))
    view, planner = cluster(), prefetcher(began=-100_000.0)
    holding(view, MODEL)
    holding(view, cold, cool, hot, unknown, dram=4 * GB)
    planner.note(cold, -50_000.0)
    planner.note(cool, -5_000.0)
    (promotion,) = planner.plan(view, called(planner, MODEL, hot))
    names = ["blake3:unknown", "blake3:cold", "blake3:cool"]
    useless = [GiveWay(name, 3 * GB) for name in (*names, "blake3:hot")]
    # Of 4 GB, the last streams in while the model is built; the first is a head.
    assert list(promotion.give_way) == [*useless, *(GiveWay(name, GB) for name in names), *map(GiveWay, names)]


def test_a_leader_that_has_watched_for_a_moment_lets_nothing_give_way_that_is_of_use() -> None:
    other = views.model("o", 4 * GB)
    view, planner = cluster(), prefetcher(began=50.0)
    holding(view, MODEL)
    holding(view, other, dram=4 * GB)
    called(planner, MODEL, period=10.0)
    (promotion,) = planner.plan(view, planner.next_look())
    assert promotion.give_way == (GiveWay("blake3:o", 3 * GB),)


def test_what_has_no_copy_on_the_ssd_is_missed_more_and_all_of_it_is_of_use() -> None:
    other = views.model("o", 4 * GB)
    for copied, expected in ((4 * GB, [GiveWay("blake3:o", 3 * GB), GiveWay("blake3:o", GB)]), (0, [])):
        view, planner = cluster(), prefetcher(began=-1_000.0)
        holding(view, MODEL)
        view.models["o"] = other
        views.hold(view, "a", other, ssd=copied, dram=4 * GB)
        planner.note(other, 3_450.0)
        (promotion,) = planner.plan(view, called(planner, MODEL))
        if copied:
            assert list(promotion.give_way) == expected
        else:
            assert all(one.keep_bytes == 4 * GB for one in promotion.give_way)


@pytest.mark.parametrize(("spread", "most", "least"), [(1.0, 0.25, 0.0), (0.05, 1.0, 0.8)])
def test_only_where_calls_have_a_habit_one_of_use_gives_way_for_another(
    spread: float, most: float, least: float
) -> None:
    """Of models that are called as often as each other, half in DRAM, gaps apart by so much of their mean."""
    rng, models = Random(1), {name: views.model(name, 8 * GB) for name in "abcdefgh"}
    view, planner = cluster(), prefetcher(began=-1_000.0)
    holding(view, *(models[name] for name in "abcd"))
    holding(view, *(models[name] for name in "efgh"), dram=8 * GB)
    displacing, began = 0, 0
    for at, name in sorted(call for one in models for call in renewals(one, rng, spread)):
        for promotion in looked(planner, view, at):
            began += at > 6_000.0
            displacing += at > 6_000.0 and any(one.keep_bytes < 2 * GB for one in promotion.give_way)
        planner.note(models[name], at)
    assert began > 40
    assert least <= displacing / began <= most


def renewals(name: str, rng: Random, spread: float) -> Iterator[tuple[float, str]]:
    """Calls every 300 s in the mean, gamma distributed."""
    at = 300.0 * rng.random()
    while at < 12_000.0:
        yield at, name
        at += rng.gammavariate(1 / spread**2, 300.0 * spread**2)


def test_on_an_accelerator_only_what_is_faster_from_dram_is_brought() -> None:
    view, planner = cluster(), prefetcher()
    fast = Node("g", "g:1", (TierUse(Tier.DRAM, 32 * GB, bandwidth_bytes_per_second=4 * GB), *node("g").tiers[1:]))
    slow = Node("s", "s:1", (TierUse(Tier.DRAM, 32 * GB, bandwidth_bytes_per_second=GB // 2), *node("s").tiers[1:]))
    for one, expected in ((fast, 0.75 / GB), (slow, None)):
        view, planner = cluster(one, device="cuda:0"), prefetcher()
        holding(view, MODEL, node_id=one.node_id)
        promotions = planner.plan(view, called(planner, MODEL))
        assert [promotion.seconds_saved_per_byte for promotion in promotions] == (
            [pytest.approx(expected)] if expected else []
        )


def test_an_evicted_or_deleted_model_is_left_alone() -> None:
    view, planner = cluster(), prefetcher()
    holding(view, MODEL)
    now = called(planner, MODEL)
    planner.forget(MODEL.checkpoint.digest)
    assert planner.next_look() == math.inf
    now = called(planner, MODEL) + 10 * PERIOD
    view.models.pop("m")
    assert planner.plan(view, now) == []
    assert planner.next_look() == math.inf


def test_an_hour_of_the_day_that_has_calls_is_prepared_for() -> None:
    view = cluster()
    limits = PrefetchLimits(horizon_seconds=900.0, min_probability=0.3)
    planner = Prefetcher(Arrivals(0.0), Assumptions(init_seconds=1.0), limits)
    holding(view, MODEL)
    for day in range(12):
        planner.note(MODEL, day * DAY + 9 * HOUR + (day * 17 % 50) * 60)
    nine = 12 * DAY + 9 * HOUR
    times = []
    while (look := planner.next_look()) < nine + HOUR:
        for promotion in planner.plan(view, look):
            times.append(look)
            planner.ended(promotion, look, is_done=False)
    today = [time for time in times if time > nine - DAY + HOUR]
    assert today
    assert min(today) >= nine - 900.0, "and no other hour"


def test_a_plan_looks_at_a_bounded_number_of_models() -> None:
    view, planner = cluster(), prefetcher()
    models = [views.model(f"m{i}", 8 * GB) for i in range(200)]
    holding(view, *models)
    now = called(planner, *models, times=3)
    planner.plan(view, now)
    # The rest is due still, and comes a moment later.
    for step in count(1):
        if (look := planner.next_look()) > now + 1.5:
            break
        assert look - now >= 0.099 * step
        planner.plan(view, look)
    assert 5 <= step <= 20
