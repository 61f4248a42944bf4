"""The token that stands for user and password in every call."""

import asyncio

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.etcd.calls import Metadata
from kindling.platform.etcd.config import Credentials
from kindling.platform.etcd.endpoint import Endpoint


class TokenSource:
    """Gets one token when it is first needed and a new one whenever etcd has forgotten it."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._token: str | None = None
        self._lock = asyncio.Lock()

    async def metadata(self, endpoint: Endpoint, timeout_seconds: float) -> Metadata:
        """Return what calls carry; raises what gRPC raises when ``endpoint`` gives no token."""
        if self._credentials is None:
            return ()
        async with self._lock:
            if self._token is None:
                self._token = await _authenticate(self._credentials, endpoint, timeout_seconds)
        return (("token", self._token),)

    def forget(self, metadata: Metadata) -> None:
        """Drop the token in ``metadata``, which etcd refused, unless a newer one is here already."""
        if metadata == (("token", self._token),):
            self._token = None

    def clear(self) -> None:
        """Drop the token, whichever it is."""
        self._token = None


async def _authenticate(credentials: Credentials, endpoint: Endpoint, timeout_seconds: float) -> str:
    request = rpc_pb2.AuthenticateRequest(name=credentials.user, password=credentials.password)
    return (await endpoint.stubs.auth.Authenticate(request, timeout=timeout_seconds)).token
