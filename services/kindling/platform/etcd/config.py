"""How to reach etcd and who to say one is."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files: whose certificates to trust (default: the system's roots), and our own if etcd asks for one."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user of etcd."""

    user: str
    password: str = field(repr=False)
