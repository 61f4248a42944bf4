"""A checkpoint's tensors as views of mapped memory."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING

from kindling.checkpoint.manifest import Manifest
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.tensor_views import mapped_bytes, require_same_partitions, tensor_spec, tensor_view
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch


class SharedWeights:
    """The ``WeightSource`` over one mapping per partition; see the port for what is guaranteed.

    Raises:
        DataLossError: MANIFEST_INVALID, if the mappings are not those of the manifest's partitions.
    """

    reads_mappings = True

    def __init__(self, manifest: Manifest, mappings: Sequence[PartitionMapping], arrivals: Arrivals) -> None:
        require_same_partitions(manifest, mappings)
        self._manifest = manifest
        self._mappings = mappings
        self._arrivals = arrivals
        self._entries = {entry.name: entry for entry in manifest.tensors}
        self._specs = {entry.name: tensor_spec(entry) for entry in manifest.tensors}
        self._storages: dict[int, torch.Tensor] = {}
        self.placed: Future[None] = Future()
        self.placed.set_result(None)

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Every tensor, in the order of arrival."""
        return MappingProxyType(self._specs)

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived."""
        return self._arrivals.complete

    def tensor(self, name: str) -> "torch.Tensor":
        """Return a view of the mapping; neighbours of one partition share one storage."""
        entry = self._entries[name]
        return tensor_view(self._storage(entry.partition), entry)

    def wait(self, names: Iterable[str]) -> None:
        """Block until the chunks that hold the named tensors have arrived."""
        if self._arrivals.complete:
            return
        self._arrivals.wait(chunk for name in names for chunk in self._manifest.tensor_chunks(self._entries[name]))

    def close(self) -> None:
        """Do nothing: nobody but the engine reads the mapping."""

    def _storage(self, partition: int) -> "torch.Tensor":
        if partition not in self._storages:
            self._storages[partition] = mapped_bytes(self._mappings[partition])
        return self._storages[partition]
