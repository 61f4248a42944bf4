"""Telling storage managers who leads, so that they do nothing any more for a leader that was deposed."""

from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.domain.values import Node
from kindling.scheduler.storage_ports import Storages

log = get_logger(__name__)


class Introductions:
    """Asks each storage manager once for its status, which tells it that a new leader asks."""

    def __init__(self, storages: Storages) -> None:
        self._storages = storages
        self._known: set[str] = set()  # addresses

    def is_known(self, node: Node) -> bool:
        """Whether a storage manager was told, or is being told."""
        return node.storage_address in self._known

    async def introduce(self, node: Node) -> None:
        """Tell a storage manager; one that cannot be reached now hears of it with the next request."""
        self._known.add(node.storage_address)
        try:
            await self._storages.status(node)
        except KindlingError as error:
            self._known.discard(node.storage_address)
            log.info("leader_not_introduced", node=node.node_id, reason=error.reason)
