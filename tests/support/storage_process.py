"""``python -m kindling.storage`` as a real process, and a worker that is one too."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.storage_node import Place

REPOSITORY = Path(__file__).parents[2]


@dataclass
class StorageProcess:
    """A storage manager that listens on ``address``."""

    process: asyncio.subprocess.Process
    address: str

    async def terminate(self) -> int:
        """SIGTERM; return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        await self.process.wait()


def environment(place: Place, **settings: object) -> dict[str, str]:
    values = place.settings(**settings).model_dump(exclude_defaults=True)
    named = {f"KINDLING_STORAGE_{name.upper()}": str(value) for name, value in values.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY / "services"), **named}


@asynccontextmanager
async def storage_process(
    place: Place, *, command: tuple[str, ...] = (), **settings: object
) -> AsyncIterator[StorageProcess]:
    """Start one, by way of ``command`` if there is one, and wait until it says where it listens."""
    process = await asyncio.create_subprocess_exec(
        *(*command, sys.executable, "-m", "kindling.storage"),
        env=environment(place, **settings),
        stderr=asyncio.subprocess.PIPE,
    )
    log: list[str] = []
    address = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_read_log(process, log, address))
        try:
            yield StorageProcess(process, await address)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _read_log(process: asyncio.subprocess.Process, log: list[str], address: "asyncio.Future[str]") -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode())
        if b'"storage_started"' in line:
            address.set_result(json.loads(line)["address"])
    if not address.done():
        address.set_exception(AssertionError(f"the storage manager did not start: {''.join(log)}"))


_WORKER = """
import asyncio, sys
from pathlib import Path
from support.storage_node import OpenedCheckpoint, open_checkpoint
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import storage_pb2_grpc

async def main(address, digest):
    async with open_channel(address) as channel:
        async with open_checkpoint(storage_pb2_grpc.StorageServiceStub(channel), digest) as lease:
            memory = lease.take_memory()
            await lease.loaded()
            print(len(memory.content()), flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def worker_process(address: str, digest: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds a lease with its memory, until it is killed."""
    path = f"{REPOSITORY / 'services'}:{REPOSITORY / 'tests'}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _WORKER, address, digest),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert int(await process.stdout.readline()) > 0
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
