"""The REMOTE tier in an object store: ``URI/NAME/`` holds a packed checkpoint, complete once its manifest is there."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kindling.checkpoint import (
    MANIFEST_FILE,
    Manifest,
    directory_name,
    dump_manifest,
    load_manifest,
    pack,
    sweep_temporaries,
)
from kindling.checkpoint.architectures import SUPPORTED_ARCHITECTURES
from kindling.checkpoint.checksum import content_digest
from kindling.checkpoint.progress import Progress
from kindling.platform.errors import DataLossError, NotFoundError
from kindling.platform.logging import get_logger
from kindling.storage.adapters.bucket import Bucket
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.object_source import ObjectReader, ObjectSource
from kindling.storage.adapters.packed_files import ssd_trouble
from kindling.storage.adapters.scratch import scratch_directory
from kindling.storage.ports import PackOrder

log = get_logger(__name__)
MOST_MANIFEST_BYTES = 256 << 20
_READ_BYTES = 4 << 20


class RemoteObjects:
    """Implements RemoteStore. Small files are fetched into the node's ``files`` directory, where they stay; packing
    goes by way of ``scratch``.
    """

    def __init__(self, reader: ObjectReader, cache_dir: Path, packer: IoExecutor) -> None:
        self._reader = reader
        self._bucket = reader.bucket
        self._files = cache_dir / "files"
        self._scratch = cache_dir / "packing"
        self._packer = packer

    def require_writable(self) -> None:
        """See RemoteStore."""
        self._bucket.require_writable()

    async def recover(self) -> None:
        """See RemoteStore. What a dead writer uploaded has no manifest, and is overwritten by the next one."""
        await self._packer.run(sweep_temporaries, self._scratch)

    async def manifest(self, digest: str) -> Manifest:
        """See RemoteStore; UnavailableError (REMOTE_UNAVAILABLE) or PermissionDeniedError (REMOTE_FORBIDDEN) too."""
        path = f"{directory_name(digest)}/{MANIFEST_FILE}"
        try:
            data = await self._bucket.read(path, MOST_MANIFEST_BYTES)
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no checkpoint {digest} in {self._bucket.uri}; deploy the model again from its source",
                reason="CHECKPOINT_NOT_FOUND",
                metadata={"digest": digest, "uri": self._bucket.name(path)},
            ) from error
        manifest = load_manifest(data)
        if manifest.digest != digest:
            raise _damaged("MANIFEST_INVALID", self._bucket.name(path), f"it belongs to {manifest.digest}")
        return manifest

    async def open(self, manifest: Manifest) -> ObjectSource:
        """See RemoteStore."""
        return ObjectSource(self._reader, manifest)

    async def files_directory(self, manifest: Manifest) -> Path:
        """See RemoteStore. They are fetched at first use."""
        target = self._files / directory_name(manifest.digest)
        if not target.is_dir():
            await self._fetch_files(manifest, target)
        return target

    async def delete(self, digest: str) -> bool:
        """See RemoteStore; what is on a server that can only be read stays there."""
        folder = directory_name(digest)
        try:
            await self._bucket.info(f"{folder}/{MANIFEST_FILE}")
        except NotFoundError:
            return False
        if self._bucket.read_only:
            log.warning("remote_copy_kept", uri=self._bucket.name(folder), digest=digest)
            return True
        # The manifest first: other nodes must see all of it or nothing.
        names = await self._bucket.names(folder) or frozenset()
        await self._bucket.delete(*(f"{folder}/{name}" for name in (MANIFEST_FILE, *names - {MANIFEST_FILE})))
        return True

    async def used_bytes(self) -> int:
        """See RemoteStore."""
        return await self._bucket.total_bytes()

    async def pack(self, source: Path, order: PackOrder) -> Manifest:
        """See RemoteStore."""
        self._bucket.require_writable()
        packing, uploading = order.phases(2)
        async with scratch_directory(self._scratch, self._packer) as directory:
            manifest = await self._packer.run(
                pack,
                source,
                directory,
                chunk_bytes=order.chunk_bytes,
                allow_pickle=order.allow_pickle,
                supported=SUPPORTED_ARCHITECTURES.__contains__,
                on_progress=packing.on_progress,
                cancelled=order.cancelled,
            )
            packed = directory / directory_name(manifest.digest)
            if not await self._is_there(manifest.digest):
                progress = Progress(uploading.on_progress, order.cancelled)
                await self._packer.run(_upload, self._bucket, manifest, packed, progress)
        return manifest

    async def _is_there(self, digest: str) -> bool:
        try:
            await self.manifest(digest)
        except (NotFoundError, DataLossError):
            return False
        return True

    async def _fetch_files(self, manifest: Manifest, target: Path) -> None:
        contents = [await self._verified_file(manifest, index) for index in range(len(manifest.files))]
        await self._packer.run(_keep, manifest, contents, target)

    async def _verified_file(self, manifest: Manifest, index: int) -> bytes:
        entry = manifest.files[index]
        path = f"{directory_name(manifest.digest)}/{entry.path}"
        try:
            data = await self._bucket.read(path, entry.size_bytes)
        except NotFoundError as error:
            raise _damaged("FILE_UNREADABLE", self._bucket.name(path), "it does not exist") from error
        if content_digest(data) != entry.digest:
            raise _damaged("FILE_CORRUPT", self._bucket.name(path), "its digest is wrong")
        return data


def _keep(manifest: Manifest, contents: list[bytes], target: Path) -> None:
    """Write the small files; somebody else may do the same at the same time."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=target.name, suffix=".partial", dir=target.parent))
        try:
            for entry, content in zip(manifest.files, contents, strict=True):
                (partial / entry.path).write_bytes(content)
            (partial / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
            if not target.is_dir():
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise ssd_trouble(error, target) from error


def _upload(bucket: Bucket, manifest: Manifest, packed: Path, progress: Progress) -> None:
    """Upload everything, the manifest last: a checkpoint without one is not there."""
    folder, done_bytes = directory_name(manifest.digest), 0
    sizes = {partition.file_name: partition.size_bytes for partition in manifest.partitions}
    sizes |= {entry.path: entry.size_bytes for entry in manifest.files}
    for name, size_bytes in sizes.items():
        content = _content(packed / name, progress, done_bytes, sum(sizes.values()))
        bucket.write(f"{folder}/{name}", size_bytes, content)
        done_bytes += size_bytes
    data = dump_manifest(manifest)
    bucket.write(f"{folder}/{MANIFEST_FILE}", len(data), [data])


def _content(path: Path, progress: Progress, done_bytes: int, total_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            yield data
            done_bytes += len(data)
            progress.report(done_bytes, total_bytes)


def _damaged(reason: str, uri: str, why: str) -> DataLossError:
    return DataLossError(
        f"{uri} cannot be used: {why}; deploy the model again from its source", reason=reason, metadata={"file": uri}
    )
