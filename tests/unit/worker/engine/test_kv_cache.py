"""KV slots: what is written stays where its owner finds it, within the budget."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from kindling.platform.errors import InternalError
from kindling.worker.adapters.transformers_engine.kv_cache import SMALLEST_CAPACITY, KvCache, KvLayout

LAYOUT = KvLayout(layers=2, kv_heads=2, head_dim=4, dtype=torch.float32, device=torch.device("cpu"))
CONTEXT = 600
PER_TOKEN = LAYOUT.bytes_per_token


def cache_of(tokens: int) -> KvCache:
    return KvCache(LAYOUT, context_length=CONTEXT, budget_bytes=tokens * PER_TOKEN)


def write(cache: KvCache, owner: str, tokens: int) -> None:
    arena = cache.arena(owner)
    for tensor in (*arena.keys, *arena.values):
        tensor[arena.slot_of[owner], :, :tokens] = float(owner)


def holds(cache: KvCache, owner: str, tokens: int) -> bool:
    arena = cache.arena(owner)
    slot = arena.slot_of[owner]
    rows = [tensor[slot] for tensor in (*arena.keys, *arena.values)]
    return all(bool((row[:, :tokens] == float(owner)).all() and (row[:, tokens:] == 0).all()) for row in rows)


def test_a_growing_generation_keeps_what_it_holds() -> None:
    cache = cache_of(4096)
    for tokens in (1, SMALLEST_CAPACITY, SMALLEST_CAPACITY + 1, 300, 513, 600):
        assert cache.reserve("7", tokens)
        assert cache.arena("7").capacity >= tokens
        write(cache, "7", tokens)
        assert holds(cache, "7", tokens)
    assert cache.arena("7").capacity == CONTEXT
    cache.release("7")
    assert cache.bytes_used == 0


def test_a_full_cache_says_no_and_changes_nothing() -> None:
    cache = cache_of(2 * SMALLEST_CAPACITY)
    assert cache.reserve("1", 100)
    assert cache.reserve("2", 100)
    assert not cache.reserve("3", 1)
    assert not cache.reserve("1", SMALLEST_CAPACITY + 1)
    assert cache.bytes_used == cache.bytes_allocated == 2 * SMALLEST_CAPACITY * PER_TOKEN
    cache.release("2")
    assert cache.reserve("3", 1)
    cache.check_integrity({"1", "3"})


def test_memory_goes_back_when_generations_end() -> None:
    cache = cache_of(1 << 14)
    for owner in range(32):
        assert cache.reserve(str(owner), 100)
    for owner in range(32):
        cache.release(str(owner))
        cache.check_integrity({str(rest) for rest in range(owner + 1, 32)})
    assert cache.bytes_allocated == 0


def test_a_leak_is_noticed() -> None:
    cache = cache_of(1024)
    cache.reserve("1", 1)
    with pytest.raises(InternalError, match="has ended"):
        cache.check_integrity(set())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, CONTEXT)), max_size=60))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_sequence_of_reservations_keeps_every_owners_data(moves: list[tuple[int, int]]) -> None:
    cache = cache_of(5000)
    held: dict[str, int] = {}
    for number, tokens in moves:
        owner = str(number)
        if tokens == 0:
            cache.release(owner)
            held.pop(owner, None)
        elif tokens > held.get(owner, 0) and cache.reserve(owner, tokens):
            held[owner] = tokens
            write(cache, owner, tokens)
        cache.check_integrity(set(held))
        assert all(holds(cache, name, length) for name, length in held.items())
