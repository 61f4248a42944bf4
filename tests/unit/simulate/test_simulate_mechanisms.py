"""What each mechanism is worth on a cluster whose figures can be worked out by hand."""

from dataclasses import replace
from functools import partial

import pytest

from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.experiment import Run, Setup, Variant, run
from kindling.simulate.mechanisms import CHUNK_BYTES, PARKED_SECONDS, Mechanism
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.policies import PolicyName
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster
from kindling.simulate.strategies.kindling import KindlingStrategy
from kindling.simulate.strategies.moves import HANDOVER_SECONDS
from kindling.simulate.workload import Arrival, Workload

LAYERS, TOTAL = 100, 10 * CHUNK_BYTES
LINKS = {Tier.DRAM: TOTAL / 1.0, Tier.SSD: TOTAL / 10.0, Tier.REMOTE: TOTAL / 100.0}
# Seconds from DRAM and from SSD.
FROM_DRAM, FROM_SSD, INIT = 1.0, 10.0, 0.5
MODEL = ModelProfile("m", TOTAL, LAYERS, prefill_tokens_per_second=10.0, seconds_per_token=0.1, kv_bytes_per_token=1)
QUICK = replace(MODEL, prefill_tokens_per_second=100.0)


def setup(nodes: int = 1, dram_chunks: int = 100, memory_chunks: int = 100) -> Setup:
    node = NodeProfile("n", 1, "X", memory_chunks * CHUNK_BYTES, dram_chunks * CHUNK_BYTES, 10**12, LINKS, INIT)
    return Setup(node, nodes, MODEL, ModelSettings(keep_alive_seconds=5.0))


def full(asked: Workload, on: Setup, *mechanisms: Mechanism) -> Run:
    return run(Variant(PolicyName.FULL, frozenset(mechanisms)), asked, on, seed=1)


def workload(*arrivals: tuple[float, str], prompt_tokens: int = 10) -> Workload:
    asked = tuple(Arrival(at, model, prompt_tokens, 10) for at, model in arrivals)
    return Workload("by hand", asked, tuple(sorted({model for _, model in arrivals})), 1000.0)


@pytest.mark.parametrize("prefill_seconds", [1.0, 5.0, 40.0])
def test_the_first_token_comes_after_the_load_or_the_prefill_not_after_both(prefill_seconds: float) -> None:
    asked = workload((0.0, "a"), prompt_tokens=int(prefill_seconds * 10))
    [plain] = full(asked, setup()).served
    [progressive] = full(asked, setup(), Mechanism.PROGRESSIVE_START).served
    assert plain.startup_seconds == pytest.approx(FROM_SSD)
    first_token = progressive.startup_seconds + prefill_seconds
    assert first_token == pytest.approx(max(FROM_SSD + prefill_seconds / LAYERS, INIT + prefill_seconds))


def test_requests_during_a_progressive_start_share_it() -> None:
    served = full(workload((0.0, "a"), (4.0, "a"), (20.0, "a")), setup(), Mechanism.PROGRESSIVE_START).served
    last_layer = 1.0 / LAYERS
    waits = [FROM_SSD + last_layer - 1.0, FROM_SSD + last_layer - 5.0, FROM_SSD]
    assert [one.startup_seconds for one in served[:2]] == pytest.approx(waits[:2])


def test_prompts_that_waited_for_the_weights_are_computed_in_turn_where_they_share_a_device() -> None:
    on = replace(setup(), model=replace(MODEL, prompt_tokens_beside=10))
    served = full(workload((0.0, "a"), (4.0, "a")), on, Mechanism.PROGRESSIVE_START).served
    first_token = FROM_SSD + 1.0 / LAYERS
    assert served[0].startup_seconds == pytest.approx(first_token - 1.0)
    beside_the_first = first_token + 1.0 + 0.1
    assert served[1].startup_seconds == pytest.approx(beside_the_first - 4.0 - 1.0)


def test_a_checkpoint_that_is_partly_in_dram_is_read_for_the_rest_alone() -> None:
    asked, on = workload((0.0, "a"), (30.0, "b"), (60.0, "a")), setup(dram_chunks=15)
    assert full(asked, on).served[2].startup_seconds == pytest.approx(FROM_SSD)
    partly = full(asked, on, Mechanism.PARTIAL_RESIDENCY)
    assert partly.served[2].startup_seconds == pytest.approx(FROM_SSD / 2)
    assert partly.starts_by_tier[Tier.SSD] == 3


def test_what_is_parked_starts_at_once_until_its_memory_is_needed() -> None:
    asked = workload((0.0, "a"), (30.0, "a"), (60.0, "b"), (90.0, "a"))
    roomy = full(asked, setup(), Mechanism.PARKING)
    assert [one.startup_seconds for one in roomy.served] == pytest.approx(
        [FROM_SSD, PARKED_SECONDS, FROM_SSD, PARKED_SECONDS]
    )
    assert roomy.starts_by_tier == {Tier.GPU: 2, Tier.DRAM: 0, Tier.SSD: 2, Tier.REMOTE: 0}
    tight = full(asked, setup(memory_chunks=15), Mechanism.PARKING)
    assert [one.startup_seconds for one in tight.served] == pytest.approx(
        [FROM_SSD, PARKED_SECONDS, FROM_SSD, FROM_DRAM]
    )


def test_memory_for_keys_and_values_is_not_parked_in() -> None:
    roomy = setup(memory_chunks=25)
    asked = workload((0.0, "a"), (30.0, "b"), (60.0, "a"))
    assert full(asked, roomy, Mechanism.PARKING).starts_by_tier[Tier.GPU] == 1
    hungry = replace(roomy, model=replace(MODEL, kv_bytes_per_token=CHUNK_BYTES // 2048))  # eight chunks
    assert full(asked, hungry, Mechanism.PARKING).starts_by_tier[Tier.GPU] == 0


def drained_at(seconds: float, *mechanisms: Mechanism) -> SimulatedCluster:
    """A generation that begins at 10 on one of two nodes and would end at 12, and that node is drained meanwhile."""
    on, events = setup(nodes=2), Events()
    cluster = SimulatedCluster(events, on.node, on.nodes, ["a"], QUICK, mechanisms=mechanisms)
    strategy = KindlingStrategy(cluster, on.settings)

    def drain() -> None:
        [instance] = strategy.planner.view.instances.values()
        strategy.planner.view.drained.add(instance.node_id)
        strategy.plan()

    arrival = Arrival(0.0, "a", 10, 200)
    events.at(0.0, partial(strategy.arrive, Generation("one", arrival)))
    events.at(seconds, drain)
    events.at(seconds + 30.0, strategy.planner.view.check_integrity)
    events.run()
    cluster.close()
    assert strategy.planner.view.instances == {}
    return cluster


@pytest.mark.parametrize("mechanisms", [(), (Mechanism.PROGRESSIVE_START,)])
def test_a_generation_that_moves_keeps_its_tokens_and_pauses_shortly(mechanisms: tuple[Mechanism, ...]) -> None:
    cluster = drained_at(14.0, *mechanisms)
    [served] = cluster.served
    pause = HANDOVER_SECONDS + MODEL.seconds_per_token
    prefill_seconds = 10 / QUICK.prefill_tokens_per_second
    begun = FROM_SSD if not mechanisms else FROM_SSD + prefill_seconds / LAYERS - prefill_seconds
    assert served.startup_seconds == pytest.approx(begun + pause)
    assert cluster.migrations == 1
    # The source is there until it is empty; the target from the drain on, it loads for 10 s, until keep-alive is over.
    tokens = 10 + round((24.0 - begun - prefill_seconds) / QUICK.seconds_per_token)
    moved_at = 24.0 + tokens / QUICK.prefill_tokens_per_second + HANDOVER_SECONDS
    ended_at = begun + prefill_seconds + 200 * QUICK.seconds_per_token + pause
    assert moved_at < ended_at
    assert cluster.device_seconds == pytest.approx(moved_at + (ended_at + 5.0 - 14.0))


def test_a_generation_that_ends_before_its_target_is_loaded_does_not_move() -> None:
    cluster = drained_at(25.0)
    [served] = cluster.served
    assert served.startup_seconds == pytest.approx(FROM_SSD)
    assert cluster.migrations == 1, "the instance did move"


def test_what_generates_moves_if_its_device_is_where_another_starts_soonest() -> None:
    # "a" is in the DRAM of both nodes, "b" in that of the first alone, where "a" generates from 101 on for 30 s.
    early = workload((0.0, "a"), (0.0, "a"), (40.0, "b")).arrivals
    late = (Arrival(100.0, "a", 10, 300), Arrival(103.0, "b", 10, 10))
    asked = Workload("by hand", (*early, *late), ("a", "b"), 1000.0)
    on = replace(setup(nodes=2), model=QUICK, settings=ModelSettings(keep_alive_seconds=5.0, concurrency_target=1))
    stays, moves = full(asked, on), full(asked, on, Mechanism.MIGRATION)
    assert (stays.migrations, moves.migrations) == (0, 1)
    assert stays.served[-1].startup_seconds == pytest.approx(FROM_SSD)
    # "a" loads where it goes, its tokens are computed there, and then "b" loads.
    handover = (10 + 20) / QUICK.prefill_tokens_per_second + HANDOVER_SECONDS
    assert moves.served[-1].startup_seconds == pytest.approx(2 * FROM_DRAM + handover, abs=0.2)
    assert moves.served[-2].startup_seconds == pytest.approx(FROM_DRAM + HANDOVER_SECONDS + QUICK.seconds_per_token)


def test_two_instances_that_are_half_empty_become_one_when_another_model_wants_a_device() -> None:
    # "a" is on both nodes from 10 on, with one generation of 30 s in each once a short one has ended.
    asked = Workload(
        "by hand",
        (Arrival(0.0, "a", 10, 10), *[Arrival(0.0, "a", 10, 300)] * 2, Arrival(20.0, "b", 10, 10)),
        ("a", "b"),
        1000.0,
    )
    on = replace(setup(nodes=2), model=QUICK, settings=ModelSettings(keep_alive_seconds=5.0, concurrency_target=2))
    apart, together = full(asked, on), full(asked, on, Mechanism.CONSOLIDATION)
    assert (apart.migrations, together.migrations) == (0, 1)
    ended_at = FROM_SSD + 10 / QUICK.prefill_tokens_per_second + 300 * QUICK.seconds_per_token
    assert late(apart, "b") == pytest.approx(ended_at - 20.0 + FROM_SSD)
    handover = (10 + 99) / QUICK.prefill_tokens_per_second + HANDOVER_SECONDS
    assert late(together, "b") == pytest.approx(handover + FROM_SSD, abs=0.02)


def late(of: Run, model: str) -> float:
    """By how much a model's only generation came late."""
    [served] = (one for one in of.served if one.arrival.model == model)
    return served.startup_seconds


def test_a_cpu_parks_in_the_pool_and_loses_it_whole_when_another_checkpoint_needs_the_room() -> None:
    links = {Tier.SSD: TOTAL / 10.0, Tier.REMOTE: TOTAL / 100.0}
    cpu = NodeProfile("n", 2, "cpu", TOTAL, 15 * CHUNK_BYTES, 10**12, links, INIT, parked_seconds=0.1)
    on = Setup(cpu, 1, MODEL, ModelSettings(keep_alive_seconds=1.0))
    asked = workload((0.0, "a"), (50.0, "a"), (100.0, "b"), (150.0, "a"), (200.0, "a"))
    cold, parked, other, again, parked_again = full(asked, on, Mechanism.PARKING, Mechanism.PARTIAL_RESIDENCY).served
    assert cold.startup_seconds == pytest.approx(10.0)
    assert parked.startup_seconds == pytest.approx(0.1)
    assert other.startup_seconds == pytest.approx(10.0)
    assert again.startup_seconds == pytest.approx(5.0)  # half of it gave way; the head is there
    assert parked_again.startup_seconds == pytest.approx(0.1)
