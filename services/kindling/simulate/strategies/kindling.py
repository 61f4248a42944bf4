"""Kindling's scheduler: the planner and policy that the service runs, as they are, under virtual time."""

from itertools import count

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Limits, Plan, Start, Stop
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import (
    LoadReport,
    Migration,
    Model,
    ModelSettings,
    Node,
    ParkedCheckpoint,
    ReportedInstance,
    Request,
    Residency,
    Tier,
    TierUse,
    Worker,
    WorkerReport,
)
from kindling.simulate.mechanisms import Mechanism
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster
from kindling.simulate.strategies.moves import Moves
from kindling.simulate.strategies.prefetching import Prefetching


class KindlingStrategy:
    """Does for the planner what the scheduler's term does: tells it what happens, and carries its plans out."""

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._starts_early = Mechanism.PROGRESSIVE_START in cluster.mechanisms
        self._generations: dict[str, Generation] = {}
        self._place: dict[str, str] = {}  # the instance of a generation
        self._running: dict[str, dict[str, set[str]]] = {worker_id: {} for worker_id in cluster.workers}
        self._loaded: dict[str, LoadReport] = {}
        mechanisms = cluster.mechanisms
        policy = Policy(migrates=Mechanism.MIGRATION in mechanisms, consolidates=Mechanism.CONSOLIDATION in mechanisms)
        suffixes = count()
        self.planner = Planner(policy, Limits(), lambda: str(next(suffixes)))
        self._moves = Moves(cluster, self.planner, self._handed_over, self._left)
        self._version = 0
        prefetches = Mechanism.PREFETCH in cluster.mechanisms
        self._prefetching = Prefetching(cluster, self.planner.view, self._tell_residency) if prefetches else None
        self._enter_cluster(settings)

    def arrive(self, generation: Generation) -> None:
        """Grant at once if an instance has room, else hold and plan; see ``Strategy``."""
        now, arrival = self._events.now, generation.arrival
        request = Request(generation.generation_id, arrival.model, now)
        self._generations[generation.generation_id] = generation
        if self._prefetching is not None:
            self._prefetching.note_call(arrival.model)
        if (grant := self.planner.try_grant(request, now)) is not None:
            self._begin(generation.generation_id, grant.instance.instance_id)
            return
        try:
            self.planner.hold(request, now)
        except KindlingError:
            self._cluster.refuse(self._generations.pop(generation.generation_id))
        self.plan()

    def _enter_cluster(self, settings: ModelSettings) -> None:
        view, profile = self.planner.view, self._cluster.profile
        device = "cpu" if Tier.DRAM not in profile.bandwidth_bytes_per_second else profile.device_kind
        sizes = {Tier.DRAM: profile.dram_pool_bytes, Tier.SSD: profile.ssd_bytes, Tier.REMOTE: 0}
        links = profile.bandwidth_bytes_per_second
        tiers = tuple(
            TierUse(tier, size, bandwidth_bytes_per_second=links.get(tier, 0.0)) for tier, size in sizes.items()
        )
        for node_id in self._cluster.nodes:
            view.nodes[node_id] = Node(node_id, node_id, tiers)
        for name, checkpoint in self._cluster.checkpoints.items():
            view.models[name] = Model(name, checkpoint, settings)
        for worker_id in self._cluster.workers:
            node_id = worker_id.rpartition("/")[0]
            view.workers[worker_id] = Worker(worker_id, node_id, worker_id, device, init_seconds=profile.init_seconds)
            view.connect(worker_id, 0.0)
            self._report(worker_id)
        for node_id in self._cluster.nodes:
            self._tell_residency(node_id)

    # What happens

    def plan(self) -> None:
        """Do what there is to do now, and again when there is next."""
        self._version += 1
        while self._carry_out(self.planner.plan(self._events.now)):
            pass
        deadline, version = self.planner.next_deadline(self._events.now), self._version
        if deadline is not None:
            self._events.at(deadline, lambda: self._plan_again(version))

    def _plan_again(self, version: int) -> None:
        if version == self._version:
            self.plan()

    def _carry_out(self, plan: Plan) -> bool:
        """Do what a plan says; returns whether that has changed what can be planned."""
        for grant in plan.grants:
            self._begin(grant.request.generation_id, grant.instance.instance_id)
        for refusal in plan.refusals:
            self._cluster.refuse(self._generations.pop(refusal.request.generation_id))
        for stop in plan.stops:
            self._stop(stop)
        for start in (*plan.starts, *(move.start for move in plan.moves if move.start)):
            self._start(start)
        for move in plan.moves:
            self._moves.enter(move)
        return bool(plan.stops)

    def _start(self, start: Start) -> None:
        name, worker_id = start.instance.instance_id, start.instance.worker_id

        def ready(report: LoadReport) -> None:
            self._started(name, worker_id, report)

        def loaded(report: LoadReport) -> None:
            self._loaded[name] = report
            self._report_node(worker_id)
            self.planner.outcomes.loaded(worker_id, self._events.now)
            self._tell_loaded(worker_id)

        early = loaded if self._starts_early else None
        self._cluster.start(name, start.instance.model, worker_id, ready, early)
        self._report_node(worker_id)  # what was parked there may have given way

    def _started(self, instance_id: str, worker_id: str, report: LoadReport) -> None:
        self._running[worker_id][instance_id] = set()
        self.planner.outcomes.started(instance_id, report, self._events.now)
        self._report_node(worker_id)
        self._tell_loaded(worker_id)

    def _tell_loaded(self, worker_id: str) -> None:
        self._tell_residency(worker_id.rpartition("/")[0])
        self._moves.begin_ready()
        self.plan()

    def _stop(self, stop: Stop) -> None:
        instance_id, worker_id = stop.instance.instance_id, stop.instance.worker_id
        self._cluster.stop(instance_id)
        self._running[worker_id].pop(instance_id, None)
        self._loaded.pop(instance_id, None)
        self.planner.view.remove_instance(instance_id)
        self._report(worker_id)

    def _begin(self, generation_id: str, instance_id: str) -> None:
        worker_id = self.planner.view.instances[instance_id].worker_id
        self._place[generation_id] = instance_id
        self._running[worker_id][instance_id].add(generation_id)
        self._report(worker_id)
        self._cluster.begin(self._generations[generation_id], instance_id, lambda: self._end(generation_id))

    def _end(self, generation_id: str) -> None:
        instance_id = self._place.pop(generation_id)
        worker_id = self.planner.view.instances[instance_id].worker_id
        del self._generations[generation_id]
        self._running[worker_id][instance_id].discard(generation_id)
        self.planner.release(generation_id, self._events.now)
        self._report(worker_id)
        self.plan()

    def _handed_over(self, generation_id: str, migration: Migration) -> None:
        self._place[generation_id] = migration.target_id
        for instance_id in (migration.source_id, migration.target_id):
            worker_id = self.planner.view.instances[instance_id].worker_id
            change = set.add if instance_id == migration.target_id else set.discard
            change(self._running[worker_id][instance_id], generation_id)
            self._report(worker_id)

    def _left(self, migration: Migration) -> None:
        reason = f"its generations moved to {migration.target_id}"
        self._stop(self.planner.stop(migration.source_id, reason, self._events.now))
        self.plan()

    # What is told

    def _report_node(self, worker_id: str) -> None:
        """CPUs of one node park in the same pool: where one loads, others may have lost what they had parked."""
        node = self._cluster.node_of(worker_id)
        beside = (name for name in self._cluster.workers if self._cluster.node_of(name) is node)
        for name in beside if node.profile.computes_on_pool else (worker_id,):
            self._report(name)

    def _report(self, worker_id: str) -> None:
        running = self._running[worker_id].items()
        reported = tuple(
            ReportedInstance(name, frozenset(generations), self._loaded.get(name)) for name, generations in running
        )
        size_bytes = self._cluster.model.checkpoint_bytes
        parked = tuple(ParkedCheckpoint(name, size_bytes) for name in sorted(self._cluster.parked_on(worker_id)))
        self.planner.view.apply_report(WorkerReport(worker_id, reported, parked=parked), self._events.now)

    def _tell_residency(self, node_id: str) -> None:
        node = self._cluster.nodes[node_id]
        for digest in sorted(node.take_changed()):  # in an order that no process has to itself
            held = {tier: cache.held_bytes(digest) for tier, cache in ((Tier.DRAM, node.dram), (Tier.SSD, node.ssd))}
            self.planner.view.put_residency(Residency(node_id, digest, held))
