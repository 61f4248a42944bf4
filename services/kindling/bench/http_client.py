"""An HTTP client that does nothing but post a body and read the events of the answer."""

import asyncio
from types import TracebackType
from typing import Self

from kindling.platform.errors import FailedPreconditionError


class HttpClient:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def stream(self, path: str, body: bytes) -> int:
        """Post ``body`` and return the number of chunks of the answer.

        Raises:
            FailedPreconditionError: STREAM_FAILED, if the answer is an error or does not end with `[DONE]`.
        """
        self._writer.write(
            b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (path.encode(), len(body), body)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise _failed(head)
        return await self._chunks()

    async def _chunks(self) -> int:
        count, last = 0, b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            last = await self._reader.readexactly(size + 2)
            count += 1
        await self._reader.readexactly(2)
        if not last.endswith(b"data: [DONE]\n\n\r\n"):
            raise _failed(last)
        return count

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def _failed(answer: bytes) -> FailedPreconditionError:
    return FailedPreconditionError(f"the gateway answered {answer[:200]!r}", reason="STREAM_FAILED")
