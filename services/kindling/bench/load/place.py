"""Where a run keeps its checkpoints, and which file is which."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kindling.bench.child import ask_child
from kindling.bench.load.options import CHUNK_BYTES, MIB, LoadOptions
from kindling.bench.load.peer_table import SAFETENSORS, TENSORIZER
from kindling.bench.load.results import Results
from kindling.bench.load.sample import make_model
from kindling.checkpoint import directory_name, pack
from kindling.platform.errors import ResourceExhaustedError

TINY_BYTES = 4 * MIB
TENSORIZER_PACKAGE = "tensorizer"
FULL, HALF, EIGHTH, TINY = "full", "half", "eighth", "tiny"
_COPIES = 8  # at most so many times the size is on the disk at once


@dataclass(slots=True)
class Place:
    """A directory of the benchmark's own. ``digests`` names the checkpoints in ``remote``."""

    root: Path
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> Path:
        """The REMOTE tier."""
        return self.root / "remote"

    @property
    def cache(self) -> Path:
        """The SSD tier."""
        return self.root / "cache"

    @property
    def peers(self) -> Path:
        """What other loaders read."""
        return self.root / "peers"

    @property
    def ssd_file(self) -> Path:
        """The big checkpoint's data file in the SSD tier: what everybody reads."""
        return self._data_file(self.cache, FULL)

    @property
    def remote_file(self) -> Path:
        """The same in the REMOTE tier."""
        return self._data_file(self.remote, FULL)

    @property
    def files(self) -> list[Path]:
        """Every large file that there is now."""
        return [path for path in self.root.rglob("*") if path.is_file() and path.stat().st_size >= MIB]

    def point_peers_at_ssd(self) -> None:
        """Let the other loaders read the very files that the storage manager reads."""
        for name in (FULL, TINY):
            link = self.peers / name / SAFETENSORS
            link.unlink(missing_ok=True)
            link.symlink_to(self._data_file(self.cache, name))

    def _data_file(self, tier: Path, name: str) -> Path:
        return next(tier.rglob(f"{directory_name(self.digests[name])}/*.safetensors"))


@contextmanager
def made(options: LoadOptions, say: Callable[[str], None]) -> Iterator[Place]:
    """Make the checkpoints; they are deleted at the end unless they are to be kept."""
    place = Place(options.directory)
    place.root.mkdir(parents=True, exist_ok=True)
    _require_space(place.root, options.size_bytes * _COPIES)
    try:
        for name, size_bytes in _sizes(options).items():
            say(f"making a checkpoint of {size_bytes / MIB:,.0f} MiB ({name})")
            place.digests[name] = _packed(place, name, size_bytes)
        yield place
    finally:
        if not options.keep:
            shutil.rmtree(place.root, ignore_errors=True)


def make_peer_files(place: Place, results: Results) -> None:
    """Write the formats of the other loaders, once the SSD tier has the checkpoint."""
    for name in (FULL, TINY):
        (place.peers / name).mkdir(parents=True)
        shutil.copy(place.remote / directory_name(place.digests[name]) / "config.json", place.peers / name)
    place.point_peers_at_ssd()
    for name in (FULL, TINY):
        answer = ask_child("kindling.bench.load.peer_files", {"directory": str(place.peers / name)})
        if TENSORIZER_PACKAGE in answer:
            results.note(f"no file was made for tensorizer ({TENSORIZER}): {answer[TENSORIZER_PACKAGE]}")


def _sizes(options: LoadOptions) -> dict[str, int]:
    return {FULL: options.size_bytes, HALF: options.half_bytes, EIGHTH: options.eighth_bytes, TINY: TINY_BYTES}


def _packed(place: Place, name: str, size_bytes: int) -> str:
    source = place.root / f"source-{name}"
    try:
        make_model(source, size_bytes, seed=len(place.digests))
        return pack(source, place.remote, chunk_bytes=CHUNK_BYTES).digest
    finally:
        shutil.rmtree(source, ignore_errors=True)


def _require_space(directory: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise ResourceExhaustedError(
            f"the benchmark needs {needed_bytes / MIB:,.0f} MiB in {directory} and has {free_bytes / MIB:,.0f}; "
            "choose another place with --dir, or a smaller --size",
            reason="DISK_FULL",
        )
