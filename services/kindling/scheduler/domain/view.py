"""The cluster as the leader sees it: records of etcd, reports of workers and the leader's own decisions, indexed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from kindling.scheduler.domain.experience import Experience, Place
from kindling.scheduler.domain.grants import GrantLedger
from kindling.scheduler.domain.links import Link
from kindling.scheduler.domain.loads import Load, Loads, missing_by_tier
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


class ClusterView:
    """Nodes, workers, residency, models, instances and what becomes of them. A decision is entered here before it is
    acted upon, so two decisions can never count on the same slot."""

    def __init__(self, grant_ttl_seconds: float = 10.0) -> None:
        self.nodes: dict[str, Node] = {}
        self.workers: dict[str, Worker] = {}
        self.models: dict[str, Model] = {}
        self.instances: dict[str, Instance] = {}
        self.migrations: dict[str, Migration] = {}  # by source
        self.drained: set[str] = set()  # nodes, live or not
        self.grants = GrantLedger(grant_ttl_seconds)
        self.experience = Experience()
        self.loads = Loads()
        self._residency: dict[tuple[str, str], Residency] = {}
        self._links: dict[str, Link] = {}
        self._confirmed: set[str] = set()  # instances that a report has named
        self._of_model: defaultdict[str, set[str]] = defaultdict(set)
        self._on_worker: defaultdict[str, set[str]] = defaultdict(set)

    # Records

    def replace_topology(
        self, nodes: Iterable[Node], workers: Iterable[Worker], residency: Iterable[Residency]
    ) -> None:
        """Take over the live nodes, workers and residency, whole."""
        self.nodes = {node.node_id: node for node in nodes}
        self.workers = {worker.worker_id: worker for worker in workers}
        self._residency = {(entry.node_id, entry.digest): entry for entry in residency}

    def put_residency(self, entry: Residency) -> None:
        """Take over how much of a checkpoint a node holds."""
        self._residency[entry.node_id, entry.digest] = entry

    def remove_residency(self, node_id: str, digest: str) -> None:
        """A node holds nothing of a checkpoint any more."""
        self._residency.pop((node_id, digest), None)

    def put_instance(self, instance: Instance, now: float) -> None:
        """Enter an instance, or what has become of it."""
        known = self.instances.get(instance.instance_id)
        self.instances[instance.instance_id] = instance
        self._of_model[instance.model].add(instance.instance_id)
        self._on_worker[instance.worker_id].add(instance.instance_id)
        self.grants.open(instance.instance_id, now)
        place = self._place(instance)
        if place is not None:
            self.experience.hear(known, instance, place)
        self._follow_load(instance, place, now)

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
        self._of_model[instance.model].discard(instance_id)
        self._on_worker[instance.worker_id].discard(instance_id)
        self._confirmed.discard(instance_id)
        self.loads.end(instance)
        for migration in self.migrations_of(instance_id):
            self.end_migration(migration)
        self.grants.close(instance_id)
        return instance

    # Migrations

    def put_migration(self, migration: Migration) -> None:
        """Enter a migration, or how far it is."""
        self.migrations[migration.source_id] = migration

    def end_migration(self, migration: Migration) -> None:
        """A migration is over, one way or the other; one that is not known any more is ignored."""
        if self.is_under_way(migration):
            del self.migrations[migration.source_id]

    def is_under_way(self, migration: Migration) -> bool:
        """Whether a migration goes on: it ends by itself when either instance is gone."""
        known = self.migrations.get(migration.source_id)
        return known is not None and known.target_id == migration.target_id

    def migrations_of(self, instance_id: str) -> list[Migration]:
        """The migrations from or to an instance."""
        return [one for one in self.migrations.values() if instance_id in (one.source_id, one.target_id)]

    def is_leaving(self, instance: Instance) -> bool:
        """Whether an instance gets no more generations: they go to its successor, or its node is drained."""
        migration = self.migrations.get(instance.instance_id)
        return migration.moving if migration else instance.node_id in self.drained

    def load(self, instance_id: str) -> int:
        """Generations in flight on an instance, with those that are on their way to it."""
        coming = (one.source_id for one in self.migrations.values() if one.moving and one.target_id == instance_id)
        return self.grants.in_flight(instance_id) + sum(self.grants.in_flight(source_id) for source_id in coming)

    # Workers' reports

    def connect(self, worker_id: str, now: float) -> None:
        """A watch on a worker was opened; nothing is known until its first report."""
        self._links[worker_id] = Link(now, connected=True)

    def disconnect(self, worker_id: str, now: float) -> None:
        """The watch on a worker broke, or it could not be opened."""
        if self.link(worker_id).connected or worker_id not in self._links:
            self._links[worker_id] = Link(now)

    def forget_link(self, worker_id: str) -> None:
        """Nothing is to be expected of a worker any more."""
        self._links.pop(worker_id, None)

    def apply_report(self, report: WorkerReport, now: float) -> tuple[list[Instance], list[str]]:
        """Take over what a worker says; returns the instances that are gone and the ids of those nobody started."""
        link = self.link(report.worker_id)
        self._links[report.worker_id] = replace(link, connected=True, report=report)
        strangers = []
        for running in report.instances:
            if running.instance_id not in self.instances:
                strangers.append(running.instance_id)
                continue
            self._confirmed.add(running.instance_id)
            self.grants.report(running.instance_id, running.generation_ids, now)
        return self._gone(report, link), strangers

    def _gone(self, report: WorkerReport, link: Link) -> list[Instance]:
        """Ready instances that the worker does not run; a report that may be older than the instance proves nothing."""
        running = {instance.instance_id for instance in report.instances}
        absent = (self.instances[name] for name in self._on_worker[report.worker_id] - running)
        return [
            instance
            for instance in absent
            if instance.state is InstanceState.READY
            and (instance.instance_id in self._confirmed or instance.ready_at < link.since)
        ]

    def link(self, worker_id: str) -> Link:
        """What the connection to a worker has told."""
        return self._links.get(worker_id, Link(float("-inf")))

    # Questions

    def instances_of(self, model: str) -> list[Instance]:
        """The instances of a model, by id."""
        return [self.instances[name] for name in sorted(self._of_model.get(model, ()))]

    def instances_on(self, worker_id: str) -> list[Instance]:
        """The instances in a worker, by id."""
        return [self.instances[name] for name in sorted(self._on_worker.get(worker_id, ()))]

    def instances_on_node(self, node_id: str) -> list[Instance]:
        """The instances on a node, by id."""
        return [one for _, one in sorted(self.instances.items()) if one.node_id == node_id]

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
        held = self._on_worker.get(worker.worker_id, set()) | self.link(worker.worker_id).running
        return max(0, worker.slots - len(held))

    def missing_bytes(self, worker: Worker, checkpoint: Checkpoint) -> dict[Tier, int]:
        """Bytes of a checkpoint not yet at a worker's device, by the fastest tier of its node that has them."""
        entry = self._residency.get((worker.node_id, checkpoint.digest))
        return missing_by_tier(entry.bytes_by_tier if entry else {}, checkpoint.total_bytes, worker.device_tier)

    def has_parked(self, worker_id: str, digest: str) -> bool:
        """Whether a worker keeps a checkpoint ready to start at once."""
        return any(parked.digest == digest for parked in self.link(worker_id).parked)

    def check_integrity(self) -> None:
        """Raise AssertionError if the indexes and the records do not say the same."""
        for index, key in ((self._of_model, "model"), (self._on_worker, "worker_id")):
            indexed = {(owner, name) for owner, names in index.items() for name in names}
            assert indexed == {(getattr(i, key), i.instance_id) for i in self.instances.values()}
        assert self._confirmed <= self.instances.keys()
        for worker in self.workers.values():
            decided = [i for i in self.instances_on(worker.worker_id) if i.state is not InstanceState.STOPPING]
            assert len(decided) <= worker.slots, f"{worker.worker_id} is double-booked"
        for migration in self.migrations.values():
            self._check_migration(migration)

    def _check_migration(self, migration: Migration) -> None:
        source, target = self.instances[migration.source_id], self.instances[migration.target_id]
        assert source.state is InstanceState.READY
        assert target.state is not InstanceState.STOPPING
        assert (source.digest, source.model) == (target.digest, target.model)
        assert source.worker_id != target.worker_id
        assert target.instance_id not in self.migrations, "a target stays where it is"
