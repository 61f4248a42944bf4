"""The indexes say what a look at everything would say: orders, watched collections, the best free slot, eviction."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.decisions import Need, StartInstance, StopInstance
from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate
from kindling.scheduler.domain.free_slots import Offer
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.soonest import Rank, rank, soonest
from kindling.scheduler.domain.values import (
    Instance,
    InstanceState,
    LoadReport,
    Model,
    ParkedCheckpoint,
    Tier,
    TierTraffic,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView
from kindling.scheduler.domain.watched import WatchedDict, WatchedSet
from support import scheduler_views as views

ASSUMED = Assumptions(init_seconds=2.0)
MODEL, OTHER = views.model("m", 4 * views.GB), views.model("o", 2 * views.GB)
names = st.sampled_from("abcdef")


@given(st.lists(st.tuples(names, st.one_of(st.none(), st.integers(0, 3)))))
@settings(derandomize=True)
def test_a_ranking_is_what_sorting_would_give(changes: list[tuple[str, int | None]]) -> None:
    ranking, expected = Ranking[int](), dict[str, int]()
    for name, key in changes * 3:
        if key is None:
            ranking.drop(name)
            expected.pop(name, None)
        else:
            ranking.put(name, key)
            expected[name] = key
        assert list(ranking) == sorted((key, name) for name, key in expected.items())
        assert len(ranking) == len(expected)
    ranking.check_integrity()


def test_watched_collections_tell_of_every_way_to_change_them() -> None:
    told: list[str] = []
    there = WatchedDict[int](told.append)
    there["a"] = 1
    there.update(b=2)
    there.setdefault("c", 3)
    there.pop("a")
    del there["b"]
    there.become([("d", 4)])
    there.clear()
    assert told == ["a", "b", "c", "a", "b", "c", "d", "d"]
    told.clear()
    assert there.pop("not there", 7) == 7
    with pytest.raises(KeyError):
        there.pop("not there")
    told.clear()
    marks = WatchedSet(told.append)
    marks.add("a")
    marks.discard("a")
    marks.become(["b"])
    marks ^= {"b"}
    marks |= {"c"}
    marks.clear()
    assert told == ["a", "a", "b", "b", "c", "c"]


# The best free slot

speeds = st.sampled_from((0.0, 1e9, 2e9, 7e9))
STARTING = InstanceState.STARTING


@dataclass(frozen=True, slots=True)
class Facts:
    """A node: speeds and heads held by tier, its workers, and what has begun to load there at some time."""

    speeds: tuple[float, float, float]
    held_gb: tuple[int, int]
    devices: list[str]
    inits: tuple[float, float, float]
    slots: int
    parked: bool
    loads: list[tuple[int, bool, int]]
    learned: float | None


init_seconds = st.sampled_from((0.0, 0.5, 1.0, 3.0))
node_facts = st.builds(
    Facts,
    speeds=st.tuples(speeds, speeds, speeds),
    held_gb=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    devices=st.lists(st.sampled_from(("cpu", "cuda:0", "cuda:1")), min_size=1, max_size=3),
    inits=st.tuples(init_seconds, init_seconds, init_seconds),
    slots=st.integers(1, 2),
    parked=st.booleans(),
    loads=st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 40)), max_size=2),
    learned=st.one_of(st.none(), st.sampled_from((0.5, 3.0))),
)


def build(number: int, facts: Facts, view: ClusterView) -> None:
    name = f"n{number}"
    dram, ssd, remote = facts.speeds
    view.nodes[name] = views.node(name, dram=dram, ssd=ssd, remote=remote)
    for place, device in enumerate(facts.devices):
        worker = Worker(f"{name}/w{place}", name, "", device, facts.slots, facts.inits[place])
        view.workers[worker.worker_id] = worker
        view.connect(worker.worker_id, 0.0)
        parked = (ParkedCheckpoint(MODEL.checkpoint.digest, 1),) if facts.parked and place == 0 else ()
        view.apply_report(WorkerReport(worker.worker_id, parked=parked), 0.0)
    if any(facts.held_gb):
        views.hold(view, name, MODEL, dram=facts.held_gb[0] * views.GB, ssd=facts.held_gb[1] * views.GB)
    begin_loads(view, name, facts)
    if facts.learned is not None:
        learn(view, view.workers[f"{name}/w0"], facts.learned)


def begin_loads(view: ClusterView, name: str, facts: Facts) -> None:
    for count, (place, is_same, began_at) in enumerate(facts.loads):
        worker = view.workers.get(f"{name}/w{place}")
        if worker is not None and view.free_slots(worker):
            model = MODEL if is_same else OTHER
            loading = Instance(f"{name}-{count}", model.name, model.checkpoint.digest, worker.worker_id, STARTING)
            view.put_instance(loading, float(began_at))


def learn(view: ClusterView, worker: Worker, seconds: float) -> None:
    """An instance of the other model comes and goes, and tells how long it was built and what it read."""
    traffic = (TierTraffic(Tier.REMOTE, views.GB, seconds),)
    report = LoadReport(traffic, seconds, seconds, seconds, complete=True)
    digest = OTHER.checkpoint.digest
    taught = Instance("taught", "o", digest, worker.worker_id, InstanceState.READY, started_at=0.0, ready_at=1.0)
    view.put_instance(replace(taught, report=report), 1.0)
    view.remove_instance("taught")


def by_looking_at_all(view: ClusterView, model: Model, barred: set[str], now: float) -> list[tuple[Rank, Estimate]]:
    """The oracle: every worker that has a free slot, estimated."""
    found = []
    for worker in view.workers.values():
        if view.can_start(worker) and view.free_slots(worker) and worker.worker_id not in barred:
            placement = estimate(view, worker, model.checkpoint, now, ASSUMED)
            offer = view.slots.offer(worker.worker_id)
            assert isinstance(offer, Offer)
            found.append((rank(offer, placement), placement))
    return sorted(found, key=lambda one: one[0])


@given(st.lists(node_facts, min_size=1, max_size=7), st.sets(st.sampled_from(("n0/w0", "n1/w0", "n1/w1"))))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_the_soonest_is_the_best_of_all(cluster: list[Facts], barred: set[str]) -> None:
    view = ClusterView()
    view.models.update({"m": MODEL, "o": OTHER})
    for number, facts in enumerate(cluster):
        build(number, facts, view)
    view.check_integrity()
    for now in (0.0, 10.0, 41.0):
        expected = by_looking_at_all(view, MODEL, barred, now)
        found = soonest(view, MODEL.checkpoint, barred, now, ASSUMED)
        assert found[:1] == [placement for _, placement in expected[:1]]
        assert all(one in [placement for _, placement in expected] for one in found)


def test_of_many_alike_few_are_looked_at() -> None:
    view = ClusterView()
    view.models["m"] = MODEL
    for number in range(50):
        views.add_node(view, views.node(f"n{number:02d}", ssd=4e9, remote=1e9), workers=4)
    views.hold(view, "n30", MODEL, ssd=views.GB)
    views.hold(view, "n40", MODEL, ssd=views.GB // 2)
    decision = Policy(ASSUMED).place(view, Need(MODEL, queued=1), 0.0)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "n30/w0"
    assert len(soonest(view, MODEL.checkpoint, frozenset(), 0.0, ASSUMED)) <= 4


# Eviction

idle_facts = st.lists(st.tuples(st.sampled_from("mo"), st.integers(0, 9), st.booleans()), min_size=1, max_size=6)


@given(idle_facts, st.integers(0, 2), st.sets(st.integers(0, 5)), st.integers(0, 30))
@settings(deadline=None, derandomize=True)
def test_the_victim_is_the_best_of_all(
    facts: list[tuple[str, int, bool]], least: int, drained: set[int], later: int
) -> None:
    view, now = ClusterView(), 10.0 + later
    view.models.update(
        m=views.model("m", keep_alive_seconds=12.0, min_instances=least), o=views.model("o", keep_alive_seconds=20.0)
    )
    for number, (model, idle_since, is_busy) in enumerate(facts):
        views.add_node(view, views.node(f"n{number}"))
        views.put(view, f"i{number}", view.models[model], f"n{number}/w0", now=float(idle_since))
        if is_busy:
            view.grants.grant(f"g{number}", f"i{number}", 9.0)
    view.drained.become(f"n{number}" for number in drained)
    view.check_integrity()
    view.models["o"] = views.model("o", 7, keep_alive_seconds=20.0) if later % 2 else view.models["o"]
    view.check_integrity()

    def order(one: Instance) -> tuple[bool, float, str]:
        idle_since = view.grants.idle_since(one.instance_id)
        assert idle_since is not None
        return scaling.surplus(view, one, now) is None, idle_since, one.instance_id

    spare = [i for i in view.instances.values() if i.worker_id in view.startable and scaling.is_spare(view, i)]
    decision = Policy().place(view, Need(views.model("x"), queued=1), now)
    if spare:
        assert isinstance(decision, StopInstance)
        assert decision.instance_id == min(spare, key=order).instance_id
    else:
        assert not isinstance(decision, StopInstance)


def test_surplus_is_found_without_a_look_at_every_instance() -> None:
    view = ClusterView()
    model = views.model("m", keep_alive_seconds=10.0)
    for number in range(4):
        views.add_node(view, views.node(f"n{number}"))
        views.put(view, f"i{number}", model, f"n{number}/w0", now=float(number))
    view.grants.grant("g", "i0", 4.0)
    assert scaling.next_keep_alive(view, 5.0) == 11.0
    assert [one.instance_id for one in scaling.perhaps_surplus(view, 12.0)] == ["i1", "i2"]
    view.models["m"] = views.model("m", 7, keep_alive_seconds=10.0)
    view.models["m"] = Model("m", views.model("new").checkpoint, model.settings)
    assert [one.instance_id for one in scaling.perhaps_surplus(view, 5.0)] == ["i0", "i1", "i2", "i3"]
