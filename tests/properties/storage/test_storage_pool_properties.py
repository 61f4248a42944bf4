"""Whatever is opened, filled, closed and evicted, the pool's books stay right and pins hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kindling.storage.domain.chunk_pool import ChunkPool
from kindling.storage.domain.give_way import GiveWay

BUFFERS = 12
SIZES = {"a": 3, "b": 5, "c": 9, "d": 20}
DIGESTS = st.sampled_from(sorted(SIZES))


def lengths_of(digest: str) -> tuple[int, ...]:
    return (10,) * (SIZES[digest] - 1) + (7,)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = ChunkPool(BUFFERS, 10, head_fraction=0.3)
        self.pins = dict.fromkeys(SIZES, 0)
        self.pinned_buffers: dict[str, tuple[int, ...]] = {}

    @rule(digest=DIGESTS)
    def open(self, digest: str) -> None:
        self.pool.pin(digest, lengths_of(digest))
        self.pool.note_use(digest)
        self.pins[digest] += 1
        self.pinned_buffers.setdefault(digest, self.pool.buffers(digest))

    @rule(digest=DIGESTS, chunks=st.integers(0, 20))
    def grow(self, digest: str, chunks: int) -> None:
        if self.pins[digest]:
            before = self.pool.available_buffers
            had = len(self.pool.buffers(digest))
            wanted = min(chunks, SIZES[digest])
            fresh = self.pool.grow(digest, wanted)
            assert len(fresh) == min(max(0, wanted - had), before)
            self.pinned_buffers[digest] += fresh

    @rule(digest=DIGESTS, chunks=st.integers(0, 20))
    def fill(self, digest: str, chunks: int) -> None:
        if self.pins[digest]:
            self.pool.mark_filled(digest, chunks)

    @rule(digest=DIGESTS)
    def close(self, digest: str) -> None:
        if self.pins[digest]:
            self.pool.unpin(digest)
            self.pins[digest] -= 1
            if not self.pins[digest]:
                del self.pinned_buffers[digest]

    @rule(digest=DIGESTS)
    def evict(self, digest: str) -> None:
        used = self.pool.used_bytes
        dropped = self.pool.evict(digest)
        assert self.pool.used_bytes == used - dropped
        assert dropped == 0 or not self.pins[digest]

    @rule(
        digest=DIGESTS,
        give_way=st.lists(DIGESTS),
        keep=st.sampled_from((0, 0, 15, 40)),
        limit=st.integers(0, 60),
        arrives=st.booleans(),
    )
    def prefetch(self, digest: str, give_way: list[str], keep: int, limit: int, arrives: bool) -> None:
        if self.pins[digest] or self.pool.filled_chunks(digest) == SIZES[digest]:
            return
        before = {name: self.pool.filled_chunks(name) for name in SIZES}
        self.pool.pin(digest, lengths_of(digest))
        if (
            self.pool.make_prefetch_room(digest, [GiveWay(name, keep) for name in give_way], limit) is not None
            and arrives
        ):
            self.pool.mark_prefetched(digest)
            assert self.pool.unused_bytes <= limit
        self.pool.unpin(digest)
        lost = {name for name in SIZES if self.pool.filled_chunks(name) < before[name]}
        assert lost <= set(give_way) - {digest}
        assert all(self.pool.filled_bytes(name) >= keep for name in lost)

    @invariant()
    def what_was_prefetched_was_used_or_wasted_or_is_there(self) -> None:
        tally = self.pool.tally
        assert tally.prefetched_bytes == tally.hit_bytes + tally.wasted_bytes + self.pool.unused_bytes

    @invariant()
    def books_are_right(self) -> None:
        self.pool.check_integrity()
        assert self.pool.used_bytes <= BUFFERS * 10

    @invariant()
    def pinned_checkpoints_keep_their_buffers(self) -> None:
        for digest, buffers in self.pinned_buffers.items():
            assert self.pool.buffers(digest) == buffers


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
