"""A relay between two gRPC peers that knows HTTP/2's frames, so that a test can stop, slow or cut it at a message.

Messages are counted per direction over all streams, after the connection preface. One relay serves any number of
connections, on a thread of its own; what the test calls may be called from any thread.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9
_DATA = 0


@dataclass
class Direction:
    """One way through the relay. ``hold_at``: nothing passes from this message on, until it is None again."""

    messages: int = 0
    hold_at: int | None = None
    delay_seconds: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, messages: int, seconds: float = 30.0) -> None:
        """Return once so many messages have come (those that are held included)."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.messages >= messages, seconds), f"only {self.messages} came"

    def note_message(self) -> None:
        with self.changed:
            self.messages += 1
            self.changed.notify_all()


class FrameRelay:
    """``address`` leads to ``target``; made by :func:`relay_to`. ``sent`` is towards the target, ``answered`` back."""

    def __init__(self, target: str) -> None:
        self.sent = Direction()
        self.answered = Direction()
        self.address = ""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._resumed = asyncio.Event()
        self._listening = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="relay")

    def partition(self) -> None:
        """Let nothing through any more, in either direction; connections stay open."""
        self.sent.hold_at = self.answered.hold_at = 0

    def heal(self) -> None:
        """Let everything through again, what was held first."""
        self.sent.hold_at = self.answered.hold_at = None
        self._loop.call_soon_threadsafe(self._resumed.set)

    def cut(self) -> None:
        """Close every connection."""
        self._loop.call_soon_threadsafe(self._close_all)

    @contextmanager
    def running(self) -> Iterator["FrameRelay"]:
        self._thread.start()
        self._listening.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        await self._ended.wait()
        self._close_all()
        server.close()
        await server.wait_closed()

    def _close_all(self) -> None:
        for writer in list(self._writers):
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            onward_reader, onward_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        self._writers.add(onward_writer)
        try:
            onward_writer.write(await reader.readexactly(len(_PREFACE)))
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(reader, onward_writer, self.sent))
                ways.create_task(self._forward(onward_reader, writer, self.answered))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass  # one side hung up
        finally:
            for one in (writer, onward_writer):
                self._writers.discard(one)
                one.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
        while True:
            head = await reader.readexactly(_HEAD_BYTES)
            length = int.from_bytes(head[:3], "big")
            body = await reader.readexactly(length)
            if head[3] == _DATA and length:
                way.note_message()
                await asyncio.sleep(way.delay_seconds)
            while way.hold_at is not None and way.messages >= way.hold_at:
                self._resumed.clear()
                await self._resumed.wait()
            writer.write(head + body)
            await writer.drain()


@contextmanager
def relay_to(target: str) -> Iterator[FrameRelay]:
    """A relay to ``host:port`` for the length of the block."""
    with FrameRelay(target).running() as relay:
        yield relay
