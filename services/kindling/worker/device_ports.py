"""What the worker needs of a device with memory of its own: room for a checkpoint, and somebody who copies into it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Copied(Protocol):
    """Bytes that are on their way to a device."""

    def wait(self) -> None:
        """Make whatever the calling thread has the device compute from now on see the bytes; does not block the host
        longer than that takes."""
        ...


class DeviceCopier(Protocol):
    """One arena of device memory, and the copies into it. Synchronous; one thread copies and finishes."""

    @property
    def arena(self) -> "torch.Tensor":
        """The memory, flat bytes; undefined where nothing was copied to."""
        ...

    def copy(self, source: "torch.Tensor", offset_bytes: int) -> Copied:
        """Begin to copy host bytes to ``offset_bytes`` of the arena; copies take place in the order of the calls.

        The source must stay as it is until ``finish`` has returned.

        Raises:
            KindlingError: the device refused.
        """
        ...

    def finish(self) -> None:
        """Block until every copy has taken place, and let go of all host memory; may be called twice."""
        ...
