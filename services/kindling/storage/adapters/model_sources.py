"""Where models are imported from: directories, object stores, the Hugging Face hub."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kindling.checkpoint import MANIFEST_FILE, load_manifest, sweep_temporaries
from kindling.checkpoint.progress import Progress
from kindling.platform.errors import NotFoundError
from kindling.storage.adapters.bucket import Bucket, BucketAccess
from kindling.storage.adapters.hub_download import download_model
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.location_download import LocationDownload
from kindling.storage.adapters.remote_objects import MOST_MANIFEST_BYTES
from kindling.storage.adapters.scratch import scratch_directory
from kindling.storage.ports import PackOrder
from kindling.storage.settings import HUB_SCHEME, OBJECT_SCHEMES, file_uri_path


class ModelSources:
    """Implements SourceStore. What is far away is fetched into a directory below ``scratch``."""

    def __init__(self, scratch: Path, access: BucketAccess, io: IoExecutor) -> None:
        self._scratch = scratch
        self._access = access
        self._io = io

    async def recover(self) -> None:
        """See SourceStore."""
        await self._io.run(sweep_temporaries, self._scratch)

    async def packed_digest(self, uri: str) -> str | None:
        """See SourceStore."""
        if urlsplit(uri).scheme not in OBJECT_SCHEMES:
            return None
        try:
            data = await Bucket(uri, self._access).read(MANIFEST_FILE, MOST_MANIFEST_BYTES)
        except NotFoundError:
            return None
        return load_manifest(data).digest

    @asynccontextmanager
    async def directory(self, uri: str, order: PackOrder) -> AsyncIterator[tuple[Path, PackOrder]]:
        """See SourceStore."""
        if urlsplit(uri).scheme == "file":
            yield file_uri_path(uri), order
            return
        fetching, packing = order.phases(2)
        progress = Progress(fetching.on_progress, order.cancelled)
        async with scratch_directory(self._scratch, self._io) as directory:
            if urlsplit(uri).scheme == HUB_SCHEME:
                await self._io.run(
                    download_model,
                    unquote(uri.partition("://")[2]),
                    directory,
                    progress,
                    self._access.timeout_seconds,
                    allow_pickle=order.allow_pickle,
                )
            else:
                download = LocationDownload(Bucket(uri, self._access), directory, self._io, progress)
                await download.run(allow_pickle=order.allow_pickle)
            yield directory, packing
