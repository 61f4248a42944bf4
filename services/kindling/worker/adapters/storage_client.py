"""The node's storage manager, as its workers use it: leases over gRPC, memory over a Unix socket."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry import trace

from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import load_validated_manifest
from kindling.platform.backoff import Backoff
from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError, PermissionDeniedError, UnavailableError
from kindling.platform.fd_passing import close_all, make_room_for_descriptors, request_extents
from kindling.platform.logging import get_logger
from kindling.platform.rpc.channel import remote_errors
from kindling.platform.rpc.tracing import without_span
from kindling.v1 import storage_pb2, storage_pb2_grpc
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.held_checkpoint import HeldCheckpoint, given_up_error
from kindling.worker.adapters.lease import EVICTION_REQUESTED, PEER, Lease
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.placement import MakeWeights, PlacedWeights
from kindling.worker.adapters.shm_weights import SharedWeights
from kindling.worker.domain.instance import LoadProgress

LONGEST_PAUSE_SECONDS = 5.0
REFUSAL_SECONDS = 1.0
_REMEMBERED_MANIFESTS = 16
log = get_logger(__name__)
tracer = trace.get_tracer(__name__)
LeaseCall = grpc.aio.UnaryStreamCall[Any, Any]


class StorageClient:
    """The port ``CheckpointStore`` over a node's storage manager; usable inside ``async with``.

    A lease that breaks after its checkpoint was loaded is taken anew in the background, for as long as it takes: the
    memory stays as it is until then, since nobody else is ever given it.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, holder: str, clock: Clock, make_weights: MakeWeights = SharedWeights
    ) -> None:
        self._stub = storage_pb2_grpc.StorageServiceStub(channel)
        self._holder = holder
        self._clock = clock
        self._make_weights = make_weights
        self._tasks = asyncio.TaskGroup()
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="mapping")

    @asynccontextmanager
    async def open(self, digest: str, on_progress: Callable[[LoadProgress], None]) -> AsyncIterator[HeldCheckpoint]:
        """Hold a checkpoint in memory; see the port for what is guaranteed."""
        call = self._call(digest)
        try:
            checkpoint = await self._take_over(call, on_progress)
            keeper = self._tasks.create_task(self._keep(call, checkpoint))
            try:
                yield checkpoint
            finally:
                # Not before the memory is let go of may the storage manager think that nobody uses it.
                checkpoint.give_up()
                await self._blocking(_retire, checkpoint)
                keeper.cancel()
                await asyncio.wait({keeper})
        finally:
            call.cancel()

    async def __aenter__(self) -> Self:
        make_room_for_descriptors()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)
        self._executor.shutdown()

    def _call(self, digest: str) -> LeaseCall:
        request = storage_pb2.OpenCheckpointRequest(digest=digest, holder=self._holder)
        with without_span() as metadata:  # a lease outlives the request that needed it
            return self._stub.OpenCheckpoint(request, metadata=metadata)

    async def _take_over(self, call: LeaseCall, on_progress: Callable[[LoadProgress], None]) -> HeldCheckpoint:
        with tracer.start_as_current_span("worker.open_checkpoint"):
            opened = await _first_event(call)
            manifest = _parsed(opened.manifest_json)
        with tracer.start_as_current_span("worker.map_checkpoint"):
            arrivals = Arrivals(manifest.chunk_count)
            try:
                mappings, weights = await self._blocking(self._place, opened.memory, manifest, arrivals)
            except PermissionDeniedError:
                await _raise_load_error(call)
                raise
            except asyncio.CancelledError:
                arrivals.fail(given_up_error(manifest.digest))
                raise
        lease = Lease(self._stub, opened.lease_id)
        files = Path(opened.files_directory)
        checkpoint = HeldCheckpoint(lease, manifest, files, mappings, arrivals, weights, on_progress)
        if opened.HasField("loaded"):
            checkpoint.complete(opened.loaded)
        return checkpoint

    def _place(
        self, memory: storage_pb2.SharedMemoryHandle, manifest: Manifest, arrivals: Arrivals
    ) -> tuple[list[PartitionMapping], PlacedWeights]:
        mappings = [PartitionMapping(partition.size_bytes) for partition in manifest.partitions]
        _receive(memory, mappings)
        return mappings, self._make_weights(manifest, mappings, arrivals)

    async def _keep(self, call: LeaseCall, checkpoint: HeldCheckpoint) -> None:
        """Follow the lease; once it has broken, hold another one, until cancelled. A load that fails is told once."""
        backoff = Backoff(self._clock, LONGEST_PAUSE_SECONDS)
        error = await self._follow(call, checkpoint)
        checkpoint.fail(error)
        while checkpoint.is_loaded and not checkpoint.is_parked:
            log.warning("lease_lost", digest=checkpoint.manifest.digest, reason=error.reason, message=error.message)
            await backoff.pause()
            error = await self._hold_again(checkpoint, backoff)
        if checkpoint.is_parked:
            await self._let_go(call, checkpoint)

    async def _let_go(self, call: LeaseCall, checkpoint: HeldCheckpoint) -> None:
        """A parked lease is over: weights that are views go at once, copies of them stay unless they are to be gone."""
        reads_mappings = checkpoint.weights.reads_mappings
        if reads_mappings or checkpoint.lease.closed_reason == EVICTION_REQUESTED:
            checkpoint.taken_back.set()
        if not reads_mappings:
            checkpoint.lease.is_over = True
            await self._blocking(_retire, checkpoint)
            call.cancel()

    async def _follow(self, call: LeaseCall, checkpoint: HeldCheckpoint) -> KindlingError:
        """Tell the checkpoint what arrives; return why the lease is over."""
        try:
            with remote_errors(PEER):
                async for event in _events(call):
                    checkpoint.note(event)
        except KindlingError as error:
            return error
        return _lease_over()

    async def _hold_again(self, checkpoint: HeldCheckpoint, backoff: Backoff) -> KindlingError:
        call = self._call(checkpoint.manifest.digest)
        try:
            opened = await _first_event(call)
            with remote_errors(PEER):
                if opened.HasField("loaded") or await _is_loaded(call):
                    # The new chunks have the same bytes; the old ones were ours alone and are freed by this.
                    await self._blocking(_receive, opened.memory, checkpoint.mappings)
                    checkpoint.lease.lease_id = opened.lease_id
                    backoff.reset()
                    log.info("lease_taken_anew", digest=checkpoint.manifest.digest)
                    async for _ in _events(call):
                        pass
        except KindlingError as error:
            return error
        finally:
            call.cancel()
        return _lease_over()

    async def _blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, functools.partial(function, *args))


@functools.lru_cache(maxsize=_REMEMBERED_MANIFESTS)
def _parsed(manifest_json: bytes) -> Manifest:
    # A worker opens the same few checkpoints again and again, and parsing takes as long as mapping.
    return load_validated_manifest(manifest_json)


async def _events(call: LeaseCall) -> AsyncIterator[storage_pb2.OpenCheckpointResponse]:
    # grpc does not let one call be read first by ``read`` and then by iteration.
    while isinstance(event := await call.read(), storage_pb2.OpenCheckpointResponse):
        yield event
        if event.HasField("closed"):
            return


async def _first_event(call: LeaseCall) -> storage_pb2.CheckpointOpened:
    with remote_errors(PEER):
        event = await call.read()
    if not isinstance(event, storage_pb2.OpenCheckpointResponse) or not event.HasField("opened"):
        raise _lease_over()
    return event.opened


async def _is_loaded(call: LeaseCall) -> bool:
    """Return once every chunk can be read, or the lease is over: then it is not."""
    async for event in _events(call):
        if event.HasField("loaded"):
            return True
    return False


async def _raise_load_error(call: LeaseCall) -> None:
    """Memory of a load that failed meanwhile is not handed over; the lease says why, or else goes on."""
    with contextlib.suppress(TimeoutError), remote_errors(PEER):
        async with asyncio.timeout(REFUSAL_SECONDS):
            await _is_loaded(call)


def _lease_over() -> UnavailableError:
    return UnavailableError(
        "The storage manager ended the lease: it is draining; try again once it is back.",
        reason="LEASE_OVER",
        retry_after_seconds=1.0,
    )


def _receive(memory: storage_pb2.SharedMemoryHandle, mappings: list[PartitionMapping]) -> None:
    """Map everything that the handle gives; UnavailableError if the storage manager goes away meanwhile."""
    try:
        for message, fds in request_extents(Path(memory.socket_path), memory.token):
            try:
                mappings[message.partition].map_extents(message.extents, fds)
            finally:
                close_all(fds)
    except OSError as error:
        raise UnavailableError(
            f"The storage manager's socket {memory.socket_path} failed: {error}; try again.",
            reason="HANDOVER_FAILED",
            retry_after_seconds=1.0,
        ) from error


def _retire(checkpoint: HeldCheckpoint) -> None:
    checkpoint.weights.close()
    for mapping in checkpoint.mappings:
        mapping.retire()
