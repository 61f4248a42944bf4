"""Deleting checkpoints that no model has any more: each is recorded with the deletion of its last model, and carried on
by every leader until it is gone.

A checkpoint may get a model again meanwhile: whoever imports one waits for deletions under way, and no deletion begins
during an import, so that none takes away what an import has just found to be there.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError, NotFoundError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.values import Node
from kindling.scheduler.domain.view import ClusterView
from kindling.scheduler.ports import Storages, Store

log = get_logger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Retirements:
    """The retirements under way, by digest."""

    def __init__(self, store: Store, storages: Storages, view: ClusterView, clock: Clock, changes: Changes) -> None:
        self._store = store
        self._storages = storages
        self._view = view
        self._clock = clock
        self._changes = changes
        self._imports = 0
        self._deletions = 0
        self._pending: set[str] = set()

    def enter(self, digest: str) -> bool:
        """Note that a checkpoint is to go; false if that was known. :meth:`see_through` must follow if it was not."""
        is_new = digest not in self._pending
        self._pending.add(digest)
        return is_new

    def spare(self, digest: str) -> None:
        """A checkpoint has a model again."""
        self._pending.discard(digest)

    @asynccontextmanager
    async def importing(self) -> AsyncIterator[None]:
        """Keep deletions away while checkpoints are imported and recorded."""
        await self._changes.until(lambda: not self._deletions)
        self._imports += 1
        try:
            yield
        finally:
            self._imports -= 1
            self._changes.note()

    async def see_through(self, digest: str) -> None:
        """Delete a checkpoint that is to go once nothing runs it, unless it is spared before."""
        done: set[str] = set()
        pause_seconds = _FIRST_PAUSE_SECONDS
        while digest in self._pending:
            await self._changes.until(lambda: digest not in self._pending or self._may_delete(digest))
            if digest in self._pending and await self._delete(digest, done):
                self._pending.discard(digest)
                await self._store.forget_retirement(digest)
                log.info("checkpoint_retired", digest=digest)
            elif digest in self._pending:
                await self._clock.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _may_delete(self, digest: str) -> bool:
        is_running = any(instance.digest == digest for instance in self._view.instances.values())
        return bool(self._view.nodes) and not self._imports and not is_running

    async def _delete(self, digest: str, done: set[str]) -> bool:
        """Ask every live node that has not done it yet; true if all have, the remote store with them."""
        self._deletions += 1
        try:
            await self._store.confirm()
            for node in list(self._view.nodes.values()):
                if node.node_id not in done and await self._delete_on(node, digest):
                    done.add(node.node_id)
        finally:
            self._deletions -= 1
            self._changes.note()
        return bool(done) and done >= set(self._view.nodes)

    async def _delete_on(self, node: Node, digest: str) -> bool:
        try:
            await self._storages.delete_checkpoint(node, digest)
        except NotFoundError:
            log.debug("checkpoint_gone", node=node.node_id, digest=digest)
        except KindlingError as error:
            log.warning("checkpoint_not_deleted", node=node.node_id, digest=digest, reason=error.reason)
            return False
        return True
