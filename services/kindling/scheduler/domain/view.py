"""The cluster as the leader sees it: records of etcd, reports of workers and the leader's own decisions, indexed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from kindling.scheduler.domain import integrity, review
from kindling.scheduler.domain.experience import Experience, Place
from kindling.scheduler.domain.free_slots import FreeSlots
from kindling.scheduler.domain.grants import GrantLedger
from kindling.scheduler.domain.holders import Holders
from kindling.scheduler.domain.idle_instances import IdleInstances
from kindling.scheduler.domain.links import Link
from kindling.scheduler.domain.loads import Load, Loads, missing_by_tier
from kindling.scheduler.domain.migration_table import MigrationTable
from kindling.scheduler.domain.values import (
    Checkpoint,
    Instance,
    InstanceState,
    Migration,
    Model,
    Node,
    Residency,
    Tier,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.watched import WatchedDict, WatchedSet


class ClusterView:
    """Nodes, workers, residency, models, instances and what becomes of them. A decision is entered here before it is
    acted upon, so two decisions can never count on the same slot.

    What changes is reviewed at once, so that the indexes say what the records do."""

    def __init__(self, grant_ttl_seconds: float = 10.0) -> None:
        self.nodes = WatchedDict[Node](self._review_node)
        self.workers = WatchedDict[Worker](self._review_worker)
        self.models = WatchedDict[Model](self._review_model)
        self.instances: dict[str, Instance] = {}
        self.migrations = MigrationTable()
        self.drained = WatchedSet(self._review_node)  # nodes, live or not
        self.grants = GrantLedger(grant_ttl_seconds, self._review_instance)
        self.experience = Experience()
        self.loads = Loads()
        self.holders = Holders()
        self.slots = FreeSlots()
        self.idle = IdleInstances()
        self.startable: set[str] = set()  # workers that can be given an instance, room aside
        self.stopping: set[str] = set()  # instances
        self.replaced: set[str] = set()  # ready instances that run what no model points at, and do not migrate
        self.unheard: set[str] = set()  # workers that have instances and do not tell of them
        self.minimal: set[str] = set()  # models with min_instances
        self._entered: dict[str, int] = {}  # instances, in the order in which they came
        self._numbers = count()
        self._links: dict[str, Link] = {}
        self.confirmed: set[str] = set()  # instances that a report has named
        self.of_model: defaultdict[str, set[str]] = defaultdict(set)
        self.on_worker: defaultdict[str, set[str]] = defaultdict(set)
        self.workers_on: defaultdict[str, set[str]] = defaultdict(set)  # by node; live ones and those with instances

    # Records

    def replace_topology(
        self, nodes: Iterable[Node], workers: Iterable[Worker], residency: Iterable[Residency]
    ) -> None:
        """Take over the live nodes, workers and residency, whole."""
        self.nodes.become((node.node_id, node) for node in nodes)
        self.workers.become((worker.worker_id, worker) for worker in workers)
        self.holders.become(residency)

    def put_residency(self, entry: Residency) -> None:
        """Take over how much of a checkpoint a node holds."""
        self.holders.put(entry)

    def remove_residency(self, node_id: str, digest: str) -> None:
        """A node holds nothing of a checkpoint any more."""
        self.holders.remove(node_id, digest)

    def put_instance(self, instance: Instance, now: float) -> None:
        """Enter an instance, or what has become of it."""
        known = self.instances.get(instance.instance_id)
        self.instances[instance.instance_id] = instance
        self.of_model[instance.model].add(instance.instance_id)
        self.on_worker[instance.worker_id].add(instance.instance_id)
        self.workers_on[instance.node_id].add(instance.worker_id)
        self._entered.setdefault(instance.instance_id, next(self._numbers))
        self.grants.open(instance.instance_id, now)
        place = self._place(instance)
        if place is not None:
            self.experience.hear(known, instance, place)
        self._follow_load(instance, place, now)
        self._review_instance(instance.instance_id)
        self._review_node(instance.node_id)  # as a whole: its loads, or how fast it is, may be others now

    def _follow_load(self, instance: Instance, place: Place | None, now: float) -> None:
        if instance.state is not InstanceState.STARTING and not instance.is_loading:
            self.loads.end(instance)
        elif place is not None and instance not in self.loads and instance.source is not Tier.GPU:  # parked: no load
            missing = self.missing_bytes(place.worker, place.checkpoint)
            self.loads.begin(instance, Load(place.worker, instance.digest, missing, now))

    def _place(self, instance: Instance) -> Place | None:
        """Where an instance is, and what it runs; none if some of that is gone or was changed meanwhile."""
        node, worker = self.nodes.get(instance.node_id), self.workers.get(instance.worker_id)
        if node is None or worker is None or not self.is_current(instance):
            return None
        return Place(node, worker, self.models[instance.model].checkpoint)

    def remove_instance(self, instance_id: str) -> Instance | None:
        """Forget an instance with its grants and its migration; none if it is unknown."""
        instance = self.instances.pop(instance_id, None)
        if instance is None:
            return None
        self.of_model[instance.model].discard(instance_id)
        self.on_worker[instance.worker_id].discard(instance_id)
        self.confirmed.discard(instance_id)
        self.loads.end(instance)
        for migration in self.migrations_of(instance_id):
            self.end_migration(migration)
        self.grants.close(instance_id)
        self._entered.pop(instance_id)
        self._review_instance(instance_id)
        self._review_node(instance.node_id)
        return instance

    # Migrations

    def put_migration(self, migration: Migration) -> None:
        """Enter a migration, or how far it is."""
        self.migrations.enter(migration)
        self._review_migrating(migration)

    def end_migration(self, migration: Migration) -> None:
        """A migration is over, one way or the other; one that is not known any more is ignored."""
        if self.is_under_way(migration):
            self.migrations.end(migration)
            self._review_migrating(migration)

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

    # Workers' reports

    def connect(self, worker_id: str, now: float) -> None:
        """A watch on a worker was opened; nothing is known until its first report."""
        self._enter_link(worker_id, Link(now, connected=True))

    def disconnect(self, worker_id: str, now: float) -> None:
        """The watch on a worker broke, or it could not be opened."""
        if self.link(worker_id).connected or worker_id not in self._links:
            self._enter_link(worker_id, Link(now))

    def forget_link(self, worker_id: str) -> None:
        """Nothing is to be expected of a worker any more."""
        self._enter_link(worker_id, None)

    def apply_report(self, report: WorkerReport, now: float) -> tuple[list[Instance], list[str]]:
        """Take over what a worker says; returns the instances that are gone and the ids of those nobody started."""
        link = self.link(report.worker_id)
        self._enter_link(report.worker_id, replace(link, connected=True, report=report))
        strangers = []
        for running in report.instances:
            if running.instance_id not in self.instances:
                strangers.append(running.instance_id)
                continue
            self.confirmed.add(running.instance_id)
            self.grants.report(running.instance_id, running.generation_ids, now)
        return self._gone(report, link), strangers

    def _gone(self, report: WorkerReport, link: Link) -> list[Instance]:
        """Ready instances that the worker does not run; a report that may be older than the instance proves nothing."""
        running = {instance.instance_id for instance in report.instances}
        absent = (self.instances[name] for name in self.on_worker[report.worker_id] - running)
        return [
            instance
            for instance in absent
            if instance.state is InstanceState.READY
            and (instance.instance_id in self.confirmed or instance.ready_at < link.since)
        ]

    def link(self, worker_id: str) -> Link:
        """What the connection to a worker has told."""
        return self._links.get(worker_id, Link(float("-inf")))

    # Questions

    def instances_of(self, model: str) -> list[Instance]:
        """The instances of a model, by id."""
        return [self.instances[name] for name in sorted(self.of_model.get(model, ()))]

    def instances_on(self, worker_id: str) -> list[Instance]:
        """The instances in a worker, by id."""
        return [self.instances[name] for name in sorted(self.on_worker.get(worker_id, ()))]

    def instances_on_node(self, node_id: str) -> list[Instance]:
        """The instances on a node, by id."""
        there = (one for worker_id in self.workers_on.get(node_id, ()) for one in self.instances_on(worker_id))
        return sorted(there, key=lambda one: one.instance_id)

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

    def missing_bytes(self, worker: Worker, checkpoint: Checkpoint) -> dict[Tier, int]:
        """Bytes of a checkpoint not yet at a worker's device, by the fastest tier of its node that has them."""
        held = self.holders.held(worker.node_id, checkpoint.digest)
        return missing_by_tier(held, checkpoint.total_bytes, worker.device_tier)

    def remote_speed(self, worker: Worker) -> float:
        """Bytes per second from the remote store to a worker's device."""
        return self.experience.bandwidths.path(self.nodes[worker.node_id], Tier.REMOTE, worker.device_tier)

    def in_order_of_entry(self, instance_ids: Iterable[str]) -> list[Instance]:
        """Instances, those first that have been here longest."""
        return [self.instances[name] for name in sorted(instance_ids, key=self._entered.__getitem__)]

    # Indexes

    def _enter_link(self, worker_id: str, link: Link | None) -> None:
        if link is None:
            self._links.pop(worker_id, None)
        else:
            self._links[worker_id] = link
        self.holders.park(worker_id, frozenset(parked.digest for parked in link.parked) if link else frozenset())
        self._review_worker(worker_id)

    def _review_node(self, node_id: str) -> None:
        for worker_id in tuple(self.workers_on.get(node_id, ())):
            self._review_worker(worker_id)

    def _review_worker(self, worker_id: str) -> None:
        review.review_worker(self, worker_id)

    def _review_model(self, name: str) -> None:
        review.review_model(self, name)
        for instance_id in self.of_model.get(name, ()):
            self._review_instance(instance_id)

    def _review_migrating(self, migration: Migration) -> None:
        self._review_instance(migration.source_id)
        self._review_instance(migration.target_id)

    def _review_instance(self, instance_id: str) -> None:
        review.review_instance(self, instance_id)

    def check_integrity(self) -> None:
        """Raise AssertionError if the indexes and the records do not say the same."""
        integrity.check(self)
