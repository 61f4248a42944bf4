"""What the link to a CUDA device gives at best: the floor that loads are compared with. Not yet run on a GPU."""

import time

import torch

from kindling.worker.adapters.devices import resolve_device

CHUNK_BYTES = 16 * 2**20


def pinned_copy_seconds(size_bytes: int, device: str, *, chunk_bytes: int = CHUNK_BYTES) -> float:
    """Return the seconds that ``size_bytes`` of pinned memory take to the device in chunks, allocations not counted.

    Raises:
        FailedPreconditionError: DEVICE_UNAVAILABLE.
    """
    on = resolve_device(device)
    source = torch.ones(size_bytes, dtype=torch.uint8).pin_memory(on)
    target = torch.empty(size_bytes, dtype=torch.uint8, device=on)
    torch.cuda.synchronize(on)
    start = time.perf_counter()
    for begin in range(0, size_bytes, chunk_bytes):
        target[begin : begin + chunk_bytes].copy_(source[begin : begin + chunk_bytes], non_blocking=True)
    torch.cuda.synchronize(on)
    return time.perf_counter() - start
