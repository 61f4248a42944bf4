"""The KV cache: dense slots in a few capacities, grown and shrunk within a budget of bytes."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from kindling.platform.errors import InternalError

SMALLEST_CAPACITY = 256


@dataclass(frozen=True, slots=True)
class KvLayout:
    """What one token's keys and values take, in every layer together."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


def kv_layout(config: PreTrainedConfig, dtype: torch.dtype, device: torch.device) -> KvLayout:
    """Return what a model of this configuration keeps."""
    heads = int(config.num_attention_heads)
    return KvLayout(
        layers=int(config.num_hidden_layers),
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
        dtype=dtype,
        device=device,
    )


class Arena:
    """Slots that hold ``capacity`` tokens each; those in use are always the first ones.

    ``keys`` and ``values`` hold one tensor per layer, [slots, kv_heads, capacity, head_dim], zero where nothing was
    written: attention reads past a generation's end under a mask, and 0 × NaN would be NaN.
    """

    def __init__(self, layout: KvLayout, capacity: int) -> None:
        self.capacity = capacity
        self.owners: list[str] = []
        self.slot_of: dict[str, int] = {}
        self.slots = 0
        self._layout = layout
        self.keys = [self._zeros(0) for _ in range(layout.layers)]
        self.values = [self._zeros(0) for _ in range(layout.layers)]

    @property
    def used(self) -> int:
        """Slots in use."""
        return len(self.owners)

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot in every layer together."""
        return self.capacity * self._layout.bytes_per_token

    def resize(self, slots: int) -> None:
        """Have this many slots, no fewer than are in use; one layer at a time, so that the peak stays low."""
        assert slots >= self.used, "a slot in use would be dropped"
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = self._zeros(slots)
                new[: self.used].copy_(old[: self.used])
                tensors[layer] = new
        self.slots = slots

    def take(self, owner: str) -> None:
        """Give the next free slot to ``owner``."""
        assert self.used < self.slots, "no slot is free"
        self.slot_of[owner] = self.used
        self.owners.append(owner)

    def give_back(self, owner: str) -> None:
        """Free the owner's slot; the last one moves into the hole, and what it leaves is zeroed."""
        slot, last = self.slot_of.pop(owner), self.used - 1
        moved = self.owners.pop()
        for tensor in (*self.keys, *self.values):
            if slot != last:
                tensor[slot].copy_(tensor[last])
            tensor[last].zero_()
        if slot != last:
            self.owners[slot], self.slot_of[moved] = moved, slot

    def copy_from(self, other: "Arena", owner: str) -> None:
        """Copy what ``owner`` holds in a smaller arena into its slot here."""
        here, there = self.slot_of[owner], other.slot_of[owner]
        for new, old in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            new[here, :, : other.capacity].copy_(old[there])

    def _zeros(self, slots: int) -> torch.Tensor:
        layout = self._layout
        shape = (slots, layout.kv_heads, self.capacity, layout.head_dim)
        return torch.zeros(shape, dtype=layout.dtype, device=layout.device)


class KvCache:
    """Keys and values of all running generations.

    Capacities are powers of two up to the context length, so that a generation holds at most twice what it needs and
    moves to a larger slot a few times in its life; generations of like length lie together and attend in one call.
    Each is a multiple of ``block`` tokens.
    """

    def __init__(self, layout: KvLayout, *, context_length: int, budget_bytes: int, block: int = 1) -> None:
        self.budget_bytes = budget_bytes
        self._layout = layout
        self._block = block
        self._context_length = context_length
        self._arenas: dict[int, Arena] = {}
        self._arena_of: dict[str, Arena] = {}

    @property
    def bytes_used(self) -> int:
        """Bytes of the slots in use."""
        return sum(arena.used * arena.slot_bytes for arena in self._arenas.values())

    @property
    def bytes_allocated(self) -> int:
        """Bytes of all slots; never above the budget."""
        return sum(arena.slots * arena.slot_bytes for arena in self._arenas.values())

    def bytes_for(self, tokens: int) -> int:
        """Bytes of the slot that a generation of this many tokens takes."""
        return self._capacity(tokens) * self._layout.bytes_per_token

    def arena(self, owner: str) -> Arena:
        """Return where the owner's keys and values lie."""
        return self._arena_of[owner]

    def reserve(self, owner: str, tokens: int) -> bool:
        """Have room for this many tokens of ``owner``, keeping what it holds; False, and no change, if none is left."""
        old = self._arena_of.get(owner)
        if old is not None and tokens <= old.capacity:
            return True
        capacity = self._capacity(tokens)
        arena = self._arenas.setdefault(capacity, Arena(self._layout, capacity))
        if not self._make_room(arena):
            return False
        arena.take(owner)
        if old is not None:
            arena.copy_from(old, owner)
            old.give_back(owner)
        self._arena_of[owner] = arena
        return True

    def release(self, owner: str) -> None:
        """Free what ``owner`` holds, if anything; an arena that has become half empty shrinks."""
        arena = self._arena_of.pop(owner, None)
        if arena is None:
            return
        arena.give_back(owner)
        if 2 * arena.used <= arena.slots:
            arena.resize(arena.used)

    def check_integrity(self, owners: set[str]) -> None:
        """Verify that exactly ``owners`` hold slots, each one its own, within the budget.

        Raises:
            InternalError: ENGINE_CORRUPT.
        """
        _require(set(self._arena_of) <= owners, "a generation that has ended holds KV cache")
        _require(self.bytes_allocated <= self.budget_bytes, "the KV cache is over its budget")
        held = [owner for arena in self._arenas.values() for owner in arena.owners]
        _require(sorted(held) == sorted(self._arena_of), "KV slots and their owners differ")
        for arena in self._arenas.values():
            slots = {owner: slot for slot, owner in enumerate(arena.owners)}
            _require(slots == arena.slot_of, "two generations share a KV slot")

    def clear(self) -> None:
        """Free everything."""
        self._arenas.clear()
        self._arena_of.clear()

    def _capacity(self, tokens: int) -> int:
        power = 1 << (max(tokens, SMALLEST_CAPACITY, self._block) - 1).bit_length()
        blocks = -(-max(self._context_length, tokens) // self._block)
        return min(power, blocks * self._block)

    def _make_room(self, arena: Arena) -> bool:
        """Have a free slot in ``arena``: grow generously, else by one, else by one after trimming all arenas."""
        if arena.used < arena.slots or self._grow(arena, max(1, arena.used // 2)) or self._grow(arena, 1):
            return True
        for other in self._arenas.values():
            if other.used < other.slots:
                other.resize(other.used)
        return self._grow(arena, 1)

    def _grow(self, arena: Arena, slots: int) -> bool:
        if self.bytes_allocated + slots * arena.slot_bytes > self.budget_bytes:
            return False
        arena.resize(arena.slots + slots)
        return True


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InternalError(f"The engine's bookkeeping is broken: {message}.", reason="ENGINE_CORRUPT")
