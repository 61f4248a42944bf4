"""A checkpoint's tensors as views of flat memory."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kindling.checkpoint.manifest import Manifest, TensorEntry
from kindling.platform.errors import DataLossError, InvalidArgumentError
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch


def tensor_spec(entry: TensorEntry) -> TensorSpec:
    """Return what the engine knows of a tensor."""
    return TensorSpec(entry.name, entry.dtype, entry.shape, entry.size_bytes)


def tensor_view(memory: "torch.Tensor", entry: TensorEntry, start_bytes: int = 0) -> "torch.Tensor":
    """Return the tensor as a view of ``memory``, flat bytes in which its partition begins at ``start_bytes``.

    Raises:
        InvalidArgumentError: DTYPE_UNSUPPORTED, or TENSOR_MISALIGNED.
    """
    import torch

    # One operation where slicing, and seeing it as another type and then shape, are three: tensors are hundreds.
    view = torch.empty(0, dtype=_torch_dtype(entry), device=memory.device)
    offset, rest = divmod(int(memory.storage_offset()) + start_bytes + entry.offset_bytes, view.itemsize)
    if rest:
        raise InvalidArgumentError(
            f"Tensor {entry.name} ({entry.dtype}) begins in the middle of an element, after {entry.offset_bytes} bytes "
            "of its file, and cannot be used where it lies; convert the model to one dtype.",
            reason="TENSOR_MISALIGNED",
            metadata={"tensor": entry.name, "offset_bytes": str(entry.offset_bytes)},
        )
    # Without strides it is contiguous; the stubs do not say so.
    return view.set_(memory.untyped_storage(), offset, entry.shape)  # type: ignore[call-overload, no-any-return]


def mapped_bytes(mapping: PartitionMapping) -> "torch.Tensor":
    """Return the whole partition as flat bytes; to be read only."""
    import torch

    return torch.frombuffer(mapping.buffer, dtype=torch.uint8)


def require_same_partitions(manifest: Manifest, mappings: Sequence[PartitionMapping]) -> None:
    """Raise DataLossError MANIFEST_INVALID if the mappings are not those of the manifest's partitions."""
    expected = [partition.size_bytes for partition in manifest.partitions]
    actual = [mapping.size_bytes for mapping in mappings]
    if expected != actual:
        raise DataLossError(
            f"The manifest of {manifest.digest} has partitions of {expected} bytes, the memory handed over has "
            f"{actual}; the storage manager and the checkpoint do not agree.",
            reason="MANIFEST_INVALID",
        )


def _torch_dtype(entry: TensorEntry) -> "torch.dtype":
    dtypes = _torch_dtypes()
    if entry.dtype not in dtypes:
        raise InvalidArgumentError(
            f"Tensor {entry.name} is of type {entry.dtype}, which cannot be computed with; convert the model.",
            reason="DTYPE_UNSUPPORTED",
            metadata={"tensor": entry.name, "dtype": entry.dtype},
        )
    return dtypes[entry.dtype]


@functools.cache
def _torch_dtypes() -> "Mapping[str, torch.dtype]":
    import torch

    return {
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
