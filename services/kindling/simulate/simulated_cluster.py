"""The simulated cluster that every strategy runs: devices that load models and serve generations."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint, LoadReport, Tier, TierTraffic
from kindling.simulate.events import Action, Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.mechanisms import Mechanism
from kindling.simulate.model_profiles import WEIGHTS_SHARE, ModelProfile
from kindling.simulate.node_prefetch import PrefetchEnded
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.prefetch_tally import PrefetchTally
from kindling.simulate.running import Batch, Generation, Running, Served
from kindling.simulate.simulated_node import LoadDone, SimulatedNode


@dataclass(slots=True)
class _Instance:
    model: str
    worker_id: str
    since: float
    is_ready: bool = False
    loaded_at: float | None = None
    waiting: list[Running] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)


class SimulatedCluster:
    """Nodes of one kind, each with a worker per device, and models of one profile under several names.

    An instance generates at the profile's rates, several generations as a ``Batch`` says. Every node has the
    checkpoints on its SSD from the start, as many as fit, if ``is_on_ssd``. ``starts_by_tier`` counts starts by the
    slowest tier that they came from, ``device_seconds`` how long devices held an instance. ``kv_bytes`` of a device are
    kept free of parked weights.
    """

    def __init__(
        self,
        events: Events,
        profile: NodeProfile,
        nodes: int,
        models: Sequence[str],
        model: ModelProfile,
        *,
        is_on_ssd: bool = True,
        mechanisms: Collection[Mechanism] = (),
        kv_bytes: int = 0,
    ) -> None:
        self.events = events
        self.profile = profile
        self.model = model
        self.mechanisms = frozenset(mechanisms)
        chunk_bytes = profile.chunk_bytes if Mechanism.PARTIAL_RESIDENCY in self.mechanisms else 0
        names = [f"node-{number}" for number in range(nodes)]
        self.nodes = {name: SimulatedNode(name, profile, events, chunk_bytes) for name in names}
        slots = [(node_id, number) for node_id in self.nodes for number in range(profile.devices)]
        self.workers = tuple(f"{node_id}/worker-{number}" for node_id, number in slots)
        self.checkpoints: Mapping[str, Checkpoint] = {
            name: Checkpoint(f"digest-{name}", model.checkpoint_bytes) for name in models
        }
        self.served: list[Served] = []
        self.starts_by_tier = dict.fromkeys(Tier, 0)
        self.device_seconds = 0.0
        self.migrations = 0
        self.preemptions = 0
        self._instances: dict[str, _Instance] = {}
        self._running: dict[str, Running] = {}
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._stopped_at: dict[str, float] = {}
        self._last_end = 0.0
        room_bytes = int(profile.device_memory_bytes * WEIGHTS_SHARE) - kv_bytes
        if profile.computes_on_pool:
            room_bytes = profile.dram_pool_bytes
        self._memories = {name: LruTier(max(room_bytes, model.checkpoint_bytes)) for name in self.workers}
        if profile.computes_on_pool:
            for node in self.nodes.values():
                node.dram.on_lost = partial(self._take_back, node)
        if is_on_ssd:
            self._fill_ssds()

    def node_of(self, worker_id: str) -> SimulatedNode:
        """The node of a worker."""
        return self.nodes[worker_id.rpartition("/")[0]]

    def prefetch(self, promotion: Promotion, ended: PrefetchEnded) -> None:
        """Have a node bring the head of a checkpoint to DRAM, or a copy to its SSD; ``ended`` is called at once where
        that cannot be now."""
        node = self.nodes[promotion.node_id]
        if node.can_prefetch(promotion):
            checkpoint = next(one for one in self.checkpoints.values() if one.digest == promotion.digest)
            to = node.copies if promotion.to is Tier.SSD else node.prefetch
            to.begin(promotion, checkpoint, ended)
        else:
            ended(False)

    @property
    def prefetched(self) -> PrefetchTally:
        """What all nodes have brought to DRAM ahead of calls."""
        return _sum(node.prefetch.tally for node in self.nodes.values())

    @property
    def copied(self) -> PrefetchTally:
        """What all nodes have copied to their SSDs ahead of calls."""
        return _sum(node.copies.tally for node in self.nodes.values())

    # Instances

    def start(
        self, instance_id: str, model: str, worker_id: str, ready: LoadDone, loaded: LoadDone | None = None
    ) -> None:
        """Start a model on a free device; ``ready`` is called when it takes generations, unless it was stopped before.

        That is when its weights are there; if ``loaded`` is given, which is called then, it is when the model is built.
        """
        assert all(one.worker_id != worker_id for one in self._instances.values()), "a device runs one instance"
        instance = self._instances[instance_id] = _Instance(model, worker_id, self.events.now)
        checkpoint, memory = self.checkpoints[model], self._memories[worker_id]
        was_parked = checkpoint.digest in memory
        memory.put(checkpoint.digest, checkpoint.total_bytes)
        memory.pin(checkpoint.digest)

        def complete(report: LoadReport) -> None:
            if self._instances.get(instance_id) is instance:
                was_ready, instance.is_ready = instance.is_ready, True
                (loaded if was_ready and loaded else ready)(report)

        if was_parked:
            self.starts_by_tier[Tier.GPU] += 1
            self.node_of(worker_id).hold(checkpoint)
            seconds = self.profile.parked_seconds
            self.events.after(seconds, lambda: self._complete(instance, _parked(checkpoint, seconds), complete))
            return
        self._load(instance, checkpoint, complete)
        if loaded is not None:
            self.events.after(self.profile.init_seconds, lambda: self._built(instance_id, instance, ready))

    def keep(self, instance_id: str, model: str, worker_id: str) -> None:
        """Have an instance on a device that was loaded before the first request."""
        self._instances[instance_id] = _Instance(model, worker_id, self.events.now, True, self.events.now)
        digest, memory = self.checkpoints[model].digest, self._memories[worker_id]
        memory.put(digest, self.checkpoints[model].total_bytes)
        memory.pin(digest)

    def _load(self, instance: _Instance, checkpoint: Checkpoint, complete: LoadDone) -> None:
        built_at = self.events.now + self.profile.init_seconds

        def arrived(report: LoadReport) -> None:
            self.events.at(built_at, lambda: self._complete(instance, report, complete))

        self.starts_by_tier[self.node_of(instance.worker_id).load(checkpoint, arrived)] += 1

    def _built(self, instance_id: str, instance: _Instance, ready: LoadDone) -> None:
        if self._instances.get(instance_id) is instance and instance.loaded_at is None:
            instance.is_ready = True
            seconds = self.profile.init_seconds
            ready(LoadReport(init_seconds=seconds, total_seconds=seconds))

    def _complete(self, instance: _Instance, report: LoadReport, complete: LoadDone) -> None:
        instance.loaded_at = self.events.now
        for running in instance.waiting:
            self._compute(running, instance.loaded_at)
        instance.waiting.clear()
        complete(report)

    def stop(self, instance_id: str) -> None:
        """Free an instance's device; nothing may run in it."""
        instance = self._instances.pop(instance_id)
        digest, memory = self.checkpoints[instance.model].digest, self._memories[instance.worker_id]
        self.device_seconds += (self.events.now - instance.since) * self.model.devices
        self.node_of(instance.worker_id).release(digest)
        memory.unpin(digest)
        if Mechanism.PARKING not in self.mechanisms or instance.loaded_at is None:
            memory.drop(digest)
        else:
            self.node_of(instance.worker_id).park(digest)

    def parked_on(self, worker_id: str) -> frozenset[str]:
        """The checkpoints that wait in a device's memory."""
        used = {self.checkpoints[one.model].digest for one in self._instances.values() if one.worker_id == worker_id}
        return self._memories[worker_id].digests() - used

    # Generations

    def begin(self, generation: Generation, instance_id: str, done: Action) -> None:
        """Run a generation in an instance that is ready; ``done`` is called at its end."""
        instance = self._instances[instance_id]
        assert instance.is_ready, "it has to be ready"
        assert instance.model == generation.arrival.model, "it has to be an instance of the model"
        self._end_wait(generation)
        running = Running(generation, instance_id, done, self.events.now)
        self._running[generation.generation_id] = running
        if instance.loaded_at is None:
            instance.waiting.append(running)
        else:
            self._compute(running, instance.loaded_at)

    def interrupt(self, generation_id: str) -> Generation:
        """Stop a generation, which has to begin again from its prompt; until then it stands still."""
        running = self._running.pop(generation_id)
        self._leave(running)
        self._stopped_at[generation_id] = self.events.now
        self.preemptions += 1
        return running.generation

    def move(self, generation_id: str, target_id: str, pause_seconds: float) -> None:
        """Have a generation go on in another instance, with the tokens that it has and after a pause."""
        running, target = self._running[generation_id], self._instances[target_id]
        assert target.loaded_at is not None, "it has to be loaded"
        is_computed = running.ends_at is not None
        self._leave(running)
        running.instance_id = target_id
        if is_computed:
            target.batch.running.append(running)
            self._set_pace(target)
        else:
            self._compute(running, target.loaded_at)
        running.pause(pause_seconds)
        self._waited[generation_id] += pause_seconds
        self._await_end(running)

    def tokens(self, generation_id: str) -> int:
        """How many tokens a running generation has, prompt and answer."""
        return self._running[generation_id].tokens(self.events.now)

    def generations_on(self, instance_id: str) -> list[str]:
        """The generations that run in an instance."""
        return [name for name, running in self._running.items() if running.instance_id == instance_id]

    def refuse(self, generation: Generation) -> None:
        """A request gave up."""
        self._end_wait(generation)
        self.served.append(Served(generation.arrival, self._waited.pop(generation.generation_id), refused=True))

    def close(self) -> None:
        """Count the time of what is left, up to the end of the last generation."""
        for instance in self._instances.values():
            self.device_seconds += max(0.0, self._last_end - instance.since) * self.model.devices
        self._instances.clear()

    def _end_wait(self, generation: Generation) -> None:
        since = self._stopped_at.pop(generation.generation_id, generation.arrival.at_seconds)
        self._waited[generation.generation_id] += self.events.now - since

    def _compute(self, running: Running, loaded_at: float) -> None:
        instance = self._instances[running.instance_id]
        token_seconds = self._set_pace(instance, coming=1)
        late, delayed = instance.batch.join(running, self.model, loaded_at, token_seconds)
        self._waited[running.generation.generation_id] += late
        for one in (running, *delayed):
            self._await_end(one)

    def _set_pace(self, instance: _Instance, coming: int = 0) -> float:
        """Have tokens on an instance's node take as long as they do beside the generations that are there and come;
        returns how long."""
        if not self.model.seconds_per_token_beside:
            return self.model.seconds_per_token
        node = self.node_of(instance.worker_id)
        there = (one for one in self._instances.values() if self.node_of(one.worker_id) is node)
        running = [one for neighbour in there for one in neighbour.batch.running]
        token_seconds = self.model.token_seconds(max(1, len(running) + coming))
        for one in running:
            one.change_pace(token_seconds, self.events.now)
            self._await_end(one)
        return token_seconds

    def _leave(self, running: Running) -> None:
        instance = self._instances[running.instance_id]
        (instance.waiting if running.ends_at is None else instance.batch.running).remove(running)
        self._set_pace(instance)

    def _await_end(self, running: Running) -> None:
        ends_at = running.ends_at
        assert ends_at is not None
        self.events.at(ends_at, lambda: self._end(running, ends_at))

    def _end(self, running: Running, ends_at: float) -> None:
        generation = running.generation
        if self._running.get(generation.generation_id) is running and running.ends_at == ends_at:
            del self._running[generation.generation_id]
            self._leave(running)
            self.served.append(Served(generation.arrival, self._waited.pop(generation.generation_id)))
            self._last_end = self.events.now
            running.done()

    def _take_back(self, node: SimulatedNode, digest: str) -> None:
        """DRAM has dropped some of a checkpoint: no CPU of the node has it parked any more."""
        for worker_id, memory in self._memories.items():
            if self.node_of(worker_id) is node:
                memory.drop(digest)

    def _fill_ssds(self) -> None:
        for node in self.nodes.values():
            for checkpoint in self.checkpoints.values():
                node.ssd.put(checkpoint.digest, checkpoint.total_bytes)


def _sum(tallies: Iterable[PrefetchTally]) -> PrefetchTally:
    total = PrefetchTally()
    for tally in tallies:
        total.add(tally)
    return total


def _parked(checkpoint: Checkpoint, seconds: float) -> LoadReport:
    """Nothing was read, and nothing built."""
    traffic = (TierTraffic(Tier.GPU, checkpoint.total_bytes, 0.0),)
    return LoadReport(traffic, total_seconds=seconds, complete=True)
