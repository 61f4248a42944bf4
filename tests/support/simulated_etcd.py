"""An etcd that keeps its keys in memory: revisions, transactions, leases, watches, compaction, all as etcd's API says.

The messages are etcd's own, so that everything above the connection is the code that speaks to a real etcd.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.errors import NotFoundError, OutOfRangeError

_COMPARISONS: dict[int, Callable[[object, object], bool]] = {
    rpc_pb2.Compare.EQUAL: lambda one, other: one == other,
    rpc_pb2.Compare.NOT_EQUAL: lambda one, other: one != other,
    rpc_pb2.Compare.GREATER: lambda one, other: one > other,  # type: ignore[operator]
    rpc_pb2.Compare.LESS: lambda one, other: one < other,  # type: ignore[operator]
}
_TARGETS = {
    rpc_pb2.Compare.VERSION: "version",
    rpc_pb2.Compare.CREATE: "create_revision",
    rpc_pb2.Compare.MOD: "mod_revision",
    rpc_pb2.Compare.VALUE: "value",
    rpc_pb2.Compare.LEASE: "lease",
}


def covers(request: rpc_pb2.RangeRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.WatchCreateRequest, key: bytes) -> bool:
    """Whether a request is about ``key``."""
    if not request.range_end:
        return key == request.key
    return key >= request.key and (request.range_end == b"\0" or key < request.range_end)


class _Lease:
    def __init__(self, ttl_seconds: int) -> None:
        self.ttl_seconds = ttl_seconds
        self.expiry: asyncio.TimerHandle | None = None


class SimulatedEtcd:
    """The whole cluster, as one; each method is one request taking effect. ``wrote`` is told of each write."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = 0
        self.history: list[tuple[int, list[rpc_pb2.Event]]] = []
        self.wrote: list[Callable[[Sequence[rpc_pb2.Event]], None]] = []
        self.changed = asyncio.Event()
        self._keys: dict[bytes, rpc_pb2.KeyValue] = {}
        self._leases: dict[int, _Lease] = {}
        self._lease_ids = count(1000)
        self._events: list[rpc_pb2.Event] = []

    # KV

    def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        kvs = [self._keys[key] for key in sorted(self._keys) if covers(request, key)]
        return rpc_pb2.RangeResponse(header=self._header(), kvs=kvs, count=len(kvs))

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        self._put(request)
        self._commit()
        return rpc_pb2.PutResponse(header=self._header())

    def delete(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        deleted = self._delete([key for key in self._keys if covers(request, key)])
        self._commit()
        return rpc_pb2.DeleteRangeResponse(header=self._header(), deleted=deleted)

    def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        succeeded = all(self._holds(compare) for compare in request.compare)
        responses = [self._run(operation) for operation in (request.success if succeeded else request.failure)]
        self._commit()
        return rpc_pb2.TxnResponse(header=self._header(), succeeded=succeeded, responses=responses)

    def compact(self, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        if not self.compacted < request.revision <= self.revision:
            raise OutOfRangeError("that revision is compacted, or yet to come", reason="ETCD_OUT_OF_RANGE")
        self.compacted = request.revision
        self.history = [entry for entry in self.history if entry[0] > self.compacted]
        return rpc_pb2.CompactionResponse(header=self._header())

    def _holds(self, compare: rpc_pb2.Compare) -> bool:
        known = self._keys.get(compare.key)
        target = _TARGETS[compare.target]
        if known is None and target == "value":
            return False
        return _COMPARISONS[compare.result](getattr(known or rpc_pb2.KeyValue(), target), getattr(compare, target))

    def _run(self, operation: rpc_pb2.RequestOp) -> rpc_pb2.ResponseOp:
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            self._put(operation.request_put)
            return rpc_pb2.ResponseOp(response_put=rpc_pb2.PutResponse())
        if kind == "request_delete_range":
            doomed = [key for key in self._keys if covers(operation.request_delete_range, key)]
            response = rpc_pb2.DeleteRangeResponse(deleted=self._delete(doomed))
            return rpc_pb2.ResponseOp(response_delete_range=response)
        return rpc_pb2.ResponseOp(response_range=self.range(operation.request_range))

    def _put(self, request: rpc_pb2.PutRequest) -> None:
        if request.lease and request.lease not in self._leases:
            raise NotFoundError("there is no such lease", reason="ETCD_LEASE_NOT_FOUND")
        known = self._keys.get(request.key)
        kv = rpc_pb2.KeyValue(
            key=request.key,
            value=request.value,
            create_revision=known.create_revision if known else self.revision + 1,
            mod_revision=self.revision + 1,
            version=known.version + 1 if known else 1,
            lease=request.lease,
        )
        self._keys[request.key] = kv
        self._events.append(rpc_pb2.Event(type=rpc_pb2.Event.PUT, kv=kv))

    def _delete(self, keys: Iterable[bytes]) -> int:
        doomed = sorted(keys)
        for key in doomed:
            del self._keys[key]
            kv = rpc_pb2.KeyValue(key=key, mod_revision=self.revision + 1)
            self._events.append(rpc_pb2.Event(type=rpc_pb2.Event.DELETE, kv=kv))
        return len(doomed)

    def _commit(self) -> None:
        """Everything that was written since the last commit happened at one revision."""
        if not self._events:
            return
        events, self._events = self._events, []
        self.revision += 1
        self.history.append((self.revision, events))
        for listener in self.wrote:
            listener(events)
        self.note()

    def note(self) -> None:
        """Have everyone who watches look."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(revision=self.revision)

    # Leases

    def grant(self, request: rpc_pb2.LeaseGrantRequest) -> rpc_pb2.LeaseGrantResponse:
        lease_id = next(self._lease_ids)
        self._leases[lease_id] = _Lease(request.TTL)
        self._renew(lease_id)
        return rpc_pb2.LeaseGrantResponse(header=self._header(), ID=lease_id, TTL=request.TTL)

    def keep_alive(self, request: rpc_pb2.LeaseKeepAliveRequest) -> rpc_pb2.LeaseKeepAliveResponse:
        ttl_seconds = self._renew(request.ID) if request.ID in self._leases else 0
        return rpc_pb2.LeaseKeepAliveResponse(header=self._header(), ID=request.ID, TTL=ttl_seconds)

    def revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> rpc_pb2.LeaseRevokeResponse:
        self.expire(request.ID)
        return rpc_pb2.LeaseRevokeResponse(header=self._header())

    def expire(self, lease_id: int) -> None:
        """End a lease now, with its keys; one that is gone is ignored."""
        lease = self._leases.pop(lease_id, None)
        if lease is not None and lease.expiry is not None:
            lease.expiry.cancel()
            self._delete([key for key, kv in self._keys.items() if kv.lease == lease_id])
            self._commit()

    def _renew(self, lease_id: int) -> int:
        lease = self._leases[lease_id]
        if lease.expiry is not None:
            lease.expiry.cancel()
        lease.expiry = asyncio.get_running_loop().call_later(lease.ttl_seconds, self.expire, lease_id)
        return lease.ttl_seconds

    # For those who look at it from outside

    def value(self, key: str) -> rpc_pb2.KeyValue | None:
        """A key as it is, without a message."""
        return self._keys.get(key.encode())

    def keys(self, prefix: str) -> list[str]:
        """The keys with a prefix as they are, without a message."""
        return sorted(key.decode() for key in self._keys if key.startswith(prefix.encode()))
