"""Why a request does not run, in words that say what to do."""

from collections.abc import Sequence

from kindling.platform.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    KindlingError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.scheduler.domain.device_sizes import DeviceSizes
from kindling.scheduler.domain.values import Instance, Model

_RETRY_SECONDS = 5.0


def unknown_model(name: str) -> NotFoundError:
    """Nothing is deployed under the name."""
    return NotFoundError(
        f"there is no model {name[:128]!r}; `kindling models` lists those deployed",
        reason="MODEL_NOT_FOUND",
        metadata={"model": name[:128]},
    )


def queue_full(model: Model) -> ResourceExhaustedError:
    """As many requests wait as may."""
    most = model.settings.max_queued_requests
    return ResourceExhaustedError(
        f"{most} requests wait for model {model.name!r} already; try again later, or deploy it again with a larger "
        "`--max-queued-requests`",
        reason="QUEUE_FULL",
        metadata={"model": model.name, "max_queued_requests": str(most)},
        retry_after_seconds=_RETRY_SECONDS,
    )


def too_many_waiting(tenant: str, most: int) -> ResourceExhaustedError:
    """As many requests of the tenant wait as may."""
    return ResourceExhaustedError(
        f"tenant {tenant or 'default'!r} has {most} requests waiting, as many as its quota `waiting` lets it; try "
        "again once some of them run, or have the operator raise the quota with `kindling tenant set`",
        reason="TENANT_QUOTA_EXCEEDED",
        metadata={"tenant": tenant, "quota": "waiting", "limit": str(most)},
        retry_after_seconds=_RETRY_SECONDS,
    )


def queue_timeout(model: Model, kept: Sequence[str] = ()) -> DeadlineExceededError:
    """The request has waited as long as it may, while others were ``kept`` ready all the time."""
    longest = model.settings.max_queue_wait_seconds
    keeping = f"; even without work, devices are kept by {', '.join(kept)}: lower `--min-instances`" if kept else ""
    return DeadlineExceededError(
        f"no instance of model {model.name!r} had room within {longest:g} s; try again later, add workers, or deploy "
        f"it again with a longer `--max-queue-wait`{keeping}",
        reason="QUEUE_TIMEOUT",
        metadata={"model": model.name, "max_queue_wait_seconds": f"{longest:g}"},
    )


def held_back(model: Model, tenant: str, quota: str, most: int) -> DeadlineExceededError:
    """The request has waited as long as it may, and its tenant has as much as its quota lets it."""
    longest = model.settings.max_queue_wait_seconds
    return DeadlineExceededError(
        f"model {model.name!r} had no room for tenant {tenant or 'default'!r} within {longest:g} s: it has {most} "
        f"{quota}, as many as its quota lets it; try again once some are over, or have the operator raise it with "
        "`kindling tenant set`",
        reason="QUEUE_TIMEOUT",
        metadata={"model": model.name, "tenant": tenant, "quota": quota, "limit": str(most)},
    )


def no_workers() -> UnavailableError:
    """There is nothing to run an instance on."""
    return UnavailableError(
        "no worker is there to run a model, or all are on drained nodes; start one, or let a node serve again with "
        "`kindling undrain`; `kindling status` shows what became of them",
        reason="NO_WORKERS",
        retry_after_seconds=_RETRY_SECONDS,
    )


def no_device_large_enough(model: Model, sizes: DeviceSizes) -> FailedPreconditionError:
    """No worker that is there can ever hold the model's weights, nor so many of a node its parts."""
    devices, enough = model.settings.devices, sizes.devices_for(model.checkpoint.total_bytes)
    largest_bytes = int(max(0, sizes.largest_bytes(devices)))
    return FailedPreconditionError(
        f"model {model.name!r} has {model.checkpoint.total_bytes:,} bytes of weights, "
        f"{_too_large(model, largest_bytes)}: {_advice(model, enough, largest_bytes)}",
        reason="NO_DEVICE_LARGE_ENOUGH",
        metadata={
            "model": model.name,
            "devices": str(devices),
            "needed_bytes": str(model.device_bytes),
            "largest_device_bytes": str(largest_bytes),
        },
    )


def _advice(model: Model, enough: int | None, largest_bytes: int) -> str:
    devices = model.settings.devices
    if enough and enough != devices:
        return f"deploy it with `--devices {enough}`, for {enough} devices of a node hold it together"
    if devices > 1 and not largest_bytes:
        return f"start workers until a node has {devices}, or deploy it with fewer `--devices`"
    return "add a worker whose device holds more, or deploy a smaller or quantized model"


def _too_large(model: Model, largest_bytes: int) -> str:
    devices = model.settings.devices
    if devices == 1:
        return f"and the largest device holds {largest_bytes:,}"
    parts = f"{model.device_bytes:,} for each of its {devices} devices"
    if not largest_bytes:
        return f"{parts}, and no node has {devices} devices of a kind"
    return f"{parts}, and the largest {devices} of a node hold {largest_bytes:,} each"


def load_broken(instance: Instance) -> UnavailableError:
    """An instance ended by itself before its weights were there."""
    return UnavailableError(
        f"{instance.instance_id} ended on {instance.worker_id} before its checkpoint was loaded; that worker's log has "
        "the reason",
        reason="LOAD_BROKEN",
        metadata={"instance_id": instance.instance_id, "worker_id": instance.worker_id},
    )


def retold(error: KindlingError) -> KindlingError:
    """A fresh copy of an error that several requests are to be told."""
    return type(error)(
        error.message,
        reason=error.reason,
        metadata=error.metadata,
        retry_after_seconds=error.retry_after_seconds,
        field=error.field,
    )
