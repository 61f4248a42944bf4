"""The device that the settings name."""

from typing import TYPE_CHECKING, Final

from kindling.platform.errors import FailedPreconditionError

if TYPE_CHECKING:
    import torch


CPU_KV_BUDGET_BYTES: Final = 256 * 2**20
SMALLEST_KV_BUDGET_BYTES: Final = 64 * 2**20
KV_SHARE: Final = 0.8
"""Of a device's free memory; the rest is for activations, and for what the allocator cannot fill."""

PARKED_SHARE: Final = 0.25
"""Of a device's memory."""


def resolve_device(name: str) -> "torch.device":
    """Return the device, with its index if it is one of several: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        FailedPreconditionError: DEVICE_UNAVAILABLE, if this process cannot compute on it.
    """
    import torch

    device = torch.device(name)
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        raise _unavailable(name, count)
    return torch.device("cuda", index)


def default_kv_budget(device: "torch.device", slots: int) -> int:
    """Return bytes of KV cache for one of ``slots`` instances on the device, whose weights are there already."""
    if device.type == "cpu":
        return CPU_KV_BUDGET_BYTES
    return max(SMALLEST_KV_BUDGET_BYTES, int(free_bytes(device) * KV_SHARE) // slots)


def default_parked_bytes(name: str) -> int | None:
    """Return how much of a device's own memory parked models may fill; None on a CPU, where it is the node's pool."""
    if name == "cpu":
        return None
    import torch

    return int(torch.cuda.get_device_properties(resolve_device(name)).total_memory * PARKED_SHARE)


def memory_bytes(name: str) -> int:
    """Return a device's own memory; 0 on a CPU, whose weights stay in the node's chunk pool."""
    if name == "cpu":
        return 0
    import torch

    return int(torch.cuda.get_device_properties(resolve_device(name)).total_memory)


def free_bytes(device: "torch.device") -> int:
    """Return what a CUDA device has free, with what torch's allocator keeps and does not use."""
    import torch

    free: int = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _unavailable(name: str, count: int) -> FailedPreconditionError:
    import torch

    why = f"torch sees {count} CUDA devices" if torch.version.cuda else "this torch was built without CUDA"
    return FailedPreconditionError(
        f"Device {name} is not available: {why}. Set KINDLING_WORKER_DEVICE to cpu or to a device that is there, and "
        "check the driver, CUDA_VISIBLE_DEVICES and that torch is a CUDA build.",
        reason="DEVICE_UNAVAILABLE",
        metadata={"device": name, "cuda_devices": str(count)},
    )
