"""A relay in front of a server, that can lose what passes through it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class TcpRelay:
    """Carries bytes both ways until told otherwise; whatever is lost, no connection is closed by it."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._connections: list[_Connection] = []
        self.endpoint = ""

    def drop_answers(self) -> None:
        """Lose what the server sends on the connections there are; new ones are sound."""
        for connection in self._connections:
            connection.drops_answers = True

    def freeze(self) -> None:
        """Lose everything on the connections there are, as a pulled cable does; new ones are sound."""
        for connection in self._connections:
            connection.drops_answers = connection.drops_requests = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection."""
        connection = _Connection()
        self._connections.append(connection)
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_carry(reader, upstream_writer, lambda: connection.drops_requests))
            tasks.create_task(_carry(upstream_reader, writer, lambda: connection.drops_answers))


class _Connection:
    drops_requests = False
    drops_answers = False


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_dropped: Callable[[], bool]) -> None:
    try:
        while data := await reader.read(65536):
            if not is_dropped():
                writer.write(data)
                await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def running_relay(upstream: str) -> AsyncIterator[TcpRelay]:
    """Run a relay to ``upstream`` during the context."""
    relay = TcpRelay(upstream)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield relay
