"""A tensor of a source, whatever kind of file it is in."""

from dataclasses import dataclass
from typing import Protocol


class TensorContent(Protocol):
    """The bytes of one tensor, wherever they are."""

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fills ``into`` with the tensor's bytes from ``offset`` on."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """One tensor of a source: ``dtype`` in safetensors' spelling, row-major bytes behind ``content``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    content: TensorContent
