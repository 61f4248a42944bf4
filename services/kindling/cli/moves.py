"""The mark that `kindling chat --trace` leaves where an answer goes on on another worker."""

import asyncio
import contextlib

from rich.markup import escape

from kindling.cli.client import ClusterClient
from kindling.cli.console import err
from kindling.platform.errors import KindlingError
from kindling.v1 import generation_pb2

# A name is not worth keeping the reader waiting: without it, the mark has the worker's address.
_LOOKUP_SECONDS = 1.0
_SIGNS = {
    generation_pb2.MOVE_KIND_MIGRATED: "⇄",
    generation_pb2.MOVE_KIND_RESUMED: "↻",
    generation_pb2.MOVE_KIND_HEDGED: "⇉",
}


class WorkerNames:
    """Names of workers by their addresses, asked of the cluster when one comes up that is not known yet."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    async def name(self, client: ClusterClient, address: str) -> str:
        """Return the name of the worker at ``address``, or the address if the cluster does not say soon."""
        if address not in self._names:
            with contextlib.suppress(KindlingError, TimeoutError):
                async with asyncio.timeout(_LOOKUP_SECONDS):
                    self._names = await _names(client)
        return self._names.get(address, address)


def print_mark(moved: generation_pb2.ChoiceMoved, worker: str) -> None:
    """Print ` ⇄ node-0/worker-1 `, dimmed: ⇄ is a migration, ↻ a resumption after a break-off, ⇉ a hedge."""
    err.print(f"[dim] {_SIGNS.get(moved.kind, '→')} {escape(worker)} [/]", end="")


async def _names(client: ClusterClient) -> dict[str, str]:
    seen = await client.status()
    return {worker.address: worker.worker_id for node in seen.nodes for worker in node.workers}
