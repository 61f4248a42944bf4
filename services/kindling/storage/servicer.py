"""StorageService: the wire in front of the use cases."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import grpc
from opentelemetry import trace

from kindling.checkpoint.layout import directory_name
from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import InvalidArgumentError
from kindling.platform.known_leader import KnownLeader
from kindling.platform.rpc.tracing import as_part_of_caller
from kindling.storage import wire
from kindling.storage.arrivals import Arrival
from kindling.storage.domain.give_way import GiveWay
from kindling.storage.domain.prefetched import Prefetched
from kindling.storage.domain.tier import Tier
from kindling.storage.domain.verdict import Verdict
from kindling.storage.evict_checkpoint import EvictCheckpoint
from kindling.storage.holding import Lease, LeaseEvent, Loaded
from kindling.storage.import_checkpoint import ImportCheckpoint, ImportProgress
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.prefetch_checkpoint import PrefetchCheckpoint, PrefetchOrder
from kindling.storage.prefetch_copy import CopyOrder, PrefetchCopy
from kindling.storage.read_files import ReadFiles
from kindling.storage.status import GetStatus
from kindling.storage.verify_checkpoint import VerifyCheckpoint, VerifyOrder, VerifyProgress
from kindling.v1 import checkpoint_pb2, model_pb2, storage_pb2, storage_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
tracer = trace.get_tracer(__name__)


@dataclass(frozen=True, slots=True)
class UseCases:
    """What the servicer serves."""

    imports: ImportCheckpoint
    opens: OpenCheckpoint
    evicts: EvictCheckpoint
    reads: ReadFiles
    status: GetStatus
    verifies: VerifyCheckpoint
    prefetches: PrefetchCheckpoint
    copies: PrefetchCopy


class StorageServicer(storage_pb2_grpc.StorageServiceServicer):
    """Implements storage.proto; ``socket_path`` is where the hand-over listens."""

    def __init__(self, use_cases: UseCases, socket_path: Path) -> None:
        self._use_cases = use_cases
        self._socket_path = socket_path
        self._leader = KnownLeader()

    async def ImportCheckpoint(
        self, request: storage_pb2.ImportCheckpointRequest, _context: Context
    ) -> AsyncIterator[storage_pb2.ImportCheckpointResponse]:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        events = self._use_cases.imports.run(request.request_id, request.source_uri, allow_pickle=request.allow_pickle)
        async with aclosing(events):
            async for event in events:
                yield _import_event_to_wire(event)

    async def OpenCheckpoint(
        self, request: storage_pb2.OpenCheckpointRequest, context: Context
    ) -> AsyncIterator[storage_pb2.OpenCheckpointResponse]:
        """See the proto."""
        directory_name(request.digest)  # refuses anything but a digest
        attributes = {"kindling.digest": request.digest, "kindling.worker": request.holder}
        async with AsyncExitStack() as held:
            # What the lease itself takes is no part of the request, so that this ends when it is given.
            with as_part_of_caller(context), tracer.start_as_current_span("checkpoint.open", attributes=attributes):
                lease = await held.enter_async_context(self._use_cases.opens.open(request.digest, request.holder))
            loaded = lease.loaded
            yield self._opened(lease, loaded)
            async for event in lease.events(loaded_is_told=loaded is not None):
                yield _lease_event_to_wire(event)

    async def SetLeaseParked(
        self, request: storage_pb2.SetLeaseParkedRequest, _context: Context
    ) -> storage_pb2.SetLeaseParkedResponse:
        """See the proto."""
        self._use_cases.opens.set_parked(request.lease_id, parked=request.parked)
        return storage_pb2.SetLeaseParkedResponse()

    async def PrefetchCheckpoint(
        self, request: storage_pb2.PrefetchCheckpointRequest, _context: Context
    ) -> storage_pb2.PrefetchCheckpointResponse:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        directory_name(request.digest)
        prefetched = await self._prefetch(request)
        return storage_pb2.PrefetchCheckpointResponse(
            outcome=wire.OUTCOME_TO_WIRE[prefetched.outcome], prefetched_bytes=prefetched.size_bytes
        )

    async def _prefetch(self, request: storage_pb2.PrefetchCheckpointRequest) -> Prefetched:
        digest, speed, limit_bytes = request.digest, request.bytes_per_second, request.unused_limit_bytes
        if request.to == checkpoint_pb2.TIER_SSD:
            copying = CopyOrder(digest, speed, limit_bytes, tuple(request.give_way_digests))
            return await self._use_cases.copies.prefetch(copying)
        order = PrefetchOrder(digest, request.head_bytes, speed, limit_bytes, _giving_way(request))
        return await self._use_cases.prefetches.prefetch(order)

    async def EvictCheckpoint(
        self, request: storage_pb2.EvictCheckpointRequest, _context: Context
    ) -> storage_pb2.EvictCheckpointResponse:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        directory_name(request.digest)
        evicted = await self._use_cases.evicts.evict(request.digest, _kept_tier(request.keep))
        return storage_pb2.EvictCheckpointResponse(
            dropped_bytes=evicted.dropped_bytes, pinned_bytes=evicted.pinned_bytes
        )

    async def DeleteCheckpoint(
        self, request: storage_pb2.DeleteCheckpointRequest, _context: Context
    ) -> storage_pb2.DeleteCheckpointResponse:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        directory_name(request.digest)
        await self._use_cases.evicts.delete(request.digest)
        return storage_pb2.DeleteCheckpointResponse()

    async def ReadCheckpointFiles(
        self, request: storage_pb2.ReadCheckpointFilesRequest, _context: Context
    ) -> AsyncIterator[storage_pb2.ReadCheckpointFilesResponse]:
        """See the proto."""
        directory_name(request.digest)
        async for part in self._use_cases.reads.read(request.digest):
            message = model_pb2.FilePart(path=part.path, file_bytes=part.file_bytes, offset=part.offset, data=part.data)
            yield storage_pb2.ReadCheckpointFilesResponse(part=message)

    async def VerifyCheckpoint(
        self, request: storage_pb2.VerifyCheckpointRequest, _context: Context
    ) -> AsyncIterator[storage_pb2.VerifyCheckpointResponse]:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        directory_name(request.digest)
        order = VerifyOrder(request.digest, request.repair, request.check_remote)
        async with aclosing(self._use_cases.verifies.verify(order)) as events:
            async for event in events:
                yield self._verify_event_to_wire(event)

    def _verify_event_to_wire(self, event: VerifyProgress | Verdict) -> storage_pb2.VerifyCheckpointResponse:
        if isinstance(event, Verdict):
            report = wire.verdict_to_wire(self._use_cases.status.node_id, event)
            return storage_pb2.VerifyCheckpointResponse(verified=report)
        progress = checkpoint_pb2.VerifyProgress(done_bytes=event.done_bytes, total_bytes=event.total_bytes)
        return storage_pb2.VerifyCheckpointResponse(progress=progress)

    async def GetStorageStatus(
        self, request: storage_pb2.GetStorageStatusRequest, _context: Context
    ) -> storage_pb2.GetStorageStatusResponse:
        """See the proto."""
        self._leader.heed(request.leader_revision)
        status = self._use_cases.status.status()
        response = storage_pb2.GetStorageStatusResponse(
            node_id=status.node_id,
            prefetch=wire.tally_to_wire(status.prefetch),
            prefetch_to_ssd=wire.tally_to_wire(status.copies),
        )
        response.tiers.extend(wire.tier_to_status(tier, with_checkpoints=True) for tier in status.tiers)
        for lease in status.leases:
            response.leases.add(
                lease_id=lease.lease_id, digest=lease.holding.digest, holder=lease.holder, parked=lease.parked
            )
        return response

    def _opened(self, lease: Lease, loaded: Loaded | None) -> storage_pb2.OpenCheckpointResponse:
        memory = storage_pb2.SharedMemoryHandle(socket_path=str(self._socket_path), token=lease.token)
        opened = storage_pb2.CheckpointOpened(
            lease_id=lease.lease_id,
            manifest_json=lease.holding.known.manifest_json,
            files_directory=str(lease.holding.files_directory),
            memory=memory,
            loaded=_loaded_to_wire(loaded) if loaded else None,
        )
        return storage_pb2.OpenCheckpointResponse(opened=opened)


def _import_event_to_wire(event: ImportProgress | Manifest) -> storage_pb2.ImportCheckpointResponse:
    if isinstance(event, Manifest):
        return storage_pb2.ImportCheckpointResponse(imported=wire.checkpoint_to_wire(event))
    progress = model_pb2.ImportProgress(done_bytes=event.done_bytes, total_bytes=event.total_bytes)
    return storage_pb2.ImportCheckpointResponse(progress=progress)


def _lease_event_to_wire(event: LeaseEvent) -> storage_pb2.OpenCheckpointResponse:
    if isinstance(event, Arrival):
        arrived = storage_pb2.ChunksArrived(first_chunk=event.first, chunk_count=event.count)
        setattr(arrived, "from", wire.tier_to_wire(event.tier))
        return storage_pb2.OpenCheckpointResponse(arrived=arrived)
    if isinstance(event, Loaded):
        return storage_pb2.OpenCheckpointResponse(loaded=_loaded_to_wire(event))
    return storage_pb2.OpenCheckpointResponse(closed=storage_pb2.CheckpointClosed(reason=event.reason))


def _loaded_to_wire(event: Loaded) -> checkpoint_pb2.LoadReport:
    return wire.report_to_wire(event.traffic, event.load_seconds)


def _giving_way(request: storage_pb2.PrefetchCheckpointRequest) -> tuple[GiveWay, ...]:
    named = zip_longest(request.give_way_digests, request.give_way_keep_bytes, fillvalue=0)
    return tuple(GiveWay(str(digest), int(keep_bytes)) for digest, keep_bytes in named if digest)


def _kept_tier(number: int) -> Tier:
    try:
        return Tier(number)
    except ValueError as error:
        raise InvalidArgumentError(
            "say which tier may keep the checkpoint: TIER_DRAM, TIER_SSD or TIER_REMOTE",
            reason="TIER_INVALID",
            field="keep",
        ) from error
