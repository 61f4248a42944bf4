"""How far a long operation is, and whether anybody still wants it."""

from collections.abc import Callable
from dataclasses import dataclass

from kindling.platform.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Progress:
    """Told at every chunk; stops the operation once its caller has given up."""

    on_progress: Callable[[int, int], None]
    cancelled: Callable[[], bool]

    def report(self, done_bytes: int, total_bytes: int) -> None:
        """Passes progress on. Raises CancelledError (PACK_CANCELLED) if the caller gave up."""
        self.on_progress(done_bytes, total_bytes)
        if self.cancelled():
            raise CancelledError("Packing was cancelled; nothing was stored.", reason="PACK_CANCELLED")
