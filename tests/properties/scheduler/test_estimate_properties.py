"""What holds for estimates whatever was measured, learned and told before."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.estimate import Assumptions, estimate, migration_seconds
from kindling.scheduler.domain.linear_fit import LinearFit
from kindling.scheduler.domain.loads import missing_by_tier
from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import (
    Checkpoint,
    Instance,
    InstanceState,
    LoadProgress,
    LoadReport,
    Model,
    Node,
    Residency,
    Tier,
    TierTraffic,
    TierUse,
)
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

MOST_BYTES = 10**13
sizes = st.integers(0, MOST_BYTES)
durations = st.floats(0, 1e6)
outcomes = st.lists(st.tuples(st.floats(0, 1e9), durations), max_size=30)
held = st.dictionaries(st.sampled_from(Tier), sizes)
traffic = st.lists(st.builds(TierTraffic, st.sampled_from(Tier), sizes, durations), max_size=4).map(tuple)
reports = st.builds(LoadReport, traffic, durations, durations, durations, st.booleans())
starts = st.lists(st.tuples(held, st.one_of(st.none(), reports), st.integers(0, 8)), max_size=6)
deterministic = settings(derandomize=True, deadline=None, max_examples=100)


def checkpoint(digest: str, total_bytes: int) -> Checkpoint:
    return Checkpoint(digest, total_bytes, architecture="A", dtype="b", parameter_count=total_bytes // 2)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterView:
    """A node with two workers, and starts of other models that are done or under way."""
    view = ClusterView()
    speeds = draw(st.dictionaries(st.sampled_from(Tier), st.one_of(st.just(0.0), st.floats(1, 1e12))))
    node = Node("n", "n:1", tuple(TierUse(tier, bandwidth_bytes_per_second=speed) for tier, speed in speeds.items()))
    workers = views.add_node(view, node, workers=2, slots=10, device=draw(st.sampled_from(["cpu", "cuda:0"])))
    for number, (there, report, told) in enumerate(draw(starts)):
        model = Model(f"x{number}", checkpoint(f"x{number}", 8 * 10**9))
        view.models[model.name] = model
        view.put_residency(Residency("n", model.checkpoint.digest, there))
        worker = workers[number % 2]
        one = Instance(f"i{number}", model.name, model.checkpoint.digest, worker.worker_id, InstanceState.STARTING)
        one = replace(one, started_at=float(number), estimated_seconds=draw(durations))
        view.put_instance(one, float(number))
        view.loads.advance(one, LoadProgress(told * 10**9, 8 * 10**9), number + 0.5)
        if report is not None:
            view.put_instance(replace(one, state=InstanceState.READY, report=report), number + 1.0)
    return view


@deterministic
@given(view=clusters(), there=held, small=sizes, large=sizes, now=st.floats(0, 1e4))
def test_startup_times_are_finite_and_grow_with_the_bytes(
    view: ClusterView, there: dict[Tier, int], small: int, large: int, now: float
) -> None:
    view.put_residency(Residency("n", "d", there))
    for worker in view.workers.values():
        found = [estimate(view, worker, checkpoint("d", size), now, Assumptions()) for size in sorted((small, large))]
        for one in found:
            parts = (one.queue_seconds, one.load_seconds, one.init_seconds, one.seconds)
            assert all(math.isfinite(part) and part >= 0 for part in parts)
        less, more = found
        assert less.load_seconds <= more.load_seconds * (1 + 1e-9)
        assert less.seconds <= more.seconds * (1 + 1e-9)
        assert less.queue_seconds <= more.queue_seconds, "only who fetches waits for other fetches"


@deterministic
@given(view=clusters(), moves=st.lists(st.tuples(st.integers(1, 64), st.integers(1, 10**7), durations), max_size=20))
def test_migrations_take_longer_the_more_tokens_there_are(
    view: ClusterView, moves: list[tuple[int, int, float]]
) -> None:
    source = views.put(view, "m-1", views.model("m"), "n/w0")
    target = view.workers["n/w1"]
    for generations, tokens, seconds in moves:
        view.experience.hear_migration(source, target, generations, tokens, seconds)
    expected = [migration_seconds(view, source, target, tokens) for tokens in (0, 1, 1000, 10**7)]
    assert expected == sorted(expected)
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in expected)


@deterministic
@given(outcomes=outcomes, slope=st.floats(1e-9, 1e3), base=st.floats(1e-6, 1e3))
def test_a_fit_has_no_negative_coefficient(outcomes: list[tuple[float, float]], slope: float, base: float) -> None:
    fit = LinearFit(slope, base)
    for size, seconds in outcomes:
        fit.learn(size, seconds)
        assert all(math.isfinite(one) and one >= 0 for one in fit.coefficients)


@deterministic
@given(
    samples=st.lists(st.tuples(st.floats(0, 1e12), st.floats(1e-6, 10)), min_size=1, max_size=20),
    prior=st.one_of(st.none(), st.floats(0, 1e12)),
)
def test_a_rate_is_one_of_its_samples(samples: list[tuple[float, float]], prior: float | None) -> None:
    rate = LearnedRate()
    for value, weight in samples:
        rate.add(value, weight)
    assert rate.value(prior) in [*(value for value, _ in samples), prior]


@deterministic
@given(there=held, total=sizes, device=st.sampled_from([Tier.GPU, Tier.DRAM]))
def test_every_missing_byte_is_counted_at_one_tier(there: dict[Tier, int], total: int, device: Tier) -> None:
    missing = missing_by_tier(there, total, device)
    at_device = max((min(count, total) for tier, count in there.items() if tier <= device), default=0)
    assert sum(missing.values()) == total - at_device
    assert all(tier > device and count > 0 for tier, count in missing.items())
