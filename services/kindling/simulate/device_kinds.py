"""Kinds of accelerators: what their makers' data sheets say."""

from dataclasses import dataclass
from typing import Final

from kindling.platform.errors import NotFoundError

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """One accelerator. ``peak_flops`` are dense half-precision tensor operations per second."""

    name: str
    memory_bytes: int
    memory_bytes_per_second: float
    peak_flops: float


DEVICE_KINDS: Final = {
    kind.name: kind
    for kind in (
        # NVIDIA A40 data sheet: 48 GB GDDR6, 696 GB/s, 149.7 TFLOPS FP16 tensor (dense).
        DeviceKind("A40", 48 * GIB, 696e9, 149.7e12),
        # NVIDIA RTX A5000 data sheet: 24 GB GDDR6, 768 GB/s, 222.2 TFLOPS tensor with sparsity, half of it dense.
        DeviceKind("A5000", 24 * GIB, 768e9, 111.1e12),
        # NVIDIA H100 SXM5 data sheet: 80 GB HBM3, 3.35 TB/s, 1,979 TFLOPS FP16 tensor with sparsity, half of it dense.
        DeviceKind("H100", 80 * GIB, 3.35e12, 989.5e12),
    )
}


def device_kind(name: str) -> DeviceKind:
    """Return a kind of accelerator.

    Raises NotFoundError DEVICE_KIND_UNKNOWN.
    """
    if (kind := DEVICE_KINDS.get(name)) is None:
        message = f"The simulator knows no device {name!r}; it knows {', '.join(DEVICE_KINDS)}."
        raise NotFoundError(message, reason="DEVICE_KIND_UNKNOWN", metadata={"device_kind": name})
    return kind
