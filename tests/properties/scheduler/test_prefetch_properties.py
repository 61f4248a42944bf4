"""Whatever the cluster holds and whoever calls, promotions stay within their bounds and in nobody's way."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.domain.promotions import PrefetchLimits, Promotion
from kindling.scheduler.domain.values import Instance, InstanceState, Node, Tier, TierUse
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

GB = views.GB
NODES = ("a", "b", "c")
MODELS = tuple(views.model(name, size * GB) for name, size in (("m", 1), ("n", 4), ("o", 20)))
LIMITS = PrefetchLimits(horizon_seconds=60.0, min_probability=0.2, bandwidth_share=0.25, dram_share=0.5)


@dataclass(frozen=True)
class Held:
    node_id: str
    model: int
    ssd: float
    dram: float


on_ssd, in_dram = st.sampled_from((0.3, 1.0, 1.0, 1.0)), st.sampled_from((0.0, 0.0, 0.3, 1.0))
held = st.lists(st.builds(Held, st.sampled_from(NODES), st.integers(0, 2), on_ssd, in_dram), min_size=2, max_size=9)
calls = st.lists(st.tuples(st.integers(0, 2), st.sampled_from((0.5, 20.0, 50.0))), min_size=10, max_size=60)
nodes = st.sets(st.sampled_from(NODES), max_size=1)


def cluster(holds: list[Held], drained: set[str], loading: set[str]) -> ClusterView:
    view = ClusterView()
    for node_id in NODES:
        dram, ssd = TierUse(Tier.DRAM, 32 * GB), TierUse(Tier.SSD, 30 * GB, bandwidth_bytes_per_second=GB)
        uses = (dram, ssd, TierUse(Tier.REMOTE, bandwidth_bytes_per_second=GB / 10))
        views.add_node(view, Node(node_id, f"{node_id}:1", uses), workers=2)
    for model in MODELS:
        view.models[model.name] = model
    for one in holds:
        total = MODELS[one.model].checkpoint.total_bytes
        views.hold(view, one.node_id, MODELS[one.model], ssd=int(one.ssd * total), dram=int(one.dram * total))
    view.drained.become(drained)
    for node_id in loading:
        other = views.model(f"load-{node_id}", 3 * GB)
        view.models[other.name] = other
        instance = Instance(
            f"i-{node_id}", other.name, other.checkpoint.digest, f"{node_id}/w0", InstanceState.STARTING
        )
        view.put_instance(instance, 0.0)
    return view


@given(held, calls, nodes, nodes, st.booleans())
@settings(derandomize=True, deadline=None, max_examples=150)
def test_promotions_stay_within_their_bounds(
    holds: list[Held], history: list[tuple[int, float]], drained: set[str], loading: set[str], is_done: bool
) -> None:
    view, planner, now = cluster(holds, drained, loading), Prefetcher(Arrivals(-1e6), limits=LIMITS), 0.0
    for number, gap in history:
        now += gap
        planner.note(MODELS[number], now)
        under_way: dict[tuple[str, Tier], Promotion] = {}
        while (look := planner.next_look()) <= now:
            for promotion in planner.plan(view, look):
                assert (promotion.node_id, promotion.to) not in under_way
                assert promotion.node_id not in drained | loading
                check(view, promotion)
                under_way[promotion.node_id, promotion.to] = promotion
        for promotion in under_way.values():
            planner.ended(promotion, now, is_done=is_done)
    assert planner.next_look() > now, "every look leads on"


def check(view: ClusterView, promotion: Promotion) -> None:
    (model,) = (model for model in MODELS if model.checkpoint.digest == promotion.digest)
    there = view.holders.held(promotion.node_id, promotion.digest)
    total = model.checkpoint.total_bytes
    assert LIMITS.min_probability <= promotion.probability <= 1.0
    assert promotion.benefit > 0
    if promotion.to is Tier.SSD:
        check_copy(view, promotion, total)
        return
    assert there[Tier.SSD] == total
    assert there.get(Tier.DRAM, 0) < promotion.head_bytes <= total
    assert (promotion.bytes_per_second, promotion.unused_limit_bytes) == (GB / 4, 16 * GB)
    for one in promotion.give_way:
        assert one.digest != promotion.digest
        assert view.holders.held(promotion.node_id, one.digest).get(Tier.DRAM, 0) > 0
        assert one.keep_bytes >= 0


def check_copy(view: ClusterView, promotion: Promotion, total: int) -> None:
    serving = [node_id for node_id in NODES if node_id not in view.drained]
    assert all(view.holders.held(name, promotion.digest).get(Tier.SSD, 0) < total for name in serving), "nobody has it"
    assert promotion.head_bytes == total
    assert (promotion.bytes_per_second, promotion.unused_limit_bytes) == (GB / 40, 15 * GB)
    others = {one.digest: view.holders.held(promotion.node_id, one.digest)[Tier.SSD] for one in promotion.give_way}
    assert promotion.digest not in others
    assert view.holders.on_ssd_bytes(promotion.node_id) - sum(others.values()) + total <= 30 * GB
