"""A checkpoint's tensors as views of mapped memory."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from kindling.checkpoint.manifest import Manifest, TensorEntry
from kindling.platform.errors import DataLossError, InvalidArgumentError
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch


class SharedWeights:
    """The ``WeightSource`` over one mapping per partition; see the port for what is guaranteed.

    Raises:
        DataLossError: MANIFEST_INVALID, if the mappings are not those of the manifest's partitions.
    """

    def __init__(self, manifest: Manifest, mappings: Sequence[PartitionMapping], arrivals: Arrivals) -> None:
        _require_same_partitions(manifest, mappings)
        self._manifest = manifest
        self._mappings = mappings
        self._arrivals = arrivals
        self._entries = {entry.name: entry for entry in manifest.tensors}
        self._specs = {entry.name: _spec(entry) for entry in manifest.tensors}
        self._storages: dict[int, torch.Tensor] = {}

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
        piece = self._storage(entry.partition)[entry.offset_bytes : entry.end_bytes]
        return piece.view(_torch_dtype(entry)).view(entry.shape)

    def wait(self, names: Iterable[str]) -> None:
        """Block until the chunks that hold the named tensors have arrived."""
        if self._arrivals.complete:
            return
        self._arrivals.wait(chunk for name in names for chunk in self._manifest.tensor_chunks(self._entries[name]))

    def _storage(self, partition: int) -> "torch.Tensor":
        import torch

        if partition not in self._storages:
            self._storages[partition] = torch.frombuffer(self._mappings[partition].buffer, dtype=torch.uint8)
        return self._storages[partition]


def _spec(entry: TensorEntry) -> TensorSpec:
    return TensorSpec(entry.name, entry.dtype, entry.shape, entry.size_bytes)


def _torch_dtype(entry: TensorEntry) -> "torch.dtype":
    import torch

    dtypes = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
    if entry.dtype not in dtypes:
        raise InvalidArgumentError(
            f"Tensor {entry.name} is of type {entry.dtype}, which cannot be computed with; convert the model.",
            reason="DTYPE_UNSUPPORTED",
            metadata={"tensor": entry.name, "dtype": entry.dtype},
        )
    return dtypes[entry.dtype]


def _require_same_partitions(manifest: Manifest, mappings: Sequence[PartitionMapping]) -> None:
    expected = [partition.size_bytes for partition in manifest.partitions]
    actual = [mapping.size_bytes for mapping in mappings]
    if expected != actual:
        raise DataLossError(
            f"The manifest of {manifest.digest} has partitions of {expected} bytes, the memory handed over has "
            f"{actual}; the storage manager and the checkpoint do not agree.",
            reason="MANIFEST_INVALID",
        )
