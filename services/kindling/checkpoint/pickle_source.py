"""Torch pickles, read with ``weights_only=True`` alone: no object of theirs is ever constructed but tensors."""

import os
import pickle
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from kindling.checkpoint.containment import open_file
from kindling.checkpoint.dtype import TORCH_NAMES
from kindling.checkpoint.files import reading
from kindling.checkpoint.source_tensor import SourceTensor
from kindling.platform.errors import InvalidArgumentError

_SAFETENSORS_NAMES = {getattr(torch, name): spelling for spelling, name in TORCH_NAMES.items() if hasattr(torch, name)}

#: What torch's unpickler raises on bytes that are no pickle, as its opcodes run into nothing.
_GARBAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error)


@dataclass(frozen=True, slots=True)
class _TorchContent:
    tensor: torch.Tensor

    def read_into(self, offset: int, into: memoryview) -> None:
        data = self._bytes()[offset : offset + into.nbytes]
        np.copyto(np.frombuffer(into, dtype=np.uint8), data)

    def _bytes(self) -> npt.NDArray[np.uint8]:
        # A view where the tensor is contiguous; a transposed one is copied, as safetensors is row-major.
        array: npt.NDArray[np.uint8] = self.tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        return array


def read_pickles(paths: Iterable[Path]) -> tuple[SourceTensor, ...]:
    """The tensors of the pickles at ``paths``; their bytes are mapped from the files where the format allows it.

    Raises InvalidArgumentError: PICKLE_UNSAFE for a pickle that wants more than tensors, PICKLE_INVALID for one that
    cannot be read.
    """
    tensors: dict[str, SourceTensor] = {}
    for path in paths:
        for name, value in _load(path).items():
            tensors[str(name)] = _source_tensor(path, str(name), value)
    return tuple(tensors.values())


def _load(path: Path) -> dict[Any, Any]:
    os.close(open_file(path).descriptor)
    try:
        with reading(path):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        _refuse(path, "PICKLE_UNSAFE", "holds more than tensors and is not read. Convert it to safetensors", error)
    except _GARBAGE as error:
        _refuse(path, "PICKLE_INVALID", "cannot be read as a torch pickle. Download the model again", error)
    if not isinstance(loaded, dict):
        _refuse(path, "PICKLE_INVALID", "does not hold a table of tensors. Export the model's state_dict")
    return loaded


def _is_zip(path: Path) -> bool:
    # Pickles older than torch 1.6 are no zip files and cannot be mapped.
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _source_tensor(path: Path, name: str, value: object) -> SourceTensor:
    if not isinstance(value, torch.Tensor) or value.dtype not in _SAFETENSORS_NAMES:
        _refuse(path, "PICKLE_INVALID", f"holds {name[:200]!r}, which is not a tensor of a known dtype")
    size_bytes = value.numel() * value.element_size()
    return SourceTensor(name, _SAFETENSORS_NAMES[value.dtype], tuple(value.shape), size_bytes, _TorchContent(value))


def _refuse(path: Path, reason: str, what: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidArgumentError(f"{path} {what}.", reason=reason, metadata={"file": str(path)}) from cause
