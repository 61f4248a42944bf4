"""The client: keys, transactions, leases and watches of one etcd cluster."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.clock import Clock, SystemClock
from kindling.platform.etcd.config import Credentials, TlsConfig
from kindling.platform.etcd.connection import Connection
from kindling.platform.etcd.keys import KeyRange
from kindling.platform.etcd.lease import Lease, hold_lease
from kindling.platform.etcd.txn import Compare, Operation, TxnResult, is_read
from kindling.platform.etcd.values import KeyValue, Snapshot, WatchUpdate
from kindling.platform.etcd.watch import Watch
from kindling.platform.etcd.wire import (
    compare_to_wire,
    delete_request,
    item_from_wire,
    operation_to_wire,
    put_request,
    range_request,
    result_from_wire,
)


class EtcdClient:
    """A client of one etcd cluster, to be used as an async context manager.

    Every call but :meth:`watch` ends within five seconds: an endpoint that fails or hangs is left for the next, with
    growing pauses, and :class:`UnavailableError` (``ETCD_UNREACHABLE``) is raised in the end. Reads are linearizable.
    Raises :class:`UnauthenticatedError` or :class:`PermissionDeniedError` where etcd does.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: TlsConfig | None = None,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._tls = tls
        self._credentials = credentials
        self._clock = clock or SystemClock()
        self._opened: Connection | None = None

    async def __aenter__(self) -> Self:
        self._opened = Connection(self._endpoints, self._tls, self._credentials, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connection.close()

    @property
    def _connection(self) -> Connection:
        assert self._opened is not None, "use the client in `async with`"
        return self._opened

    async def get(self, key: str) -> KeyValue | None:
        """Return ``key``, or ``None`` where there is none."""
        snapshot = await self._read(KeyRange.one(key))
        return snapshot.items[0] if snapshot.items else None

    async def get_prefix(self, prefix: str) -> Snapshot:
        """Return every key with ``prefix``, all as of one revision."""
        return await self._read(KeyRange.prefix(prefix))

    async def put(self, key: str, value: bytes, *, lease_id: int = 0) -> int:
        """Write ``key`` and return the revision of the write.

        The write is repeated after an ambiguous failure, so it may take effect more than once, at growing revisions;
        write in a transaction where that matters. Raises :class:`NotFoundError` (``ETCD_LEASE_NOT_FOUND``) if the
        lease is gone.
        """
        request = put_request(key, value, lease_id)
        return (await self._connection.unary(lambda stubs: stubs.kv.Put, request)).header.revision

    async def delete(self, key: str) -> bool:
        """Delete ``key``; return whether it was there (not certain if the connection broke meanwhile)."""
        return await self._delete(KeyRange.one(key)) > 0

    async def delete_prefix(self, prefix: str) -> int:
        """Delete every key with ``prefix``; return how many the last attempt deleted."""
        return await self._delete(KeyRange.prefix(prefix))

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> TxnResult:
        """Run ``then`` if all of ``compares`` hold, else ``otherwise``: atomically, and at most once.

        Raises :class:`AbortedError` (``ETCD_AMBIGUOUS``) if the connection broke before the answer came: the
        transaction may have been applied, be applied in a moment, or never. The caller must read to know. A
        transaction that only reads is repeated instead.
        """
        request = rpc_pb2.TxnRequest(
            compare=[compare_to_wire(compare) for compare in compares],
            success=[operation_to_wire(operation) for operation in then],
            failure=[operation_to_wire(operation) for operation in otherwise],
        )
        repeatable = all(is_read(operation) for operation in (*then, *otherwise))
        answer = await self._connection.unary(lambda stubs: stubs.kv.Txn, request, repeatable=repeatable)
        responses = tuple(result_from_wire(response) for response in answer.responses)
        return TxnResult(answer.succeeded, answer.header.revision, responses)

    def lease(self, ttl_seconds: float) -> AbstractAsyncContextManager[Lease]:
        """Hold a lease during the context, across restarts of etcd, and revoke it after (within two seconds).

        The time to live is rounded up to whole seconds; etcd may choose a longer one. What the body raises leaves the
        context as it is. A body that must not outlive its lease has to heed :attr:`Lease.lost`.
        """
        return hold_lease(self._connection, ttl_seconds)

    def watch(self, prefix: str) -> AsyncGenerator[WatchUpdate, None]:
        """Yield a :class:`Snapshot` of every key with ``prefix``, then a :class:`Batch` for each change after it.

        No event is lost or repeated, through restarts of etcd and broken connections, however long they last. Where
        etcd has compacted the history meanwhile, another Snapshot takes the place of the events. Ends only when the
        consumer closes it (use :func:`contextlib.aclosing`), or with the error of a refusal.
        """
        return Watch(self._connection, KeyRange.prefix(prefix), self._read).updates()

    def watch_key(self, key: str) -> AsyncGenerator[WatchUpdate, None]:
        """Watch one key, as :meth:`watch` does a prefix."""
        return Watch(self._connection, KeyRange.one(key), self._read).updates()

    async def compact(self, revision: int) -> None:
        """Forget the history below ``revision``. Raises :class:`OutOfRangeError` if that is done or still to come."""
        request = rpc_pb2.CompactionRequest(revision=revision)
        await self._connection.unary(lambda stubs: stubs.kv.Compact, request)

    async def version(self) -> str:
        """Return the version of the member that answers: a check that etcd is there."""
        answer = await self._connection.unary(lambda stubs: stubs.maintenance.Status, rpc_pb2.StatusRequest())
        return answer.version

    async def _read(self, keys: KeyRange) -> Snapshot:
        answer = await self._connection.unary(lambda stubs: stubs.kv.Range, range_request(keys))
        return Snapshot(answer.header.revision, tuple(item_from_wire(kv) for kv in answer.kvs))

    async def _delete(self, keys: KeyRange) -> int:
        return (await self._connection.unary(lambda stubs: stubs.kv.DeleteRange, delete_request(keys))).deleted
