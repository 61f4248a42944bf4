"""Moving a model to a worker, on an operator's word."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.scheduler.domain.refusals import retold
from kindling.scheduler.domain.setbacks import device_too_small, not_running, several_devices_stay, unknown_worker
from kindling.scheduler.domain.values import Instance, InstanceState, Model, Worker
from kindling.scheduler.follow import follow
from kindling.scheduler.manage_models import find_model
from kindling.scheduler.migrations import MigrationStatus, MigrationUnderWay
from kindling.scheduler.term import Term


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to, and from where; from everywhere else if that is empty."""

    to_worker_id: str
    from_worker_id: str = ""

    def leaves(self, instance: Instance) -> bool:
        """Whether an instance is to move."""
        if self.from_worker_id and instance.worker_id != self.from_worker_id:
            return False
        return instance.worker_id != self.to_worker_id


async def migrate_model(term: Term, name: str, where: Destination) -> AsyncGenerator[tuple[MigrationStatus, ...], None]:
    """Begin the migrations, or join those under way, and yield how they go; they go on if this is closed.

    Yields once that there is nothing to do if the model runs where it should. Raises MODEL_NOT_FOUND, WORKER_UNKNOWN,
    WORKER_UNREACHABLE, DEVICE_TOO_SMALL, NODE_DRAINED, MODEL_NOT_RUNNING, SEVERAL_DEVICES_STAY, NO_FREE_SLOT,
    NO_FREE_MEMORY, MIGRATION_UNDERWAY, or, when all are over, why the first that failed did.
    """
    await term.hear_workers()
    term.check_leads()
    moving = _begin(term, find_model(term, name), where)
    statuses = follow(term, lambda: tuple(one.status for one in moving), lambda: all(one.is_over for one in moving))
    async with aclosing(statuses):
        async for status in statuses:
            yield status
    for one in moving:
        if one.error is not None:
            raise retold(one.error)


def _begin(term: Term, model: Model, where: Destination) -> list[MigrationUnderWay]:
    target = _worker(term, where.to_worker_id)
    if model.settings.devices > 1:
        raise several_devices_stay(model)
    if where.from_worker_id:
        _worker(term, where.from_worker_id)
    if target.worker_id in term.view.sizes.too_small(model.checkpoint.total_bytes):
        raise device_too_small(target, model)
    joined = [one for one in term.migrations.under_way.values() if _is_asked_for(one, model, where)]
    known = {one.source.instance_id for one in joined}
    fresh = [one for one in _sources(term, model, where) if one.instance_id not in known]
    if not fresh and not joined and not _runs_there(term, model, target):
        raise not_running(model.name, where.from_worker_id)
    if not fresh:
        return joined
    moves = term.planner.relocation.to_worker(model, target, fresh, term.clock.now())
    return joined + [term.begin_move(move) for move in moves]


def _worker(term: Term, worker_id: str) -> Worker:
    if (worker := term.view.workers.get(worker_id)) is None:
        raise unknown_worker(worker_id)
    return worker


def _is_asked_for(one: MigrationUnderWay, model: Model, where: Destination) -> bool:
    is_there = one.target.worker_id == where.to_worker_id
    return one.source.model == model.name and is_there and where.leaves(one.source)


def _sources(term: Term, model: Model, where: Destination) -> list[Instance]:
    ready = (one for one in term.view.instances_of(model.name) if one.state is InstanceState.READY)
    return [one for one in ready if term.view.is_current(one) and where.leaves(one)]


def _runs_there(term: Term, model: Model, target: Worker) -> bool:
    there = (one for one in term.view.instances_on(target.worker_id) if one.model == model.name)
    return any(one.state is not InstanceState.STOPPING for one in there)
