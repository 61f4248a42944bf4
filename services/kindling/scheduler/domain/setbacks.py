"""Why an instance does not move, in words that say what to do."""

from collections.abc import Sequence

from kindling.platform.errors import (
    AbortedError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.scheduler.domain.values import Instance, Model, Worker

_RETRY_SECONDS = 5.0


def unknown_worker(worker_id: str) -> NotFoundError:
    """Nothing is registered under the id."""
    return NotFoundError(
        f"there is no worker {worker_id[:128]!r}; `kindling status` lists those that are there, as node/worker",
        reason="WORKER_UNKNOWN",
        metadata={"worker_id": worker_id[:128]},
    )


def unknown_node(node_id: str) -> NotFoundError:
    """Nothing is registered under the id, and it is not drained."""
    return NotFoundError(
        f"there is no node {node_id[:128]!r}; `kindling status` lists those that are there",
        reason="NODE_UNKNOWN",
        metadata={"node_id": node_id[:128]},
    )


def worker_unreachable(worker: Worker) -> UnavailableError:
    """The worker is registered, yet cannot be given an instance now."""
    return UnavailableError(
        f"worker {worker.worker_id} cannot be reached, is shutting down or has no storage manager; name another one",
        reason="WORKER_UNREACHABLE",
        metadata={"worker_id": worker.worker_id},
        retry_after_seconds=_RETRY_SECONDS,
    )


def device_too_small(worker: Worker, model: Model) -> FailedPreconditionError:
    """The worker's device cannot hold the model's weights."""
    needed_bytes = model.checkpoint.total_bytes
    return FailedPreconditionError(
        f"the device of worker {worker.worker_id} holds {worker.memory_bytes:,} bytes, and model {model.name!r} has "
        f"{needed_bytes:,} of weights; name a worker with a larger device",
        reason="DEVICE_TOO_SMALL",
        metadata={"worker_id": worker.worker_id, "model": model.name},
    )


def node_drained(node_id: str) -> FailedPreconditionError:
    """Nothing may be started on the node."""
    return FailedPreconditionError(
        f"node {node_id} is drained; `kindling undrain {node_id}` lets it serve again, or name a worker elsewhere",
        reason="NODE_DRAINED",
        metadata={"node_id": node_id},
    )


def no_free_slot(worker: Worker, models: Sequence[str]) -> ResourceExhaustedError:
    """The worker runs as many instances as it can."""
    running = ", ".join(sorted(models)) or "what it is still stopping"
    return ResourceExhaustedError(
        f"worker {worker.worker_id} has no free slot: it runs {running}; make room with `kindling evict`, move that "
        "away first, or name another worker",
        reason="NO_FREE_SLOT",
        metadata={"worker_id": worker.worker_id, "slots": str(worker.slots)},
    )


def no_free_memory(worker: Worker, model: Model, free_bytes: int) -> ResourceExhaustedError:
    """The worker has a slot, and what runs there leaves too little of its device's memory."""
    return ResourceExhaustedError(
        f"worker {worker.worker_id} has {free_bytes:,} bytes of its device free, and model {model.name!r} needs "
        f"{model.device_bytes:,}; make room with `kindling evict`, or name another worker",
        reason="NO_FREE_MEMORY",
        metadata={"worker_id": worker.worker_id, "free_bytes": str(free_bytes)},
    )


def several_devices_stay(model: Model) -> FailedPreconditionError:
    """An instance on several devices cannot be moved."""
    return FailedPreconditionError(
        f"model {model.name!r} runs on {model.settings.devices} devices at once, and such instances do not move; "
        "`kindling evict` stops idle ones, and the next request starts one where that is soonest",
        reason="SEVERAL_DEVICES_STAY",
        metadata={"model": model.name, "devices": str(model.settings.devices)},
    )


def not_running(model: str, worker_id: str = "") -> FailedPreconditionError:
    """There is nothing to move."""
    where = f" on {worker_id}" if worker_id else ""
    return FailedPreconditionError(
        f"model {model!r} has no instance{where} that is ready; `kindling status` shows where it runs",
        reason="MODEL_NOT_RUNNING",
        metadata={"model": model},
    )


def migration_underway(instance: Instance) -> FailedPreconditionError:
    """The instance has a part in another migration."""
    return FailedPreconditionError(
        f"{instance.instance_id} takes part in another migration; ask again when that is over",
        reason="MIGRATION_UNDERWAY",
        metadata={"instance_id": instance.instance_id},
        retry_after_seconds=_RETRY_SECONDS,
    )


def generations_stayed(instance_id: str, stayed: int, why: str) -> AbortedError:
    """Some generations could not be moved; their instance serves on."""
    return AbortedError(
        f"{stayed} generation(s) could not be moved and went on in {instance_id}, which serves again: {why}; ask again",
        reason="GENERATIONS_STAYED",
        metadata={"instance_id": instance_id, "stayed": str(stayed)},
    )


def source_lost(instance_id: str) -> UnavailableError:
    """The instance that generations were to leave is gone."""
    return UnavailableError(
        f"{instance_id} ended before its generations were moved; gateways resume them elsewhere",
        reason="MIGRATION_SOURCE_LOST",
        metadata={"instance_id": instance_id},
    )


def target_lost(instance_id: str) -> UnavailableError:
    """The instance that generations were to go to is gone."""
    return UnavailableError(
        f"{instance_id}, to which generations were moved, ended; what is left goes on where it was",
        reason="MIGRATION_TARGET_LOST",
        metadata={"instance_id": instance_id},
    )


def no_place(instance: Instance, why: str) -> str:
    """There is nowhere to go."""
    return (
        f"{instance.instance_id} has generations and nowhere to go, for {why}; it ends with them, or moves once there "
        "is a free slot on another node"
    )


def stays_on_its_devices(instance: Instance) -> str:
    """It has several devices, and so it cannot move."""
    return f"{instance.instance_id} runs on {len(instance.worker_ids)} devices and cannot move; it ends with its work"


def ends_where_it_is(instance: Instance, generations: int) -> str:
    """An instance that was told to stop before is left to finish."""
    return f"{instance.instance_id} was told to stop before and still has {generations} generation(s)"
