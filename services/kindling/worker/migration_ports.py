"""What a migration needs of the world: the worker that generations go to."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from kindling.worker.domain.generation import GenerationRequest


class Receiver(Protocol):
    """One generation on its way to another worker.

    Every method returns when the other worker has answered, and raises KindlingError if it refuses or cannot be
    reached.
    """

    @property
    def sent_bytes(self) -> int:
        """Bytes sent so far."""
        ...

    async def begin(self, request: GenerationRequest) -> None:
        """Send the generation so far; return when everything is computed there but the last token."""
        ...

    async def round(self, position: int, token_ids: tuple[int, ...]) -> None:
        """Send tokens emitted since; return when they are computed there, but for the last."""
        ...

    async def hand_over(self, position: int, token_ids: tuple[int, ...]) -> None:
        """Send the last tokens; return when the generation goes on there."""
        ...


class TargetWorker(Protocol):
    """A worker that receives generations."""

    @property
    def address(self) -> str:
        """Where it listens, as its generations' readers are told."""
        ...

    async def checkpoint_of(self, instance_id: str) -> str:
        """Return the digest of the checkpoint that an instance runs there.

        Raises:
            NotFoundError: INSTANCE_UNKNOWN.
            KindlingError: the worker cannot be reached.
        """
        ...

    def receive(self, instance_id: str) -> AbstractAsyncContextManager[Receiver]:
        """Begin to send a generation to an instance; leaving without a handover makes the other worker drop it at once.

        Leaving does not wait for the other worker.
        """
        ...


class Workers(Protocol):
    """The other workers."""

    def at(self, address: str) -> TargetWorker:
        """Return the one that listens at ``address``."""
        ...
