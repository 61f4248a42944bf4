"""Drops a checkpoint from tiers of this node, or from everywhere."""

from dataclasses import dataclass

from kindling.platform.errors import FailedPreconditionError, NotFoundError
from kindling.platform.logging import get_logger
from kindling.storage.domain.tier import Tier
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Evicted:
    """Bytes dropped, and bytes that stay because a lease pins them."""

    dropped_bytes: int
    pinned_bytes: int


class EvictCheckpoint:
    """Evicts and deletes, never under a lease."""

    def __init__(self, tiers: Tiers, opened: OpenCheckpoint, publisher: Publisher) -> None:
        self._tiers = tiers
        self._opened = opened
        self._publisher = publisher

    async def evict(self, digest: str, keep: Tier) -> Evicted:
        """Drop ``digest`` from every tier faster than ``keep``, and take it back from workers that only have it parked;
        what is open stays and is counted."""
        async with self._opened.locks.hold(digest):
            if keep > Tier.GPU:
                await self._opened.parked.take_back_if_parked(digest)
            held = [tier for tier in self._tiers.residency(digest) if tier.tier < keep]
            if self._opened.is_open(digest):
                return Evicted(0, sum(tier.size_bytes for tier in held))
            dropped = sum([await self._drop(digest, tier.tier) for tier in held])
        self._publisher.note(digest)
        await self._publisher.publish_and_wait()  # a placement that follows the answer must not count on what is gone
        log.info("checkpoint_evicted", digest=digest, dropped_bytes=dropped, keep=keep.name)
        return Evicted(dropped, 0)

    async def delete(self, digest: str) -> None:
        """Delete ``digest`` from the remote store and from this node.

        Raises FailedPreconditionError (CHECKPOINT_IN_USE) if it is open here, NotFoundError (CHECKPOINT_NOT_FOUND) if
        it is nowhere.
        """
        async with self._opened.locks.hold(digest):
            await self._opened.parked.take_back_if_parked(digest)
            if self._opened.is_open(digest):
                raise FailedPreconditionError(
                    f"{digest} is in use; stop the instances that run it first",
                    reason="CHECKPOINT_IN_USE",
                    metadata={"digest": digest},
                )
            known_here = bool(self._tiers.residency(digest))
            existed = await self._tiers.remote.delete(digest)
            await self._forget(digest)
        await self._tiers.count_remote()
        if not existed and not known_here:
            raise NotFoundError(
                f"there is no checkpoint {digest}", reason="CHECKPOINT_NOT_FOUND", metadata={"digest": digest}
            )
        await self._publisher.publish_and_wait()
        log.info("checkpoint_deleted", digest=digest)

    async def _forget(self, digest: str) -> None:
        self._tiers.pool.evict(digest)
        await self._tiers.drop_copy(digest)
        await self._tiers.forget_files(digest)
        self._tiers.catalog.forget(digest)
        self._publisher.note(digest)

    async def _drop(self, digest: str, tier: Tier) -> int:
        if tier is Tier.DRAM:
            return self._tiers.pool.evict(digest)
        size_bytes = self._tiers.ledger.size_bytes(digest)
        await self._tiers.drop_copy(digest)
        return size_bytes
