"""Finds the two instances of a migration, runs it, and says how it went."""

import asyncio
from collections.abc import AsyncGenerator

from opentelemetry import metrics

from kindling.platform import buckets
from kindling.platform.clock import Clock
from kindling.platform.error_groups import single_error
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.logging import get_logger
from kindling.worker.domain.instance import InstanceSpec
from kindling.worker.domain.migration import MigrationLimits, Moved, Outcome
from kindling.worker.instances import Instances
from kindling.worker.migrate import Migration
from kindling.worker.migration_ports import TargetWorker, Workers

log = get_logger(__name__)
_pause = metrics.get_meter(__name__).create_histogram(
    "kindling.migration.pause",
    unit="s",
    description="From a generation's last step at the source to the target's word that it goes on there",
    explicit_bucket_boundaries_advisory=buckets.SECONDS,
)
DEFAULT_LIMITS = MigrationLimits()


class Migrations:
    """Moves generations of a worker's instances to other workers; several instances may be moved at once."""

    def __init__(
        self, instances: Instances, workers: Workers, clock: Clock, limits: MigrationLimits = DEFAULT_LIMITS
    ) -> None:
        self._instances = instances
        self._workers = workers
        self._clock = clock
        self._limits = limits

    async def migrate(
        self, instance_id: str, target_address: str, target_instance_id: str
    ) -> AsyncGenerator[Outcome, None]:
        """Move every generation of an instance; yield what became of each, and end as ``Migration.run`` does.

        Raises:
            NotFoundError: INSTANCE_UNKNOWN, here or there.
            FailedPreconditionError: INSTANCE_NOT_READY or CHECKPOINT_DIFFERS.
            UnavailableError: the target cannot be reached.
        """
        instance = self._instances.get(instance_id)
        source, target = instance.running_loop, self._workers.at(target_address)
        await _require_same_checkpoint(instance.spec, target, target_instance_id)
        outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        migration = Migration(
            source,
            target,
            target_instance_id,
            clock=self._clock,
            limits=self._limits,
            report=outcomes.put_nowait,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(migration.run())
                running.add_done_callback(lambda _: outcomes.put_nowait(None))
                while (outcome := await outcomes.get()) is not None:
                    _note(outcome, instance_id, target_address)
                    yield outcome
        except BaseExceptionGroup as group:
            # Also what ends a generator early.
            raise single_error(group) from None


async def _require_same_checkpoint(spec: InstanceSpec, target: TargetWorker, target_instance_id: str) -> None:
    digest = await target.checkpoint_of(target_instance_id)
    if digest != spec.digest:
        raise FailedPreconditionError(
            f"Instance {target_instance_id} runs checkpoint {digest}, not {spec.digest}; choose one of the same.",
            reason="CHECKPOINT_DIFFERS",
            metadata={"instance_id": target_instance_id, "checkpoint_digest": digest},
        )


def _note(outcome: Outcome, instance_id: str, target_address: str) -> None:
    details = {"instance_id": instance_id, "target": target_address, "generation_id": outcome.generation_id}
    if isinstance(outcome, Moved):
        _pause.record(outcome.handover_seconds)
        log.info("generation_moved", **details, position=outcome.position, seconds=outcome.seconds)
    else:
        log.warning("generation_stayed", **details, reason=outcome.reason, message=outcome.message)
