"""Tensors as views of flat memory."""

import pytest
import torch

from kindling.checkpoint.manifest import TensorEntry
from kindling.platform.errors import InvalidArgumentError
from kindling.worker.adapters.tensor_views import tensor_view


def entry(dtype: str, shape: tuple[int, ...], offset_bytes: int, size_bytes: int) -> TensorEntry:
    return TensorEntry("layer.weight", dtype, shape, offset_bytes, size_bytes, partition=0)


def test_a_view_shows_its_bytes_and_shares_them() -> None:
    memory = torch.arange(64, dtype=torch.uint8)
    view = tensor_view(memory[8:], entry("I16", (2, 3), 4, 12), start_bytes=2)
    assert view.equal(memory[14:26].view(torch.int16).view(2, 3))
    assert view.is_contiguous()
    memory[14:26] = 0
    assert not view.any()


@pytest.mark.parametrize(("shape", "size_bytes"), [((), 2), ((0, 4), 0), ((1,), 2)])
def test_shapes_of_one_element_or_none(shape: tuple[int, ...], size_bytes: int) -> None:
    assert tensor_view(torch.zeros(8, dtype=torch.uint8), entry("BF16", shape, 2, size_bytes)).shape == shape


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(entry("F32", (2,), 6, 8), "TENSOR_MISALIGNED"), (entry("F4", (2,), 0, 1), "DTYPE_UNSUPPORTED")],
)
def test_what_cannot_be_computed_with_is_refused_by_name(bad: TensorEntry, reason: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"layer\.weight") as caught:
        tensor_view(torch.zeros(64, dtype=torch.uint8), bad)
    assert caught.value.reason == reason
