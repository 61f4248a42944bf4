"""Deleting and evicting models, and reading their small files."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError
from kindling.platform.logging import get_logger
from kindling.scheduler.deploy_model import any_node
from kindling.scheduler.domain.refusals import unknown_model
from kindling.scheduler.domain.values import Instance, InstanceState, Model, Node, Tier
from kindling.scheduler.storage_ports import FilePart
from kindling.scheduler.term import Term

log = get_logger(__name__)
_RELEASE_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, slots=True)
class Eviction:
    """What an eviction freed."""

    stopped_instances: int
    dropped_bytes: int


def find_model(term: Term, name: str) -> Model:
    """Return a model. Raises NotFoundError MODEL_NOT_FOUND."""
    if (model := term.view.models.get(name)) is None:
        raise unknown_model(name)
    return model


async def delete_model(term: Term, name: str, request_id: str) -> None:
    """Forget a model. Its instances end once their generations are done; then its checkpoint goes, if no other model
    has it. Doing it again with the same request id does nothing.

    Raises NotFoundError MODEL_NOT_FOUND, or InvalidArgumentError REQUEST_ID_REUSED.
    """
    if term.mutations.answers.find(request_id, name) is not None:
        return
    await term.mutations.delete_model(find_model(term, name), request_id)
    log.info("model_deleted", model=name)


def _runs(term: Term, digest: str) -> bool:
    return any(instance.digest == digest for instance in term.view.instances.values())


async def evict_model(term: Term, name: str, keep: Tier | None) -> Eviction:
    """Stop a model's instances and drop its chunks above ``keep`` on every node.

    Raises MODEL_NOT_FOUND, INVALID_TIER, or FailedPreconditionError MODEL_BUSY if anybody uses or awaits the model.
    """
    model = find_model(term, name)
    if keep is None:
        raise InvalidArgumentError("keep must name a tier, for instance REMOTE", reason="INVALID_TIER", field="keep")
    stopped = await _stop_instances(term, model)
    if term.prefetching is not None:
        term.prefetching.forget(model.checkpoint.digest)
    async with asyncio.TaskGroup() as tasks:
        dropped = [
            tasks.create_task(_drop(term, node, model.checkpoint.digest, keep)) for node in term.view.nodes.values()
        ]
    return Eviction(stopped, sum(task.result() for task in dropped))


async def _drop(term: Term, node: Node, digest: str, keep: Tier) -> int:
    """Drop a checkpoint on a node; returns the bytes dropped.

    A worker has let go of the checkpoint by now, but the node may hear of that a moment after we do: it is asked again
    while it says that a lease is left.
    """
    dropped_bytes = 0
    for pause_seconds in _RELEASE_PAUSES_SECONDS:
        answer = await term.storages.evict_checkpoint(node, digest, keep)
        dropped_bytes += answer.dropped_bytes
        if not answer.pinned_bytes or _runs(term, digest):
            break
        await term.clock.sleep(pause_seconds)
    return dropped_bytes


async def _stop_instances(term: Term, model: Model) -> int:
    instances = term.view.instances_of(model.name)
    if term.planner.lines.length(model.name) or any(_is_in_use(term, instance) for instance in instances):
        raise FailedPreconditionError(
            f"model {model.name!r} is in use; evict it when its generations are done",
            reason="MODEL_BUSY",
            metadata={"model": model.name},
        )
    running = [instance for instance in instances if instance.state is InstanceState.READY]
    for instance in running:
        term.begin_stop(term.planner.stop(instance.instance_id, "the model is evicted", term.clock.now()))
    names = {instance.instance_id for instance in instances}
    await term.until(lambda: names.isdisjoint(term.view.instances))
    return len(running)


def _is_in_use(term: Term, instance: Instance) -> bool:
    is_migrating = bool(term.view.migrations_of(instance.instance_id))
    return instance.state is InstanceState.STARTING or is_migrating or term.view.is_busy(instance)


async def read_model_files(term: Term, model: Model) -> AsyncGenerator[FilePart, None]:
    """Yield a model's small files, piece by piece, from any live node."""
    async with aclosing(term.storages.read_files(any_node(term), model.checkpoint.digest)) as parts:
        async for part in parts:
            yield part
