"""Where a tensor lies in a checkpoint."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a checkpoint: ``dtype`` as safetensors spells it (``BF16``), shape in elements, size in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
