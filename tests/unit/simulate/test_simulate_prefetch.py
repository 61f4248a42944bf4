"""What is brought to DRAM ahead of calls, on a cluster whose figures can be worked out by hand."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kindling.scheduler.domain.promotions import GiveWay, Promotion
from kindling.scheduler.domain.values import Checkpoint, LoadReport, ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.experiment import Run, Setup, Variant, run
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.mechanisms import ALL_MECHANISMS, CHUNK_BYTES, Mechanism
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.policies import PolicyName
from kindling.simulate.prefetch_tally import PrefetchTally
from kindling.simulate.simulated_node import SimulatedNode
from kindling.simulate.workload import Arrival, Workload

CHUNKS = 10
TOTAL = CHUNKS * CHUNK_BYTES
LINKS = {Tier.DRAM: TOTAL / 1.0, Tier.SSD: TOTAL / 10.0, Tier.REMOTE: TOTAL / 100.0}
FROM_DRAM, FROM_SSD, INIT = 1.0, 10.0, 0.5
HALF_SPEED = LINKS[Tier.SSD] / 2
MODEL = ModelProfile("m", TOTAL, 100, prefill_tokens_per_second=100.0, seconds_per_token=0.1, kv_bytes_per_token=1)
PARTIAL, WHOLE = frozenset({Mechanism.PARTIAL_RESIDENCY}), frozenset[Mechanism]()


def profile(dram_chunks: int) -> NodeProfile:
    return NodeProfile("n", 1, "X", 100 * CHUNK_BYTES, dram_chunks * CHUNK_BYTES, 10**12, LINKS, INIT)


def full(asked: Workload, mechanisms: frozenset[Mechanism], dram_chunks: int = 20) -> Run:
    on = Setup(profile(dram_chunks), 1, MODEL, ModelSettings(keep_alive_seconds=5.0))
    return run(Variant(PolicyName.FULL, mechanisms), asked, on, seed=1)


def periodic_and_others() -> Workload:
    """ "a" is called every 200 s; in between, "b" and "c" displace it once each from a DRAM that holds two of them."""
    times = [("a", 200.0 * number) for number in range(12)]
    strangers = [(name, at) for number in range(12) for name, at in ((f"b{number}", 30.0), (f"c{number}", 60.0))]
    times += [(name, 200.0 * int(name[1:]) + at) for name, at in strangers]
    asked = tuple(Arrival(at, name, 10, 10) for name, at in sorted(times, key=lambda one: one[1]))
    return Workload("periodic", asked, tuple(sorted({name for name, _ in times})), 2400.0)


def waits_of(model: str, ended: Run) -> list[float]:
    return [one.startup_seconds for one in ended.served if one.arrival.model == model]


@pytest.mark.parametrize("kept", [PARTIAL, WHOLE])
def test_a_model_that_is_called_periodically_is_in_dram_at_its_next_call(kept: frozenset[Mechanism]) -> None:
    asked = periodic_and_others()
    without, ahead = full(asked, kept), full(asked, kept | {Mechanism.PREFETCH})
    assert min(waits_of("a", without)[1:]) > 3 * FROM_DRAM
    assert waits_of("a", ahead)[-1] == pytest.approx(FROM_DRAM)
    assert sum(waits_of("a", ahead)) < 0.8 * sum(waits_of("a", without))
    assert ahead.prefetched.hits >= 6
    assert ahead.prefetched.hit_bytes > ahead.prefetched.wasted_bytes
    others = [name for name in asked.models if name != "a"]
    assert all(waits_of(name, ahead) == pytest.approx([FROM_SSD]) for name in others), "never seen, never delayed"


def test_without_it_nothing_is_brought() -> None:
    mechanisms = ALL_MECHANISMS - {Mechanism.PREFETCH}
    assert full(periodic_and_others(), mechanisms).prefetched == PrefetchTally()


def test_where_all_models_are_in_dram_it_changes_nothing() -> None:
    asked = periodic_and_others()
    without, ahead = (full(asked, one, dram_chunks=1000) for one in (PARTIAL, PARTIAL | {Mechanism.PREFETCH}))
    assert ahead == without


@dataclass
class Bench:
    """A node with checkpoints on its SSD, and what becomes of promotions and loads."""

    dram_chunks: int = 100
    events: Events = field(default_factory=Events)
    ended: list[tuple[float, bool]] = field(default_factory=list)
    loaded: list[tuple[float, LoadReport]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = SimulatedNode("n", profile(self.dram_chunks), self.events, CHUNK_BYTES)
        for name in "abc":
            self.node.ssd.put(name, TOTAL)

    def prefetch(self, promotion: Promotion) -> None:
        def note(is_done: bool) -> None:
            self.ended.append((self.events.now, is_done))

        assert self.node.can_prefetch(promotion)
        self.node.prefetch.begin(promotion, Checkpoint(promotion.digest, TOTAL), note)

    def load(self, digest: str) -> None:
        self.node.load(Checkpoint(digest, TOTAL), lambda report: self.loaded.append((self.events.now, report)))

    def run(self, *actions: tuple[float, Callable[[], None]]) -> None:
        for at, action in actions:
            self.events.at(at, action)
        self.events.at(1000.0, lambda: None)
        self.events.run()

    def chunks(self, digest: str) -> float:
        return self.node.dram.held_bytes(digest) / CHUNK_BYTES


def promotion(digest: str, chunks: int, *give_way: str, unused_chunks: int = 100) -> Promotion:
    limit = unused_chunks * CHUNK_BYTES
    return Promotion(
        "n/w", digest, chunks * CHUNK_BYTES, HALF_SPEED, limit, 1.0, 1.0, give_way=tuple(map(GiveWay, give_way))
    )


def test_a_prefetch_takes_its_share_of_the_link_and_what_it_brought_is_used_once() -> None:
    bench = Bench()
    begin = promotion("a", 4)
    bench.run((0.0, lambda: bench.prefetch(begin)), (50.0, lambda: bench.load("a")), (90.0, lambda: bench.load("a")))
    assert bench.ended == [(8.0, True)]
    assert bench.loaded[0][0] == pytest.approx(50.0 + 0.6 * FROM_SSD)
    assert bench.node.prefetch.tally == PrefetchTally(4 * CHUNK_BYTES, hits=1, hit_bytes=4 * CHUNK_BYTES)


@pytest.mark.parametrize("digest", ["a", "b"])
def test_a_load_cuts_a_prefetch_short_and_is_delayed_by_nothing(digest: str) -> None:
    bench, begin = Bench(), promotion("a", 8)
    bench.run((0.0, lambda: bench.prefetch(begin)), (7.0, lambda: bench.load(digest)))
    assert bench.ended == [(7.0, False)]
    brought = 3  # of 3.5 chunks that had come
    saved = brought / CHUNKS * FROM_SSD if digest == "a" else 0.0
    assert bench.loaded[0][0] == pytest.approx(7.0 + FROM_SSD - saved)
    assert bench.node.prefetch.tally.prefetched_bytes == brought * CHUNK_BYTES
    assert bench.node.prefetch.tally.wasted_bytes == (0 if digest == "a" else brought * CHUNK_BYTES)


def test_none_begins_while_something_is_fetched_nor_without_a_copy_on_the_ssd() -> None:
    bench = Bench()
    assert not bench.node.can_prefetch(promotion("d", 4))
    seen: list[bool] = []

    def look() -> None:
        seen.append(bench.node.can_prefetch(promotion("a", 4)))

    bench.run((0.0, lambda: bench.load("b")), (5.0, look), (FROM_SSD + 1.0, look))
    assert seen == [False, True]


def test_none_begins_without_room_for_a_chunk() -> None:
    node = Bench(dram_chunks=10).node
    node.dram.put("b", TOTAL)
    assert not node.can_prefetch(promotion("a", 4))
    assert node.can_prefetch(promotion("a", 4, "b"))
    node.dram.pin("b")
    assert not node.can_prefetch(promotion("a", 4, "b"))


def test_only_what_may_give_way_does_from_its_tail() -> None:
    bench = Bench(dram_chunks=20)
    for name in "bc":
        bench.node.dram.put(name, TOTAL)
    first, second = promotion("a", 4, "c"), promotion("a", 8, "b", "c")
    bench.run((0.0, lambda: bench.prefetch(first)), (20.0, lambda: bench.prefetch(second)))
    assert bench.ended == [(8.0, True), (28.0, True)]
    assert [bench.chunks(name) for name in "abc"] == [8, 6, 6]


def test_what_is_pinned_stays() -> None:
    bench = Bench(dram_chunks=12)
    bench.node.dram.put("b", TOTAL)
    bench.node.dram.pin("b")
    begin = promotion("a", 4, "b")
    bench.run((0.0, lambda: bench.prefetch(begin)))
    assert [bench.chunks(name) for name in "ab"] == [2, 10]


def test_bytes_that_wait_for_a_use_are_bounded_and_make_room_for_each_other() -> None:
    bench = Bench()
    one, more = promotion("a", 4, unused_chunks=5), promotion("b", 4, unused_chunks=5)
    swap = promotion("c", 4, "a", unused_chunks=5)
    bench.run(*((20.0 * number, lambda it=it: bench.prefetch(it)) for number, it in enumerate((one, more, swap))))
    assert [is_done for _, is_done in bench.ended] == [True, False, True]
    assert [bench.chunks(name) for name in "abc"] == [0, 1, 4]
    bench.node.prefetch.note_use("c")
    assert bench.node.prefetch.tally == PrefetchTally(9 * CHUNK_BYTES, hits=1, hit_bytes=4 * CHUNK_BYTES)
    assert bench.node.prefetch.tally.wasted_bytes == 5 * CHUNK_BYTES


def test_heads_are_held_whole_or_in_chunks_and_give_way_as_the_tier_has_it() -> None:
    whole, chunked = LruTier(20), LruTier(20, chunk_bytes=2)
    for tier in (whole, chunked):
        tier.put("a", 10)
        tier.put("b", 10)
        tier.put_head("c", 10, 5, [GiveWay("gone"), GiveWay("a")])
    assert [whole.held_bytes(name) for name in "abc"] == [0, 10, 5]
    assert [chunked.held_bytes(name) for name in "abc"] == [4, 10, 5]
    whole.put("c", 10)
    assert "c" in whole, "the rest may follow"
    chunked.cut("b", 3)
    assert chunked.held_bytes("b") == 6


def test_what_may_happen_meanwhile_does_not_keep_time_going() -> None:
    events, seen = Events(), list[float]()
    for at in (1.0, 3.0):
        events.meanwhile(at, lambda: seen.append(events.now))
    events.at(2.0, lambda: seen.append(events.now))
    events.run()
    assert seen == [1.0, 2.0]
