"""The cluster as the leader sees it: records of etcd, reports of workers and the leader's own decisions, indexed."""

import math
from collections import defaultdict
from collections.abc import Iterable

from kindling.scheduler.domain.device_sizes import DeviceSizes
from kindling.scheduler.domain.devices import Devices
from kindling.scheduler.domain.experience import Experience
from kindling.scheduler.domain.free_slots import FreeSlots
from kindling.scheduler.domain.grants import GrantLedger
from kindling.scheduler.domain.holders import Holders
from kindling.scheduler.domain.idle_instances import IdleInstances
from kindling.scheduler.domain.links import Link
from kindling.scheduler.domain.loads import Loads, missing_by_tier
from kindling.scheduler.domain.migration_table import MigrationTable
from kindling.scheduler.domain.quotas import Quotas
from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.troubles import Troubles
from kindling.scheduler.domain.values import Checkpoint, Instance, InstanceState, Migration, Model, Node, Tier, Worker
from kindling.scheduler.domain.watched import WatchedDict, WatchedSet


class ClusterRecords:
    """Nodes, workers, residency, models, instances, what becomes of them, and what can be asked about them.

    Only its heir, the view, changes them: it is told of what the watched ones hold, and keeps the indexes over them."""

    def __init__(
        self,
        nodes: WatchedDict[Node],
        workers: WatchedDict[Worker],
        models: WatchedDict[Model],
        drained: WatchedSet,
        grants: GrantLedger,
    ) -> None:
        self.nodes = nodes
        self.workers = workers
        self.models = models
        self.drained = drained  # nodes, live or not
        self.grants = grants
        self.instances: dict[str, Instance] = {}
        self.entered: dict[str, int] = {}  # instances, in the order in which they came
        self.confirmed: set[str] = set()  # instances that a report has named
        self.migrations = MigrationTable()
        self.links: dict[str, Link] = {}  # by worker
        self.quotas = Quotas()
        self.devices = Devices(self.quotas)
        self.experience = Experience()
        self.loads = Loads()
        self.holders = Holders()
        self.slots = FreeSlots()
        self.sizes = DeviceSizes()
        self.idle = IdleInstances()
        self.light = Ranking[int]()  # busy instances that might join another of their model, by their generations
        self.startable: set[str] = set()  # workers that can be given an instance, room aside
        self.stopping: set[str] = set()  # instances
        self.replaced: set[str] = set()  # ready instances that run what no model points at, and do not migrate
        self.unheard: set[str] = set()  # workers that have instances and do not tell of them
        self.minimal: set[str] = set()  # models with min_instances
        self.claimed: set[str] = set()  # instances that leave, on whose slots the plan under way counts
        self.reserved: set[str] = set()  # workers, on what is free there it counts as well
        self.setbacks = Troubles(max_attempts=1)  # migrations that failed, by source
        self.of_model: defaultdict[str, set[str]] = defaultdict(set)
        self.on_worker: defaultdict[str, set[str]] = defaultdict(set)
        self.workers_on: defaultdict[str, set[str]] = defaultdict(set)  # by node; live ones and those with instances

    def instances_of(self, model: str) -> list[Instance]:
        """The instances of a model, by id."""
        return [self.instances[name] for name in sorted(self.of_model.get(model, ()))]

    def instances_on(self, worker_id: str) -> list[Instance]:
        """The instances in a worker, by id."""
        return [self.instances[name] for name in sorted(self.on_worker.get(worker_id, ()))]

    def instances_on_node(self, node_id: str) -> list[Instance]:
        """The instances on a node, by id."""
        there = set().union(*(self.on_worker.get(worker_id, ()) for worker_id in self.workers_on.get(node_id, ())))
        return [self.instances[name] for name in sorted(there)]

    def serves(self, instance: Instance) -> bool:
        """Whether an instance takes generations: it computes, can be reached, and runs what its model points at now."""
        return (
            instance.state is InstanceState.READY
            and self.is_current(instance)
            and self.link(instance.worker_id).takes_work
            and not self.is_leaving(instance)
        )

    def is_current(self, instance: Instance) -> bool:
        """Whether an instance runs the checkpoint that its model points at."""
        model = self.models.get(instance.model)
        return model is not None and model.checkpoint.digest == instance.digest

    def is_busy(self, instance: Instance) -> bool:
        """Whether an instance has generations in flight."""
        return self.grants.in_flight(instance.instance_id) > 0

    def can_start(self, worker: Worker) -> bool:
        """Whether a worker can be given a new instance, room aside: it answers, its node is live and not drained."""
        return (
            worker.worker_id in self.workers
            and worker.node_id in self.nodes
            and worker.node_id not in self.drained
            and self.link(worker.worker_id).takes_work
        )

    def free_slots(self, worker: Worker) -> int:
        """Slots of a worker that neither a decision nor an instance of any origin holds."""
        held = self.on_worker.get(worker.worker_id, set()) | self.link(worker.worker_id).running
        return max(0, worker.slots - len(held))

    def free_bytes(self, worker: Worker) -> float:
        """Bytes of a worker's device that no instance needs, endless where that is not told. What nobody has decided
        may need all of it, until it is stopped; what is parked can be dropped at any time."""
        if not worker.memory_bytes:
            return math.inf
        held = self.on_worker.get(worker.worker_id, set())
        if self.link(worker.worker_id).running - held:
            return 0
        return worker.memory_bytes - sum(self.instances[name].device_bytes for name in held)

    def claim(self, instance_id: str) -> None:
        """The plan under way counts on the slot of an instance that leaves, and on memory free beside it."""
        self.claimed.add(instance_id)
        self.reserved |= self.sizes.shared.intersection(self.instances[instance_id].worker_ids)

    def forget_claims(self) -> None:
        """A new plan begins."""
        self.claimed.clear()
        self.reserved.clear()

    def missing_bytes(self, worker: Worker, checkpoint: Checkpoint) -> dict[Tier, int]:
        """Bytes of a checkpoint not yet at a worker's device, by the fastest tier of its node that has them."""
        held = self.holders.held(worker.node_id, checkpoint.digest)
        return missing_by_tier(held, checkpoint.total_bytes, worker.device_tier)

    def remote_speed(self, worker: Worker) -> float:
        """Bytes per second from the remote store to a worker's device."""
        return self.experience.bandwidths.path(self.nodes[worker.node_id], Tier.REMOTE, worker.device_tier)

    def seconds_left(self, instance: Instance, now: float) -> float | None:
        """Seconds until a busy instance's generations are expected to be over; none if that is not known of all."""
        began = self.grants.began(instance.instance_id)
        if began is None:
            return None
        left = [self.experience.generation_left(instance.digest, now - at) for at in began]
        return None if None in left else max(filter(None, left), default=None)

    def in_order_of_entry(self, instance_ids: Iterable[str]) -> list[Instance]:
        """Instances, those first that have been here longest."""
        return [self.instances[name] for name in sorted(instance_ids, key=self.entered.__getitem__)]

    def is_under_way(self, migration: Migration) -> bool:
        """Whether a migration goes on: it ends by itself when either instance is gone."""
        known = self.migrations.get(migration.source_id)
        return known is not None and known.target_id == migration.target_id

    def migrations_of(self, instance_id: str) -> list[Migration]:
        """The migrations from or to an instance."""
        return self.migrations.of(instance_id)

    def is_leaving(self, instance: Instance) -> bool:
        """Whether an instance gets no more generations: they go to its successor, or its node is drained."""
        migration = self.migrations.get(instance.instance_id)
        return migration.moving if migration else instance.node_id in self.drained

    def load(self, instance_id: str) -> int:
        """Generations in flight on an instance, with those that are on their way to it."""
        coming = (one.source_id for one in self.migrations.to(instance_id) if one.moving)
        return self.grants.in_flight(instance_id) + sum(self.grants.in_flight(source_id) for source_id in coming)

    def link(self, worker_id: str) -> Link:
        """What the connection to a worker has told."""
        return self.links.get(worker_id, Link(float("-inf")))
