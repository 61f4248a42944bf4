"""A Hugging Face directory as a source: opened, validated, its tensors readable by byte range."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from kindling.checkpoint.containment import OpenFile, contained, open_file
from kindling.checkpoint.files import reading
from kindling.checkpoint.header import Header, HeaderTensor, read_header
from kindling.checkpoint.layout import MODEL_FILES
from kindling.checkpoint.model_config import ModelConfig
from kindling.checkpoint.shard_index import read_index
from kindling.checkpoint.source_tensor import SourceTensor
from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError

_SINGLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_PICKLE: Final = "pytorch_model.bin"
_PICKLE_INDEX: Final = "pytorch_model.bin.index.json"
_MOST_MODEL_FILE_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """An open source; its tensors can be read until the context of ``open_source`` ends."""

    directory: Path
    config: ModelConfig
    tensors: tuple[SourceTensor, ...]
    model_files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _FileRange:
    file: OpenFile
    begin: int

    def read_into(self, offset: int, into: memoryview) -> None:
        self.file.read_into(self.begin + offset, into)


@contextmanager
def open_source(directory: Path, *, allow_pickle: bool, supported: Callable[[str], bool]) -> Iterator[Source]:
    """Opens and validates a Hugging Face directory; nothing of it is trusted and no code of it is run.

    Raises KindlingErrors that name the file and what to do about it: SOURCE_NOT_FOUND, SOURCE_EMPTY,
    SOURCE_NOT_READABLE, those of the configuration, the index and the headers, PICKLE_REFUSED, WEIGHTS_NOT_FOUND.
    """
    names = _names(directory)
    config = ModelConfig.read(directory, supported)
    model_files = tuple(contained(directory, name) for name in MODEL_FILES if name in names)
    for path in model_files:
        _require_small(path)
    with ExitStack() as stack:
        tensors = _tensors(directory, names, allow_pickle, stack)
        if not tensors:
            _refuse(directory, "SOURCE_EMPTY", "holds no tensors. Export the model again")
        yield Source(directory, config, tensors, model_files)


def _names(directory: Path) -> set[str]:
    with reading(directory):
        names = set(os.listdir(directory))  # noqa: PTH208 - names, not paths
    if not names:
        _refuse(directory, "SOURCE_EMPTY", "is empty. Give a directory as transformers' save_pretrained writes it")
    return names


def _require_small(path: Path) -> None:
    with reading(path):
        size_bytes = path.stat().st_size
    if size_bytes > _MOST_MODEL_FILE_BYTES:
        _refuse(path, "MODEL_FILE_TOO_LARGE", f"has {size_bytes} bytes; the limit is {_MOST_MODEL_FILE_BYTES}")


def _tensors(directory: Path, names: set[str], allow_pickle: bool, stack: ExitStack) -> tuple[SourceTensor, ...]:
    if _INDEX in names:
        return _sharded(directory, stack)
    if _SINGLE in names:
        return tuple(_shard(contained(directory, _SINGLE), stack).values())
    if _PICKLE_INDEX in names or _PICKLE in names:
        return _pickled(directory, names, allow_pickle)
    raise NotFoundError(
        f"{directory} has no weights: neither {_SINGLE} nor {_INDEX} is there. Export the model as safetensors.",
        reason="WEIGHTS_NOT_FOUND",
        metadata={"source": str(directory)},
    )


def _sharded(directory: Path, stack: ExitStack) -> tuple[SourceTensor, ...]:
    weight_map = read_index(directory, _INDEX)
    shards = {name: _shard(contained(directory, name), stack) for name in sorted(set(weight_map.values()))}
    return tuple(_listed(directory, shards[shard], tensor, shard) for tensor, shard in weight_map.items())


def _listed(directory: Path, tensors: dict[str, SourceTensor], name: str, shard: str) -> SourceTensor:
    if name not in tensors:
        what = f"does not hold the tensor {name[:200]!r} that {_INDEX} says it holds. Download the model again"
        _refuse(directory / shard, "TENSOR_MISSING", what)
    return tensors[name]


def _shard(path: Path, stack: ExitStack) -> dict[str, SourceTensor]:
    try:
        file = open_file(path)
    except NotFoundError as error:
        raise NotFoundError(
            f"{path} is missing, though the index names it. Download the model again.",
            reason="SHARD_MISSING",
            metadata={"file": str(path)},
        ) from error
    stack.callback(os.close, file.descriptor)
    header = read_header(path, file.descriptor, file.size_bytes)
    return {tensor.name: _source_tensor(file, header, tensor) for tensor in header.tensors}


def _source_tensor(file: OpenFile, header: Header, tensor: HeaderTensor) -> SourceTensor:
    content = _FileRange(file, header.data_offset + tensor.begin)
    return SourceTensor(tensor.name, tensor.dtype, tensor.shape, tensor.end - tensor.begin, content)


def _pickled(directory: Path, names: set[str], allow_pickle: bool) -> tuple[SourceTensor, ...]:
    if not allow_pickle:
        _refuse(
            directory,
            "PICKLE_REFUSED",
            "holds its weights as a torch pickle, which can run code when it is read. Convert it to safetensors, or "
            "allow pickles (--allow-pickle) if you trust its origin",
        )
    try:
        # Only here does packing need torch, which storage managers' images leave out.
        from kindling.checkpoint.pickle_source import read_pickles
    except ModuleNotFoundError as error:
        raise _no_torch(directory) from error
    shards = sorted(set(read_index(directory, _PICKLE_INDEX).values())) if _PICKLE_INDEX in names else [_PICKLE]
    return read_pickles([contained(directory, shard) for shard in shards])


def _refuse(path: Path, reason: str, what: str) -> NoReturn:
    raise InvalidArgumentError(f"{path} {what}.", reason=reason, metadata={"file": str(path)})


def _no_torch(directory: Path) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{directory} holds its weights as a torch pickle, and torch, which reads it, is not installed here. Convert "
        "it to safetensors, or install torch for the storage managers.",
        reason="PICKLE_NEEDS_TORCH",
        metadata={"file": str(directory)},
    )
