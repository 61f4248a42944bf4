"""An etcd that comes after the services are told to start."""

import asyncio
import os
import sys
from pathlib import Path

from support.etcd_server import EtcdServer

SERVICES = Path(__file__).parents[3] / "services"
SAY_SECONDS = 30


async def said(log: asyncio.StreamReader, event: bytes) -> None:
    """Return once the process has logged ``event``; AssertionError if it ends before."""
    async with asyncio.timeout(SAY_SECONDS):
        async for line in log:
            if b'"%s"' % event in line:
                return
    raise AssertionError(f"the process ended, and did not say {event!r}")


async def test_it_is_told_of_waited_for_and_used(tmp_path: Path) -> None:
    etcd = EtcdServer(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kindling.scheduler"),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SERVICES),
            "KINDLING_SCHEDULER_ETCD_ENDPOINTS": etcd.endpoint,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        await said(process.stderr, b"etcd_awaited")
        await asyncio.to_thread(etcd.start)
        await said(process.stderr, b"leadership_won")
        process.terminate()
        await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        await asyncio.to_thread(etcd.stop)
