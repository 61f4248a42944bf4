"""`docker compose` on this repository's files, with the stand-ins for what cannot be pulled."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.docker_engine import REPOSITORY, TOOLS, DockerEngine

PROJECT = "kindling"
FILES = (REPOSITORY / "compose" / "compose.yaml", REPOSITORY / "tests" / "compose" / "compose.stand-ins.yaml")


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    output: str
    errors: str


class ComposeProject:
    """One project on ``engine``; ``settings`` are what an operator would put into `.env`."""

    def __init__(self, engine: DockerEngine, settings: dict[str, str]) -> None:
        self.engine = engine
        self._environment = engine.environment | settings

    def run(self, *arguments: str, check: bool = True, **settings: str) -> Ran:
        """Run `docker compose ARGUMENTS`."""
        done = subprocess.run(
            self.command(*arguments), env=self._environment | settings, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr[-4000:]}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `docker compose ARGUMENTS`, and return while it runs."""
        return subprocess.Popen(
            self.command(*arguments), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def kindling(self, *arguments: str, check: bool = True) -> Ran:
        """Run the command line where an operator would, in the gateway's container."""
        return self.run("exec", "-T", "gateway", "kindling", *arguments, check=check)

    def kill(self, service: str) -> None:
        """`docker kill` the container of ``service``."""
        self.engine.docker("kill", f"{PROJECT}-{service}-1")

    def instances(self, model: str) -> dict[str, str]:
        """The rows of ``model``'s instances in `kindling status`, by worker."""
        status = self.kindling("status").output
        rows = [re.match(rf"^{model}-\w+ +(\S+) +(.+)$", line) for line in status.splitlines()]
        return {row[1]: row[2] for row in rows if row is not None}

    def leader(self) -> str:
        """The scheduler that leads."""
        return self.kindling("status").output.split()[0]

    def command(self, *arguments: str) -> list[str]:
        """The command line of `docker compose ARGUMENTS`."""
        files = [part for file in FILES for part in ("-f", str(file))]
        return ["docker", "compose", *files, "--project-directory", str(FILES[0].parent), *arguments]


@contextmanager
def torch_wheels() -> Iterator[str]:
    """A page with the wheel of torch that this machine's own pip takes, for builds in its network."""
    directory = TOOLS / "wheels"
    if not list(directory.glob("torch-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory), "torch"]
        subprocess.run([*pip, "--constraint", str(REPOSITORY / "constraints.txt")], check=True)
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(directory), "0"]
    with _server(command) as first_line:
        announced = re.search(r"port (\d+)", first_line)
        assert announced is not None, first_line
        yield f"http://127.0.0.1:{announced[1]}/"


@contextmanager
def s3_store(engine: DockerEngine, directory: Path) -> Iterator[str]:
    """An S3 (moto) with ``directory`` in its bucket; yields the URL under which containers reach it."""
    script = REPOSITORY / "tests" / "compose" / "s3_store.py"
    with _server(engine.inside([sys.executable, str(script), str(directory)])) as port:
        yield f"http://host.docker.internal:{port}"


@contextmanager
def _server(command: list[str]) -> Iterator[str]:
    """Run ``command`` until the context ends, and yield the first line that it prints: then it serves."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()
