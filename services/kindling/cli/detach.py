"""`kindling up --detach`: the supervisor in a session of its own, which says by a pipe when the cluster is ready."""

import asyncio
import os
import sys

import typer
from rich.markup import escape

from kindling.cli.console import err, out
from kindling.cli.layout import Layout
from kindling.cli.options import ClusterOptions

_READY = b"ready\n"


async def detached_up(options: ClusterOptions) -> None:
    """Start a supervisor and return when its cluster is ready; exit as it did if it ended before."""
    layout = Layout.create(options.data_dir)
    layout.close()
    log_path = layout.fresh_log("up")
    read_fd, write_fd = os.pipe()
    with log_path.open("wb") as log:
        supervisor = await asyncio.create_subprocess_exec(
            *_command(options, write_fd),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write_fd],
            start_new_session=True,
        )
    os.close(write_fd)
    with err.status("starting"):
        ready = await asyncio.to_thread(_read_all, read_fd)
    if ready != _READY:
        err.print(escape(log_path.read_text().strip()), soft_wrap=True)
        raise typer.Exit(await supervisor.wait())
    out.print(escape(log_path.read_text().strip()), soft_wrap=True)


def report_ready(fd: int) -> None:
    """Tell the process that waits at the other end of ``fd``; negative if none does."""
    if fd >= 0:
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(_READY)


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def _command(options: ClusterOptions, ready_fd: int) -> list[str]:
    given = {
        "--nodes": options.nodes,
        "--workers": options.workers_per_node,
        "--dram-pool": options.pool_bytes,
        "--data-dir": options.data_dir,
        "--http-port": options.http_port,
        "--grpc-port": options.grpc_port,
        "--engine": options.engine.value,
        "--ready-fd": ready_fd,
    }
    flags = [str(word) for pair in given.items() for word in pair]
    return [sys.executable, "-m", "kindling.cli.main", "up", *flags]
