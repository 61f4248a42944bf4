"""A relay in front of a server, that can lose what passes through it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class _Connection:
    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.drops_requests = False
        self.drops_answers = False
        self._writers = writers

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class TcpRelay:
    """Carries bytes both ways until told otherwise."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._connections: list[_Connection] = []
        self._is_cut = False
        self.endpoint = ""

    def drop_answers(self) -> None:
        """Lose what the server sends on the connections there are, without closing them; new ones are sound."""
        for connection in self._connections:
            connection.drops_answers = True

    def freeze(self) -> None:
        """Lose everything on the connections there are, as a pulled cable does; new ones are sound."""
        for connection in self._connections:
            connection.drops_answers = connection.drops_requests = True

    def cut(self) -> None:
        """Abort every connection, and new ones as they come."""
        self._is_cut = True
        for connection in self._connections:
            connection.abort()
        self._connections.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection."""
        if self._is_cut:
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        connection = _Connection((writer, upstream_writer))
        self._connections.append(connection)
        await asyncio.gather(
            _carry(reader, upstream_writer, lambda: connection.drops_requests),
            _carry(upstream_reader, writer, lambda: connection.drops_answers),
        )


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
    async with asyncio.TaskGroup() as tasks:
        server = await asyncio.start_server(
            lambda reader, writer: tasks.create_task(relay.serve(reader, writer)) and None, "127.0.0.1", 0
        )
        relay.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            relay.cut()
