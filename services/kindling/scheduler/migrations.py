"""Moving instances: each migration is recorded first, and then taken step by step to its end.

    starting   the target instance is started unless it runs already; the source serves on
    moving     the source gets no new generations; its worker hands those that it has over to the target's worker
    stopping   the source has none left and is stopped

If a step fails, the source serves again and the target is left to keep-alive. The steps look at the view alone, so a
new leader goes through them again from the first, and finds done what is done.
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from opentelemetry import metrics

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.estimate import migration_seconds
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Move
from kindling.scheduler.domain.refusals import retold
from kindling.scheduler.domain.setbacks import generations_stayed, source_lost, target_lost
from kindling.scheduler.domain.track_record import EstimateKind
from kindling.scheduler.domain.values import NEVER, Instance, InstanceState, Migration, MigrationStage, Worker
from kindling.scheduler.estimate_error import record_estimate_error
from kindling.scheduler.ports import GenerationMoved, GenerationStayed, Store, Workers
from kindling.scheduler.starts import Starts
from kindling.scheduler.stops import Stops

log = get_logger(__name__)
_migrations = metrics.get_meter(__name__).create_counter(
    "kindling.migrations", unit="{migration}", description="Instances whose generations were moved, or could not be."
)
_moved = metrics.get_meter(__name__).create_counter(
    "kindling.migration.generations", unit="{generation}", description="Generations that were handed over."
)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """How far a migration is; ``estimated_seconds`` are those that moving its generations was expected to take."""

    source_id: str
    target_id: str
    target_worker_id: str
    stage: MigrationStage = MigrationStage.STARTING
    moved: int = 0
    stayed: int = 0
    estimated_seconds: float = 0.0


class MigrationUnderWay:
    """A migration as those see it who wait for it; ``error`` is why it failed, if it did."""

    def __init__(self, migration: Migration, source: Instance, target: Instance) -> None:
        self.migration = migration
        self.source = source
        self.target = target
        self.status = MigrationStatus(source.instance_id, target.instance_id, target.worker_id)
        self.error: KindlingError | None = None
        self.moving_since = NEVER

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end, or failed."""
        return self.error is not None or self.status.stage is MigrationStage.DONE


class Migrations:
    """The migrations under way, by source."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        planner: Planner,
        starts: Starts,
        stops: Stops,
        worker_of: Callable[[str], Worker],
        clock: Clock,
        changes: Changes,
    ) -> None:
        self._store = store
        self._workers = workers
        self._planner = planner
        self._view = planner.view
        self._starts = starts
        self._stops = stops
        self._worker_of = worker_of
        self._clock = clock
        self._changes = changes
        self.under_way: dict[str, MigrationUnderWay] = {}

    def enter(self, migration: Migration) -> MigrationUnderWay:
        """Note a migration that is in the view; :meth:`begin` or :meth:`resume` must follow."""
        source, target = self._view.instances[migration.source_id], self._view.instances[migration.target_id]
        entered = self.under_way[migration.source_id] = MigrationUnderWay(migration, source, target)
        return entered

    async def begin(self, one: MigrationUnderWay, move: Move) -> None:
        """Record a migration, start its target if that does not run yet, and see it through."""
        log.info("migration_decided", source=move.migration.source_id, target=move.migration.target_id)
        start = move.start.instance if move.start else None
        self._foresee(one)
        reason = f"{move.reason}; its generations should move in {one.status.estimated_seconds:.3f} s"
        await self._store.record_migration(move.migration, reason, start)
        if start is not None:
            await self._starts.resume(start, self._worker_of(start.worker_id))
        await self.resume(one)

    async def resume(self, one: MigrationUnderWay) -> None:
        """See a migration through that is recorded; its target is there, or being started."""
        error = await self._hand_over(one)
        if error is None:
            await self._stop_source(one)
        else:
            await self._fall_back(one, error)

    async def _hand_over(self, one: MigrationUnderWay) -> KindlingError | None:
        """Bring every generation to the target; returns why that could not be done."""
        try:
            await self._await_target(one)
            self._view.put_migration(replace(one.migration, moving=True))
            if not one.status.estimated_seconds:  # decided by an earlier leader
                self._foresee(one)
            one.moving_since = self._clock.now()
            self._tell(one, stage=MigrationStage.MOVING)
            await self._empty_source(one)
            self._compare(one)
        except KindlingError as error:
            return error
        return None

    async def _await_target(self, one: MigrationUnderWay) -> None:
        await self._changes.until(lambda: not self._view.is_under_way(one.migration) or self._can_move(one))
        self._check(one)

    def _can_move(self, one: MigrationUnderWay) -> bool:
        """Whether both workers can be asked; a new leader has to hear of them first."""
        target = self._view.instances[one.target.instance_id]
        is_ready = target.state is InstanceState.READY and self._view.link(target.worker_id).takes_work
        return is_ready and self._view.link(one.source.worker_id).is_heard

    async def _empty_source(self, one: MigrationUnderWay) -> None:
        """Have the source hand over what it has until nothing is left: a generation that was granted a place there
        before may arrive late."""
        source_id = one.source.instance_id
        while self._view.grants.in_flight(source_id):
            ticket = self._changes.ticket()
            await self._ask_source(one)
            await ticket.wait()
            await self._changes.until(lambda: not self._view.is_under_way(one.migration) or self._may_ask(source_id))
            self._check(one)

    def _may_ask(self, source_id: str) -> bool:
        grants = self._view.grants
        return grants.has_arrived(source_id) or not grants.in_flight(source_id)

    async def _ask_source(self, one: MigrationUnderWay) -> None:
        worker, target = self._worker_of(one.source.worker_id), self._worker_of(one.target.worker_id)
        why, began, moved = "", self._clock.now(), list[GenerationMoved]()
        events = self._workers.migrate(worker, one.source.instance_id, target, one.target.instance_id)
        async with aclosing(events):
            async for event in events:
                self._check(one)
                if isinstance(event, GenerationMoved):
                    moved.append(event)
                else:
                    why = why or event.why
                self._take_in(one, event)
        if one.status.stayed:
            raise generations_stayed(one.source.instance_id, one.status.stayed, why)
        self._learn(one, moved, self._clock.now() - began)

    def _take_in(self, one: MigrationUnderWay, event: GenerationMoved | GenerationStayed) -> None:
        if isinstance(event, GenerationStayed):
            self._tell(one, stayed=one.status.stayed + 1)
            return
        now = self._clock.now()
        _moved.add(1)
        self._view.grants.move(event.generation_id, one.source.instance_id, one.target.instance_id, now)
        self._tell(one, moved=one.status.moved + 1)

    def _foresee(self, one: MigrationUnderWay) -> None:
        target = self._worker_of(one.target.worker_id)
        self._tell(one, estimated_seconds=migration_seconds(self._view, one.source, target))

    def _learn(self, one: MigrationUnderWay, moved: list[GenerationMoved], seconds: float) -> None:
        """Remember how long so many tokens took; workers of an earlier release do not tell how many."""
        if tokens := sum(event.tokens for event in moved):
            target = self._worker_of(one.target.worker_id)
            self._view.experience.hear_migration(one.source, target, len(moved), tokens, seconds)

    def _compare(self, one: MigrationUnderWay) -> None:
        """Note how long it took and was expected to; a source that had nothing tells nothing."""
        if not one.status.moved:
            return
        estimated, took = one.status.estimated_seconds, self._clock.now() - one.moving_since
        self._view.experience.record.note(EstimateKind.MIGRATION, one.target.node_id, estimated, took)
        record_estimate_error(estimated, took, {"of": "migration"})

    async def _stop_source(self, one: MigrationUnderWay) -> None:
        """Stop a source that has nothing left; its record goes, and the decision with it."""
        source_id = one.source.instance_id
        self._view.end_migration(one.migration)
        stop = self._planner.stop(source_id, f"its generations moved to {one.target.instance_id}", self._clock.now())
        self._tell(one, stage=MigrationStage.STOPPING)
        await self._stops.begin(stop, self._worker_of(one.source.worker_id))
        log.info("migration_done", source=source_id, target=one.target.instance_id, moved=one.status.moved)
        _migrations.add(1, {"outcome": "done"})
        self._leave(one)
        self._tell(one, stage=MigrationStage.DONE)

    async def _fall_back(self, one: MigrationUnderWay, error: KindlingError) -> None:
        """Have the source serve again, with what it still has."""
        _migrations.add(1, {"outcome": "failed"})
        log.warning("migration_failed", source=one.source.instance_id, reason=error.reason, message=error.message)
        self._view.end_migration(one.migration)
        self._planner.relocation.failed(one.source, error, self._clock.now())
        one.error = error
        self._leave(one)
        self._changes.note()
        await self._store.forget_migration(one.migration)

    def _check(self, one: MigrationUnderWay) -> None:
        """Raise what ended a migration: one of its instances is gone."""
        if self._view.is_under_way(one.migration):
            return
        if one.source.instance_id not in self._view.instances:
            raise source_lost(one.source.instance_id)
        trouble = self._planner.troubles.of(one.target.model)
        raise retold(trouble.error) if trouble else target_lost(one.target.instance_id)

    def _leave(self, one: MigrationUnderWay) -> None:
        if self.under_way.get(one.source.instance_id) is one:
            del self.under_way[one.source.instance_id]

    def _tell(self, one: MigrationUnderWay, **news: object) -> None:
        one.status = replace(one.status, **news)  # type: ignore[arg-type]
        self._changes.note()
