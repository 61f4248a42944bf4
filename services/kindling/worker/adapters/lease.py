"""A lease on a checkpoint, as its holder knows it."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from kindling.platform.rpc.channel import remote_errors
from kindling.platform.rpc.tracing import apart
from kindling.v1 import storage_pb2

PEER: Final = "the storage manager"
EVICTION_REQUESTED: Final = "EVICTION_REQUESTED"
_DEADLINE_SECONDS: Final = 2.0


@dataclass(slots=True)
class Lease:
    """``lease_id`` changes when a broken lease is taken anew; one that ``is_over`` is not."""

    stub: Any
    lease_id: str
    is_over: bool = False
    closed_reason: str = ""

    async def set_parked(self, *, parked: bool) -> None:
        """Say whether the lease may be taken back.

        Raises:
            KindlingError: what the storage manager says, NotFoundError LEASE_UNKNOWN if the lease is over.
        """
        request = storage_pb2.SetLeaseParkedRequest(lease_id=self.lease_id, parked=parked)
        # Parking comes long after the request that needed the lease; unparking is part of the next one's start.
        with remote_errors(PEER), apart() if parked else nullcontext():
            await self.stub.SetLeaseParked(request, timeout=_DEADLINE_SECONDS)
