"""Calls whichever scheduler leads, so that callers do not notice when another one takes over."""

import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc

from kindling.platform.clock import Clock
from kindling.platform.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    KindlingError,
    UnavailableError,
)
from kindling.platform.logging import get_logger
from kindling.platform.rpc.channel import ChannelPool, remote_errors

T = TypeVar("T")
log = get_logger("kindling.gateway")
FIRST_BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
# What says that this scheduler cannot answer now, as opposed to an answer that happens to be an error.
_TRY_ANOTHER = frozenset(
    {
        "ETCD_UNREACHABLE",
        "LEADERSHIP_LOST",
        "NOT_LEADER",
        "RPC_CANCELLED",
        "RPC_DEADLINE_EXCEEDED",
        "RPC_UNAVAILABLE",
    }
)
_RETRYABLE = (UnavailableError, FailedPreconditionError, CancelledError, DeadlineExceededError)


class LeaderClient:
    """Remembers the leader, follows NOT_LEADER, and goes round the schedulers while none answers.

    Calls must be idempotent: they are sent again if the leader is lost, for at most ``retry_seconds``: a unary call's
    from its beginning, a stream's from when it broke off.
    """

    def __init__(
        self, channels: ChannelPool, addresses: Sequence[str], clock: Clock, *, retry_seconds: float = 30.0
    ) -> None:
        if not addresses:
            raise FailedPreconditionError(
                "No scheduler is configured; set KINDLING_GATEWAY_SCHEDULERS to host:port.", reason="NO_SCHEDULERS"
            )
        self._channels = channels
        self._addresses = tuple(addresses)
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._leader = self._addresses[0]

    async def unary(self, call: Callable[[grpc.aio.Channel], Awaitable[T]], *, retry_seconds: float | None = None) -> T:
        """Return the leader's answer to ``call``, which must carry a deadline."""
        patience = self._patience(retry_seconds)
        while True:
            address = self._leader
            try:
                with remote_errors(f"scheduler {address}"):
                    return await call(self._channels.get(address))
            except _RETRYABLE as error:
                await self._look_elsewhere(address, error, patience)

    async def stream(
        self, call: Callable[[grpc.aio.Channel], AsyncIterable[T]], is_last: Callable[[T], bool]
    ) -> AsyncGenerator[T, None]:
        """Yield the leader's answers up to the last one; a stream that breaks off before is asked for again."""
        patience: _Patience | None = None  # counted from when the connection broke, however long all was quiet before
        while True:
            address = self._leader
            called_at = self._clock.now()
            try:
                with remote_errors(f"scheduler {address}"):
                    async for answer in call(self._channels.get(address)):
                        patience = None
                        yield answer
                        if is_last(answer):
                            return
                raise InternalError(f"scheduler {address} broke off", reason="STREAM_INCOMPLETE")
            except _RETRYABLE as error:
                # A call that held as long as anybody waits for a leader had one, though it said nothing.
                if patience is None or self._clock.now() - called_at >= self._retry_seconds:
                    patience = self._patience(None)
                await self._look_elsewhere(address, error, patience)

    def _patience(self, retry_seconds: float | None) -> "_Patience":
        seconds = self._retry_seconds if retry_seconds is None else retry_seconds
        return _Patience(self._clock.now() + seconds)

    async def _look_elsewhere(self, failed: str, error: KindlingError, patience: "_Patience") -> None:
        """Choose where to call next, and wait a little unless told; raise ``error`` if that cannot help any more."""
        if error.reason not in _TRY_ANOTHER:
            raise error
        if self._clock.now() >= patience.until:
            raise _no_leader(error) from error
        hint = error.metadata.get("leader_address", "")
        if self._leader == failed:  # else another call has moved on already
            self._leader = hint or self._next(failed)
        if hint and not patience.attempts:
            patience.attempts += 1
            return
        await self._clock.sleep(patience.backoff())

    def _next(self, failed: str) -> str:
        if failed not in self._addresses:
            return self._addresses[0]
        return self._addresses[(self._addresses.index(failed) + 1) % len(self._addresses)]


@dataclass(slots=True)
class _Patience:
    """Until when to try, and how often it was tried already."""

    until: float
    attempts: int = 0

    def backoff(self) -> float:
        pause: float = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self.attempts)
        self.attempts += 1
        return pause * random.uniform(0.5, 1.0)


def _no_leader(error: KindlingError) -> UnavailableError:
    return UnavailableError(
        f"No scheduler answers; see that one runs and can be reached. The last one said: {error.message}",
        reason="NO_SCHEDULER",
        metadata=error.metadata,
        retry_after_seconds=1.0,
    )
