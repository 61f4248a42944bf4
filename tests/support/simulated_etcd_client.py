"""The project's own etcd client over a simulated etcd: only the connection is another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, Self

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.backoff import Backoff
from kindling.platform.clock import Clock
from kindling.platform.errors import AbortedError, UnavailableError
from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd.connection import CALL_TIMEOUT_SECONDS
from support.simulated_etcd import SimulatedEtcd, covers
from support.virtual_time import LoopClock
from support.weather import Fate, Process, Weather

_ATTEMPT_SECONDS = 0.5
_END = object()


class SimulatedClient(EtcdClient):
    """A client of one process, with that process's weather on its way to etcd."""

    def __init__(self, etcd: SimulatedEtcd, process: Process | None = None) -> None:
        super().__init__([], clock=LoopClock())
        self._etcd = etcd
        self._process = process or Process(Weather())

    async def __aenter__(self) -> Self:
        self._opened = SimulatedConnection(self._etcd, self._process)  # type: ignore[assignment]
        return self


class SimulatedConnection:
    """What :class:`kindling.platform.etcd.connection.Connection` promises, without a network."""

    def __init__(self, etcd: SimulatedEtcd, process: Process) -> None:
        self.clock: Clock = LoopClock()
        self._process = process
        self._etcd = etcd
        self._stubs = SimpleNamespace(
            kv=SimpleNamespace(
                Range=etcd.range, Put=etcd.put, DeleteRange=etcd.delete, Txn=etcd.txn, Compact=etcd.compact
            ),
            lease=SimpleNamespace(LeaseGrant=etcd.grant, LeaseRevoke=etcd.revoke, LeaseKeepAlive=_Renewals),
            watch=SimpleNamespace(Watch=_Events),
        )

    async def close(self) -> None:
        """Nothing is open."""

    def refuse_token(self) -> None:
        """There are no tokens."""

    async def unary(
        self, method: Any, request: Any, *, repeatable: bool = True, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> Any:
        """Return the answer; raises UnavailableError, or AbortedError if it is not known what became of the request."""
        deadline, backoff = self.clock.now() + timeout_seconds, Backoff(self.clock)
        while self.clock.now() < deadline and not self._process.is_dead:
            try:
                return await self._attempt(method(self._stubs), request)
            except TimeoutError:
                if not repeatable:
                    raise AbortedError("the connection broke", reason="ETCD_AMBIGUOUS") from None
            await backoff.pause(at_most_seconds=deadline - self.clock.now())
        await asyncio.sleep(0)
        raise UnavailableError("etcd cannot be reached", reason="ETCD_UNREACHABLE")

    async def _attempt(self, apply: Callable[[Any], Any], request: Any) -> Any:
        blow = self._process.weather.next()
        if self._process.is_cut_off or blow.fate is Fate.LOSE_REQUEST:
            return await _time_out()
        if blow.fate is Fate.KILL_BEFORE:
            await self._process.die()
        if blow.fate is Fate.LATE:
            delay_seconds = _ATTEMPT_SECONDS + blow.seconds
            asyncio.get_running_loop().call_later(delay_seconds, _without_reply, apply, request)
            return await _time_out()
        await asyncio.sleep(blow.seconds)
        answer = apply(request)
        if blow.fate is Fate.KILL_AFTER:
            await self._process.die()
        if blow.fate is Fate.LOSE_ANSWER:
            return await _time_out()
        await asyncio.sleep(blow.seconds)
        return answer

    @asynccontextmanager
    async def stream(self, method: Any) -> AsyncIterator[Any]:
        """Open a stream; raises UnavailableError when it breaks."""
        try:
            yield method(self._stubs)(self._etcd, self._process)
        except TimeoutError:
            raise UnavailableError("etcd cannot be reached", reason="ETCD_UNREACHABLE") from None


async def _time_out() -> Any:
    await asyncio.sleep(_ATTEMPT_SECONDS)
    raise TimeoutError


def _without_reply(apply: Callable[[Any], Any], request: Any) -> None:
    apply(request)


class _Renewals:
    """A stream of renewals."""

    def __init__(self, etcd: SimulatedEtcd, process: Process) -> None:
        self._etcd, self._process = etcd, process
        self._request = rpc_pb2.LeaseKeepAliveRequest()

    async def write(self, request: rpc_pb2.LeaseKeepAliveRequest) -> None:
        self._request = request

    async def read(self) -> Any:
        if self._process.is_cut_off or self._process.is_dead:
            return await _time_out()
        return self._etcd.keep_alive(self._request)


class _Events:
    """A stream of what happens to a range of keys."""

    def __init__(self, etcd: SimulatedEtcd, process: Process) -> None:
        self._etcd, self._process = etcd, process
        self._create = rpc_pb2.WatchCreateRequest()
        self._created = False
        self._next_revision = 0

    async def write(self, request: rpc_pb2.WatchRequest) -> None:
        self._create = request.create_request
        self._next_revision = self._create.start_revision or self._etcd.revision + 1

    async def read(self) -> Any:
        """Return the next response; one that is late holds up those behind it."""
        header = rpc_pb2.ResponseHeader(revision=self._etcd.revision)
        if not self._created:
            self._created = True
            return rpc_pb2.WatchResponse(header=header, created=True)
        while True:
            if self._process.is_cut_off or self._process.is_dead:
                await _time_out()
            if self._next_revision <= self._etcd.compacted:
                return rpc_pb2.WatchResponse(header=header, canceled=True, compact_revision=self._etcd.compacted)
            changed = self._etcd.changed
            if events := self._take():
                blow = self._process.weather.next()
                await asyncio.sleep(blow.seconds)
                if blow.fate in (Fate.LOSE_ANSWER, Fate.LOSE_REQUEST):
                    return _END  # the stream breaks: events that were on their way are asked for again
                return rpc_pb2.WatchResponse(header=header, events=events)
            await changed.wait()

    def _take(self) -> list[rpc_pb2.Event]:
        for revision, events in self._etcd.history:
            if revision >= self._next_revision:
                self._next_revision = revision + 1
                if mine := [event for event in events if covers(self._create, event.kv.key)]:
                    return mine
        return []

    def cancel(self) -> bool:
        return True
