"""Whatever bytes a safetensors file holds, parsing refuses it in an orderly way or agrees with safetensors."""

import json
import struct
import tempfile
from pathlib import Path

import safetensors
from hypothesis import given
from hypothesis import strategies as st

from kindling.checkpoint.dtype import DTYPE_BITS
from kindling.checkpoint.header import Header, read_header
from kindling.platform.errors import InvalidArgumentError


def parsed(data: bytes) -> Header | None:
    """The header as read from a real file; None where it was refused."""
    with tempfile.NamedTemporaryFile(prefix="kindling-fuzz-") as file:
        file.write(data)
        file.flush()
        try:
            return read_header(Path(file.name), file.fileno(), len(data))
        except InvalidArgumentError:
            return None


def check(data: bytes) -> bool:
    """Whether the file was accepted; if so, safetensors must see the same tensors."""
    header = parsed(data)
    if header is None:
        return False
    theirs = dict(safetensors.deserialize(data))
    assert theirs.keys() == {tensor.name for tensor in header.tensors}
    for tensor in header.tensors:
        mine = data[header.data_offset + tensor.begin : header.data_offset + tensor.end]
        assert bytes(theirs[tensor.name]["data"]) == mine
        assert (theirs[tensor.name]["dtype"], tuple(theirs[tensor.name]["shape"])) == (tensor.dtype, tensor.shape)
    return True


def file_of(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


shapes = st.lists(st.integers(0, 5), max_size=3)
tensors = st.lists(st.tuples(st.text(max_size=5), st.sampled_from(sorted(DTYPE_BITS)), shapes), max_size=5)


def valid_file(described: list[tuple[str, str, list[int]]]) -> bytes:
    header, position = {}, 0
    for name, dtype, shape in described:
        elements = 1
        for length in shape:
            elements *= length
        if name in header or name == "__metadata__" or elements * DTYPE_BITS[dtype] % 8:
            continue
        end = position + elements * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return file_of(json.dumps(header).encode(), bytes(position))


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    check(data)
    check(file_of(data, b""))


def encodable(described: list[tuple[str, str, list[int]]]) -> bool:
    return all(name.isprintable() for name, _, _ in described)


@given(tensors.filter(encodable))
def test_valid_files_are_accepted(described: list[tuple[str, str, list[int]]]) -> None:
    assert check(valid_file(described))


@given(tensors, st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes(described: list[tuple[str, str, list[int]]], flips: list[tuple[int, int]]) -> None:
    data = bytearray(valid_file(described))
    for position, value in flips:
        data[position % len(data)] = value
    check(bytes(data))


@given(tensors, st.integers(0, 10_000))
def test_truncation_is_never_accepted(described: list[tuple[str, str, list[int]]], keep: int) -> None:
    data = valid_file(described)
    assert not check(data[: keep % len(data)])


numbers = st.one_of(st.integers(-3, 12), st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, 10**40]), st.floats())
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
wild_tensor = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "F32", "F4", "X"]) | json_values,
        "shape": st.lists(numbers, max_size=3) | json_values,
        "data_offsets": st.lists(numbers, min_size=2, max_size=2) | json_values,
    },
    optional={"more": json_values},
)


@given(st.dictionaries(st.text(max_size=3), wild_tensor | json_values, max_size=4), st.binary(max_size=12))
def test_wild_headers(header: dict[str, object], data: bytes) -> None:
    check(file_of(json.dumps(header).encode(), data))


@given(st.sampled_from(["0", "-0", "0.0", "1e0", "01", "+1", "0x1", '"1"', "null", "NaN", "\ufeff1"]))
def test_spellings_of_numbers(spelling: str) -> None:
    header = '{"a":{"dtype":"U8","shape":[N],"data_offsets":[0,N]}}'.replace("N]", f"{spelling}]")
    assert check(file_of(header.encode(), b"")) == (spelling == "0")
