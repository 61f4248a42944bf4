"""What people ask to be changed: models, drains and quotas.

Each change is recorded first and then entered into the view, wholly, even if whoever asked for it goes away meanwhile;
one after the other, so that each finds the records and the view say the same.
"""

import asyncio
from collections.abc import Awaitable, Callable

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.answers import Answer, Answers
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.quotas import Quota, TenantQuota
from kindling.scheduler.domain.values import Drain, Model, Retirement
from kindling.scheduler.ports import Closing, Store
from kindling.scheduler.retirements import Retirements


class Mutations:
    """The changes of one term. Calls raise NOT_LEADER if it ends before the change is known to be done.

    ``check_leads`` raises that once the term is over.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        retirements: Retirements,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        changes: Changes,
        check_leads: Callable[[], None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._view = planner.view
        self._retirements = retirements
        self._tasks = tasks
        self._clock = clock
        self._changes = changes
        self._check_leads = check_leads
        self._turn = asyncio.Lock()
        self.answers = Answers()

    async def put_model(self, model: Model, request_id: str) -> None:
        """Record a model and have requests to come go to it."""
        answer = Answer(request_id, model.name, model, self._clock.wall())
        await self._see_through(lambda: self._put_model(model, answer))

    async def _put_model(self, model: Model, answer: Answer) -> None:
        await self._store.put_model(model, self._closing(answer))
        self._remember(answer)
        self._retirements.spare(model.checkpoint.digest)
        self._view.models[model.name] = model
        self._planner.troubles.clear(model.name)

    async def delete_model(self, model: Model, request_id: str) -> None:
        """Forget a model; its instances end once their generations are done, and its checkpoint, if no other has it."""
        answer = Answer(request_id, model.name, None, self._clock.wall())
        await self._see_through(lambda: self._delete_model(model, answer))

    async def _delete_model(self, model: Model, answer: Answer) -> None:
        retirement = None if self._is_shared(model) else Retirement(model.checkpoint.digest)
        await self._store.delete_model(model.name, retirement, self._closing(answer))
        self._remember(answer)
        self._view.models.pop(model.name, None)
        self._planner.troubles.clear(model.name)
        if retirement is not None:
            self.retire(retirement)

    def _is_shared(self, model: Model) -> bool:
        others = (other for other in self._view.models.values() if other.name != model.name)
        return any(other.checkpoint.digest == model.checkpoint.digest for other in others)

    def retire(self, retirement: Retirement) -> None:
        """Begin, or carry on, a retirement that is recorded."""
        if self._retirements.enter(retirement.digest):
            self._tasks.create_task(self._retirements.see_through(retirement.digest))

    def _closing(self, answer: Answer) -> Closing | None:
        """What is recorded so that the answer is remembered; nothing if the client gave its request no id."""
        return Closing(answer, tuple(self.answers.surplus())) if answer.request_id else None

    def _remember(self, answer: Answer) -> None:
        if answer.request_id:
            self.answers.add(answer)

    async def drain(self, node_id: str) -> None:
        """Start nothing on a node any more, and have everything there move away."""
        await self._see_through(lambda: self._drain(node_id))

    async def _drain(self, node_id: str) -> None:
        await self._store.put_drain(Drain(node_id))
        self._view.drained.add(node_id)

    async def undrain(self, node_id: str) -> None:
        """Let a node serve again."""
        await self._see_through(lambda: self._undrain(node_id))

    async def _undrain(self, node_id: str) -> None:
        await self._store.delete_drain(node_id)
        self._view.drained.discard(node_id)

    async def change_quota(self, tenant: str, change: Callable[[Quota], Quota]) -> Quota:
        """Change a tenant's own quota, or give it one that began without bounds; returns it as it is then."""
        await self._see_through(lambda: self._change_quota(tenant, change))
        return self._view.quotas.of(tenant)

    async def _change_quota(self, tenant: str, change: Callable[[Quota], Quota]) -> None:
        changed = TenantQuota(tenant, change(self._view.quotas.own(tenant) or Quota()))
        await self._store.put_quota(changed)
        self._view.quotas.put(changed)

    async def remove_quota(self, tenant: str) -> None:
        """Forget a tenant's own quota."""
        await self._see_through(lambda: self._remove_quota(tenant))

    async def _remove_quota(self, tenant: str) -> None:
        await self._store.delete_quota(tenant)
        self._view.quotas.remove(tenant)

    async def _see_through(self, work: Callable[[], Awaitable[None]]) -> None:
        ends: list[KindlingError | None] = []

        def has_ended() -> bool:
            self._check_leads()
            return bool(ends)

        self._check_leads()
        self._tasks.create_task(self._note_end(work, ends))
        await self._changes.until(has_ended)
        if (error := ends[0]) is not None:
            raise error

    async def _note_end(self, work: Callable[[], Awaitable[None]], ends: list[KindlingError | None]) -> None:
        try:
            async with self._turn:
                await work()
            ends.append(None)
        except KindlingError as error:
            ends.append(error)
        self._changes.note()
