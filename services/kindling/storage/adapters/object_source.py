"""A packed checkpoint's chunks in an object store."""

import asyncio
from dataclasses import dataclass

from kindling.checkpoint import Manifest, chunk_checksum, directory_name
from kindling.platform.errors import DataLossError, KindlingError, NotFoundError, UnavailableError
from kindling.storage.adapters.bucket import Bucket
from kindling.storage.adapters.bucket_errors import innermost
from kindling.storage.adapters.direct_gets import DirectGets
from kindling.storage.adapters.io_executor import IoExecutor


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """How chunks are read: by ``gets`` at full speed, and by the ``bucket`` where that cannot be done."""

    bucket: Bucket
    gets: DirectGets
    sums: IoExecutor
    range_bytes: int


class ObjectSource:
    """Implements ChunkSource. A chunk comes in parallel ranges of at most ``range_bytes``."""

    def __init__(self, reader: "ObjectReader", manifest: Manifest) -> None:
        self._reader = reader
        self._bucket = reader.bucket
        self._manifest = manifest

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:  # noqa: ARG002
        """See ChunkSource; UnavailableError (REMOTE_UNAVAILABLE) or PermissionDeniedError (REMOTE_FORBIDDEN) too."""
        path = self._path(chunk)
        offset, length = self._manifest.chunk_range(chunk)
        try:
            async with asyncio.TaskGroup() as ranges:
                for begin in range(0, length, self._reader.range_bytes):
                    part = into[begin : min(begin + self._reader.range_bytes, length)]
                    ranges.create_task(self._read_range(path, offset + begin, part))
        except* KindlingError as group:
            raise _of_chunk(chunk, self._bucket.name(path), innermost(group)) from group
        if await self._reader.sums.run(chunk_checksum, into[:length]) != self._manifest.chunk_checksum(chunk):
            raise self._corrupt(chunk, offset)

    def close(self) -> None:
        """Connections are the bucket's."""

    async def _read_range(self, path: str, offset: int, into: memoryview) -> None:
        if not await self._reader.gets.fill(path, offset, into):
            await self._bucket.read_range(path, offset, into)

    def _path(self, chunk: int) -> str:
        partition = self._manifest.partitions[self._manifest.chunk_partition(chunk)]
        return f"{directory_name(self._manifest.digest)}/{partition.file_name}"

    def _corrupt(self, chunk: int, offset: int) -> DataLossError:
        uri = self._bucket.name(self._path(chunk))
        return DataLossError(
            f"chunk {chunk} of {uri} (at byte {offset}) does not match its checksum; deploy the model again from its "
            "source",
            reason="CHUNK_CORRUPT",
            metadata={"file": uri, "chunk": str(chunk), "offset": str(offset)},
        )


def _of_chunk(chunk: int, uri: str, error: KindlingError) -> KindlingError:
    """Return a transfer's error, naming the chunk."""
    message, metadata = f"chunk {chunk}: {error.message}", {"file": uri, "chunk": str(chunk)} | error.metadata
    if isinstance(error, NotFoundError):
        message += "; deploy the model again from its source"
        return DataLossError(message, reason="CHUNK_UNREADABLE", metadata=metadata)
    if isinstance(error, UnavailableError):
        retry_after_seconds = error.retry_after_seconds
        return UnavailableError(
            message, reason=error.reason, metadata=metadata, retry_after_seconds=retry_after_seconds
        )
    return type(error)(message, reason=error.reason, metadata=metadata)
