"""Migrations that the planner decides, as the service carries them out, under virtual time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Move
from kindling.scheduler.domain.values import InstanceState, Migration
from kindling.simulate.simulated_cluster import SimulatedCluster

HANDOVER_SECONDS: Final = 0.05
"""Assumed pause of a generation when it changes over, beyond a step of its target."""


class Moves:
    """Begins when a target is loaded; the source generates on while the target computes what it has.

    A migration takes as long as the target's prefill of all tokens and one handover. ``handed_over`` is told of each
    generation with its new instance, ``left`` of a source that has none any more.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        planner: Planner,
        handed_over: Callable[[str, Migration], None],
        left: Callable[[Migration], None],
    ) -> None:
        self._cluster = cluster
        self._planner = planner
        self._view = planner.view
        self._handed_over = handed_over
        self._left = left
        self._waiting: list[Migration] = []

    def enter(self, move: Move) -> None:
        """A migration is decided; its target may have to start yet."""
        self._waiting.append(move.migration)
        self.begin_ready()

    def begin_ready(self) -> None:
        """Begin the migrations whose targets are loaded now; forget those that are over."""
        waiting, self._waiting = self._waiting, []
        for migration in filter(self._view.is_under_way, waiting):
            if self._is_loaded(migration.target_id):
                self._begin(migration)
            else:
                self._waiting.append(migration)

    def _is_loaded(self, instance_id: str) -> bool:
        instance = self._view.instances[instance_id]
        return instance.state is InstanceState.READY and not instance.is_loading

    def _begin(self, migration: Migration) -> None:
        self._view.put_migration(replace(migration, moving=True))
        tokens = sum(map(self._cluster.tokens, self._generations(migration.source_id)))
        seconds = tokens / self._cluster.model.prefill_tokens_per_second + HANDOVER_SECONDS if tokens else 0.0
        self._cluster.events.after(seconds, lambda: self._finish(migration, seconds))

    def _generations(self, source_id: str) -> list[str]:
        return sorted(self._cluster.generations_on(source_id))

    def _finish(self, migration: Migration, seconds: float) -> None:
        if not self._view.is_under_way(migration):
            return
        source, target = (self._view.instances[name] for name in (migration.source_id, migration.target_id))
        moving = self._generations(source.instance_id)
        tokens = sum(map(self._cluster.tokens, moving))
        for generation_id in moving:
            pause_seconds = HANDOVER_SECONDS + self._cluster.model.seconds_per_token
            self._cluster.move(generation_id, target.instance_id, pause_seconds)
            now = self._cluster.events.now
            self._view.grants.move(generation_id, source.instance_id, target.instance_id, now)
            self._handed_over(generation_id, migration)
        if moving:
            worker = self._view.workers[target.worker_id]
            self._view.experience.hear_migration(source, worker, len(moving), tokens, seconds)
        self._cluster.migrations += 1
        self._view.end_migration(migration)
        self._left(migration)
