"""One packed row of tokens, and how each part of it attends to its own generation's keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention

from kindling.worker.adapters.transformers_engine.kv_cache import Arena, KvCache


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of one generation to run through the model: its next one, or a part of its prompt.

    ``start`` is the position of the first, from the beginning of the prompt; ``last`` says that the next token is to
    be chosen after them.
    """

    owner: str
    token_ids: tuple[int, ...]
    start: int
    last: bool

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.token_ids)


class Part(Protocol):
    """A run of rows that attend in one call."""

    rows: slice

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Write the rows' keys and values into the cache and attend to all that is there.

        ``query`` is [heads, rows, head_dim], ``key`` and ``value`` [kv_heads, rows, head_dim]; returns
        [rows, heads, head_dim].
        """
        ...


@dataclass(slots=True)
class PrefillPart:
    """A chunk of one generation's prompt."""

    rows: slice
    arena: Arena
    slot: int
    start: int
    _masks: dict[int | None, tuple[int, torch.Tensor | None]] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend causally within the chunk and to all before it; see ``Part``."""
        end = self.start + query.shape[1]
        keys, values = self.arena.keys[layer][self.slot], self.arena.values[layer][self.slot]
        keys[:, self.start : end] = key
        values[:, self.start : end] = value
        low, mask = self._mask(query, window)
        out = scaled_dot_product_attention(
            query.unsqueeze(0),
            keys[None, :, low:end],
            values[None, :, low:end],
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=query.shape[0] != key.shape[0],
        )
        return out.squeeze(0).transpose(0, 1)

    def _mask(self, query: torch.Tensor, window: int | None) -> tuple[int, torch.Tensor | None]:
        """First key that any row sees, and the additive mask from there on; None where plain causal does."""
        if window not in self._masks:
            end = self.start + query.shape[1]
            if self.start == 0 and (window is None or window >= end):
                self._masks[window] = (0, None)
            else:
                positions = torch.arange(self.start, end, device=query.device)
                self._masks[window] = _mask(positions, self.start, end, window, query.dtype)
        return self._masks[window]


@dataclass(slots=True)
class DecodePart:
    """The next token of every decoding generation of one arena, in the order of their slots.

    The whole arena attends, without copying keys or values: slots that do not decode in this step get a dummy query.
    """

    rows: slice
    arena: Arena
    slots: torch.Tensor
    positions: torch.Tensor
    shortest: int
    longest: int
    _masks: dict[int | None, tuple[int, torch.Tensor | None]] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Attend to all before; the query heads of one KV head are the rows of one product; see ``Part``."""
        keys, values = self.arena.keys[layer], self.arena.values[layer]
        keys[self.slots, :, self.positions] = key.transpose(0, 1)
        values[self.slots, :, self.positions] = value.transpose(0, 1)
        low, mask = self._mask(query, window)
        seen = slice(low, self.longest + 1)
        used = self.arena.used
        grouped = self._spread(query.transpose(0, 1)).reshape(used, key.shape[0], -1, query.shape[2])
        out = _attend_once(grouped, keys[:used, :, seen], values[:used, :, seen], mask, scale)
        return self._gather(out.reshape(used, query.shape[0], -1))

    def _spread(self, query: torch.Tensor) -> torch.Tensor:
        if len(self.slots) == self.arena.used:
            return query
        return query.new_zeros(self.arena.used, *query.shape[1:]).index_copy_(0, self.slots, query)

    def _gather(self, out: torch.Tensor) -> torch.Tensor:
        return out if len(self.slots) == self.arena.used else out[self.slots]

    def _mask(self, query: torch.Tensor, window: int | None) -> tuple[int, torch.Tensor | None]:
        """First key that any row sees, and the additive mask from there on; None where every slot sees all of it."""
        if window not in self._masks:
            if self.shortest == self.longest and len(self.slots) == self.arena.used:
                self._masks[window] = (0 if window is None else max(0, self.longest - window + 1), None)
            else:
                positions = torch.full((self.arena.used,), self.longest, device=query.device)
                positions[self.slots] = self.positions
                low, mask = _mask(positions, self.shortest, self.longest + 1, window, query.dtype)
                self._masks[window] = (low, mask[:, None, None, :])
        return self._masks[window]


def _attend_once(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Attend with one token's heads, [slots, kv_heads, heads per KV head, head_dim].

    On a CPU the fused kernel is slow (4x) where a single half-precision row meets each KV head; there the products are
    spelt out, with the softmax in float32.
    """
    if query.shape[2] > 1 or query.dtype == torch.float32 or query.device.type != "cpu":
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    scores = torch.matmul(keys, query.transpose(2, 3)).transpose(2, 3).float()
    scores *= query.shape[3] ** -0.5 if scale is None else scale
    if mask is not None:
        scores += mask
    return torch.matmul(scores.softmax(dim=-1).to(values.dtype), values)


def _mask(
    positions: torch.Tensor, shortest: int, end: int, window: int | None, dtype: torch.dtype
) -> tuple[int, torch.Tensor]:
    """Additive mask [positions, keys from ``low`` to ``end``]: a position sees itself and what its window leaves."""
    low = 0 if window is None else max(0, shortest - window + 1)
    keys = torch.arange(low, end, device=positions.device)
    hidden = keys > positions[:, None]
    if window is not None:
        hidden |= keys <= positions[:, None] - window
    return low, torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, float("-inf"))


@dataclass(frozen=True, slots=True)
class PackedStep:
    """The rows of one forward: ``token_ids`` and ``positions`` [1, rows], the parts that they fall into, the chunks
    after which a token is to be chosen and the rows of their last tokens, in the same order.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    parts: tuple[Part, ...]
    sampled: tuple[Chunk, ...]
    sampled_rows: torch.Tensor


def pack(chunks: Sequence[Chunk], cache: KvCache, device: torch.device) -> PackedStep:
    """Lay chunks out in one row: decoding generations first, those of one arena together, then prompts."""
    decoding = [chunk for chunk in chunks if len(chunk.token_ids) == 1]
    by_arena: dict[int, list[Chunk]] = {}
    for chunk in decoding:
        by_arena.setdefault(cache.arena(chunk.owner).capacity, []).append(chunk)
    ordered: list[Chunk] = []
    parts: list[Part] = []
    for group in by_arena.values():
        parts.append(_decode_part(group, len(ordered), cache.arena(group[0].owner), device))
        ordered += group
    row = len(ordered)
    for chunk in (chunk for chunk in chunks if len(chunk.token_ids) > 1):
        arena = cache.arena(chunk.owner)
        rows = slice(row, row + len(chunk.token_ids))
        parts.append(PrefillPart(rows, arena, arena.slot_of[chunk.owner], chunk.start))
        ordered.append(chunk)
        row = rows.stop
    return _packed(ordered, parts, device)


def _decode_part(group: list[Chunk], first_row: int, arena: Arena, device: torch.device) -> DecodePart:
    group.sort(key=lambda chunk: arena.slot_of[chunk.owner])
    positions = [chunk.start for chunk in group]
    return DecodePart(
        rows=slice(first_row, first_row + len(group)),
        arena=arena,
        slots=torch.tensor([arena.slot_of[chunk.owner] for chunk in group], device=device),
        positions=torch.tensor(positions, device=device),
        shortest=min(positions),
        longest=max(positions),
    )


def _packed(ordered: list[Chunk], parts: list[Part], device: torch.device) -> PackedStep:
    token_ids: list[int] = []
    positions: list[int] = []
    last_rows: list[int] = []
    for chunk in ordered:
        token_ids += chunk.token_ids
        positions += range(chunk.start, chunk.end)
        if chunk.last:
            last_rows.append(len(token_ids) - 1)
    return PackedStep(
        token_ids=torch.tensor([token_ids], device=device),
        positions=torch.tensor([positions], device=device),
        parts=tuple(parts),
        sampled=tuple(chunk for chunk in ordered if chunk.last),
        sampled_rows=torch.tensor(last_rows, dtype=torch.long, device=device),
    )
