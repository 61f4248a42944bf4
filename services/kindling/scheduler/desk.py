"""Where requests come for a place: they are granted one at once, or held and kept informed."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from opentelemetry import context as tracing

from kindling.platform.clock import Clock
from kindling.platform.errors import AbortedError, KindlingError
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Grant, Plan, Refusal
from kindling.scheduler.domain.refusals import retold
from kindling.scheduler.domain.values import Instance, LoadProgress, Request


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits, with ``ahead`` others of its model before it."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Starting:
    """An instance is being started for the model."""

    instance: Instance
    progress: LoadProgress | None = None


News = Starting | Grant | KindlingError


class Waiter:
    """A request that is held. Only the latest news is kept; a grant or an error is the last."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.context = tracing.get_current()
        self.final = False
        self._news: News | None = None
        self._arrived = asyncio.Event()

    @property
    def grant(self) -> Grant | None:
        """The grant, once there is one."""
        return self._news if isinstance(self._news, Grant) else None

    def tell(self, news: News) -> None:
        """Replace what is to be told; nothing comes after a grant or an error."""
        if not self.final:
            self.final = not isinstance(news, Starting)
            self._news = news
            self._arrived.set()

    async def next(self) -> Starting | Grant:
        """Return the latest news, or raise it if it is an error."""
        await self._arrived.wait()
        self._arrived.clear()
        assert self._news is not None
        if isinstance(self._news, KindlingError):
            raise self._news
        return self._news


class Desk:
    """Takes requests in, and hands out what the planner decides about them."""

    def __init__(self, planner: Planner, clock: Clock, changes: Changes) -> None:
        self._planner = planner
        self._clock = clock
        self._changes = changes
        self._waiters: dict[str, Waiter] = {}
        self._starting: dict[str, Starting] = {}  # by model, the latest news of a start

    async def acquire(
        self, generation_id: str, model: str, avoid: frozenset[str] = frozenset(), tenant: str = ""
    ) -> AsyncGenerator[Queued | Starting | Grant, None]:
        """Yield progress, then the grant. Closing gives the request up, and the grant too if it was not taken.

        A grant that the generation has on an instance to be avoided is given back; it gets one there again only if
        there is nothing else for it within a moment.
        Raises NOT_FOUND, QUEUE_FULL, QUEUE_TIMEOUT, NO_WORKERS, or the error with which the start failed.
        """
        request = Request(generation_id, model, self._clock.now(), avoid, tenant)
        granted = self._planner.try_grant(request, request.arrived_at)
        if avoid:
            self._changes.note()  # a grant may have been given back
        if granted is not None:
            yield granted
            return
        ahead = self._planner.hold(request, request.arrived_at)
        waiter = self._admit(request)
        taken = False
        try:
            yield Queued(ahead)
            while not isinstance(news := await waiter.next(), Grant):
                yield news
            yield news
            taken = True
        finally:
            self._dismiss(waiter, taken)

    def release(self, generation_id: str) -> None:
        """Take a grant back; unknown ones are ignored."""
        self._planner.release(generation_id, self._clock.now())
        self._changes.note()

    def deliver(self, plan: Plan) -> None:
        """Tell those whom a plan grants or refuses."""
        for grant in plan.grants:
            self._tell(grant.request, grant)
        self.refuse(plan.refusals)

    def refuse(self, refusals: list[Refusal]) -> None:
        """Tell those who are refused."""
        for refusal in refusals:
            self._tell(refusal.request, refusal.error)

    def tell_progress(self, instance: Instance, progress: LoadProgress | None) -> None:
        """Tell everyone who waits for the model how far a start has come."""
        news = self._starting[instance.model] = Starting(instance, progress)
        for request in self._planner.lines.line(instance.model):
            self._tell(request, news)

    def end_progress(self, instance: Instance) -> None:
        """A start is over; those who come later are told nothing of it."""
        news = self._starting.get(instance.model)
        if news is not None and news.instance.instance_id == instance.instance_id:
            del self._starting[instance.model]

    def context_of(self, request: Request | None) -> tracing.Context | None:
        """The trace that a held request belongs to."""
        waiter = self._waiters.get(request.generation_id) if request else None
        return waiter.context if waiter else None

    def close(self, error: KindlingError) -> None:
        """Tell everyone who is still held that nothing more will happen here."""
        for waiter in self._waiters.values():
            waiter.tell(retold(error))

    def _admit(self, request: Request) -> Waiter:
        if (earlier := self._waiters.get(request.generation_id)) is not None:
            earlier.tell(AbortedError("the generation asked again on another call", reason="SUPERSEDED"))
        waiter = self._waiters[request.generation_id] = Waiter(request)
        if (news := self._starting.get(request.model)) is not None:
            waiter.tell(news)
        self._changes.note()
        return waiter

    def _dismiss(self, waiter: Waiter, taken: bool) -> None:
        self._planner.lines.leave(waiter.request)
        if self._waiters.get(waiter.request.generation_id) is waiter:
            del self._waiters[waiter.request.generation_id]
            if waiter.grant is not None and not taken:
                self._planner.release(waiter.request.generation_id, self._clock.now())
        self._changes.note()

    def _tell(self, request: Request, news: News) -> None:
        waiter = self._waiters.get(request.generation_id)
        if waiter is not None and waiter.request is request:
            waiter.tell(news)
