"""A few pinned buffers through which pageable memory goes to a CUDA device."""

import threading
from typing import Final

import torch

BUFFER_BYTES: Final = 8 * 2**20
BUFFER_COUNT: Final = 4


class StagingRing:
    """Buffers used in turns: one is filled by the CPU while the device reads the others. Safe for several threads.

    Allocated by the first copy and kept.
    """

    def __init__(self, *, buffer_bytes: int = BUFFER_BYTES, buffer_count: int = BUFFER_COUNT) -> None:
        self._buffer_bytes = buffer_bytes
        self._buffer_count = buffer_count
        self._slots: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        self._turn = 0
        self._lock = threading.Lock()

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy flat bytes on the current stream; ``source`` may change as soon as this returns."""
        for start in range(0, len(source), self._buffer_bytes):
            piece = source[start : start + self._buffer_bytes]
            with self._lock:
                self._copy_piece(piece, target[start : start + len(piece)])

    def _copy_piece(self, piece: torch.Tensor, target: torch.Tensor) -> None:
        if not self._slots:
            self._slots = [self._make_slot() for _ in range(self._buffer_count)]
        buffer, sent = self._slots[self._turn]
        self._turn = (self._turn + 1) % self._buffer_count
        sent.synchronize()  # an event that was never recorded is over
        buffer[: len(piece)].copy_(piece)
        target.copy_(buffer[: len(piece)], non_blocking=True)
        sent.record()

    def _make_slot(self) -> tuple[torch.Tensor, torch.cuda.Event]:
        buffer = torch.empty(self._buffer_bytes, dtype=torch.uint8, pin_memory=True)
        return buffer, torch.cuda.Event()  # type: ignore[no-untyped-call]
