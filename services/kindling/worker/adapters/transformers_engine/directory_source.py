"""The weights of a Hugging Face directory as they lie on disk, mapped into memory."""

import json
import mmap
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from kindling.worker.domain.tensor_spec import TensorSpec

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class DirectoryWeightSource:
    """Every ``*.safetensors`` file of a trusted directory, complete from the start.

    Copy-on-write mappings: a write would stay in this process. The storage manager's mapping replaces it in a cluster.
    """

    def __init__(self, directory: Path) -> None:
        self._specs: dict[str, TensorSpec] = {}
        self._views: dict[str, torch.Tensor] = {}
        for path in sorted(directory.glob("*.safetensors")):
            self._map(path)

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Every tensor, file by file, in the order in which they lie."""
        return MappingProxyType(self._specs)

    @property
    def complete(self) -> bool:
        """Always."""
        return True

    def tensor(self, name: str) -> torch.Tensor:
        """Return a view of the mapping."""
        return self._views[name]

    def wait(self, names: Iterable[str]) -> None:
        """Return at once."""

    def _map(self, path: Path) -> None:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (header_bytes,) = struct.unpack("<Q", mapped[:8])
        header = json.loads(mapped[8 : 8 + header_bytes])
        header.pop("__metadata__", None)
        data = torch.frombuffer(mapped, dtype=torch.uint8, offset=8 + header_bytes)
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, end = entry["data_offsets"]
            self._specs[name] = TensorSpec(name, entry["dtype"], tuple(entry["shape"]), end - start)
            self._views[name] = data[start:end].view(_DTYPES[entry["dtype"]]).view(entry["shape"])
