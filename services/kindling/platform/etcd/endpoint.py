"""One address of etcd and the gRPC channel to it."""

import asyncio
from urllib.parse import urlsplit

import grpc
import grpc.aio

from kindling.etcdserverpb import rpc_pb2_grpc
from kindling.platform.errors import InvalidArgumentError
from kindling.platform.etcd.config import TlsConfig

# Every subchannel is the client's own, so that no other client's backoff delays it; no web proxy stands before etcd.
# Pings only while a call is open and no oftener than etcd allows (--grpc-keepalive-min-time, 5 s); a hung peer is
# noticed within ten seconds. (gRPC also pings to measure bandwidth, and no keepalive ping is sent while such a ping is
# unanswered: hence ping_timeout, which is a minute otherwise.) Answers are as large as etcd makes them.
_OPTIONS: list[tuple[str, int]] = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),
]


class NotConnectedError(Exception):
    """The endpoint does not answer; nothing was sent to it."""


class Stubs:
    """The services of one endpoint."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.kv: rpc_pb2_grpc.KVAsyncStub = rpc_pb2_grpc.KVStub(channel)
        self.lease: rpc_pb2_grpc.LeaseAsyncStub = rpc_pb2_grpc.LeaseStub(channel)
        self.watch: rpc_pb2_grpc.WatchAsyncStub = rpc_pb2_grpc.WatchStub(channel)
        self.auth: rpc_pb2_grpc.AuthAsyncStub = rpc_pb2_grpc.AuthStub(channel)
        self.maintenance: rpc_pb2_grpc.MaintenanceAsyncStub = rpc_pb2_grpc.MaintenanceStub(channel)


class Endpoint:
    """One address of etcd. Must be made where an event loop runs."""

    def __init__(self, address: str, tls: TlsConfig | None) -> None:
        self.address = address
        self._channel = _open_channel(address, tls)
        self.stubs = Stubs(self._channel)

    async def connect(self, timeout_seconds: float) -> None:
        """Return once connected; raises :class:`NotConnectedError` as soon as an attempt failed or time is up."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._reach_ready()
        except TimeoutError:
            raise NotConnectedError(f"{self.address} accepts no connection") from None

    async def _reach_ready(self) -> None:
        state = self._channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise NotConnectedError(f"{self.address} refuses connections")
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close()


def _open_channel(address: str, tls: TlsConfig | None) -> grpc.aio.Channel:
    target, secure = parse_address(address, tls_configured=tls is not None)
    if not secure:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, _channel_credentials(tls or TlsConfig()), options=_OPTIONS)


def parse_address(address: str, *, tls_configured: bool) -> tuple[str, bool]:
    """Return ``host:port`` and whether to speak TLS.

    ``https://`` means TLS, ``http://`` means none, a bare ``host:port`` means TLS if it is configured. Raises
    :class:`InvalidArgumentError` for anything else, and for ``http://`` where TLS is configured.
    """
    scheme, _, rest = address.rpartition("://")
    parts = urlsplit(f"//{rest}")
    if scheme not in {"", "http", "https"} or not _is_host_and_port(rest):
        message = f"{address!r} is no address of etcd; write it like http://127.0.0.1:2379"
        raise InvalidArgumentError(message, reason="ETCD_ENDPOINT_INVALID", field="endpoints")
    if scheme == "http" and tls_configured:
        message = f"{address} would send in the clear although TLS is configured; write https://{parts.netloc}"
        raise InvalidArgumentError(message, reason="ETCD_ENDPOINT_INVALID", field="endpoints")
    return parts.netloc, scheme == "https" or (not scheme and tls_configured)


def _is_host_and_port(text: str) -> bool:
    try:
        parts = urlsplit(f"//{text}")
        return bool(parts.hostname) and parts.port is not None and parts.netloc == text
    except ValueError:
        return False


def _channel_credentials(tls: TlsConfig) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca_file.read_bytes() if tls.ca_file else None,
        private_key=tls.key_file.read_bytes() if tls.key_file else None,
        certificate_chain=tls.certificate_file.read_bytes() if tls.certificate_file else None,
    )
