"""Storage managers under virtual time, over one remote store, as one scheduler's process reaches them."""

import asyncio
from collections.abc import AsyncGenerator

from kindling.platform.errors import NotFoundError, UnavailableError
from kindling.scheduler.domain.values import Checkpoint, Node
from kindling.scheduler.storage_ports import ImportOrder, ImportProgress, StorageStatus
from support.weather import Fate, Process

_IMPORT_SECONDS = 0.5
_TIMEOUT_SECONDS = 0.5


def checkpoint(digest: str) -> Checkpoint:
    return Checkpoint(digest, 1000, 100, 10)


class SimulatedStorages:
    """Packs each source into a checkpoint of the source's name; ``remote`` holds the digests that there are."""

    def __init__(self, remote: set[str], process: Process) -> None:
        self._remote = remote
        self._process = process

    async def import_checkpoint(
        self, _node: Node, order: ImportOrder
    ) -> AsyncGenerator[ImportProgress | Checkpoint, None]:
        """Pack a source, unless that was done before."""
        await self._send()
        digest = f"blake3:{order.source_uri.rpartition('/')[2]}"
        if digest not in self._remote:
            yield ImportProgress(1, 2)
            await asyncio.sleep(_IMPORT_SECONDS)
            self._remote.add(digest)
        yield checkpoint(digest)

    async def delete_checkpoint(self, _node: Node, digest: str) -> None:
        """Delete a checkpoint; raises NotFoundError if there is none."""
        blow = await self._send()
        if digest not in self._remote:
            raise NotFoundError("there is no such checkpoint", reason="CHECKPOINT_NOT_FOUND")
        self._remote.discard(digest)
        if blow is Fate.KILL_AFTER:
            await self._process.die()

    async def status(self, _node: Node) -> StorageStatus:
        """Nothing is there to tell; as nothing depends on whether it arrives, the weather leaves it alone."""
        return StorageStatus(())

    async def _send(self) -> Fate:
        blow = self._process.weather.next()
        if blow.fate is Fate.KILL_BEFORE:
            await self._process.die()
        if self._process.is_dead or blow.fate is Fate.LOSE_REQUEST:
            await asyncio.sleep(_TIMEOUT_SECONDS)
            raise UnavailableError("the connection broke", reason="UNREACHABLE")
        await asyncio.sleep(blow.seconds)
        return blow.fate
