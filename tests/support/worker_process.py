"""A worker in a process of its own, as an operator would start it."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kindling.platform.etcd import EtcdClient, Snapshot
from kindling.platform.etcd_records import decode_record
from kindling.v1 import state_pb2

START_SECONDS = 60


class WorkerProcess:
    """A running ``python -m kindling.worker`` and where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, record: state_pb2.WorkerRecord) -> None:
        self.process = process
        self.record = record

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def address(self) -> str:
        """Where it serves."""
        return self.record.address

    def private_bytes(self, name: str = "") -> int:
        """Memory that is this process's alone, in mappings whose name contains ``name``."""
        return _smaps_bytes(self.pid, name, "Private_Dirty")

    def mapped_bytes(self, name: str) -> int:
        """Address space of the mappings whose name contains ``name``."""
        return _smaps_bytes(self.pid, name, "Size")

    def shared_mappings(self, name: str) -> list[str]:
        """Permissions of the mappings whose name contains ``name``."""
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        return [line.split()[1] for line in lines if name in line]


@asynccontextmanager
async def worker_process(
    etcd_endpoint: str, prefix: str, log_path: Path, **settings: str
) -> AsyncIterator[WorkerProcess]:
    """Start a worker and wait until it is in the registry; it is killed at the end if it still runs."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "KINDLING_WORKER_NODE_ID": "node-a",
        "KINDLING_WORKER_ETCD_ENDPOINTS": etcd_endpoint.removeprefix("http://"),
        "KINDLING_WORKER_ETCD_PREFIX": prefix,
        "KINDLING_WORKER_THREADS": "1",
        **{f"KINDLING_WORKER_{name.upper()}": value for name, value in settings.items()},
    }
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kindling.worker", env=environment, stderr=log
        )
    try:
        record = await _registered(process, etcd_endpoint, prefix, log_path)
        yield WorkerProcess(process, record)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _registered(
    process: asyncio.subprocess.Process, etcd_endpoint: str, prefix: str, log_path: Path
) -> state_pb2.WorkerRecord:
    waiting = [asyncio.ensure_future(_record(etcd_endpoint, prefix)), asyncio.ensure_future(process.wait())]
    try:
        done, _ = await asyncio.wait(waiting, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if waiting[0] not in done:
            raise AssertionError(f"the worker did not start:\n{log_path.read_text()[-3000:]}")  # noqa: ASYNC240
        record = waiting[0].result()
        assert isinstance(record, state_pb2.WorkerRecord)
        return record
    finally:
        for task in waiting:
            task.cancel()


async def _record(etcd_endpoint: str, prefix: str) -> state_pb2.WorkerRecord:
    async with EtcdClient([etcd_endpoint]) as etcd:
        async for update in etcd.watch(f"{prefix}workers/"):
            items = update.items if isinstance(update, Snapshot) else [event.item for event in update.events]
            for item in items:
                return decode_record(state_pb2.WorkerRecord, item.value)
    raise AssertionError("a watch has no end")


def _smaps_bytes(pid: int, name: str, field: str) -> int:
    total, counting = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counting = name in line
        elif counting and line.startswith(f"{field}:"):
            total += int(line.split()[1]) * 1024
    return total
