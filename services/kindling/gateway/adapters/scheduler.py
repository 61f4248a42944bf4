"""The scheduler, over gRPC."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

import grpc

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.wire import granted_of, is_grant, waiting_of
from kindling.gateway.domain.events import Granted, Queued, Starting
from kindling.gateway.ports import Generation
from kindling.v1 import scheduler_pb2, scheduler_pb2_grpc

RELEASE_SECONDS = 5.0


class GrpcScheduler:
    """Implements :class:`kindling.gateway.ports.Scheduler`."""

    def __init__(self, leader: LeaderClient) -> None:
        self._leader = leader

    async def acquire(
        self, generation: Generation, avoid: frozenset[str]
    ) -> AsyncGenerator[Queued | Starting | Granted, None]:
        """Ask for a place; see the port."""
        request = scheduler_pb2.AcquireRequest(
            generation_id=generation.generation_id,
            model=generation.model,
            prompt_tokens=len(generation.prompt_token_ids),
            max_tokens=generation.sampling.max_tokens or 0,
            avoid_instance_ids=sorted(avoid),
            tenant=generation.tenant,
        )

        def call(channel: grpc.aio.Channel) -> AsyncIterable[scheduler_pb2.AcquireResponse]:
            return scheduler_pb2_grpc.SchedulerServiceStub(channel).Acquire(request)

        async with aclosing(self._leader.stream(call, is_grant)) as answers:
            async for answer in answers:
                yield granted_of(answer.granted) if is_grant(answer) else waiting_of(answer)

    async def release(self, generation_id: str, instance_id: str) -> None:
        """Give a grant back; see the port."""
        request = scheduler_pb2.ReleaseRequest(generation_id=generation_id, instance_id=instance_id)
        await self._leader.unary(
            lambda channel: scheduler_pb2_grpc.SchedulerServiceStub(channel).Release(request, timeout=RELEASE_SECONDS),
            retry_seconds=RELEASE_SECONDS,
        )
