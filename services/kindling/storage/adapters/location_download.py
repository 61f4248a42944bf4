"""Fetching a model from an object store: a packed checkpoint or a Hugging Face directory, file by file."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kindling.checkpoint import MANIFEST_FILE, load_manifest
from kindling.checkpoint.files import require_space, writing
from kindling.checkpoint.layout import MODEL_FILES
from kindling.checkpoint.progress import Progress
from kindling.checkpoint.shard_index import read_index
from kindling.platform.errors import InvalidArgumentError, KindlingError, NotFoundError
from kindling.storage.adapters.bucket import Bucket, ObjectInfo
from kindling.storage.adapters.bucket_errors import innermost
from kindling.storage.adapters.io_executor import IoExecutor

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_MOST_SMALL_BYTES = 256 << 20
_RANGE_BYTES = 16 << 20
_LANES = 4


class LocationDownload:
    """Fetches the files of ``bucket`` that packing needs into ``directory``, and nothing else."""

    def __init__(self, bucket: Bucket, directory: Path, io: IoExecutor, progress: Progress) -> None:
        self._bucket = bucket
        self._directory = directory
        self._io = io
        self._progress = progress
        self._listed: frozenset[str] | None = None

    async def run(self, *, allow_pickle: bool) -> None:
        """Fetch; NotFoundError (SOURCE_NOT_FOUND) if there is no model, DISK_FULL if it does not fit, and Bucket's."""
        self._listed = await self._bucket.names()
        if await self._fetch_small(MANIFEST_FILE):
            await self._fetch_large(self._packed_names())
            return
        found = [name for name in MODEL_FILES if await self._fetch_small(name)]
        if "config.json" not in found:
            raise NotFoundError(
                f"{self._bucket.uri} holds no model: neither {MANIFEST_FILE} nor config.json is there; check the "
                "location, and the credentials that list it",
                reason="SOURCE_NOT_FOUND",
                metadata={"source": self._bucket.uri},
            )
        await self._fetch_large(await self._weights(allow_pickle=allow_pickle))

    def _packed_names(self) -> list[str]:
        manifest = load_manifest((self._directory / MANIFEST_FILE).read_bytes())
        return [entry.path for entry in manifest.files] + [part.file_name for part in manifest.partitions]

    async def _weights(self, *, allow_pickle: bool) -> list[str]:
        """The names of the weights' files, in the order of packing's own preference."""
        if await self._fetch_small(INDEX):
            return self._shards(INDEX)
        if await self._exists(MODEL):
            return [MODEL]
        if not allow_pickle:
            # Packing refuses a pickle by its name, with the right words.
            if await self._exists(PICKLE) or await self._exists(PICKLE_INDEX):
                (self._directory / PICKLE).touch()
            return []
        if await self._fetch_small(PICKLE_INDEX):
            return self._shards(PICKLE_INDEX)
        return [PICKLE] if await self._exists(PICKLE) else []

    def _shards(self, index: str) -> list[str]:
        names = sorted(set(read_index(self._directory, index).values()))
        for name in names:
            if "/" in name:
                raise InvalidArgumentError(
                    f"{self._bucket.name(index)} names {name[:200]!r}, which lies in another folder",
                    reason="PATH_ESCAPES",
                    metadata={"file": name[:200]},
                )
        return names

    async def _exists(self, name: str) -> bool:
        if self._listed is not None:
            return name in self._listed
        try:
            await self._bucket.info(name)
        except NotFoundError:
            return False
        return True

    async def _fetch_small(self, name: str) -> bool:
        """Fetch a file that may be missing; return whether it was there."""
        if self._listed is not None and name not in self._listed:
            return False
        try:
            data = await self._bucket.read(name, _MOST_SMALL_BYTES)
        except NotFoundError:
            return False
        with writing(self._directory, len(data)):
            await self._io.run((self._directory / name).write_bytes, data)
        return True

    async def _fetch_large(self, names: list[str]) -> None:
        infos = {name: await self._bucket.info(name) for name in names}
        total_bytes = sum(info.size_bytes for info in infos.values())
        require_space(self._directory, total_bytes)
        pieces = iter([piece for name, info in infos.items() for piece in _pieces(name, info)])
        tally = _Tally(self._progress, total_bytes)
        for name in names:
            (self._directory / name).touch()
        try:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(_LANES):
                    lanes.create_task(self._lane(pieces, tally))
        except* KindlingError as group:
            raise innermost(group) from None

    async def _lane(self, pieces: "Iterator[_Piece]", tally: "_Tally") -> None:
        buffer = memoryview(bytearray(_RANGE_BYTES))
        for piece in pieces:
            data = buffer[: piece.length]
            await self._bucket.read_range(piece.name, piece.offset, data, tag=piece.tag)
            with writing(self._directory, piece.length):
                await self._io.run(_write, self._directory / piece.name, data, piece.offset)
            tally.add(piece.length)


@dataclass(frozen=True, slots=True)
class _Piece:
    name: str
    offset: int
    length: int
    tag: str | None


@dataclass(slots=True)
class _Tally:
    progress: Progress
    total_bytes: int
    done_bytes: int = 0

    def add(self, count: int) -> None:
        self.done_bytes += count
        self.progress.report(self.done_bytes, self.total_bytes)


def _pieces(name: str, info: ObjectInfo) -> Iterator[_Piece]:
    for offset in range(0, info.size_bytes, _RANGE_BYTES):
        yield _Piece(name, offset, min(_RANGE_BYTES, info.size_bytes - offset), info.tag)


def _write(path: Path, data: memoryview, offset: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], offset + done)
    finally:
        os.close(descriptor)
