"""Storage managers over gRPC."""

from collections.abc import AsyncGenerator

from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint, Node, Tier
from kindling.scheduler.domain.verification import NodeVerified, VerifyProgress
from kindling.scheduler.storage_ports import (
    Dropped,
    FilePart,
    ImportOrder,
    ImportProgress,
    PrefetchCounts,
    StorageStatus,
    TierContents,
    VerifyOrder,
)
from kindling.scheduler.verify_wire import report_from_wire
from kindling.scheduler.wire import checkpoint_from_wire, tier_to_wire, tier_use_from_wire
from kindling.v1 import cluster_pb2, storage_pb2, storage_pb2_grpc

_STATUS_SECONDS = 5.0
_DELETE_SECONDS = 60.0
_PREFETCH_SECONDS = 10.0  # beyond what its bandwidth gives


class GrpcStorages:
    """The storage managers at the addresses they registered, asked by the leader that was elected at a revision."""

    def __init__(self, channels: ChannelPool, leader_revision: int) -> None:
        self._channels = channels
        self._revision = leader_revision

    async def import_checkpoint(
        self, node: Node, order: ImportOrder
    ) -> AsyncGenerator[ImportProgress | Checkpoint, None]:
        """Pack a source into the remote store; the last item is the checkpoint."""
        request = storage_pb2.ImportCheckpointRequest(
            request_id=order.request_id,
            source_uri=order.source_uri,
            allow_pickle=order.allow_pickle,
            leader_revision=self._revision,
        )
        call = self._stub(node).ImportCheckpoint(request)
        try:
            with remote_errors(node.node_id):
                async for message in call:
                    if message.HasField("imported"):
                        yield checkpoint_from_wire(message.imported)
                    elif message.HasField("progress"):
                        yield ImportProgress(message.progress.done_bytes, message.progress.total_bytes)
        finally:
            call.cancel()

    async def evict_checkpoint(self, node: Node, digest: str, keep: Tier) -> Dropped:
        """Drop a checkpoint's chunks above a tier, as far as no lease pins them."""
        request = storage_pb2.EvictCheckpointRequest(
            digest=digest, keep=tier_to_wire(keep), leader_revision=self._revision
        )
        with remote_errors(node.node_id):
            response = await self._stub(node).EvictCheckpoint(request, timeout=_DELETE_SECONDS)
        return Dropped(response.dropped_bytes, response.pinned_bytes)

    async def prefetch(self, node: Node, promotion: Promotion) -> bool:
        """Bring the head of a checkpoint to DRAM, or a copy to the SSD; returns whether all of it is there."""
        request = storage_pb2.PrefetchCheckpointRequest(
            digest=promotion.digest,
            head_bytes=promotion.head_bytes,
            bytes_per_second=promotion.bytes_per_second,
            unused_limit_bytes=promotion.unused_limit_bytes,
            give_way_digests=[one.digest for one in promotion.give_way],
            give_way_keep_bytes=[one.keep_bytes for one in promotion.give_way],
            leader_revision=self._revision,
            to=tier_to_wire(promotion.to),
        )
        timeout = _PREFETCH_SECONDS + 2 * promotion.head_bytes / promotion.bytes_per_second
        with remote_errors(node.node_id):
            response = await self._stub(node).PrefetchCheckpoint(request, timeout=timeout)
        return response.outcome == storage_pb2.PREFETCH_OUTCOME_DONE

    async def delete_checkpoint(self, node: Node, digest: str) -> None:
        """Delete a checkpoint from the remote store and the node."""
        request = storage_pb2.DeleteCheckpointRequest(digest=digest, leader_revision=self._revision)
        with remote_errors(node.node_id):
            await self._stub(node).DeleteCheckpoint(request, timeout=_DELETE_SECONDS)

    async def verify_checkpoint(
        self, node: Node, order: VerifyOrder
    ) -> AsyncGenerator[VerifyProgress | NodeVerified, None]:
        """Read a checkpoint's chunks at every tier of the node; the last item is what was found."""
        request = storage_pb2.VerifyCheckpointRequest(
            digest=order.digest,
            repair=order.repair,
            check_remote=order.check_remote,
            leader_revision=self._revision,
        )
        call = self._stub(node).VerifyCheckpoint(request)
        try:
            with remote_errors(node.node_id):
                async for message in call:
                    if message.HasField("verified"):
                        yield NodeVerified(node.node_id, report_from_wire(message.verified))
                    elif message.HasField("progress"):
                        yield VerifyProgress(node.node_id, message.progress.done_bytes, message.progress.total_bytes)
        finally:
            call.cancel()

    async def read_files(self, node: Node, digest: str) -> AsyncGenerator[FilePart, None]:
        """Yield a checkpoint's small files, piece by piece."""
        call = self._stub(node).ReadCheckpointFiles(storage_pb2.ReadCheckpointFilesRequest(digest=digest))
        try:
            with remote_errors(node.node_id):
                async for message in call:
                    part = message.part
                    yield FilePart(part.path, part.file_bytes, part.offset, part.data)
        finally:
            call.cancel()

    async def status(self, node: Node) -> StorageStatus:
        """Return the node's tiers, and what became of what was prefetched there."""
        request = storage_pb2.GetStorageStatusRequest(leader_revision=self._revision)
        with remote_errors(node.node_id):
            response = await self._stub(node).GetStorageStatus(request, timeout=_STATUS_SECONDS)
        tiers = tuple(_contents(tier) for tier in response.tiers if tier_use_from_wire(tier))
        return StorageStatus(
            tiers,
            _counts(response.prefetch) if response.HasField("prefetch") else None,
            _counts(response.prefetch_to_ssd) if response.HasField("prefetch_to_ssd") else None,
        )

    def _stub(self, node: Node) -> "storage_pb2_grpc.StorageServiceAsyncStub":
        return storage_pb2_grpc.StorageServiceStub(self._channels.get(node.storage_address))


def _contents(message: cluster_pb2.TierStatus) -> TierContents:
    use = tier_use_from_wire(message)
    assert use is not None
    return TierContents(use, tuple((held.digest, held.chunks, held.bytes) for held in message.checkpoints))


def _counts(message: cluster_pb2.PrefetchCounts) -> PrefetchCounts:
    return PrefetchCounts(
        message.prefetched_bytes, message.hits, message.hit_bytes, message.misses, message.wasted_bytes
    )
