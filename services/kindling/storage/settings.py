"""The storage manager's settings, from ``KINDLING_STORAGE_*``."""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from kindling.platform.settings import ServiceSettings

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}iB": 1 << 10 * power for power, letter in enumerate("KMGT", start=1)}
_UNITS |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
PAGE_BYTES = 4096
HUGE_PAGE_BYTES = 2 << 20
OBJECT_SCHEMES = frozenset({"s3", "gs", "az", "http", "https"})
HUB_SCHEME = "hf"


def parse_size(value: object) -> object:
    """Turn ``"4GiB"``, ``"16 MiB"``, ``"1.5GB"`` or a plain number into bytes; leave anything but text alone."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError("is not a size: write bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB")
    return int(float(match[1]) * _UNITS[match[2]])


Size = Annotated[int, BeforeValidator(parse_size)]


class StorageSettings(ServiceSettings):
    """Where a node's checkpoints are and how much room they have. Sizes take units: ``4GiB``."""

    model_config = SettingsConfigDict(env_prefix="KINDLING_STORAGE_")

    node_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="unique in the cluster")
    remote_uri: str = Field(description="what all nodes share: file:///directory, s3://…, gs://…, az://…, https://…")
    remote_anonymous: bool = Field(default=False, description="ask object stores without credentials")
    remote_timeout_seconds: float = Field(default=10.0, gt=0, description="longest silence of an object store")
    remote_retries: int = Field(default=4, ge=0, le=20, description="attempts at an object store after the first")
    remote_connections: int = Field(default=8, ge=1, le=256, description="requests to an object store at once")
    remote_range_bytes: Size = Field(default=16 << 20, ge=PAGE_BYTES, description="a chunk comes in parallel ranges")
    cache_dir: Path = Field(description="the SSD tier; this node's alone")
    cache_bytes: Size = Field(default=0, ge=0, description="bound of the SSD tier; 0: the file system's own")
    pool_bytes: Size = Field(default=1 << 30, ge=0, description="the DRAM tier")
    chunk_bytes: Size = Field(default=32 << 20, ge=PAGE_BYTES, description="unit of I/O and pooling")
    head_fraction: float = Field(default=0.25, ge=0, le=1, description="part of a checkpoint that is evicted last")
    huge_pages: bool = Field(default=True, description="use 2 MiB pages for the pool if enough are free")
    reserve_huge_pages: bool = Field(default=False, description="raise vm.nr_hugepages for the pool; needs root")
    touch_pool: bool = Field(default=True, description="have the pool's pages present before the first load needs them")
    ssd_read_limit: Size = Field(default=0, ge=0, description="bytes per second; 0: none. To try out a slow disk")
    remote_read_limit: Size = Field(default=0, ge=0, description="bytes per second; 0: none. To try out a slow store")
    verify_at_start: bool = Field(default=True, description="read what is cached once, between loads, and repair it")
    measure_at_start: bool = Field(default=True, description="measure the SSD and memory, for about a second")
    read_threads: int = Field(default=4, ge=1, le=64, description="chunks in flight during a load")
    socket_path: Path = Field(default=Path(), description="hand-over socket; default: storage.sock in cache_dir")
    publish_interval_seconds: float = Field(default=0.25, ge=0, description="least time between two publications")

    @field_validator("chunk_bytes")
    @classmethod
    def _whole_pages(cls, value: int) -> int:
        if value % PAGE_BYTES:
            raise ValueError(f"must be a multiple of {PAGE_BYTES}, or it could not be mapped")
        return value

    @field_validator("remote_uri")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        require_location(value)
        if urlsplit(value).scheme == HUB_SCHEME:
            raise ValueError(f"{value!r} is a source to deploy from, not a place for packed checkpoints")
        return value

    @model_validator(mode="after")
    def _short_socket_path(self) -> "StorageSettings":
        if len(str(self.handover_socket)) > MAX_SOCKET_PATH:
            raise ValueError(f"socket_path is longer than {MAX_SOCKET_PATH} characters: {self.handover_socket}")
        return self

    @property
    def uses_huge_pages(self) -> bool:
        """Whether the pool goes on 2 MiB pages if there are any: a chunk must be a whole number of them."""
        return self.huge_pages and self.chunk_bytes % HUGE_PAGE_BYTES == 0

    @property
    def handover_socket(self) -> Path:
        """Where workers get shared memory from."""
        return self.socket_path if self.socket_path != Path() else self.cache_dir / "storage.sock"

    @property
    def remote_directory(self) -> Path | None:
        """The directory that ``remote_uri`` names, if it names one."""
        return file_uri_path(self.remote_uri) if urlsplit(self.remote_uri).scheme == "file" else None


_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MAX_SOCKET_PATH = 107  # sockaddr_un has 108 bytes, one of them for the NUL


class SchemeError(ValueError):
    """A URI's scheme is none of those that are known."""


def require_location(uri: str) -> None:
    """Raise ValueError, which says what is wrong, unless ``uri`` names a place that models can be read from."""
    parts = urlsplit(uri)
    if parts.scheme == "file" or "://" not in uri:
        file_uri_path(uri)
    elif parts.scheme == HUB_SCHEME:
        if not _HUB_NAME.fullmatch(uri.partition("://")[2]):
            raise ValueError(f"{uri!r} names no model of the hub: write {HUB_SCHEME}://organisation/name")
    elif parts.scheme not in OBJECT_SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in ("file", *sorted(OBJECT_SCHEMES), HUB_SCHEME))
        raise SchemeError(f"{parts.scheme[:40]}:// cannot be read; what can be is {known}")
    elif "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("credentials and queries do not belong into a location: set the usual environment variables")
    elif not parts.netloc or "\0" in uri:
        raise ValueError(f"{uri!r} names no place: write {parts.scheme}://…/folder")


def file_uri_path(uri: str) -> Path:
    """Return the directory that a ``file:///…`` URI names; ValueError says what is wrong with any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"{uri!r} names no absolute directory: write file:///absolute/directory")
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute() or "\0" in str(path):
        raise ValueError(f"{uri!r} names no absolute directory: write file:///absolute/directory")
    return path
