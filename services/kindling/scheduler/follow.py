"""Telling a caller how something goes, for as long as this scheduler leads."""

from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from kindling.scheduler.term import Term

T = TypeVar("T")
_REPEAT_SECONDS = 10.0


async def follow(term: Term, look: Callable[[], T], is_over: Callable[[], bool]) -> AsyncGenerator[T, None]:
    """Yield what ``look`` returns, now and whenever that changes, up to and with what it returns once it is over.

    What does not change is told again every ten seconds, so that whoever passes it on knows that the call lives. Raises
    NOT_LEADER when the term ends.
    """
    last, due = None, float("-inf")
    while True:
        ticket = term.changes.ticket()
        term.check_leads()
        seen, over, now = look(), is_over(), term.clock.now()
        if seen != last or now >= due:
            last, due = seen, now + _REPEAT_SECONDS
            yield seen
        if over:
            return
        await term.changes.wait(ticket, due)
