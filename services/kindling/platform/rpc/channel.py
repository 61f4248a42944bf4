"""Channels as every client of ours opens them."""

import json
from types import TracebackType
from typing import Self

import grpc

from kindling.platform.rpc.bearer import with_key
from kindling.platform.rpc.status import remote_errors
from kindling.platform.rpc.tracing import client_interceptors
from kindling.platform.telemetry import tracing_enabled

__all__ = ["ChannelPool", "open_channel", "remote_errors"]

MAX_MESSAGE_BYTES = 64 * 2**20
_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY}]})


def open_channel(address: str, *, keepalive: bool = True, retry: bool = True, api_key: str = "") -> grpc.aio.Channel:
    """Open a channel to ``host:port``; an ``api_key`` goes with every call of one request.

    With ``retry``, calls that fail as UNAVAILABLE before a byte of the answer came are tried four times in all; callers
    that know a better place to go do without. With ``keepalive`` a peer that hangs is noticed within about 15 seconds.
    """
    interceptors = [*with_key(api_key), *(client_interceptors() if tracing_enabled() else [])]
    return grpc.aio.insecure_channel(address, options=_options(keepalive, retry), interceptors=interceptors or None)


class ChannelPool:
    """One channel per address, opened at first use and closed with the pool."""

    def __init__(self, *, retry: bool = True) -> None:
        self._retry = retry
        self._channels: dict[str, grpc.aio.Channel] = {}

    def get(self, address: str) -> grpc.aio.Channel:
        """Return the channel to ``address``."""
        if address not in self._channels:
            self._channels[address] = open_channel(address, retry=self._retry)
        return self._channels[address]

    async def close(self) -> None:
        """Close every channel; calls under way are cancelled."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _options(keepalive: bool, retry: bool) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", _SERVICE_CONFIG if retry else "{}"),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Never go through a proxy that the environment names: these are our own nodes.
        ("grpc.enable_http_proxy", 0),
    ]
    if keepalive:
        options += [
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            # gRPC's own bandwidth ping waits a minute for its answer by default and holds keepalive back meanwhile.
            ("grpc.http2.ping_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    return options
