"""OTLP receivers that others wrote, each a process of its own. What they got is known once their block has ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from support.etcd_server import free_port
from support.otlp_receiver import Span

REPOSITORY = Path(__file__).parents[2]
MOCK_SERVER = REPOSITORY / ".tools/node_modules/@elastic/mockotlpserver"
READY_SECONDS = 30.0


@asynccontextmanager
async def rotel(forward_to: str, log_path: Path) -> AsyncIterator[str]:
    """Run a collector that forwards what it gets; yields its address, and forwards all it holds before it ends."""
    import rotel as package

    binary = Path(package.__file__).with_name("rotel-agent")
    address = f"127.0.0.1:{free_port()}"
    ports = ("--otlp-grpc-endpoint", address, "--otlp-http-endpoint", f"127.0.0.1:{free_port()}")
    target = ("--exporter", "otlp", "--otlp-exporter-endpoint", forward_to)
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(binary, "start", *ports, *target, stdout=log, stderr=log)
    async with _ended(process):
        async with asyncio.timeout(READY_SECONDS), grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
        yield f"http://{address}"
    assert process.returncode == 0, f"rotel failed; see {log_path}"


@dataclass
class Kept:
    """Every span that the mock server got, once it has ended."""

    spans: list[Span] = field(default_factory=list)


@asynccontextmanager
async def mock_otlp_server(directory: Path) -> AsyncIterator[tuple[str, Kept]]:
    """Run Elastic's mock server; yields its address, and what it got."""
    assert MOCK_SERVER.is_dir(), f"{MOCK_SERVER} is missing; `make otlp-server` installs it"
    script, file, kept = Path(__file__).with_name("mock_otlp_server.cjs"), directory / "traces.jsonl", Kept()
    command = ("node", script, MOCK_SERVER, file)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with _ended(process):
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            url = (await process.stdout.readline()).decode().strip()
        assert url.startswith("http://"), f"the mock server did not start: {url}"
        yield url, kept
    kept.spans += [Span(**json.loads(line)) for line in file.read_text().splitlines()]


@asynccontextmanager
async def _ended(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Have the process end with the block; where the block failed, at once."""
    try:
        yield
        process.terminate()
        async with asyncio.timeout(READY_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
