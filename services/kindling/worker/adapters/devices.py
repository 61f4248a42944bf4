"""The device that the settings name."""

from typing import TYPE_CHECKING

from kindling.platform.errors import FailedPreconditionError

if TYPE_CHECKING:
    import torch


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


def _unavailable(name: str, count: int) -> FailedPreconditionError:
    import torch

    why = f"torch sees {count} CUDA devices" if torch.version.cuda else "this torch was built without CUDA"
    return FailedPreconditionError(
        f"Device {name} is not available: {why}. Set KINDLING_WORKER_DEVICE to cpu or to a device that is there, and "
        "check the driver, CUDA_VISIBLE_DEVICES and that torch is a CUDA build.",
        reason="DEVICE_UNAVAILABLE",
        metadata={"device": name, "cuda_devices": str(count)},
    )
