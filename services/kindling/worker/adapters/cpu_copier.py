"""The port ``DeviceCopier`` in ordinary memory: what a device does, without one."""

import torch


class CpuCopied:
    """Bytes that are there."""

    def wait(self) -> None:
        """Return at once."""


class CpuCopier:
    """An arena of ordinary memory; every copy is done when ``copy`` returns."""

    def __init__(self, size_bytes: int) -> None:
        self.arena = torch.empty(size_bytes, dtype=torch.uint8)

    def copy(self, source: torch.Tensor, offset_bytes: int) -> CpuCopied:
        """Copy; see the port."""
        self.arena[offset_bytes : offset_bytes + len(source)].copy_(source)
        return CpuCopied()

    def finish(self) -> None:
        """Return at once: nothing is under way."""
