"""The shapes of gRPC's calls, as types that exist at run time too (those of grpc.aio are generic in stubs only)."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from kindling.platform.etcd.endpoint import Stubs

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Sent_contra = TypeVar("Sent_contra", bound=Message, contravariant=True)
Received_co = TypeVar("Received_co", bound=Message, covariant=True)
Metadata = tuple[tuple[str, str], ...]


class UnaryCallable(Protocol[Sent_contra, Received_co]):
    """A method of one answer."""

    def __call__(self, request: Sent_contra, /, *, timeout: float, metadata: Metadata) -> Awaitable[Received_co]:
        """Send ``request``."""
        ...


class Stream(Protocol[Sent_contra, Received_co]):
    """An open stream."""

    async def write(self, request: Sent_contra) -> None:
        """Send ``request``."""
        ...

    async def read(self) -> Received_co | object:
        """Return the next message, or gRPC's EOF."""
        ...

    def cancel(self) -> bool:
        """End the stream."""
        ...


class StreamCallable(Protocol[Sent_contra, Received_co]):
    """A method of streams both ways."""

    def __call__(self, *, metadata: Metadata) -> Stream[Sent_contra, Received_co]:
        """Open a stream."""
        ...


UnaryMethod = Callable[[Stubs], UnaryCallable[Request, Response]]
StreamMethod = Callable[[Stubs], StreamCallable[Request, Response]]
