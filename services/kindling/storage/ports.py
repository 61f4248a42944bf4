"""What the storage manager's use cases need from the outside world."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from kindling.checkpoint.manifest import Manifest
from kindling.storage.domain.tier import TierResidency


class PoolMemory(Protocol):
    """The memory behind the DRAM tier: numbered buffers of one size."""

    @property
    def buffer_count(self) -> int:
        """How many buffers there are."""
        ...

    @property
    def buffer_bytes(self) -> int:
        """Size of each buffer."""
        ...

    @property
    def page_bytes(self) -> int:
        """Chunks whose size is a multiple of this can be mapped one after the other."""
        ...

    @property
    def backing(self) -> str:
        """How the memory is had, for people."""
        ...

    def view(self, buffer: int) -> memoryview:
        """The buffer's memory, writable."""
        ...

    def descriptor(self, buffer: int) -> int:
        """A read-only descriptor of the buffer that can be given away; it is not the caller's to close."""
        ...

    def recycle(self, buffers: tuple[int, ...]) -> None:
        """Make ``buffers`` fit for other content: nobody who was given them before sees what is written next."""
        ...


class ChunkSource(Protocol):
    """A checkpoint's chunks at one tier."""

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        """Fill the head of ``into`` with the chunk and check it against the manifest.

        ``cached`` leaves the bytes in the page cache. Raises DataLossError, reason CHUNK_CORRUPT or CHUNK_UNREADABLE,
        naming file and chunk.
        """
        ...

    def close(self) -> None:
        """Let go of files or connections."""
        ...


class SsdCopy(ChunkSource, Protocol):
    """A node's own copy, sealed or being written."""

    def has_chunk(self, chunk: int) -> bool:
        """Whether the chunk is said to be here; reading it tells whether that is so."""
        ...

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """Write the chunk; ResourceExhaustedError with reason SSD_FULL if the disk is full."""
        ...

    def descriptor(self, partition: int) -> int:
        """A read-only descriptor of the partition's file that can be given away; not the caller's to close."""
        ...

    async def seal(self) -> None:
        """Make a copy whose chunks are all written durable and findable."""
        ...

    async def discard(self) -> None:
        """Close and delete a copy that was not sealed."""
        ...


@dataclass(frozen=True, slots=True)
class FoundCopy:
    """A copy that an earlier storage manager left."""

    manifest: Manifest
    sealed: bool


class SsdStore(Protocol):
    """The node's cache directory."""

    async def scan(self) -> list[FoundCopy]:
        """Drop what cannot be gone on with; return the copies whose files are there, least recently used first."""
        ...

    async def open(self, manifest: Manifest) -> SsdCopy:
        """Open a sealed copy; DataLossError with reason CHUNK_UNREADABLE if it is gone or cut short."""
        ...

    async def create(self, manifest: Manifest) -> SsdCopy:
        """Set room aside for a new copy; ResourceExhaustedError with reason SSD_FULL if there is none."""
        ...

    async def resume(self, manifest: Manifest) -> SsdCopy:
        """Open a copy that was not sealed; DataLossError (CHUNK_UNREADABLE), or SSD_FULL or SSD_UNUSABLE."""
        ...

    async def keep_files(self, manifest: Manifest, source: Path) -> Path:
        """Copy the small files here, once, and return their directory; SSD_FULL if there is no room."""
        ...

    async def delete(self, digest: str) -> None:
        """Delete the copy, sealed or not, if there is one."""
        ...

    async def forget_files(self, digest: str) -> None:
        """Delete the small files, if they are here."""
        ...

    async def quarantine(self, digest: str) -> None:
        """Take a bad copy out of use, keeping it for people to look at."""
        ...

    def available_bytes(self) -> int:
        """What the file system has left."""
        ...


@dataclass(frozen=True, slots=True)
class PackOrder:
    """How to pack. The functions are called from another thread: with bytes done and bytes in all, and to ask whether
    to stop.
    """

    allow_pickle: bool
    chunk_bytes: int
    on_progress: Callable[[int, int], None]
    cancelled: Callable[[], bool]

    def phases(self, count: int) -> "tuple[PackOrder, ...]":
        """One order for each of ``count`` parts of the work; they report progress as equal parts of the whole."""
        return tuple(replace(self, on_progress=partial(self._report_phase, phase, count)) for phase in range(count))

    def _report_phase(self, phase: int, count: int, done: int, total: int) -> None:
        self.on_progress(phase * total + done, count * total)


class RemoteStore(Protocol):
    """What all nodes share."""

    def require_writable(self) -> None:
        """Raise FailedPreconditionError with reason REMOTE_READ_ONLY if nothing can be packed into the store."""
        ...

    async def recover(self) -> None:
        """Remove what writers that died left half-written."""
        ...

    async def manifest(self, digest: str) -> Manifest:
        """Return the manifest; NotFoundError with reason CHECKPOINT_NOT_FOUND, or DataLossError."""
        ...

    async def open(self, manifest: Manifest) -> ChunkSource:
        """Open the checkpoint's data; DataLossError with reason CHUNK_UNREADABLE if a file is missing."""
        ...

    async def files_directory(self, manifest: Manifest) -> Path:
        """A local directory with the small files."""
        ...

    async def delete(self, digest: str) -> bool:
        """Delete the checkpoint; return whether there was one."""
        ...

    async def used_bytes(self) -> int:
        """Bytes of all checkpoints in the store; 0 where it cannot tell."""
        ...

    async def pack(self, source: Path, order: PackOrder) -> Manifest:
        """Pack a model directory into the store; errors are those of kindling.checkpoint.pack."""
        ...


class SourceStore(Protocol):
    """Where models come from."""

    async def recover(self) -> None:
        """Remove what imports that died left behind."""
        ...

    async def packed_digest(self, uri: str) -> str | None:
        """The digest of the packed checkpoint at ``uri``, where that is known without fetching it."""
        ...

    def directory(self, uri: str, order: PackOrder) -> "AbstractAsyncContextManager[tuple[Path, PackOrder]]":
        """A local directory with the model inside the context, and the part of ``order`` that is left to do.

        Raises NotFoundError (SOURCE_NOT_FOUND, HUB_MODEL_NOT_FOUND), UnavailableError (REMOTE_UNAVAILABLE,
        HUB_UNREACHABLE), PermissionDeniedError (REMOTE_FORBIDDEN, HUB_FORBIDDEN), ResourceExhaustedError (DISK_FULL).
        """
        ...


class ProbeFile(Protocol):
    """A file on the SSD whose content does not matter."""

    size_bytes: int

    async def read(self, offset: int, into: memoryview) -> int:
        """Fill ``into`` as loads do, up to the end of the file; return how many bytes came."""
        ...


class LinkProbe(Protocol):
    """Means to measure the links between the tiers of this machine."""

    async def prepare(self, views: list[memoryview]) -> None:
        """Have the memory's pages present."""
        ...

    async def copy(self, source: memoryview, target: memoryview) -> None:
        """Copy within memory."""
        ...

    def ssd_file(self, enough_bytes: int) -> AbstractAsyncContextManager[ProbeFile]:
        """A file of ``enough_bytes``, or of as many as there are; SSD_FULL or SSD_UNUSABLE if there can be none."""
        ...


class Registry(Protocol):
    """Where the cluster learns what this node has."""

    def publish_residency(self, digest: str, tiers: tuple[TierResidency, ...]) -> None:
        """Say how much of ``digest`` is at which tier of this node; nothing at all removes the record."""
        ...

    def publish_tiers(self) -> None:
        """Say anew how large, how full and how fast this node's tiers are."""
        ...

    async def written(self) -> None:
        """Return when the cluster can see all that was published."""
        ...
