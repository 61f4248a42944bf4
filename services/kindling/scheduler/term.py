"""One term of leadership: from the records as they were left, until the office is lost."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from kindling.platform.clock import Clock
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.desk import Desk
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Move, Plan, Start, Stop
from kindling.scheduler.domain.refusals import load_broken
from kindling.scheduler.domain.values import (
    Instance,
    InstanceState,
    Migration,
    Node,
    Residency,
    Worker,
    WorkerReport,
)
from kindling.scheduler.introductions import Introductions
from kindling.scheduler.migrations import Migrations, MigrationUnderWay
from kindling.scheduler.mutations import Mutations
from kindling.scheduler.ports import NodeGone, Records, ResidencyGone, Store, TopologyChange, WorkerGone, Workers
from kindling.scheduler.prefetching import Prefetching
from kindling.scheduler.retirements import Retirements
from kindling.scheduler.roll_call import RollCall
from kindling.scheduler.starts import Starts
from kindling.scheduler.stops import Stops
from kindling.scheduler.storage_ports import Storages

log = get_logger(__name__)
_ROLL_CALL_SECONDS = 1.0


class Term:
    """Keeps the view up to date, plans whenever something changes, and carries the plans out.

    Everything that is not a wait happens in one step of the event loop, so that what is planned is entered into the
    view before anything else can look at it.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        storages: Storages,
        planner: Planner,
        clock: Clock,
        stall_seconds: float,
        prefetching: Prefetching | None = None,
    ) -> None:
        self.store = store
        self.storages = storages
        self.planner = planner
        self.view = planner.view
        self.clock = clock
        self.prefetching = prefetching  # none if it is switched off
        self.changes = Changes(clock)
        self.desk = Desk(planner, clock, self.changes)
        self.opened = asyncio.Event()
        self.closed = False
        self.tasks = asyncio.TaskGroup()
        self._workers_seen: dict[str, Worker] = {}
        self._starts = Starts(store, workers, planner, self.desk, clock, self.changes, stall_seconds)
        self._stops = Stops(store, workers, planner, clock, self.changes)
        self.migrations = Migrations(
            store, workers, planner, self._starts, self._stops, self.worker, clock, self.changes
        )
        self.retirements = Retirements(store, storages, self.view, clock, self.changes)
        self.mutations = Mutations(store, planner, self.retirements, self.tasks, clock, self.changes, self.check_leads)
        self._introductions = Introductions(storages)
        self._roll_call = RollCall(workers, planner, clock, self.changes, self._hear, self._lose)

    async def run(self) -> None:
        """Lead until cancelled; everything that this term began ends with it."""
        try:
            async with self.tasks:
                await self._follow()
        finally:
            self.opened.set()
            self.desk.close(_not_leader())
            self.changes.note()

    async def _follow(self) -> None:
        try:
            async with aclosing(self.store.follow()) as updates:
                async for update in updates:
                    self._take_over(update) if isinstance(update, Records) else self._change(update)
                    self.changes.note()
        finally:
            self.closed = True  # before the tasks have ended: no more can be begun

    def check_leads(self) -> None:
        """Raise FailedPreconditionError NOT_LEADER once the term is over; its end is noted as a change."""
        if self.closed:
            raise _not_leader()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once ``holds`` does; raises NOT_LEADER if the term ends before."""

        def holds_or_over() -> bool:
            self.check_leads()
            return holds()

        await self.changes.until(holds_or_over)

    def worker(self, worker_id: str) -> Worker:
        """A worker that this term has seen, whether it is still registered or not."""
        return self._workers_seen[worker_id]

    # Records

    def _take_over(self, records: Records) -> None:
        """Take the records over; models and instances only once, for this term alone writes them from then on."""
        self.view.replace_topology(records.nodes, records.workers, records.residency)
        if not self.opened.is_set():
            self._restore(records)
            self.opened.set()
            self.tasks.create_task(self._plan_forever())
            if self.prefetching is not None:
                self.tasks.create_task(self.prefetching.run())
        for node in records.nodes:
            self._introduce(node)
        for worker in records.workers:
            self._call(worker)

    def _restore(self, records: Records) -> None:
        now = self.clock.now()
        self.view.quotas.become(records.quotas)
        self.view.models.become((model.name, model) for model in records.models)
        for instance in records.instances:
            device_bytes = instance.device_bytes or self._device_bytes(instance)
            self.view.put_instance(replace(instance, started_at=now, device_bytes=device_bytes), now)
            for worker_id in instance.worker_ids:
                self.view.disconnect(worker_id, now)
        self.view.drained.become(drain.node_id for drain in records.drains)
        for migration in records.migrations:
            self._restore_migration(migration)
        for retirement in records.retirements:
            self.mutations.retire(retirement)
        self.mutations.answers.restore(records.answers)
        log.info("view_restored", models=len(records.models), instances=len(records.instances))

    def _device_bytes(self, instance: Instance) -> int:
        """What an instance takes whose record, of an earlier release, does not say so; 0 if nobody knows any more."""
        model = self.view.models.get(instance.model)
        return model.device_bytes if model is not None and model.checkpoint.digest == instance.digest else 0

    def _restore_migration(self, migration: Migration) -> None:
        """Carry a migration on whose instances are both there; otherwise its source serves, or is being stopped."""
        source = self.view.instances.get(migration.source_id)
        target = self.view.instances.get(migration.target_id)
        if source is None or target is None or target.state is InstanceState.STOPPING:
            self.tasks.create_task(self.store.forget_migration(migration))
        elif source.state is InstanceState.READY:
            log.info("migration_resumed", source=source.instance_id, target=target.instance_id)
            self.view.put_migration(migration)
            self.tasks.create_task(self.migrations.resume(self.migrations.enter(migration)))

    def _change(self, change: TopologyChange) -> None:
        view = self.view
        if isinstance(change, Node):
            view.nodes[change.node_id] = change
            self._introduce(change)
        elif isinstance(change, Worker):
            view.workers[change.worker_id] = change
            self._call(change)
        elif isinstance(change, Residency):
            view.put_residency(change)
        elif isinstance(change, ResidencyGone):
            view.remove_residency(change.node_id, change.digest)
        else:
            self._leave(change)

    def _leave(self, change: NodeGone | WorkerGone) -> None:
        if isinstance(change, NodeGone):
            self.view.nodes.pop(change.node_id, None)
        else:
            self.view.workers.pop(change.worker_id, None)

    def _introduce(self, node: Node) -> None:
        if not self._introductions.is_known(node):
            self.tasks.create_task(self._introductions.introduce(node))

    # Workers

    def _call(self, worker: Worker) -> None:
        self._workers_seen[worker.worker_id] = worker
        self._roll_call.call(worker, self.tasks)

    def _hear(self, worker: Worker, report: WorkerReport) -> None:
        """Make records and worker say the same: finish what was begun, forget what is gone, stop what nobody wants."""
        now = self.clock.now()
        gone, strangers = self.view.apply_report(report, now)
        for instance in gone:
            log.warning("instance_vanished", instance=instance.instance_id, worker=worker.worker_id)
            if instance.is_loading:
                self.desk.refuse(self.planner.start_failed(instance.instance_id, load_broken(instance), now))
            self._forget(instance)
        for instance in self.planner.outcomes.loaded(worker.worker_id, now):
            self.tasks.create_task(self._starts.finish_load(instance))
        for instance_id in strangers:
            if instance_id not in self._stops.active:
                self.tasks.create_task(self._stops.stop_stranger(instance_id, worker))
        for instance in self.view.instances_on(worker.worker_id):
            if instance.worker_id == worker.worker_id:
                self._resume(instance, worker)

    def _resume(self, instance: Instance, worker: Worker) -> None:
        name = instance.instance_id
        if instance.state is InstanceState.STARTING and name not in self._starts.active:
            log.info("start_resumed", instance=name, worker=worker.worker_id)
            self._starts.active.add(name)
            self.tasks.create_task(self._starts.resume(instance, worker))
        elif instance.state is InstanceState.STOPPING and name not in self._stops.active:
            self._stops.active.add(name)
            self.tasks.create_task(self._stops.resume(instance, worker))

    def _lose(self, worker_id: str) -> None:
        """A worker is gone, with all that ran in it; what another speaks for is stopped there, and then all is free."""
        log.warning("worker_lost", worker=worker_id)
        for instance in self.view.instances_on(worker_id):
            if instance.worker_id == worker_id:
                self._starts.abandon(instance.instance_id)
                self._forget(instance)
            elif instance.state is not InstanceState.STOPPING:
                self.begin_stop(self.planner.stop(instance.instance_id, f"{worker_id} was lost", self.clock.now()))
        self.changes.note()

    def _forget(self, instance: Instance) -> None:
        self.view.remove_instance(instance.instance_id)
        self.tasks.create_task(self.store.forget_instances([instance.instance_id]))
        self._end_parts(instance)

    def _end_parts(self, instance: Instance) -> None:
        """Whoever has a part of an instance that is given up gives it back."""
        for worker_id in instance.others:
            if instance.instance_id in self.view.link(worker_id).running:
                self.tasks.create_task(self._stops.stop_stranger(instance.instance_id, self.worker(worker_id)))

    # Plans

    async def _plan_forever(self) -> None:
        await self.hear_workers()
        while True:
            ticket = self.changes.ticket()
            now = self.clock.now()
            for worker_id in self.planner.lost_workers(now):
                self._lose(worker_id)
            self.carry_out(self.planner.plan(now))
            await self.changes.wait(ticket, self.planner.next_deadline(now))

    async def hear_workers(self) -> None:
        """Wait until every worker has told what it runs, lest that be started once more; not long for a silent one."""
        try:
            async with asyncio.timeout(_ROLL_CALL_SECONDS):
                await self._roll_call.all_answered()
        except TimeoutError:
            log.warning("roll_call_incomplete")

    def carry_out(self, plan: Plan) -> None:
        """Begin everything that a plan says."""
        self.desk.deliver(plan)
        for stop in plan.stops:
            self.begin_stop(stop)
        for start in plan.starts:
            self._begin_start(start)
        for move in plan.moves:
            self.begin_move(move)
        if plan.has_news:
            self.changes.note()

    def begin_stop(self, stop: Stop) -> None:
        """Begin to stop an instance that the view has as stopping."""
        worker = self._workers_seen.get(stop.instance.worker_id)
        if worker is None:
            return  # never seen in this term: it is lost soon, or resumed when it reports
        self._stops.active.add(stop.instance.instance_id)
        self.tasks.create_task(self._stops.begin(stop, worker))

    def _begin_start(self, start: Start) -> None:
        dated = self._date(start)
        worker = self._workers_seen[dated.instance.worker_id]
        self.tasks.create_task(self._starts.begin(dated, worker, self.desk.context_of(start.request)))

    def begin_move(self, move: Move) -> MigrationUnderWay:
        """Begin a migration that is in the view."""
        entered = self.migrations.enter(move.migration)
        dated = replace(move, start=self._date(move.start)) if move.start else move
        self.tasks.create_task(self.migrations.begin(entered, dated))
        return entered

    def _date(self, start: Start) -> Start:
        """Say when an instance was decided, and that its start is under way."""
        instance = replace(start.instance, create_time=self.clock.wall())
        self.view.put_instance(instance, self.clock.now())
        self._starts.active.add(instance.instance_id)
        return replace(start, instance=instance)


def _not_leader() -> FailedPreconditionError:
    return FailedPreconditionError("this scheduler no longer leads; ask the new leader", reason="NOT_LEADER")
