"""One packed row of tokens, and the parts that it falls into."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kindling.worker.adapters.transformers_engine.kv_cache import Arena, KvCache
from kindling.worker.adapters.transformers_engine.parts import DecodePart, LonePart, Part, PrefillPart


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


def _as_many(rows: int) -> int:
    return rows


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are laid out and attend; as it stands, the fastest way.

    ``padded_rows`` says how many rows go through the model for so many tokens; slots of the KV cache are multiples of
    ``kv_block``. ``exact`` says that the layout is batch-invariant.
    """

    prefill: type[PrefillPart] = PrefillPart
    decode: type[DecodePart] = DecodePart
    padded_rows: Callable[[int], int] = _as_many
    kv_block: int = 1
    exact: bool = False


@dataclass(frozen=True, slots=True)
class PackedStep:
    """The rows of one forward: ``token_ids`` and ``positions`` [1, rows], the parts that they fall into, the chunks
    after which a token is to be chosen and the rows of their last tokens, in the same order. Padding comes last.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    parts: tuple[Part, ...]
    sampled: tuple[Chunk, ...]
    sampled_rows: torch.Tensor


def pack(chunks: Sequence[Chunk], cache: KvCache, device: torch.device, layout: Layout) -> PackedStep:
    """Lay chunks out in one row: decoding generations first, those of one arena together, then prompts."""
    by_arena: dict[int, list[Chunk]] = {}
    prompts: list[Chunk] = []
    for chunk in chunks:
        alike = prompts if len(chunk.token_ids) > 1 else by_arena.setdefault(cache.arena(chunk.owner).capacity, [])
        alike.append(chunk)
    ordered: list[Chunk] = []
    parts: list[Part] = []
    for group in by_arena.values():
        arena = cache.arena(group[0].owner)
        group.sort(key=lambda chunk: arena.slot_of[chunk.owner])
        parts.append(_decode_part(group, len(ordered), arena, device, layout))
        ordered += group
    row = len(ordered)
    for chunk in prompts:
        arena = cache.arena(chunk.owner)
        rows = slice(row, row + len(chunk.token_ids))
        parts.append(layout.prefill(rows, arena, arena.slot_of[chunk.owner], chunk.start))
        row = rows.stop
    return _packed([*ordered, *prompts], parts, device, layout)


def _decode_part(group: list[Chunk], first_row: int, arena: Arena, device: torch.device, layout: Layout) -> Part:
    positions = [chunk.start for chunk in group]
    if arena.used == 1 and not layout.exact:
        return LonePart(slice(first_row, first_row + 1), arena, arena.slot_of[group[0].owner], positions[0])
    return layout.decode(
        rows=slice(first_row, first_row + len(group)),
        arena=arena,
        slots=torch.tensor([arena.slot_of[chunk.owner] for chunk in group], device=device),
        positions=torch.tensor(positions, device=device),
        shortest=min(positions),
        longest=max(positions),
    )


def _packed(ordered: list[Chunk], parts: list[Part], device: torch.device, layout: Layout) -> PackedStep:
    token_ids: list[int] = []
    positions: list[int] = []
    last_rows: list[int] = []
    for chunk in ordered:
        token_ids += chunk.token_ids
        positions += range(chunk.start, chunk.end)
        if chunk.last:
            last_rows.append(len(token_ids) - 1)
    rows = layout.padded_rows(len(token_ids))
    return PackedStep(
        token_ids=torch.tensor([_padded(token_ids, rows)], device=device),
        positions=torch.tensor([_padded(positions, rows)], device=device),
        parts=tuple(parts),
        sampled=tuple(chunk for chunk in ordered if chunk.last),
        sampled_rows=torch.tensor(
            _padded(last_rows, layout.padded_rows(len(last_rows)) if last_rows else 0), dtype=torch.long, device=device
        ),
    )


def _padded(values: list[int], length: int) -> list[int]:
    return values + [0] * (length - len(values))
