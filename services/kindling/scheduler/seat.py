"""The leader's seat: whom a call is for, and where to go if it is not us."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from kindling.platform.clock import Clock
from kindling.platform.errors import FailedPreconditionError, KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.ports import Election, Leader, Office
from kindling.scheduler.term import Term

log = get_logger(__name__)
_SEATING_SECONDS = 1.0


class Seat:
    """Holds the term while this scheduler leads, and knows the leader while it does not."""

    def __init__(self, begin_term: Callable[[Office], Term], clock: Clock) -> None:
        self._begin_term = begin_term
        self._term: Term | None = None
        self._changes = Changes(clock)
        self._own: Leader | None = None
        self._last_heard: Leader | None = None

    @property
    def leader(self) -> Leader | None:
        """Who leads. The news of an election comes late at times: while we lead, we know better."""
        return self._own or self._last_heard

    @property
    def present_term(self) -> Term | None:
        """The term under way, if this scheduler leads."""
        return self._term

    async def term(self) -> Term:
        """Return the term under way, once it knows the records. Raises NOT_LEADER if there is none."""
        await self._await_seat()
        term = self._term
        if term is not None:
            await term.opened.wait()
        if term is None or term.closed:
            raise self._not_leader()
        return term

    async def _await_seat(self) -> None:
        """Wait a little while nobody is known to lead, or etcd says that we do and our term has yet to begin."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SEATING_SECONDS):
                await self._changes.until(self._is_decided)

    def _is_decided(self) -> bool:
        return self._term is not None or (self._last_heard is not None and not self._last_heard.is_self)

    async def run(self, election: Election) -> None:
        """Campaign, lead, and campaign again after a loss, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_leaders(election))
            while True:
                async with election.campaign() as office:
                    await self._lead(office)

    async def _lead(self, office: Office) -> None:
        self._own = office.leader
        self._term = self._begin_term(office)
        self._changes.note()
        log.info("leadership_won")
        try:
            await _until_lost(self._term, office)
        except* KindlingError as group:
            if not all(_is_loss(error) for error in group.exceptions):
                raise
        finally:
            self._term = self._own = None
            log.info("term_ended")

    async def _follow_leaders(self, election: Election) -> None:
        async for leader in election.leaders():
            self._last_heard = leader
            self._changes.note()

    def _not_leader(self) -> FailedPreconditionError:
        known = {"leader_address": self.leader.address} if self.leader else {}
        hint = f"ask {self.leader.address}" if self.leader else "no leader is known yet; ask again in a moment"
        return FailedPreconditionError(f"this scheduler does not lead; {hint}", reason="NOT_LEADER", metadata=known)


async def _until_lost(term: Term, office: Office) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(term.run())
        await office.lost()
        running.cancel()


def _is_loss(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_loss(inner) for inner in error.exceptions)
    return isinstance(error, KindlingError) and error.reason == "LEADERSHIP_LOST"
