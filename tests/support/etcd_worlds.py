"""Two etcds of which the same must hold: a real one, and the simulated one under virtual time."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from kindling.platform.etcd import EtcdClient
from kindling.scheduler.adapters.leadership import EtcdElection
from support.simulated_etcd import SimulatedEtcd
from support.simulated_etcd_client import SimulatedClient
from support.virtual_time import LoopClock, run_virtually


class World:
    """An etcd, and a prefix in it of which nobody else knows."""

    def __init__(self, client: Callable[[], EtcdClient]) -> None:
        self.client = client
        self.prefix = f"/contract/{uuid.uuid4().hex}/"

    def election(self, etcd: EtcdClient, scheduler_id: str) -> EtcdElection:
        """A scheduler's way to the leadership."""
        return EtcdElection(etcd, self.prefix, 2.0, scheduler_id, f"{scheduler_id}:1", LoopClock())


Check = Callable[[World], Coroutine[Any, Any, None]]


def check_real(endpoint: str, check: Check) -> None:
    """Run a check against the etcd at ``endpoint``."""
    asyncio.run(check(World(lambda: EtcdClient([endpoint]))))


def check_simulated(check: Check) -> None:
    """Run a check against a simulated etcd of its own."""

    async def run() -> None:
        etcd = SimulatedEtcd()
        await check(World(lambda: SimulatedClient(etcd)))

    run_virtually(run())
