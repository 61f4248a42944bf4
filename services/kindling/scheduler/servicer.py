"""SchedulerService: the wire's face of the desk."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.desk import Queued, Starting
from kindling.scheduler.domain.plans import Grant
from kindling.scheduler.domain.values import LoadProgress
from kindling.scheduler.seat import Seat
from kindling.scheduler.term import Term
from kindling.scheduler.wire import progress_to_wire, tier_to_wire
from kindling.v1 import scheduler_pb2, scheduler_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Answers gateways while this scheduler leads."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    async def Acquire(
        self, request: scheduler_pb2.AcquireRequest, _context: Context
    ) -> AsyncIterator[scheduler_pb2.AcquireResponse]:
        """Stream progress and then the grant."""
        if not request.generation_id:
            raise InvalidArgumentError(
                "generation_id is missing", reason="INVALID_GENERATION_ID", field="generation_id"
            )
        term = await self._seat.term()
        avoid = frozenset(request.avoid_instance_ids)
        if term.prefetching is not None and not avoid:  # else it is a call that was counted before
            term.prefetching.note_call(request.model)
        events = term.desk.acquire(request.generation_id, request.model, avoid, request.tenant)
        async with aclosing(events):
            async for event in events:
                yield _response(term, event)

    async def Release(self, request: scheduler_pb2.ReleaseRequest, _context: Context) -> scheduler_pb2.ReleaseResponse:
        """Take a grant back."""
        term = await self._seat.term()
        term.desk.release(request.generation_id)
        return scheduler_pb2.ReleaseResponse()


def _response(term: Term, event: Queued | Starting | Grant) -> scheduler_pb2.AcquireResponse:
    if isinstance(event, Queued):
        return scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=event.ahead))
    if isinstance(event, Starting):
        return scheduler_pb2.AcquireResponse(starting=_starting(term, event))
    return scheduler_pb2.AcquireResponse(granted=_granted(term, event))


def _starting(term: Term, event: Starting) -> scheduler_pb2.Starting:
    return scheduler_pb2.Starting(
        instance_id=event.instance.instance_id,
        node_id=term.worker(event.instance.worker_id).node_id,
        progress=progress_to_wire(event.progress or LoadProgress(0, 0)),
        estimated_seconds=event.instance.estimated_seconds,
    )


def _granted(term: Term, grant: Grant) -> scheduler_pb2.Granted:
    worker = term.worker(grant.instance.worker_id)
    source = grant.instance.slowest_tier if grant.cold else None
    return scheduler_pb2.Granted(
        instance_id=grant.instance.instance_id,
        worker_address=worker.address,
        node_id=worker.node_id,
        start=scheduler_pb2.START_KIND_COLD if grant.cold else scheduler_pb2.START_KIND_WARM,
        **{"from": tier_to_wire(source)},
    )
