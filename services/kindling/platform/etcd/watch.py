"""Watches that miss nothing and repeat nothing, whatever happens to etcd or to the connection."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.backoff import Backoff
from kindling.platform.errors import Code, UnavailableError
from kindling.platform.etcd.calls import Stream, StreamCallable
from kindling.platform.etcd.connection import Connection
from kindling.platform.etcd.endpoint import Stubs
from kindling.platform.etcd.failures import explain, is_stale_token
from kindling.platform.etcd.keys import KeyRange
from kindling.platform.etcd.values import Batch, Snapshot, WatchUpdate
from kindling.platform.etcd.wire import event_from_wire
from kindling.platform.logging import get_logger

log = get_logger(__name__)
CREATE_TIMEOUT_SECONDS = 5.0
WatchStream = Stream[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]


def _watch(stubs: Stubs) -> StreamCallable[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse]:
    return stubs.watch.Watch


class _HistoryGoneError(Exception):
    """What happened since the last update can no longer be told event by event."""


class Watch:
    """One range of keys, followed from now on."""

    def __init__(self, connection: Connection, keys: KeyRange, read: Callable[[KeyRange], Awaitable[Snapshot]]) -> None:
        self._connection = connection
        self._keys = keys
        self._read = read
        self._seen_revision = 0
        self._backoff = Backoff(connection.clock)

    async def updates(self) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a snapshot, then batches; another snapshot whenever etcd no longer has the history between."""
        while True:
            snapshot = await self._read_until_answered()
            self._seen_revision = snapshot.revision
            yield snapshot
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    yield batch

    async def _read_until_answered(self) -> Snapshot:
        while True:
            try:
                return await self._read(self._keys)
            except UnavailableError:
                await self._backoff.pause()

    async def _batches(self) -> AsyncGenerator[Batch, None]:
        """Yield what happens, over a new stream whenever one breaks; end when the history is gone."""
        while True:
            try:
                async with aclosing(self._batches_of_one_stream()) as batches:
                    async for batch in batches:
                        yield batch
            except UnavailableError as error:
                log.debug("etcd_watch_interrupted", seen_revision=self._seen_revision, cause=error.message)
                await self._backoff.pause()
            except _HistoryGoneError as error:
                log.info("etcd_watch_relisted", seen_revision=self._seen_revision, cause=str(error))
                return

    async def _batches_of_one_stream(self) -> AsyncGenerator[Batch, None]:
        async with self._connection.stream(_watch) as stream:
            async with asyncio.timeout(CREATE_TIMEOUT_SECONDS):
                await stream.write(self._create_request())
                created = await self._receive(stream)
            await self._check_history(created.header.revision)
            self._backoff.reset()
            while True:
                if (batch := await self._receive_batch(stream)).events:
                    yield batch

    def _create_request(self) -> rpc_pb2.WatchRequest:
        create = rpc_pb2.WatchCreateRequest(
            key=self._keys.start,
            range_end=self._keys.end,
            start_revision=self._seen_revision + 1,
            fragment=True,
        )
        return rpc_pb2.WatchRequest(create_request=create)

    async def _check_history(self, revision: int) -> None:
        """Raise if etcd's history ends before what we saw: it was restored from an older state.

        A member may merely lag behind, so the cluster as a whole is asked before the watch is given up.
        """
        if revision < self._seen_revision and (await self._read(self._keys)).revision < self._seen_revision:
            raise _HistoryGoneError(f"etcd went back behind revision {self._seen_revision}")

    async def _receive_batch(self, stream: WatchStream) -> Batch:
        """Return the next batch, put together from its fragments; without events if it only reports progress.

        Only the last event says how far we are: the response's own revision may lie beyond its events while more are
        to come, and a report of progress may overtake events that are on their way.
        """
        response = await self._receive(stream)
        events = list(response.events)
        while response.fragment:
            response = await self._receive(stream)
            events += response.events
        if events:
            self._seen_revision = max(self._seen_revision, events[-1].kv.mod_revision)
        return Batch(self._seen_revision, tuple(event_from_wire(event) for event in events))

    async def _receive(self, stream: WatchStream) -> rpc_pb2.WatchResponse:
        response = await stream.read()
        if not isinstance(response, rpc_pb2.WatchResponse):
            raise UnavailableError("etcd ended the stream of events", reason="ETCD_UNREACHABLE")
        if response.canceled:
            self._raise_cancellation(response)
        return response

    def _raise_cancellation(self, response: rpc_pb2.WatchResponse) -> None:
        """Raise what the end of the watch means: only a refusal ends it for its consumer."""
        if response.compact_revision:
            raise _HistoryGoneError(f"compacted up to revision {response.compact_revision}")
        if "permission denied" in response.cancel_reason:
            raise explain(Code.PERMISSION_DENIED, response.cancel_reason)
        if is_stale_token(response.cancel_reason):
            self._connection.refuse_token()
        raise UnavailableError(f"etcd ended the watch: {response.cancel_reason}", reason="ETCD_UNREACHABLE")
