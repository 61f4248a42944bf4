"""What the hardware, or the library underneath, can do at most."""

import mmap
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np

from kindling.bench.child import Answer, answer_parent
from kindling.bench.load.options import MIB

_MAP_HUGETLB = 0x40000
_COPY_BYTES = 256 * MIB


def measure(request: Answer) -> Mapping[str, Any]:
    """Run the floor named by ``request["floor"]`` once."""
    floors: dict[str, Callable[[Answer], tuple[float, int]]] = {
        "direct": _direct_reads,
        "obstore": _obstore_reads,
        "memcpy": _memcpy,
    }
    seconds, size_bytes = floors[request["floor"]](request)
    return {"seconds": seconds, "bytes": size_bytes}


def _direct_reads(request: Answer) -> tuple[float, int]:
    """Threads of O_DIRECT preadv into one pre-touched buffer each, on huge pages."""
    descriptor = os.open(request["path"], os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    size_bytes, block = os.fstat(descriptor).st_size, int(request["block_bytes"])
    buffers = [_huge_buffer(block) for _ in range(request["threads"])]
    offsets = _Offsets(size_bytes, block)

    def read(buffer: memoryview) -> int:
        return sum(os.preadv(descriptor, [buffer], offset) for offset in offsets)

    seconds, done = _timed(read, buffers)
    os.close(descriptor)
    assert done == size_bytes, "every byte was read"
    return seconds, done


def _obstore_reads(request: Answer) -> tuple[float, int]:
    """Threads of ranged reads through obstore, which makes the memory as it goes."""
    import obstore
    from obstore.store import HTTPStore

    base, name = request["url"].rsplit("/", 1)
    store = HTTPStore.from_url(base, client_options={"allow_http": True})
    size_bytes, block = int(request["size_bytes"]), int(request["block_bytes"])
    offsets = _Offsets(size_bytes, block)

    def read(_lane: int) -> int:
        total = 0
        for offset in offsets:
            length = min(block, size_bytes - offset)
            total += len(memoryview(obstore.get_range(store, name, start=offset, length=length)))
        return total

    seconds, done = _timed(read, list(range(request["threads"])))
    assert done == size_bytes, "every byte was read"
    return seconds, done


def _memcpy(request: Answer) -> tuple[float, int]:
    """One thread copies as many bytes as the checkpoint has between two touched buffers."""
    source = np.ones(_COPY_BYTES, dtype=np.uint8)
    target = np.full(_COPY_BYTES, 2, dtype=np.uint8)
    times = -(-int(request["size_bytes"]) // _COPY_BYTES)
    start = time.perf_counter()
    for _ in range(times):
        np.copyto(target, source)
    return time.perf_counter() - start, times * _COPY_BYTES


def _timed(work: Callable[[Any], int], lanes: list[Any]) -> tuple[float, int]:
    with ThreadPoolExecutor(len(lanes)) as executor:
        list(executor.map(abs, range(len(lanes))))  # the threads are there before the timer starts
        start = time.perf_counter()
        done = sum(executor.map(work, lanes))
        return time.perf_counter() - start, done


class _Offsets(Iterator[int]):
    """Where blocks begin; each goes to one caller."""

    def __init__(self, size_bytes: int, block: int) -> None:
        self._size_bytes, self._block, self._next = size_bytes, block, count()

    def __next__(self) -> int:
        offset = next(self._next) * self._block
        if offset >= self._size_bytes:
            raise StopIteration
        return offset


def _huge_buffer(size_bytes: int) -> memoryview:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        buffer = mmap.mmap(-1, size_bytes, flags=flags | _MAP_HUGETLB)
    except OSError:  # without huge pages ours has none either
        buffer = mmap.mmap(-1, size_bytes, flags=flags)
    view = memoryview(buffer)
    view[:: mmap.PAGESIZE] = bytes(len(view[:: mmap.PAGESIZE]))
    return view


if __name__ == "__main__":
    answer_parent(measure)
