"""Schedulers as processes, to be killed."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.etcd_server import free_port
from support.scheduler_cluster import Cluster


@asynccontextmanager
async def scheduler_process(
    cluster: Cluster, scheduler_id: str, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A scheduler of its own, with ``settings``, and its address; killed at the end if it still runs."""
    address = f"127.0.0.1:{free_port()}"
    usual = {"lease_ttl_seconds": "2", "log_level": "WARNING", "grant_ttl_seconds": "5"}
    environment = cluster.environment(scheduler_id, listen_address=address, **(usual | settings))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kindling.scheduler", env={**os.environ, "PYTHONPATH": "services", **environment}
    )
    try:
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
