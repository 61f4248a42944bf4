"""The port ``DeviceCopier`` on a CUDA device. Not yet run on a GPU."""

from dataclasses import dataclass

import torch

from kindling.platform.errors import ResourceExhaustedError
from kindling.worker.adapters.host_pins import HostPins
from kindling.worker.adapters.staging_ring import StagingRing


class CudaDevice:
    """What the loads of one worker share: the stream that copies, and buffers for memory that cannot be pinned."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.staging = StagingRing()

    def copier(self, size_bytes: int) -> "CudaCopier":
        """Return a copier into an arena of so many bytes.

        Raises:
            ResourceExhaustedError: DEVICE_MEMORY_EXHAUSTED.
        """
        return CudaCopier(self, _allocate(size_bytes, self.device))


@dataclass(frozen=True, slots=True)
class CudaCopied:
    """Bytes that are on the device once the event has happened."""

    event: torch.cuda.Event
    device: torch.device

    def wait(self) -> None:
        """Let the calling thread's stream wait; the host goes on."""
        torch.cuda.current_stream(self.device).wait_event(self.event)


class CudaCopier:
    """Copies from pinned memory without the CPU, on the device's copying stream; see the port.

    Mapped chunks are pinned where they lie, each while the one before it is copied. If the driver refuses that, chunks
    go through staging buffers.
    """

    def __init__(self, device: CudaDevice, arena: torch.Tensor) -> None:
        self.arena = arena
        self._device = device
        self._pins = HostPins(device.device)
        # The arena may be memory that kernels of the allocating stream were given before.
        device.stream.wait_stream(torch.cuda.current_stream(device.device))

    def copy(self, source: torch.Tensor, offset_bytes: int) -> CudaCopied:
        """Begin to copy; see the port."""
        target = self.arena[offset_bytes : offset_bytes + len(source)]
        with torch.cuda.stream(self._device.stream):
            if self._pins.pin(source):
                target.copy_(source, non_blocking=True)
            else:
                self._device.staging.copy(source, target)
            return CudaCopied(self._device.stream.record_event(), self._device.device)

    def finish(self) -> None:
        """Block until the stream has copied everything, and unpin; see the port."""
        self._device.stream.synchronize()
        with torch.cuda.device(self._device.device):
            self._pins.release()


def _allocate(size_bytes: int, device: torch.device) -> torch.Tensor:
    try:
        return torch.empty(size_bytes, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError as error:
        raise ResourceExhaustedError(
            f"{device} has no {size_bytes} bytes free for the checkpoint; stop an instance there or use a larger one.",
            reason="DEVICE_MEMORY_EXHAUSTED",
            metadata={"device": str(device), "bytes": str(size_bytes)},
        ) from error
