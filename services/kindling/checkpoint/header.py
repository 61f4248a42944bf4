"""The header of a safetensors file, parsed as if its writer were an enemy."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

from kindling.checkpoint.dtype import DTYPE_BITS, tensor_bytes
from kindling.checkpoint.files import read_fully, reading
from kindling.checkpoint.strict_json import DuplicateKeyError, Fields, parse_object
from kindling.platform.errors import InvalidArgumentError

LENGTH_BYTES: Final = 8
#: The limit that safetensors itself sets.
MOST_HEADER_BYTES: Final = 100_000_000
METADATA_KEY: Final = "__metadata__"
_TOO_LARGE: Final = 2**63


@dataclass(frozen=True, slots=True)
class HeaderTensor:
    """One tensor of a safetensors file; ``begin`` and ``end`` count bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors in the order of their bytes, and where its data begins."""

    tensors: tuple[HeaderTensor, ...]
    data_offset: int


def read_header(path: Path, descriptor: int, size_bytes: int) -> Header:
    """Reads and validates the header of an open safetensors file of ``size_bytes``.

    Every tensor then lies within the file, none overlaps another, no byte belongs to none. Raises
    InvalidArgumentError whose reason says what is wrong and whose message names ``path``.
    """
    if size_bytes < LENGTH_BYTES:
        refuse(path, "SHARD_TRUNCATED", f"has {size_bytes} bytes, which is too short for a safetensors file")
    length = struct.unpack("<Q", _read(path, descriptor, 0, LENGTH_BYTES))[0]
    if length > MOST_HEADER_BYTES:
        refuse(path, "HEADER_TOO_LONG", f"says its header has {length} bytes; the limit is {MOST_HEADER_BYTES}")
    data_offset = LENGTH_BYTES + length
    if data_offset > size_bytes:
        refuse(path, "HEADER_BEYOND_FILE", f"says its header has {length} bytes, but the file has only {size_bytes}")
    header = _read(path, descriptor, LENGTH_BYTES, length)
    return Header(parse_header(path, header, size_bytes - data_offset), data_offset)


def parse_header(path: Path, header: bytes, data_bytes: int) -> tuple[HeaderTensor, ...]:
    """Parses the header's JSON for data of ``data_bytes``. Raises InvalidArgumentError as ``read_header`` does."""
    if not header.startswith(b"{"):
        refuse(path, "HEADER_INVALID", "does not begin with a safetensors header")
    try:
        entries = parse_object(header)
        _require_metadata(entries.pop(METADATA_KEY, {}))
    except DuplicateKeyError as error:
        refuse(path, "HEADER_DUPLICATE_KEY", f"has an ambiguous header: {error}", error)
    except ValueError as error:
        refuse(path, "HEADER_INVALID", f"has a header that cannot be read: {error}", error)
    tensors = tuple(sorted((_tensor(path, *entry) for entry in entries.items()), key=lambda it: (it.begin, it.end)))
    _require_seamless(path, tensors, data_bytes)
    return tensors


def refuse(path: Path, reason: str, what: str, cause: Exception | None = None) -> NoReturn:
    """Raises the InvalidArgumentError that says what is wrong with the source's file ``path``."""
    raise InvalidArgumentError(
        f"{path} {what}. Download or export the model again.", reason=reason, metadata={"file": str(path)}
    ) from cause


def _read(path: Path, descriptor: int, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    with reading(path):
        count = read_fully(descriptor, memoryview(buffer), offset)
    if count != length:
        refuse(path, "SHARD_TRUNCATED", "became shorter while it was read")
    return bytes(buffer)


def _require_metadata(value: object) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"{METADATA_KEY} is not an object of strings")


def _tensor(path: Path, name: str, value: object) -> HeaderTensor:
    shown = f"tensor {name[:200]!r}"
    try:
        fields = Fields.of(value, shown).only("dtype", "shape", "data_offsets")
        dtype = fields.string("dtype")
        shape, offsets = fields.array("shape"), fields.array("data_offsets")
    except ValueError as error:
        refuse(path, "HEADER_INVALID", f"has a header that cannot be read: {error}", error)
    begin, end = _offsets(path, shown, offsets)
    if not all(_is_size(length) for length in shape):
        refuse(path, "SHAPE_INVALID", f"gives {shown} a shape that is not a list of sizes")
    _require_size(path, shown, dtype, tuple(shape), end - begin)
    return HeaderTensor(name, dtype, tuple(shape), begin, end)


def _offsets(path: Path, shown: str, offsets: list[object]) -> tuple[int, int]:
    if len(offsets) != 2 or not all(_is_size(offset) for offset in offsets):
        refuse(path, "OFFSETS_INVALID", f"gives {shown} data offsets that are not two sizes below 2^63")
    begin, end = (int(str(offset)) for offset in offsets)
    if begin > end:
        refuse(path, "OFFSETS_INVALID", f"gives {shown} data offsets that run backwards")
    return begin, end


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < _TOO_LARGE


def _require_size(path: Path, shown: str, dtype: str, shape: tuple[int, ...], size_bytes: int) -> None:
    if dtype not in DTYPE_BITS:
        refuse(path, "DTYPE_UNKNOWN", f"gives {shown} the dtype {dtype[:50]!r}, which is not known")
    try:
        needed_bytes = tensor_bytes(dtype, shape)
    except ValueError as error:
        refuse(path, "SHAPE_INVALID", f"describes {shown} wrongly: {error}", error)
    if needed_bytes != size_bytes:
        refuse(path, "SHAPE_MISMATCH", f"gives {shown} {size_bytes} bytes where its shape needs {needed_bytes}")


def _require_seamless(path: Path, tensors: Iterable[HeaderTensor], data_bytes: int) -> None:
    borders = [(0, 0, ""), *((tensor.begin, tensor.end, tensor.name) for tensor in tensors)]
    for (_, end, before), (begin, _, name) in pairwise(borders):
        if begin < end:
            refuse(path, "OFFSETS_OVERLAP", f"lets tensors {before[:200]!r} and {name[:200]!r} overlap")
        if begin > end:
            refuse(path, "OFFSETS_HOLE", f"has {begin - end} bytes before tensor {name[:200]!r} that belong to none")
    end = borders[-1][1]
    if end > data_bytes:
        refuse(path, "SHARD_TRUNCATED", f"is truncated: {end} bytes of data are announced, {data_bytes} are there")
    if end < data_bytes:
        refuse(path, "SHARD_TRAILING_BYTES", f"has {data_bytes - end} bytes after its last tensor")
