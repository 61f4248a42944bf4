"""A cluster under virtual time: schedulers wired as the app wires them, over a simulated etcd, workers and storages."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import count
from typing import TypeVar

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.errors import KindlingError, NotFoundError
from kindling.platform.etcd_records import (
    decode_record,
    encode_record,
    instance_key,
    leader_key,
    model_key,
    node_key,
    worker_key,
)
from kindling.scheduler.adapters.leadership import EtcdElection
from kindling.scheduler.deploy_model import Deployment, deploy_model
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Grant, Limits
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import Model, ModelSettings, Worker
from kindling.scheduler.manage_models import delete_model
from kindling.scheduler.manage_tenants import QuotaChange, set_tenant
from kindling.scheduler.migrate_model import Destination, migrate_model
from kindling.scheduler.ports import Office
from kindling.scheduler.seat import Seat
from kindling.scheduler.storage_ports import ImportOrder
from kindling.scheduler.term import Term
from kindling.scheduler.wire import model_from_wire, model_to_wire
from kindling.v1 import cluster_pb2, state_pb2
from support.simulated_etcd import SimulatedEtcd
from support.simulated_etcd_client import SimulatedClient
from support.simulated_storages import SimulatedStorages
from support.simulated_workers import SimulatedWorker, SimulatedWorkers
from support.virtual_time import LoopClock
from support.weather import Process, Weather

T = TypeVar("T")
PREFIX = "/k/"
LEASE_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_PATIENCE_SECONDS = 20.0


class SimulatedScheduler:
    """One scheduler's process, started again a moment after it dies."""

    def __init__(self, name: str, cluster: "SimulatedCluster") -> None:
        self.name = name
        self.cluster = cluster
        self.clock = LoopClock()
        self._life: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self.process = Process(self.cluster.weather, self._died)
        self.seat = Seat(self._term, self.clock)

    def _died(self) -> None:
        if self._life is not None:
            self._life.cancel()

    def kill(self) -> None:
        """End the process here and now."""
        self.process.is_dead = True
        self._died()

    async def run(self) -> None:
        """Live again and again, until cancelled."""
        while True:
            self._life = asyncio.create_task(self._live())
            try:
                await asyncio.wait([self._life])
            finally:
                self.kill()
            if not self._life.cancelled():
                self._life.result()  # a scheduler that ends by itself has failed
            await asyncio.sleep(_RESTART_SECONDS)
            self._begin()

    async def _live(self) -> None:
        async with SimulatedClient(self.cluster.etcd, self.process) as etcd:
            election = EtcdElection(etcd, PREFIX, LEASE_SECONDS, self.name, f"{self.name}:1", self.clock)
            await self.seat.run(election)

    def _term(self, office: Office) -> Term:
        numbers = self.cluster.numbers
        planner = Planner(Policy(), Limits(worker_lost_seconds=LEASE_SECONDS), lambda: str(next(numbers)))
        workers = SimulatedWorkers(self.cluster.workers, self.process, office.revision)
        storages = SimulatedStorages(self.cluster.remote, self.process)
        return Term(office.store, workers, storages, planner, self.clock, 30.0)


class SimulatedCluster:
    """Two nodes with a storage manager each, their workers, schedulers, and what must never happen."""

    def __init__(
        self,
        weather: Weather,
        slots: Sequence[int] = (1, 2),
        schedulers: int = 2,
        devices: int = 1,
        memory_bytes: int = 0,
    ) -> None:
        self.weather = weather
        self.etcd = SimulatedEtcd()
        self.etcd.wrote.append(self._judge_write)
        self.numbers = count(1)
        self.wrongs: list[str] = []
        self.remote: set[str] = set()  # checkpoints, by digest
        self.workers: dict[str, SimulatedWorker] = {}
        self._forgotten: set[str] = set()
        for number, slots_there in enumerate(slots, 1):
            self._add_node(f"n{number}", slots_there, devices, memory_bytes)
        self.schedulers = [SimulatedScheduler(f"s{number}", self) for number in range(1, schedulers + 1)]

    def _add_node(self, node_id: str, slots: int, devices: int, memory_bytes: int) -> None:
        self.write(node_key(PREFIX, node_id), state_pb2.NodeRecord(node_id=node_id, storage_address=f"{node_id}:1"))
        for number in range(devices):
            name = f"w{number + 1}" if number else "w"
            address = f"{node_id}:{number + 2}"
            worker = SimulatedWorker(
                Worker(f"{node_id}/{name}", node_id, address, "cpu", slots, memory_bytes=memory_bytes)
            )
            worker.stopping = self._judge_stop
            self.workers[worker.worker.worker_id] = worker
            self.register(worker)

    def register(self, there: SimulatedWorker) -> None:
        """Have a worker be there, or be there again at another address."""
        worker, there.is_up = there.worker, True
        record = state_pb2.WorkerRecord(
            worker_id=worker.worker_id,
            node_id=worker.node_id,
            address=worker.address,
            device="cpu",
            slots=worker.slots,
            memory_bytes=worker.memory_bytes,
        )
        self.write(worker_key(PREFIX, worker.worker_id), record)

    def deregister(self, there: SimulatedWorker) -> None:
        """Have a worker's process end, and its lease with it."""
        there.crash()
        key = worker_key(PREFIX, there.worker.worker_id).encode()
        self.etcd.delete(rpc_pb2.DeleteRangeRequest(key=key))

    def add_model(self, model: Model) -> None:
        """Write a model as an earlier leader would have."""
        self.remote.add(model.checkpoint.digest)
        self.write(model_key(PREFIX, model.name), state_pb2.ModelRecord(model=model_to_wire(model)))

    def write(self, key: str, record: object) -> None:
        self.etcd.put(rpc_pb2.PutRequest(key=key.encode(), value=encode_record(record)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the schedulers during the context."""
        async with asyncio.TaskGroup() as tasks:
            lives = [tasks.create_task(scheduler.run()) for scheduler in self.schedulers]
            yield
            for life in lives:
                life.cancel()

    # What must never happen

    def _judge_write(self, events: Sequence[rpc_pb2.Event]) -> None:
        """An instance's record that was deleted never comes back."""
        for event in events:
            key = event.kv.key.decode()
            if not key.startswith(f"{PREFIX}instances/"):
                continue
            if event.type == rpc_pb2.Event.DELETE:
                self._forgotten.add(key)
            elif key in self._forgotten:
                self.wrongs.append(f"{key} was written after it was deleted")

    def _judge_stop(self, instance_id: str) -> None:
        """An instance that is recorded as running is never stopped."""
        kv = self.etcd.value(instance_key(PREFIX, instance_id))
        state = decode_record(state_pb2.InstanceRecord, kv.value).state if kv else None
        if state in (cluster_pb2.INSTANCE_STATE_STARTING, cluster_pb2.INSTANCE_STATE_READY):
            self.wrongs.append(f"{instance_id} was stopped although its record says that it runs")

    def names(self, kind: str) -> list[str]:
        """The names of the records of a kind."""
        return [key.removeprefix(f"{PREFIX}{kind}/") for key in self.etcd.keys(f"{PREFIX}{kind}/")]

    def models(self) -> list[Model]:
        """The models as they are recorded."""
        keys = self.etcd.keys(f"{PREFIX}models/")
        records = (decode_record(state_pb2.ModelRecord, self.etcd.value(key).value) for key in keys)
        return [model_from_wire(record.model) for record in records]

    # Clients

    def leader_lease(self) -> int:
        """The lease that the leader's key hangs on; 0 if there is no leader."""
        kv = self.etcd.value(leader_key(PREFIX))
        return kv.lease if kv else 0

    async def term(self) -> Term:
        """The term of whoever leads, once somebody does."""
        while True:
            for scheduler in self.schedulers:
                with suppress(KindlingError):
                    return await scheduler.seat.term()
            await asyncio.sleep(0.2)

    async def deploy(self, name: str, request_id: str, wanted: ModelSettings) -> Model:
        """Deploy a model, asking again, with the same request id, until there is an answer."""
        deployment = Deployment(name, ImportOrder(request_id, f"file:///{name}"), wanted)

        async def ask(scheduler: SimulatedScheduler, term: Term) -> Model:
            async with aclosing(deploy_model(term, deployment)) as events:
                return [event async for event in events if isinstance(event, Model)][-1]

        return await self._insist(ask)

    async def delete(self, name: str, request_id: str) -> bool:
        """Delete a model, asking again until there is an answer; false if there was none to delete."""
        try:
            await self._insist(lambda _, term: delete_model(term, name, request_id))
        except NotFoundError:
            return False
        return True

    async def drain(self, node_id: str, serves: bool) -> None:
        """Drain a node, or have it serve again; asked again until there is an answer."""

        async def ask(_: SimulatedScheduler, term: Term) -> None:
            await (term.mutations.undrain(node_id) if serves else term.mutations.drain(node_id))

        await self._insist(ask)

    async def set_quota(self, tenant: str, change: QuotaChange) -> None:
        """Set some of a tenant's quotas; asked again until there is an answer."""

        async def ask(_: SimulatedScheduler, term: Term) -> None:
            await set_tenant(term, tenant, change)

        await self._insist(ask)

    def running_of(self, tenant: str) -> int:
        """How many generations of a tenant the workers run."""
        there = (one for worker in self.workers.values() for one in worker.instances.values())
        return len({name for one in there for name in one.generations if one.tenants.get(name, "") == tenant})

    async def move(self, model: str, worker_id: str) -> None:
        """Ask once that a model moves to a worker, and follow it to its end."""
        with suppress(KindlingError, TimeoutError):
            async with (
                asyncio.timeout(_PATIENCE_SECONDS),
                aclosing(migrate_model(await self.term(), model, Destination(worker_id))) as statuses,
            ):
                async for _ in statuses:
                    pass

    async def _insist(self, ask: Callable[["SimulatedScheduler", Term], Awaitable[T]]) -> T:
        """Ask one scheduler after the other until one answers; a call to one that dies is answered by nobody."""
        while True:
            for scheduler in self.schedulers:
                try:
                    async with asyncio.timeout(_PATIENCE_SECONDS):
                        return await ask(scheduler, await scheduler.seat.term())
                except NotFoundError:
                    raise
                except (KindlingError, TimeoutError):
                    await asyncio.sleep(0.2)

    async def generate(self, model: str, generation_id: str, seconds: float, tenant: str = "") -> None:
        """Get a place and run there, asking again until it has come to its end or the model is gone."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    grant = await self._acquire(model, generation_id, tenant)
            except (KindlingError, TimeoutError) as error:
                if isinstance(error, KindlingError) and error.reason == "MODEL_NOT_FOUND":
                    return
                await asyncio.sleep(0.3)
                continue
            if await self._run(grant, generation_id, seconds):
                with suppress(KindlingError):
                    (await self.term()).desk.release(generation_id)
                return

    async def _acquire(self, model: str, generation_id: str, tenant: str) -> Grant:
        events = (await self.term()).desk.acquire(generation_id, model, tenant=tenant)
        async with aclosing(events):  # to the end: a grant is given back that was not taken
            *_, granted = [event async for event in events]
        assert isinstance(granted, Grant)
        return granted

    async def _run(self, grant: Grant, generation_id: str, seconds: float) -> bool:
        """Run where the grant says, wherever it moves; false if it broke off."""
        there = self.workers[grant.instance.worker_id]
        running = there.instances.get(grant.instance.instance_id)
        if running is None or running.is_stopping:
            return False
        running.generations.add(generation_id)
        running.tenants[generation_id] = grant.request.tenant
        there.note()
        await asyncio.sleep(seconds)
        survived = False
        for worker in self.workers.values():
            for name, instance in list(worker.instances.items()):
                if generation_id in instance.generations:
                    survived = True
                    worker.leave(name, generation_id)
        return survived
