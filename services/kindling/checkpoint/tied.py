"""Tied tensors: an output head that is the embedding is stored once."""

import re
from typing import Final

from kindling.checkpoint.manifest import LayerKind
from kindling.checkpoint.order import layer_of
from kindling.checkpoint.source import Source
from kindling.checkpoint.source_tensor import SourceTensor

_HEAD_NAME = re.compile(r"(.*\.)?(lm_head|embed_out|output)\.weight")
_COMPARE_BYTES: Final = 8 * 1024 * 1024


def without_tied(source: Source) -> tuple[SourceTensor, ...]:
    """The source's tensors less an output head that repeats the embedding byte for byte.

    Only where the configuration says that they are tied: any reader of the packed file then ties them again.
    """
    if not source.config.ties_embeddings:
        return source.tensors
    embeddings = [tensor for tensor in source.tensors if layer_of(tensor.name).kind is LayerKind.EMBEDDING]
    return tuple(tensor for tensor in source.tensors if not _repeats(tensor, embeddings))


def _repeats(tensor: SourceTensor, embeddings: list[SourceTensor]) -> bool:
    return _HEAD_NAME.fullmatch(tensor.name) is not None and any(_same(tensor, other) for other in embeddings)


def _same(one: SourceTensor, other: SourceTensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pieces = range(0, one.size_bytes, _COMPARE_BYTES)
    return all(_piece(one, offset) == _piece(other, offset) for offset in pieces)


def _piece(tensor: SourceTensor, offset: int) -> bytearray:
    piece = bytearray(min(_COMPARE_BYTES, tensor.size_bytes - offset))
    tensor.content.read_into(offset, memoryview(piece))
    return piece
