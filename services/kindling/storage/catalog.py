"""What this node knows about checkpoints, so that a hit in DRAM reads no manifest."""

from dataclasses import dataclass

from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import dump_manifest
from kindling.storage.domain.geometry import Geometry
from kindling.storage.ports import RemoteStore


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A manifest and what is derived from it once."""

    manifest: Manifest
    manifest_json: bytes
    geometry: Geometry
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> "KnownCheckpoint":
        """Derive everything from ``manifest``."""
        geometry = Geometry.cut([partition.size_bytes for partition in manifest.partitions], manifest.chunk_bytes)
        lengths = tuple(span.length for span in geometry.chunks)
        return cls(manifest, dump_manifest(manifest), geometry, lengths)


class Catalog:
    """Manifests by digest, read from the remote store where they are not known yet."""

    def __init__(self, remote: RemoteStore) -> None:
        self._remote = remote
        self._known: dict[str, KnownCheckpoint] = {}

    async def get(self, digest: str) -> KnownCheckpoint:
        """Return the checkpoint; NotFoundError with reason CHECKPOINT_NOT_FOUND if there is none."""
        known = self._known.get(digest)
        if known is None:
            known = self.add(await self._remote.manifest(digest))
        return known

    def add(self, manifest: Manifest) -> KnownCheckpoint:
        """Remember a manifest."""
        known = KnownCheckpoint.of(manifest)
        self._known[manifest.digest] = known
        return known

    def forget(self, digest: str) -> None:
        """Forget a checkpoint that was deleted."""
        self._known.pop(digest, None)

    def find(self, digest: str) -> KnownCheckpoint | None:
        """Return the checkpoint if it is known already."""
        return self._known.get(digest)
