"""The batch-invariant mode: a token's result depends on neither its companions nor the way its KV was computed.

A floating-point sum depends on the order of its terms, and libraries choose the order by the shapes that they are
given. So a token computed alone, among others or as part of a prompt may differ in its last bits, and now and then in
the token chosen after it; a continuation recomputed elsewhere is then another one, above all in bfloat16. Here every
token meets the same arithmetic, whatever runs beside it:

- **Matrix products.** The rows of a step are padded to one of a few counts (``padded_rows``), none of them so small
  that a library turns to a kernel for few rows; with these counts each row is summed up like every other.
- **Attention.** Every token, also of a prompt, is a batch entry of its own. The query heads of one KV head are its
  rows, at least four. Its keys are rounded up to a multiple of 512, the block in which torch's kernel takes them, and
  a mask hides those that it may not see: a block that is hidden altogether adds nothing.

That this is enough is a property of the libraries and the processor, not of this code: ``exact_proof`` tries it on the
machine before it is relied on. (Why batches matter: He, "Defeating nondeterminism in LLM inference", 2025.)
"""

import functools
from dataclasses import dataclass

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from kindling.worker.adapters.transformers_engine.packing import Layout
from kindling.worker.adapters.transformers_engine.parts import DecodePart, Heads, PrefillPart, additive_mask

KV_BLOCK = 512
_FEWEST_QUERY_ROWS = 4
_ROW_STEP = 64


def exact_layout(dtype: torch.dtype) -> Layout:
    """Return how rows are laid out for batch invariance with the threads that this process computes with."""
    fewest = 4 * torch.get_num_threads() if dtype == torch.float32 else 2
    padded = functools.partial(padded_rows, fewest=fewest)
    return Layout(prefill=ExactPrefillPart, decode=ExactDecodePart, padded_rows=padded, kv_block=KV_BLOCK, exact=True)


def padded_rows(rows: int, fewest: int) -> int:
    """Return how many rows a step of ``rows`` is made: a power of two, or a multiple of 64."""
    rows = max(rows, fewest)
    return 1 << (rows - 1).bit_length() if rows <= _ROW_STEP else _round_up(rows, _ROW_STEP)


@dataclass(slots=True)
class ExactPrefillPart(PrefillPart):
    """A chunk of a prompt, every token of which attends as if it were decoded."""

    def attend(self, layer: int, heads: Heads) -> torch.Tensor:
        """Attend token by token; see ``Part``."""
        query_heads, rows, head_dim = heads.query.shape
        keys, values = self.write(layer, heads)
        seen = slice(0, _round_up(self.start + rows, KV_BLOCK))
        positions = torch.arange(self.start, self.start + rows, device=keys.device)
        mask = additive_mask(positions, seen, heads.window, keys.dtype)[:, None, None, :]
        grouped = heads.query.transpose(0, 1).reshape(rows, keys.shape[0], -1, head_dim)
        seen_keys, seen_values = (part[:, seen].expand(rows, -1, -1, -1) for part in (keys, values))
        return _attend_each(grouped, seen_keys, seen_values, mask, heads.scale).reshape(rows, query_heads, -1)


@dataclass(slots=True)
class ExactDecodePart(DecodePart):
    """Decoding generations, each of which sees as many keys as it would alone, up to hidden blocks."""

    def mask(self, query: torch.Tensor, window: int | None) -> tuple[slice, torch.Tensor | None]:
        """All blocks up to the longest generation's last one."""
        seen = slice(0, _round_up(self.longest + 1, KV_BLOCK))
        return seen, self.mask_over(seen, query, window)

    @staticmethod
    def product(
        query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float | None
    ) -> torch.Tensor:
        """Attend by the fused kernel, always."""
        return _attend_each(query, keys, values, mask, scale)


def _attend_each(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Attend with each token's heads, [tokens, kv_heads, heads per KV head, head_dim]; pads these to four."""
    heads = query.shape[2]
    query = pad(query, (0, 0, 0, max(0, _FEWEST_QUERY_ROWS - heads)))
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)[:, :, :heads]


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
