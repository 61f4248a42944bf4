"""A key that goes with every call of a channel."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc.aio import ClientCallDetails, Metadata

Continue = Callable[[ClientCallDetails, Any], Any]


class _Bearer:
    """Adds ``authorization: Bearer KEY`` to a call's metadata, as HTTP clients do."""

    def __init__(self, key: str) -> None:
        self._key = key

    def _with_key(self, details: ClientCallDetails) -> ClientCallDetails:
        metadata = Metadata(*(details.metadata or ()), ("authorization", f"Bearer {self._key}"))
        return ClientCallDetails(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready)


class _UnaryUnary(_Bearer, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Continue, details: ClientCallDetails, request: Any) -> Any:
        return await continuation(self._with_key(details), request)


class _UnaryStream(_Bearer, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Continue, details: ClientCallDetails, request: Any) -> Any:
        return await continuation(self._with_key(details), request)


def with_key(key: str) -> list[grpc.aio.ClientInterceptor]:
    """Return what sends a key with calls of one request; none for an empty key."""
    return [_UnaryUnary(key), _UnaryStream(key)] if key else []
