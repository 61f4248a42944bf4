"""What containers ask to know whether a service is healthy."""

import asyncio
import os
import sys
from pathlib import Path

from kindling.platform.rpc.server import RpcServer

SERVICES = Path(__file__).parents[3] / "services"


async def probe(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kindling.platform.rpc.probe", *arguments),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SERVICES)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_healthy_then_draining_then_gone() -> None:
    async with RpcServer("127.0.0.1:0", grace_seconds=0.1) as server:
        assert await probe(server.address) == (0, "")
        await server.drain()
        assert await probe(server.address) == (1, f"{server.address} says NOT_SERVING\n")
    code, errors = await probe(server.address)
    assert code == 1
    assert errors.startswith(f"{server.address} does not answer: ")


async def test_wrong_usage() -> None:
    code, errors = await probe()
    assert code == 2
    assert "HOST:PORT" in errors
