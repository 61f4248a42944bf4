"""Where a local cluster keeps what."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kindling.platform.errors import FailedPreconditionError

# sun_path of sockaddr_un holds 108 bytes, the final zero included.
MAX_SOCKET_PATH_BYTES = 107
_LONGEST_SOCKET_NAME = "nodes/node-99/storage.sock"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a data directory; sockets go elsewhere if the data directory's path is long."""

    data_dir: Path
    sockets_dir: Path

    @classmethod
    def create(cls, data_dir: Path) -> "Layout":
        """Make the directories and return their layout; :meth:`close` removes what is not for keeps.

        DATA_DIR_UNUSABLE if they cannot be made.
        """
        data_dir = data_dir.expanduser().absolute()
        try:
            for name in ("etcd", "remote", "nodes", "logs"):
                (data_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FailedPreconditionError(
                f"{data_dir} cannot hold a cluster ({error.strerror}); choose another --data-dir",
                reason="DATA_DIR_UNUSABLE",
                metadata={"data_dir": str(data_dir)},
            ) from None
        return cls(data_dir, _sockets_dir(data_dir))

    @property
    def etcd_dir(self) -> Path:
        """The data directory of etcd."""
        return self.data_dir / "etcd"

    @property
    def remote_dir(self) -> Path:
        """The REMOTE tier: packed checkpoints that every node sees."""
        return self.data_dir / "remote"

    def ssd_dir(self, node_id: str) -> Path:
        """The SSD tier of a node; made if it is not there."""
        path = self.data_dir / "nodes" / node_id / "ssd"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def socket(self, node_id: str) -> Path:
        """The Unix socket by which a node's workers get shared memory; what a crash left there is removed."""
        path = self.sockets_dir / "nodes" / node_id / "storage.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def fresh_log(self, name: str) -> Path:
        """The log file of a process to be started; the one of the cluster before stays beside it as `.log.old`."""
        path = self.data_dir / "logs" / f"{name.replace('/', '-')}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.old"))
        return path

    def close(self) -> None:
        """Remove the sockets' directory if it is a temporary one."""
        if self.sockets_dir != self.data_dir:
            shutil.rmtree(self.sockets_dir, ignore_errors=True)


def _sockets_dir(data_dir: Path) -> Path:
    longest = data_dir / _LONGEST_SOCKET_NAME
    if len(bytes(longest)) <= MAX_SOCKET_PATH_BYTES:
        return data_dir
    return Path(tempfile.mkdtemp(prefix="kindling-", dir="/tmp"))
