"""Schedulers that die, are deposed and are cut off, over an etcd and a network that lose, delay and repeat: nothing is
booked twice, nothing leaks, and whoever was deposed changes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.etcdserverpb import rpc_pb2
from kindling.scheduler.domain.values import Checkpoint, InstanceState, Model, ModelSettings
from support.simulated_cluster import SimulatedCluster
from support.simulated_workers import SimulatedWorker
from support.virtual_time import run_virtually
from support.weather import Blow, Fate, Weather

KEEP_ALIVE_SECONDS = 3.0
SETTLING_SECONDS = 40.0
MODELS = [
    Model(name, Checkpoint(f"blake3:{name}", 1000, 100, 10), ModelSettings(minimum, 2, 1, KEEP_ALIVE_SECONDS))
    for name, minimum in (("a", 1), ("b", 0), ("c", 0))
]


class Act(Enum):
    ASK = "a generation of a model is asked for"
    KILL = "a scheduler is killed"
    DEPOSE = "the leader's lease ends without its knowing"
    CUT_OFF = "a scheduler is cut off from etcd for a while"
    COMPACT = "etcd forgets its history"
    RESTART_WORKER = "a worker's process ends, and another begins"
    DEPLOY = "a model is deployed, perhaps with other settings"
    DELETE = "a model is deleted"
    DRAIN = "a node is drained for a while"
    MOVE = "a model is asked to move to a worker"
    PARTITION = "nobody hears of a worker for a while"


@dataclass(frozen=True)
class Step:
    """Something that happens ``after`` seconds, to one of those that it can happen to."""

    act: Act
    after: float
    which: int
    seconds: float


BLOWS = st.builds(
    Blow,
    st.sampled_from([Fate.CALM] * 4 + [Fate.SLOW, Fate.LATE, Fate.LATE, *Fate]),
    st.sampled_from([0.0, 0.01, 0.3, 2.0, 9.0]),
)
STEPS = st.builds(
    Step,
    st.sampled_from([Act.ASK] * 5 + list(Act)),
    st.sampled_from([0.0, 0.0, 0.1, 1.0, 3.0]),
    st.integers(0, 5),
    st.sampled_from([0.0, 0.5, 4.0]),
)


class Story:
    """One run: steps happen, then the weather clears, and all must come to rest."""

    def __init__(
        self, steps: Sequence[Step], blows: Sequence[Blow], models: Sequence[Model] = MODELS, **cluster: int
    ) -> None:
        self.steps = steps
        self.weather = Weather(blows)
        self.cluster, self.models = SimulatedCluster(self.weather, **cluster), models
        self.names = count()

    async def tell(self) -> None:
        for model in self.models:
            self.cluster.add_model(model)
        async with self.cluster.running():
            async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
                for step in self.steps:
                    await asyncio.sleep(step.after)
                    tasks.create_task(self.take(step))
                self.weather.clear()
            await asyncio.sleep(SETTLING_SECONDS)
            await self.judge()

    async def take(self, step: Step) -> None:
        cluster = self.cluster
        model = self.models[step.which % len(self.models)]
        worker = list(cluster.workers.values())[step.which % len(cluster.workers)]
        process = cluster.schedulers[step.which % len(cluster.schedulers)].process
        match step.act:
            case Act.ASK | Act.DEPLOY | Act.DELETE | Act.MOVE:
                await self.ask_for(step, model, worker)
            case Act.KILL:
                cluster.schedulers[step.which % len(cluster.schedulers)].kill()
            case Act.DEPOSE:
                cluster.etcd.expire(cluster.leader_lease())
            case Act.COMPACT if cluster.etcd.revision > cluster.etcd.compacted:
                cluster.etcd.compact(rpc_pb2.CompactionRequest(revision=cluster.etcd.revision))
            case Act.CUT_OFF:
                process.is_cut_off = True
                await asyncio.sleep(step.seconds)
                process.is_cut_off = False
            case _:
                await self.trouble(step, worker)

    async def ask_for(self, step: Step, model: Model, worker: SimulatedWorker) -> None:
        name = f"{next(self.names)}"
        match step.act:
            case Act.ASK:
                await self.cluster.generate(model.name, name, step.seconds)
            case Act.DEPLOY:
                wanted = replace(model.settings, max_queued_requests=10 + step.which)
                deployed = await self.cluster.deploy(model.name, name, wanted)
                assert deployed.settings == wanted, "the answer is that to this request"
            case Act.DELETE:
                await self.cluster.delete(model.name, name)
            case Act.MOVE:
                await self.cluster.move(model.name, worker.worker.worker_id)

    async def trouble(self, step: Step, worker: SimulatedWorker) -> None:
        match step.act:
            case Act.RESTART_WORKER:
                self.cluster.deregister(worker)
                await asyncio.sleep(step.seconds)
                self.cluster.register(worker)
            case Act.DRAIN:
                await self.cluster.drain(worker.worker.node_id, serves=False)
                await asyncio.sleep(step.seconds)
                await self.cluster.drain(worker.worker.node_id, serves=True)
            case Act.PARTITION:
                worker.is_up = False
                worker.note()
                await asyncio.sleep(step.seconds)
                worker.is_up = True

    async def judge(self) -> None:
        cluster = self.cluster
        term = await cluster.term()
        running = {name: worker.worker.worker_id for worker in cluster.workers.values() for name in worker.instances}
        known = {one.instance_id: one.worker_id for one in term.view.instances.values()}
        assert not cluster.wrongs, cluster.wrongs
        assert not any(worker.refused_starts for worker in cluster.workers.values()), "a device was given twice"
        assert not any(worker.parts for worker in cluster.workers.values()), "a part leaked"
        assert cluster.names("instances") == sorted(running), "records and workers do not say the same"
        assert known == running
        assert cluster.names("decisions") == []
        models = {decoded.name: decoded for decoded in cluster.models()}
        assert dict(term.view.models) == models, "records and view do not say the same"
        assert cluster.remote == {model.checkpoint.digest for model in models.values()}, (
            "a checkpoint leaked, or is lost"
        )
        assert cluster.names("retirements") == cluster.names("drains") == []
        assert {one.model for one in term.view.instances.values()} == {"a"} & models.keys(), "only the minimum is left"
        assert all(one.state is InstanceState.READY for one in term.view.instances.values())
        term.view.check_integrity()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=12), st.lists(BLOWS, max_size=60))
def test_whatever_happens_all_comes_to_rest(steps: list[Step], blows: list[Blow]) -> None:
    run_virtually(Story(steps, blows).tell())


# On nodes with three devices: "a" fits beside "c" on one of those with two slots, and "b" takes two devices.
ON_SEVERAL_DEVICES = [
    replace(MODELS[0], checkpoint=Checkpoint("blake3:a", 1000, 100, 10)),
    Model("b", Checkpoint("blake3:b", 2600, 100, 26), ModelSettings(0, 2, 1, KEEP_ALIVE_SECONDS, devices=2)),
    replace(MODELS[2], checkpoint=Checkpoint("blake3:c", 500, 100, 5)),
]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=12), st.lists(BLOWS, max_size=60))
def test_so_it_does_where_models_share_devices_and_take_several(steps: list[Step], blows: list[Blow]) -> None:
    run_virtually(Story(steps, blows, ON_SEVERAL_DEVICES, devices=3, memory_bytes=1500).tell())
