"""A Docker engine of one's own, where there is no registry: in a network namespace, on a temporary directory.

Needs root. What is missing of Debian's packages is installed; `docker compose` comes from Debian trixie and has to have
the checksum in its package list. Images of base systems cannot be had, so `python:3.11-slim` is a stand-in made by
debootstrap. What was downloaded and made is kept in `.tools/compose` for the next run.
"""

import hashlib
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / ".tools" / "compose"
BASE_IMAGE = "python:3.11-slim"
_PACKAGES = {"dockerd": "docker.io", "debootstrap": "debootstrap", "iptables": "iptables", "ip": "iproute2"}
_DEBIAN = "http://deb.debian.org/debian"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_INSIDE = "python3,python3-venv,python3-pip,libpython3.11,ca-certificates"
# The daemon ends, in good order and with all its containers, when the thread that started it does.
_END_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM);"
    "os.getppid() == int(sys.argv[1]) or sys.exit('the parent died');"
    "os.execvp(sys.argv[2], sys.argv[2:])"
)
# For building there is no bridge: `--network host` is all that builds need, and nothing of the host's is changed.
_NO_BRIDGE = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")


class MissingError(Exception):
    """The machine lacks something that cannot be installed here; the message names it."""


def prepare() -> None:
    """Install and download what is missing. Raises MissingError."""
    if os.geteuid() != 0:
        raise MissingError("root is needed, to run a Docker engine in a network namespace of its own")
    missing = sorted(package for program, package in _PACKAGES.items() if shutil.which(program) is None)
    if missing:
        _install(missing)
    TOOLS.mkdir(parents=True, exist_ok=True)
    _make_once(TOOLS / "cli-plugins" / "docker-compose", _fetch_compose)
    _make_once(TOOLS / "python-3.11-slim.tar", _make_base)


def _install(packages: Sequence[str]) -> None:
    print(f"installing {', '.join(packages)}", flush=True)
    apt = ["apt-get", "-y", "-qq", "install", "--no-install-recommends", *packages]
    done = subprocess.run(apt, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
    if done.returncode != 0:
        raise MissingError(f"{', '.join(packages)} could not be installed; install them by hand")


def _make_once(path: Path, make: Callable[[Path], None]) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    print(f"making {path.name}", flush=True)
    make(partial)
    partial.rename(path)


def _fetch_compose(path: Path) -> None:
    listing = lzma.decompress(_download(f"{_DEBIAN}/dists/trixie/main/binary-amd64/Packages.xz")).decode()
    entry = re.search(r"^Package: docker-compose\n(?:.+\n)+", listing, re.MULTILINE)
    assert entry is not None
    fields = dict(line.split(": ", 1) for line in entry[0].splitlines() if ": " in line)
    package = _download(f"{_DEBIAN}/{fields['Filename']}")
    assert hashlib.sha256(package).hexdigest() == fields["SHA256"], "the package differs from its checksum"
    with tempfile.TemporaryDirectory() as directory:
        deb = Path(directory) / "compose.deb"
        deb.write_bytes(package)
        subprocess.run(["dpkg", "-x", deb, directory], check=True)
        shutil.copy(Path(directory) / "usr/libexec/docker/cli-plugins/docker-compose", path)
    path.chmod(0o755)


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return answer.read()


def _make_base(path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        # It mounts /proc below `root`: in a mount namespace of its own, which ends with it, nothing of that is left.
        private = ["unshare", "--mount", "--propagation", "private"]
        command = [*private, "debootstrap", "--variant=minbase", f"--include={_INSIDE}", "bookworm", str(root), _DEBIAN]
        log = path.with_suffix(".log")
        with log.open("w") as output:
            if subprocess.run(command, stdout=output, stderr=output, check=False).returncode != 0:
                raise MissingError(f"the stand-in for {BASE_IMAGE} could not be made; see {log}")
        # pip inside trusts whom this machine trusts.
        shutil.copy(_CERTIFICATES, root / "etc/ssl/certs/ca-certificates.crt")
        (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
        subprocess.run(["tar", "-C", root, "-cf", path, "."], check=True)


class DockerEngine:
    """A daemon with its data below ``directory``. At most one of :meth:`building` and :meth:`running` at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._namespace = f"kindling-compose-{os.getpid()}"
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{directory / 'docker.sock'}",
            "DOCKER_CONFIG": str(TOOLS),
        }

    @contextmanager
    def building(self) -> Iterator[None]:
        """Run the daemon in this machine's network, without one for containers, and with the base image."""
        with self._daemon(["dockerd", *_NO_BRIDGE]):
            self.docker("import", str(TOOLS / "python-3.11-slim.tar"), BASE_IMAGE)
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the daemon in a network namespace of its own, where it may do with bridges and ports as it likes."""
        subprocess.run(["ip", "netns", "add", self._namespace], check=True)
        try:
            subprocess.run(["ip", "-n", self._namespace, "link", "set", "lo", "up"], check=True)
            with self._daemon(self.inside(["dockerd"])):
                yield
        finally:
            subprocess.run(["ip", "netns", "delete", self._namespace], check=True)

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` where published ports can be reached."""
        return ["nsenter", f"--net=/run/netns/{self._namespace}", *command]

    def docker(self, *arguments: str) -> str:
        """Run the client and return what it prints."""
        done = subprocess.run(
            ["docker", *arguments], env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    @contextmanager
    def _daemon(self, command: Sequence[str]) -> Iterator[None]:
        with (self._directory / "dockerd.log").open("w") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _END_WITH_PARENT, str(os.getpid()), *command, *self._options()],
                stdout=log,
                stderr=log,
            )
        try:
            self._await(daemon)
            yield
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=60)

    def _options(self) -> list[str]:
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "docker.pid"}
        return [
            "--storage-driver=overlay2",
            f"--host={self.environment['DOCKER_HOST']}",
            *(f"--{option}={self._directory / name}" for option, name in places.items()),
        ]

    def _await(self, daemon: "subprocess.Popen[bytes]") -> None:
        """Return when the daemon answers: its log says so, line by line, until it does or ends."""
        with subprocess.Popen(
            ["tail", "--lines=+1", "--follow", f"--pid={daemon.pid}", self._directory / "dockerd.log"],
            stdout=subprocess.PIPE,
            text=True,
        ) as tail:
            assert tail.stdout is not None
            started = any("API listen on" in line for line in tail.stdout)
            tail.kill()
        assert started, (self._directory / "dockerd.log").read_text()[-3000:]


@contextmanager
def docker_engine() -> Iterator[DockerEngine]:
    """A stopped engine, whose data is removed in the end."""
    directory = Path(tempfile.mkdtemp(prefix="kindling-docker-"))
    try:
        yield DockerEngine(directory)
    finally:
        _unmount_below(directory)
        shutil.rmtree(directory)


def _unmount_below(directory: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", mount], check=True)
