"""Strategies on small clusters whose figures can be worked out by hand."""

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.experiment import Setup, Variant, run
from kindling.simulate.mechanisms import ALL_MECHANISMS
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.paper_suite import VARIANTS
from kindling.simulate.paper_tables import GOALS
from kindling.simulate.policies import PolicyName
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster
from kindling.simulate.strategies.kindling import KindlingStrategy
from kindling.simulate.workload import Arrival, Workload

LINKS = {Tier.DRAM: 100.0, Tier.SSD: 10.0, Tier.REMOTE: 1.0}
MODEL = ModelProfile("m", 100, 1, prefill_tokens_per_second=10.0, seconds_per_token=0.1, kv_bytes_per_token=1)
# Bytes over the links: 1 s from DRAM, 10 s from SSD, 100 s from REMOTE.
FROM_DRAM, FROM_SSD, FROM_REMOTE = 1.0, 10.0, 100.0


def setup(nodes: int = 1, devices: int = 1, dram_bytes: int = 1000, **settings: float) -> Setup:
    node = NodeProfile("n", devices, "X", 1000, dram_bytes, 10_000, LINKS, init_seconds=0.5)
    return Setup(node, nodes, MODEL, ModelSettings(**{"keep_alive_seconds": 5.0, **settings}))  # type: ignore[arg-type]


def workload(*arrivals: tuple[float, str]) -> Workload:
    """Each of ten prompt and ten output tokens: 1 s of prefill and 1 s of decoding."""
    asked = tuple(Arrival(at, model, 10, 10) for at, model in sorted(arrivals))
    return Workload("by hand", asked, tuple(sorted({model for _, model in arrivals})), 1000.0)


def startups(policy: PolicyName, asked: Workload, on: Setup) -> list[float]:
    return [one.startup_seconds for one in run(Variant(policy), asked, on, seed=1).served]


@pytest.mark.parametrize("policy", [PolicyName.FULL, PolicyName.RANDOM, PolicyName.LOCALITY])
def test_a_cold_start_reads_the_ssd_the_next_is_warm_and_one_after_keep_alive_reads_dram(policy: PolicyName) -> None:
    asked = workload((0.0, "a"), (11.0, "a"), (30.0, "a"))
    assert startups(policy, asked, setup()) == [pytest.approx(FROM_SSD), 0.0, pytest.approx(FROM_DRAM)]


def test_generations_on_a_node_slow_each_other_down_where_workers_share_its_cores() -> None:
    """Two at once, in two devices: 0.15 s a token instead of 0.1, so that who waits for the first waits longer."""
    asked = workload((0.0, "a"), (0.0, "b"), (0.5, "a"))
    alone = setup(devices=2, concurrency_target=1, max_instances=1)
    shared = replace(alone, model=replace(MODEL, seconds_per_token_beside=0.05))
    kept = [startups(PolicyName.ALWAYS_ON, asked, one) for one in (alone, shared)]
    assert kept == [pytest.approx([0.0, 0.0, 1.5]), pytest.approx([0.0, 0.0, 2.0])]


def test_what_is_not_kept_is_downloaded_each_time() -> None:
    asked = workload((0.0, "a"), (200.0, "a"))
    assert startups(PolicyName.DOWNLOAD, asked, setup()) == [pytest.approx(FROM_REMOTE)] * 2
    cached = startups(PolicyName.DOWNLOAD_CACHED, asked, setup())
    assert cached == [pytest.approx(FROM_REMOTE), pytest.approx(FROM_SSD)]


def test_two_devices_of_a_node_share_one_fetch_and_two_models_take_turns() -> None:
    same = setup(devices=2, concurrency_target=1)
    assert startups(PolicyName.RANDOM, workload((0.0, "a"), (0.0, "a")), same) == [pytest.approx(FROM_SSD)] * 2
    others = startups(PolicyName.RANDOM, workload((0.0, "a"), (0.0, "b")), setup(devices=2))
    assert others == [pytest.approx(FROM_SSD), pytest.approx(2 * FROM_SSD)]


def test_an_idle_instance_of_another_model_gives_way() -> None:
    asked = workload((0.0, "a"), (15.0, "b"))
    for policy in (PolicyName.FULL, PolicyName.RANDOM):
        assert startups(policy, asked, setup(keep_alive_seconds=100.0)) == [pytest.approx(FROM_SSD)] * 2


def test_the_scheduler_goes_where_the_checkpoint_is_nearest() -> None:
    # "a" is in the DRAM of one node of eight after its first start; that node's device is free again at 30.
    asked = workload((0.0, "a"), (30.0, "a"))
    full = startups(PolicyName.FULL, asked, setup(nodes=8))
    assert full == [pytest.approx(FROM_SSD), pytest.approx(FROM_DRAM)]


def test_a_request_that_waits_too_long_gives_up_once() -> None:
    asked = workload((0.0, "a"), (1.0, "b"))
    on = setup(max_queue_wait_seconds=5.0, concurrency_target=1)
    for policy in (PolicyName.FULL, PolicyName.RANDOM):
        served = run(Variant(policy), asked, on, seed=1).served
        assert [(one.arrival.model, one.refused) for one in served] == [("a", True), ("b", True)]
        assert [one.startup_seconds for one in served] == [pytest.approx(5.0)] * 2


def test_devices_are_paid_from_the_start_to_the_stop() -> None:
    ended = run(Variant(PolicyName.FULL), workload((0.0, "a")), setup(), seed=1)
    assert ended.device_seconds == pytest.approx(FROM_SSD + 2.0 + 5.0)
    assert ended.starts_by_tier == {Tier.GPU: 0, Tier.DRAM: 0, Tier.SSD: 1, Tier.REMOTE: 0}


def crowded(seed: int) -> Workload:
    chance = random.Random(seed)
    return workload(*((chance.uniform(0, 300), chance.choice("abcdefg")) for _ in range(200)))


@pytest.mark.parametrize("policy", PolicyName)
def test_every_request_ends_once_and_a_seed_repeats_itself(policy: PolicyName) -> None:
    asked, on = crowded(3), setup(nodes=2, devices=2, dram_bytes=300, concurrency_target=2)
    mechanisms = ALL_MECHANISMS if policy is PolicyName.FULL else frozenset()
    first, again = (run(Variant(policy, mechanisms), asked, on, seed=5) for _ in range(2))
    assert first == again
    assert sorted(one.arrival.at_seconds for one in first.served) == [one.at_seconds for one in asked.arrivals]
    assert all(one.startup_seconds >= 0 for one in first.served)


def test_the_planners_view_stays_whole() -> None:
    on, asked = setup(nodes=2, devices=2, dram_bytes=300, concurrency_target=2), crowded(4)
    cluster = SimulatedCluster(
        Events(), on.node, on.nodes, asked.models, on.model, mechanisms=ALL_MECHANISMS, kv_bytes=600
    )
    strategy = KindlingStrategy(cluster, on.settings)
    for number, arrival in enumerate(asked.arrivals):
        cluster.events.at(arrival.at_seconds, partial(strategy.arrive, Generation(str(number), arrival)))
        cluster.events.at(arrival.at_seconds + 0.3, strategy.planner.view.check_integrity)
    cluster.events.run()
    assert strategy.planner.view.instances == {}, "keep-alive is over for all"
    assert len(cluster.served) == len(asked.arrivals)


def test_a_gang_of_devices_copies_over_all_their_links() -> None:
    pair = ModelProfile("pair", 100, 1, 10.0, 0.1, 1, devices=2)
    on = replace(setup(devices=2), model=pair)
    asked = workload((0.0, "a"), (30.0, "a"))
    ended = run(Variant(PolicyName.RANDOM), asked, on, seed=1)
    assert [one.startup_seconds for one in ended.served] == [pytest.approx(FROM_SSD), pytest.approx(FROM_DRAM / 2)]
    assert ended.device_seconds == pytest.approx(2 * (FROM_SSD + 7.0 + FROM_DRAM / 2 + 7.0))


def test_a_model_that_needs_more_devices_than_a_node_has_is_refused() -> None:
    on = replace(setup(), model=ModelProfile("large", 100, 1, 10.0, 0.1, 1, devices=2))
    with pytest.raises(InvalidArgumentError, match="takes 2 devices"):
        run(Variant(PolicyName.FULL), workload((0.0, "a")), on, seed=1)


def test_what_is_always_on_waits_for_nothing_and_is_paid_all_the_time() -> None:
    ended = run(Variant(PolicyName.ALWAYS_ON), workload((1.0, "a"), (2.0, "b"), (3.0, "c")), setup(), seed=1)
    assert [one.startup_seconds for one in ended.served] == [0.0] * 3
    assert ended.device_seconds == pytest.approx(3 * 5.0)


def test_pooled_places_are_waited_for_but_no_model_is() -> None:
    asked = workload((0.0, "a"), (0.0, "b"), (0.5, "c"), (4.0, "a"))
    assert startups(PolicyName.POOLED, asked, setup(concurrency_target=2)) == [0.0, 0.0, 1.5, 0.0]
    given_up = run(Variant(PolicyName.POOLED), asked, setup(concurrency_target=1, max_queue_wait_seconds=1.9), seed=1)
    ends = sorted((one.startup_seconds, one.refused) for one in given_up.served)
    assert ends == [(0.0, False), (0.0, False), (1.5, False), (1.9, True)]


def test_what_generates_where_the_checkpoint_is_nearest_gives_way_once() -> None:
    # "a" generates from 10 to 12 on the only device; "b" takes it at 11 and has it until 23, "a" begins anew at 24.
    asked = workload((0.0, "a"), (11.0, "b"))
    ended = run(Variant(PolicyName.PREEMPTING), asked, setup(concurrency_target=1), seed=1)
    paused = 24.0 - 11.0
    assert ended.served[0].startup_seconds == pytest.approx(FROM_SSD + paused)
    assert ended.served[1].startup_seconds == pytest.approx(FROM_SSD)
    assert ended.preemptions == 1


def test_the_command_compares_policies_on_a_trace(tmp_path: Path) -> None:
    trace, answer = tmp_path / "trace.csv", tmp_path / "out.json"
    times = [f"18:{minute:02}:{second:02}" for minute in range(3) for second in range(0, 60, 5)]
    rows = [f"2023-11-16 {time}.0000000,200,50" for time in times]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    options = ["--trace", str(trace), "--models", "6", "--nodes", "1", "--seeds", "2", "--keep-alive", "10"]
    result = CliRunner().invoke(app, ["simulate", *options, "--json", str(answer)])
    assert result.exit_code == 0, result.output
    found = json.loads(answer.read_text())
    assert [one["policy"] for one in found["cells"]] == list(PolicyName)
    assert found["ratios"]["best_baseline_over_full_min"] > 0
    assert found["requests"] == len(rows)
    assert "download-cached" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policies", "full,best"], "'best' is none of"),
        (["--mechanisms", "luck"], "'luck' is none of"),
        (["--lengths", "gsm8k"], "coefficient of variation"),
        (["--cv", "8", "--rate", "0.001", "--duration", "1"], "No request comes"),
        (["--rate", "2"], "coefficient of variation"),
        (["--model-profile", "gpt-9"], "knows no model"),
        (["--node-profile", "abacus"], "knows no machine"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_options_are_told(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *options])
    assert result.exit_code != 0
    assert message in result.output


def test_the_papers_evaluation_is_run_and_reported(tmp_path: Path) -> None:
    answer = tmp_path / "out.json"
    options = ["--suite", "paper", "--rate", "0.5", "--duration", "150", "--seeds", "1"]
    result = CliRunner().invoke(app, ["simulate", *options, "--json", str(answer)])
    assert result.exit_code == 0, result.output
    found = json.loads(answer.read_text())
    workloads = {(one["workload"], one["model"]) for one in found["cells"]}
    assert len(workloads) == 6
    assert len(found["cells"]) == 6 * len(VARIANTS)
    assert found["ratios"].keys() == {*GOALS}
    assert "142.8 s" in result.output


def test_rates_are_drawn_from_and_a_report_of_one_workload_is_written(tmp_path: Path) -> None:
    drawn = ["--cv", "4", "--rate", "0.5", "--duration", "120", "--models", "3", "--nodes", "1", "--seeds", "1"]
    few = ["--policies", "full,always-on", "--mechanisms", "parking"]
    result = CliRunner().invoke(app, ["simulate", *drawn, *few, "--report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "report.md").read_text()
    assert "0.5 requests/s redrawn, CV 4" in text
    for name in ("startup.png", "cdf.png", "starts.png", "cost.png"):
        assert name in text
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
