"""How each part of a packed row attends to its own generations' keys and values."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from kindling.worker.adapters.transformers_engine.kv_cache import Arena


class Heads(NamedTuple):
    """What a layer gives a run of rows: ``query`` [heads, rows, head_dim], ``key`` and ``value`` [kv_heads, rows,
    head_dim]. A token sees the last ``window`` tokens, or all; the scale is the usual one if it is None.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float | None
    window: int | None

    def of(self, rows: slice) -> "Heads":
        """The same for some of the rows."""
        return self._replace(query=self.query[:, rows], key=self.key[:, rows], value=self.value[:, rows])


class Part(Protocol):
    """A run of rows that attend in one call."""

    rows: slice

    def attend(self, layer: int, heads: Heads) -> torch.Tensor:
        """Write the rows' keys and values into the cache and attend to all that is there; [rows, heads, head_dim]."""
        ...


@dataclass(slots=True)
class PrefillPart:
    """A chunk of one generation's prompt."""

    rows: slice
    arena: Arena
    slot: int
    start: int
    _masks: dict[int | None, tuple[slice, torch.Tensor | None]] = field(default_factory=dict)

    def attend(self, layer: int, heads: Heads) -> torch.Tensor:
        """Attend causally within the chunk and to all before it; see ``Part``."""
        query = heads.query
        keys, values = self.write(layer, heads)
        if heads.window not in self._masks:
            self._masks[heads.window] = self._mask(query, heads.window)
        seen, mask = self._masks[heads.window]
        out = scaled_dot_product_attention(
            query.unsqueeze(0),
            keys[None, :, seen],
            values[None, :, seen],
            attn_mask=mask,
            is_causal=mask is None,
            scale=heads.scale,
            enable_gqa=query.shape[0] != keys.shape[0],
        )
        return out.squeeze(0).transpose(0, 1)

    def write(self, layer: int, heads: Heads) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the chunk's keys and values into the slot; return all of the slot's, [kv_heads, capacity, head_dim]."""
        keys, values = self.arena.keys[layer][self.slot], self.arena.values[layer][self.slot]
        end = self.start + heads.key.shape[1]
        keys[:, self.start : end] = heads.key
        values[:, self.start : end] = heads.value
        return keys, values

    def _mask(self, query: torch.Tensor, window: int | None) -> tuple[slice, torch.Tensor | None]:
        """Keys that any row sees, and the additive mask over them; None where plain causal does."""
        end = self.start + query.shape[1]
        if self.start == 0 and (window is None or window >= end):
            return slice(0, end), None
        seen = slice(first_seen(self.start, window), end)
        positions = torch.arange(self.start, end, device=query.device)
        return seen, additive_mask(positions, seen, window, query.dtype)


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
    _masks: dict[int | None, tuple[slice, torch.Tensor | None]] = field(default_factory=dict)

    def attend(self, layer: int, heads: Heads) -> torch.Tensor:
        """Attend to all before; the query heads of one KV head are the rows of one product; see ``Part``."""
        keys, values = self.arena.keys[layer], self.arena.values[layer]
        query, used = heads.query, self.arena.used
        keys[self.slots, :, self.positions] = heads.key.transpose(0, 1)
        values[self.slots, :, self.positions] = heads.value.transpose(0, 1)
        if heads.window not in self._masks:
            self._masks[heads.window] = self.mask(query, heads.window)
        seen, mask = self._masks[heads.window]
        grouped = self._spread(query.transpose(0, 1)).reshape(used, keys.shape[1], -1, query.shape[2])
        out = self.product(grouped, keys[:used, :, seen], values[:used, :, seen], mask, heads.scale)
        return self._gather(out.reshape(used, query.shape[0], -1))

    def mask(self, query: torch.Tensor, window: int | None) -> tuple[slice, torch.Tensor | None]:
        """Keys that any slot sees, and the additive mask over them; None where every slot sees all of them."""
        seen = slice(first_seen(self.shortest, window), self.longest + 1)
        if self.shortest == self.longest and len(self.slots) == self.arena.used:
            return seen, None
        return seen, self.mask_over(seen, query, window)

    def mask_over(self, seen: slice, query: torch.Tensor, window: int | None) -> torch.Tensor:
        """Additive mask over the keys ``seen``, [slots, 1, 1, keys]; a slot that does not decode sees all it may."""
        positions = torch.full((self.arena.used,), self.longest, device=query.device)
        positions[self.slots] = self.positions
        return additive_mask(positions, seen, window, query.dtype)[:, None, None, :]

    @staticmethod
    def product(
        query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float | None
    ) -> torch.Tensor:
        """Attend with one token's heads, [slots, kv_heads, heads per KV head, head_dim]."""
        return attend_once(query, keys, values, mask, scale)

    def _spread(self, query: torch.Tensor) -> torch.Tensor:
        if len(self.slots) == self.arena.used:
            return query
        return query.new_zeros(self.arena.used, *query.shape[1:]).index_copy_(0, self.slots, query)

    def _gather(self, out: torch.Tensor) -> torch.Tensor:
        return out if len(self.slots) == self.arena.used else out[self.slots]


@dataclass(slots=True)
class LonePart:
    """The next token of a generation that is alone in its arena: what a single stream is made of."""

    rows: slice
    arena: Arena
    slot: int
    position: int

    def attend(self, layer: int, heads: Heads) -> torch.Tensor:
        """Attend to all before; see ``Part``."""
        keys, values = self.arena.keys[layer][self.slot], self.arena.values[layer][self.slot]
        query = heads.query
        keys[:, self.position] = heads.key[:, 0]
        values[:, self.position] = heads.value[:, 0]
        seen = slice(first_seen(self.position, heads.window), self.position + 1)
        grouped = query.reshape(1, keys.shape[0], -1, query.shape[2])
        out = attend_once(grouped, keys[None, :, seen], values[None, :, seen], None, heads.scale)
        return out.reshape(1, query.shape[0], -1)


def attend_once(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Attend with one token's heads, [slots, kv_heads, heads per KV head, head_dim].

    On a CPU the fused kernel is slow (4x) where a single half-precision row meets each KV head. There it gets a second
    row for one slot, and for several the products are spelt out, with the softmax in float32.
    """
    if query.shape[2] > 1 or query.dtype == torch.float32 or query.device.type != "cpu":
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    if query.shape[0] == 1:
        two_rows = pad(query, (0, 0, 0, 1))
        return scaled_dot_product_attention(two_rows, keys, values, attn_mask=mask, scale=scale)[:, :, :1]
    scores = torch.matmul(keys, query.transpose(2, 3)).transpose(2, 3).float()
    scores *= query.shape[3] ** -0.5 if scale is None else scale
    if mask is not None:
        scores += mask
    return torch.matmul(scores.softmax(dim=-1).to(values.dtype), values)


def first_seen(position: int, window: int | None) -> int:
    """Position of the first key that a token at ``position`` sees."""
    return 0 if window is None else max(0, position - window + 1)


def additive_mask(positions: torch.Tensor, seen: slice, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Mask [positions, keys ``seen``]: a position sees itself and what its window leaves of what is before."""
    keys = torch.arange(seen.start, seen.stop, device=positions.device)
    hidden = keys > positions[:, None]
    if window is not None:
        hidden |= keys <= positions[:, None] - window
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, float("-inf"))
