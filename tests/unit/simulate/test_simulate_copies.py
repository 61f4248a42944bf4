"""What is copied to SSDs ahead of calls, on a cluster whose figures can be worked out by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kindling.scheduler.domain.promotions import GiveWay, Promotion
from kindling.scheduler.domain.values import Checkpoint, ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.experiment import Run, Setup, Variant, run
from kindling.simulate.mechanisms import CHUNK_BYTES, Mechanism
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.policies import PolicyName
from kindling.simulate.prefetch_tally import PrefetchTally
from kindling.simulate.simulated_node import SimulatedNode
from kindling.simulate.workload import Arrival, Workload

CHUNKS = 10
TOTAL = CHUNKS * CHUNK_BYTES
LINKS = {Tier.DRAM: TOTAL / 1.0, Tier.SSD: TOTAL / 2.0, Tier.REMOTE: TOTAL / 40.0}
HALF_SPEED = LINKS[Tier.REMOTE] / 2
MODEL = ModelProfile("m", TOTAL, 100, prefill_tokens_per_second=100.0, seconds_per_token=0.1, kv_bytes_per_token=1)
KEPT = frozenset({Mechanism.PARTIAL_RESIDENCY})


def profile(ssd_copies: int) -> NodeProfile:
    return NodeProfile("n", 1, "X", 100 * CHUNK_BYTES, 10 * CHUNK_BYTES, ssd_copies * TOTAL, LINKS, 0.5)


@dataclass
class Bench:
    """A node whose SSD holds two copies, and what becomes of those that are begun."""

    events: Events = field(default_factory=Events)
    ended: list[tuple[float, bool]] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = SimulatedNode("n", profile(2), self.events, CHUNK_BYTES)

    def copy(self, promotion: Promotion) -> None:
        def note(is_done: bool) -> None:
            self.ended.append((self.events.now, is_done))

        assert self.node.can_prefetch(promotion)
        self.node.copies.begin(promotion, Checkpoint(promotion.digest, TOTAL), note)

    def load(self, digest: str) -> None:
        self.node.load(Checkpoint(digest, TOTAL), lambda _: self.loaded.append(self.events.now))

    def run(self, *actions: tuple[float, Callable[[], None]]) -> None:
        for at, action in actions:
            self.events.at(at, action)
        self.events.at(1000.0, lambda: None)
        self.events.run()


def promotion(digest: str, *give_way: str, limit: int = 10 * TOTAL) -> Promotion:
    others = tuple(map(GiveWay, give_way))
    return Promotion("n/w", digest, TOTAL, HALF_SPEED, limit, 1.0, 1.0, give_way=others, to=Tier.SSD)


def test_a_copy_takes_its_share_of_the_link_and_is_used_once() -> None:
    bench = Bench()
    bench.run((0.0, lambda: bench.copy(promotion("a"))), *((at, lambda: bench.load("a")) for at in (100.0, 200.0)))
    assert bench.ended == [(80.0, True)]
    assert bench.loaded[0] == 102.0, "from the SSD"
    assert bench.node.copies.tally == PrefetchTally(TOTAL, hits=1, hit_bytes=TOTAL)


def test_a_load_cuts_a_copy_short_which_goes_on_later_where_it_was() -> None:
    bench = Bench()
    bench.run(
        (0.0, lambda: bench.copy(promotion("a"))),
        (28.0, lambda: bench.load("b")),  # three chunks have come, and half of another
        (100.0, lambda: bench.copy(promotion("a"))),
    )
    assert bench.ended == [(28.0, False), (156.0, True)]
    assert bench.loaded == [68.0], "from the remote store, delayed by nothing"
    assert bench.node.copies.tally.prefetched_bytes == TOTAL


def test_only_those_named_make_room_within_the_bound() -> None:
    bench = Bench()
    for name in "bc":
        bench.node.ssd.put(name, TOTAL)
    assert not bench.node.can_prefetch(promotion("a"))
    assert not bench.node.can_prefetch(promotion("a", "b", limit=TOTAL - 1))
    assert not bench.node.can_prefetch(promotion("b"))
    bench.run((0.0, lambda: bench.copy(promotion("a", "b"))), (200.0, lambda: bench.load("b")))
    assert bench.ended == [(80.0, True)]
    assert bench.node.ssd.digests() == {"b", "c"} or bench.node.ssd.digests() == {"a", "b"}
    assert bench.node.copies.tally.hits == 0


def full(mechanisms: frozenset[Mechanism]) -> Run:
    """ "a" is called every 1600 s; in between, others displace it from an SSD that holds two of them."""
    times = [("a", 1600.0 * number) for number in range(14)]
    times += [(f"{name}{number}", 1600.0 * number + at) for number in range(14) for name, at in (("b", 60), ("c", 150))]
    asked = tuple(Arrival(at, name, 10, 10) for name, at in sorted(times, key=lambda one: one[1]))
    workload = Workload("periodic", asked, tuple(sorted({name for name, _ in times})), 22400.0)
    on = Setup(profile(2), 1, MODEL, ModelSettings(keep_alive_seconds=5.0))
    return run(Variant(PolicyName.FULL, mechanisms), workload, on, seed=1)


def test_a_model_that_is_called_periodically_is_on_the_ssd_or_nearer_at_its_next_call() -> None:
    without, ahead = full(KEPT), full(KEPT | {Mechanism.PREFETCH})
    waits = [[one.startup_seconds for one in ended.served if one.arrival.model == "a"] for ended in (without, ahead)]
    assert min(waits[0][1:]) >= 40.0
    assert waits[1][-1] <= 2.0
    assert sum(waits[1]) < 0.6 * sum(waits[0])
    assert ahead.copied.hits >= 6
    assert without.copied == PrefetchTally()
    others = [one.startup_seconds for one in ahead.served if one.arrival.model != "a"]
    assert max(others) == pytest.approx(40.0), "never seen, never delayed"
