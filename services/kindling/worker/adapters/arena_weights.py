"""A checkpoint's tensors as views of one arena of device memory, filled chunk by chunk as they arrive."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import InternalError, KindlingError
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.tensor_views import mapped_bytes, require_same_partitions, tensor_spec, tensor_view
from kindling.worker.device_ports import Copied, DeviceCopier
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch

ALIGNMENT_BYTES: Final = 4096
"""Where a partition may begin in the arena: what its file offsets are aligned to, the arena's are, too."""


class ArenaWeights:
    """The ``WeightSource`` over memory of a device; see the port for what is guaranteed.

    A thread of its own copies chunks from the mappings in the order of their arrival. ``wait`` blocks the host until
    the chunks have arrived, and lets the device, not the host, wait for the copies. ``placed`` is done when every byte
    is on the device: the mappings are not read any more.

    Raises:
        DataLossError: MANIFEST_INVALID, if the mappings are not those of the manifest's partitions.
        ResourceExhaustedError: DEVICE_MEMORY_EXHAUSTED.
    """

    reads_mappings = False

    def __init__(
        self,
        manifest: Manifest,
        mappings: Sequence[PartitionMapping],
        arrivals: Arrivals,
        make_copier: Callable[[int], DeviceCopier],
    ) -> None:
        require_same_partitions(manifest, mappings)
        self._manifest = manifest
        self._arrivals = arrivals
        self._entries = {entry.name: entry for entry in manifest.tensors}
        self._specs = {entry.name: tensor_spec(entry) for entry in manifest.tensors}
        self._starts = _partition_starts(manifest)
        self._copied: dict[int, Copied] = {}
        self._failure: KindlingError | None = None
        self._changed = threading.Condition()
        copier = make_copier(self._starts[-1])
        self._arena = copier.arena
        self.placed: Future[None] = Future()
        self.placed.set_running_or_notify_cancel()  # who stops waiting for it does not cancel it
        self._begin(copier, [mapped_bytes(mapping) for mapping in mappings])

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Every tensor, in the order of arrival."""
        return MappingProxyType(self._specs)

    @property
    def complete(self) -> bool:
        """Whether every byte is on the device."""
        return self.placed.done() and self._failure is None

    def tensor(self, name: str) -> "torch.Tensor":
        """Return a view of the arena; all share one storage."""
        entry = self._entries[name]
        return tensor_view(self._arena, entry, self._starts[entry.partition])

    def wait(self, names: Iterable[str]) -> None:
        """Block until the named tensors' chunks have arrived; what the device computes next waits for their copies."""
        if self.complete:
            return
        chunks = {chunk for name in names for chunk in self._manifest.tensor_chunks(self._entries[name])}
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or chunks <= self._copied.keys())
            if self._failure is not None and not chunks <= self._copied.keys():
                raise self._failure
            copied = [self._copied[chunk] for chunk in chunks]
        for each in copied:
            each.wait()

    def close(self) -> None:
        """Return when the mappings are not read any more; a load that has not arrived must have been given up."""
        self._thread.shutdown()

    def _begin(self, copier: DeviceCopier, sources: Sequence["torch.Tensor"]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device-copy")
        self._thread.submit(self._fill, copier, sources).add_done_callback(self._end)
        self._thread.shutdown(wait=False)

    def _fill(self, copier: DeviceCopier, sources: Sequence["torch.Tensor"]) -> None:
        try:
            for chunk in self._arrivals.in_order():
                partition = self._manifest.chunk_partition(chunk)
                offset, length = self._manifest.chunk_range(chunk)
                source = sources[partition][offset : offset + length]
                self._note(chunk, copier.copy(source, self._starts[partition] + offset))
        finally:
            copier.finish()

    def _note(self, chunk: int, copied: Copied) -> None:
        with self._changed:
            self._copied[chunk] = copied
            self._changed.notify_all()

    def _end(self, filling: Future[None]) -> None:
        cause = filling.exception()
        with self._changed:
            self._failure = None if cause is None else _failure(cause)
            self._changed.notify_all()
        if self._failure is None:
            self.placed.set_result(None)
        else:
            self.placed.set_exception(self._failure)


def _partition_starts(manifest: Manifest) -> list[int]:
    """Where each partition begins in the arena, and where the last one ends."""
    sizes = [-(-partition.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for partition in manifest.partitions]
    return list(accumulate(sizes, initial=0))


def _failure(cause: BaseException) -> KindlingError:
    if isinstance(cause, KindlingError):
        return cause
    error = InternalError(
        f"Copying the checkpoint to the device failed ({type(cause).__name__}: {cause}); start the instance anew.",
        reason="DEVICE_COPY_FAILED",
        metadata={"cause": type(cause).__name__},
    )
    error.__cause__ = cause
    return error
