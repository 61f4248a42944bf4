"""Our attention, plugged into transformers' models by its ``AttentionInterface``."""

from typing import Any

import torch
from transformers import AttentionInterface

from kindling.worker.adapters.transformers_engine.packing import PackedStep
from kindling.worker.adapters.transformers_engine.parts import Heads

ATTENTION_NAME = "kindling_packed"
"""Not among transformers' mask functions, so its models build no mask."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: PackedStep,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend part by part of a packed row.

    ``query`` is [1, heads, rows, head_dim], ``key`` and ``value`` [1, kv_heads, rows, head_dim]; returns
    [1, rows, heads, head_dim].
    """
    assert attention_mask is None, "the packed row has no mask"
    layer = module.layer_idx
    assert isinstance(layer, int), "an attention module knows its layer"
    heads = Heads(query[0], key[0], value[0], scaling, sliding_window)
    first, all_rows = packed.parts[0], slice(0, query.shape[2])
    if first.rows == all_rows:
        return first.attend(layer, heads).unsqueeze(0), None
    out = query.new_zeros(query.shape[2], query.shape[1], value.shape[3])
    for part in packed.parts:
        out[part.rows] = part.attend(layer, heads.of(part.rows))
    return out.unsqueeze(0), None


AttentionInterface.register(ATTENTION_NAME, packed_attention)
