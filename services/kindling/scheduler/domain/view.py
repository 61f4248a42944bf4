"""What changes the cluster as the leader sees it; the indexes over it follow at once."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from kindling.scheduler.domain import integrity, review
from kindling.scheduler.domain.experience import Place
from kindling.scheduler.domain.grants import GrantLedger
from kindling.scheduler.domain.links import Link
from kindling.scheduler.domain.loads import Load
from kindling.scheduler.domain.records import ClusterRecords
from kindling.scheduler.domain.values import (
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


class ClusterView(ClusterRecords):
    """The records with what enters them: etcd's, workers' reports and the leader's own decisions.

    A decision is entered here before it is acted upon, so two decisions can never count on the same slot. What changes
    is reviewed at once, so that the indexes say what the records do."""

    def __init__(self, grant_ttl_seconds: float = 10.0) -> None:
        super().__init__(
            WatchedDict[Node](self._review_node),
            WatchedDict[Worker](self._review_worker),
            WatchedDict[Model](self._review_model),
            WatchedSet(self._review_node),
            GrantLedger(grant_ttl_seconds, self._review_instance, self._hear_generation),
        )
        self._numbers = count()

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
        self._review_only_other(instance)
        for worker_id in instance.worker_ids:
            self.on_worker[worker_id].add(instance.instance_id)
            self.workers_on[instance.node_id].add(worker_id)
        self.entered.setdefault(instance.instance_id, next(self._numbers))
        self.grants.open(instance.instance_id, now)
        self.devices.enter(instance, now)
        place = self._place(instance)
        if place is not None:
            self.experience.hear(known, instance, place)
        self._follow_load(instance, place, now)
        self._review_instance(instance.instance_id)
        self._review_node(instance.node_id)  # as a whole: its loads, or how fast it is, may be others now

    def _hear_generation(self, instance_id: str, seconds: float) -> None:
        self.experience.hear_generation(self.instances[instance_id].digest, seconds)

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
        self._review_only_other(instance)
        for worker_id in instance.worker_ids:
            self.on_worker[worker_id].discard(instance_id)
        self.confirmed.discard(instance_id)
        self.claimed.discard(instance_id)
        self.loads.end(instance)
        self.devices.leave(instance)
        for migration in self.migrations_of(instance_id):
            self.end_migration(migration)
        self.grants.close(instance_id)
        self.entered.pop(instance_id)
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

    # Workers' reports

    def connect(self, worker_id: str, now: float) -> None:
        """A watch on a worker was opened; nothing is known until its first report."""
        self._enter_link(worker_id, Link(now, connected=True))

    def disconnect(self, worker_id: str, now: float) -> None:
        """The watch on a worker broke, or it could not be opened."""
        if self.link(worker_id).connected or worker_id not in self.links:
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
            if (known := self.instances.get(running.instance_id)) is None:
                strangers.append(running.instance_id)
            if known is None or known.worker_id != report.worker_id:
                continue
            self.confirmed.add(running.instance_id)
            self.grants.report(running.instance_id, running.generation_ids, now, running.tenants)
        return self._gone(report, link), strangers

    def _gone(self, report: WorkerReport, link: Link) -> list[Instance]:
        """Ready instances that the worker does not run; a report that may be older than the instance proves nothing."""
        running = {instance.instance_id for instance in report.instances}
        absent = (self.instances[name] for name in self.on_worker[report.worker_id] - running)
        return [
            instance
            for instance in absent
            if instance.state is InstanceState.READY
            and instance.worker_id == report.worker_id
            and (instance.instance_id in self.confirmed or instance.ready_at < link.since)
        ]

    # Indexes

    def _enter_link(self, worker_id: str, link: Link | None) -> None:
        if link is None:
            self.links.pop(worker_id, None)
        else:
            self.links[worker_id] = link
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

    def _review_only_other(self, instance: Instance) -> None:
        """The only other instance of a model, which is not the only one of its model any more, or has become it."""
        names = self.of_model[instance.model]
        if len(names) <= 2:  # else nobody is the only other one
            for name in names - {instance.instance_id}:
                self._review_instance(name)

    def _review_migrating(self, migration: Migration) -> None:
        self._review_instance(migration.source_id)
        self._review_instance(migration.target_id)

    def _review_instance(self, instance_id: str) -> None:
        review.review_instance(self, instance_id)

    def check_integrity(self) -> None:
        """Raise AssertionError if the indexes and the records do not say the same."""
        integrity.check(self)
