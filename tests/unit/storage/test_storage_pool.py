"""The pool's rules: pins hold, the tail goes first, heads go last."""

import pytest

from kindling.platform.errors import InternalError
from kindling.storage.domain.chunk_pool import ChunkPool
from kindling.storage.domain.give_way import GiveWay

LENGTHS = (10, 10, 10, 4)


def filled(pool: ChunkPool, digest: str, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Put a whole checkpoint into the pool and let go of it."""
    pool.pin(digest, lengths)
    pool.grow(digest, len(lengths))
    pool.mark_filled(digest, len(lengths))
    pool.unpin(digest)


def test_a_filled_checkpoint_stays_after_its_last_pin() -> None:
    pool = ChunkPool(8, 10)
    filled(pool, "a")
    assert pool.buffers("a") == (0, 1, 2, 3)
    assert (pool.used_bytes, pool.pinned_bytes, pool.filled_bytes("a")) == (34, 0, 34)


def test_what_was_not_filled_goes_with_the_last_pin() -> None:
    pool = ChunkPool(8, 10)
    pool.pin("a", LENGTHS)
    pool.pin("a", LENGTHS)
    pool.grow("a", 4)
    pool.mark_filled("a", 2)
    pool.unpin("a")
    assert len(pool.buffers("a")) == 4
    pool.unpin("a")
    assert (pool.buffers("a"), pool.filled_bytes("a")) == ((0, 1), 20)


def test_eviction_takes_tails_of_the_least_recently_used_first_and_spares_heads() -> None:
    pool = ChunkPool(8, 10, head_fraction=0.25)
    filled(pool, "a")
    filled(pool, "b")
    pool.pin("c", LENGTHS)
    assert len(pool.grow("c", 4)) == 4
    assert (len(pool.buffers("a")), len(pool.buffers("b"))) == (1, 3)
    pool.check_integrity()


def test_heads_go_when_nothing_else_is_left() -> None:
    pool = ChunkPool(4, 10, head_fraction=0.5)
    filled(pool, "a")
    pool.pin("c", LENGTHS)
    assert len(pool.grow("c", 4)) == 4
    assert pool.digests() == ("c",)


def test_pinned_chunks_are_never_evicted() -> None:
    pool = ChunkPool(5, 10)
    filled(pool, "a")
    pool.pin("a", LENGTHS)
    pool.pin("b", LENGTHS)
    assert pool.grow("b", 4) == (4,)
    assert (pool.evict("a"), len(pool.buffers("a"))) == (0, 4)


def test_evicting_by_name_frees_everything() -> None:
    pool = ChunkPool(4, 10)
    filled(pool, "a")
    assert pool.evict("a") == 34
    assert (pool.digests(), pool.available_buffers, pool.evict("a")) == ((), 4, 0)


def test_growing_needs_a_pin() -> None:
    pool = ChunkPool(4, 10)
    filled(pool, "a", (10,))
    with pytest.raises(InternalError):
        pool.grow("a", 1)


def prefetched(pool: ChunkPool, digest: str, *give_way: str, limit: int = 100) -> bool:
    """Bring one more chunk, as a prefetch does; false if there is no room."""
    pool.pin(digest, LENGTHS)
    buffer = pool.make_prefetch_room(digest, tuple(map(GiveWay, give_way)), limit)
    if buffer is not None:
        pool.mark_prefetched(digest)
    pool.unpin(digest)
    return buffer is not None


def test_a_prefetch_takes_what_is_free_and_the_tails_of_those_named_in_their_order() -> None:
    pool = ChunkPool(9, 10)
    filled(pool, "a")
    filled(pool, "b")
    assert [prefetched(pool, "c", "b", "a") for _ in range(4)] == [True] * 4
    assert (len(pool.buffers("a")), len(pool.buffers("b")), pool.filled_chunks("c")) == (4, 1, 4)
    assert not prefetched(pool, "d"), "nobody was named, though much could be evicted"


def test_a_prefetch_takes_nothing_that_is_pinned() -> None:
    pool = ChunkPool(4, 10)
    filled(pool, "a")
    pool.pin("a", LENGTHS)
    assert not prefetched(pool, "b", "a")
    assert pool.buffers("b") == ()


def test_what_is_prefetched_and_unused_stays_within_its_bound() -> None:
    pool = ChunkPool(8, 10)
    assert [prefetched(pool, "a", limit=25) for _ in range(3)] == [True, True, False]
    assert prefetched(pool, "b", "a", limit=25), "one that is named makes room within the bound"
    assert (pool.filled_chunks("a"), pool.filled_chunks("b"), pool.unused_bytes) == (1, 1, 20)


def test_hits_misses_and_waste_are_counted() -> None:
    pool = ChunkPool(8, 10)
    for digest in "aab":
        prefetched(pool, digest)
    pool.pin("a", LENGTHS)
    pool.note_use("a")
    pool.note_use("a")
    pool.unpin("a")
    pool.evict("b")
    tally = pool.tally
    assert (tally.prefetched_bytes, tally.hits, tally.hit_bytes) == (30, 1, 20)
    assert (tally.misses, tally.wasted_bytes) == (1, 10)
    pool.evict("a")
    assert tally.wasted_bytes == 10, "what was used is not wasted when it goes"
