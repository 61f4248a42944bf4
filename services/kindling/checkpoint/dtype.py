"""Element types as safetensors spells them."""

import math
from typing import Final

#: Width in bits by safetensors' name. Types of less than a byte are packed.
DTYPE_BITS: Final = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

#: torch's name, where it has one.
TORCH_NAMES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor, as safetensors stores it. Raises ValueError for unknown types and for broken bytes."""
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise ValueError(f"the dtype {dtype[:50]!r} is not known")
    # Computed as 64-bit readers do: dimension by dimension, so that 2^40 x 2^40 x 0 does not pass here alone.
    elements = 1
    for length in shape:
        elements *= length
        if elements >= 2**63:
            raise ValueError(f"the shape {list(shape)[:8]} is too large")
    if elements * bits % 8 or elements * bits >= 2**63:
        raise ValueError(f"the shape {list(shape)[:8]} of {dtype} is not a whole number of bytes")
    return elements * bits // 8


def element_count(shape: tuple[int, ...]) -> int:
    """Number of elements."""
    return math.prod(shape)
