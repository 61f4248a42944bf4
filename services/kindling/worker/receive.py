"""The target's side of a migration: receives one generation from the worker that runs it."""

from collections.abc import AsyncGenerator, AsyncIterator

from kindling.platform.clock import Clock
from kindling.platform.errors import InvalidArgumentError, KindlingError
from kindling.platform.logging import get_logger
from kindling.worker.changes import wait_at_most
from kindling.worker.domain.generation import CaughtUp
from kindling.worker.domain.migration import Abandon, Handover, Round, TakenOver
from kindling.worker.engine_loop import EngineLoop
from kindling.worker.stream import GenerationStream

log = get_logger(__name__)
Message = Round | Handover | Abandon


async def follow_source(
    loop: EngineLoop, stream: GenerationStream, messages: AsyncIterator[Message]
) -> AsyncGenerator[CaughtUp | TakenOver, None]:
    """Compute what the source has emitted, message by message, and take the generation over when it says so.

    If the source abandons it, or its tokens end it, it is dropped at once. If the messages break off it stays as it is:
    its reader may come here (see ``drop_unclaimed``).

    Raises:
        FailedPreconditionError: GENERATION_RESUMED, if the reader came here already, or GENERATION_ENDED.
        InvalidArgumentError: POSITION_WRONG, TOKEN_ID_INVALID, and what ``Engine.add`` raises.
    """
    yield await _catch_up(loop, stream)
    async for message in messages:
        if isinstance(message, Abandon):
            if not stream.has_reader:
                loop.drop(stream)
            return
        stream.require_unread()
        _require_position(stream, message)
        await loop.extend(stream, message.token_ids, release=isinstance(message, Handover))
        if isinstance(message, Handover):
            yield TakenOver()
            return
        yield await _catch_up(loop, stream)


async def drop_unclaimed(loop: EngineLoop, stream: GenerationStream, clock: Clock, seconds: float) -> None:
    """Drop a generation for which no reader comes within ``seconds``, or never will."""
    await wait_at_most(stream.settled, clock, seconds)
    if not stream.has_reader:
        if not stream.settled.is_set():
            log.info("unclaimed_generation_dropped", generation_id=stream.generation_id, position=len(stream.token_ids))
        loop.drop(stream)


async def _catch_up(loop: EngineLoop, stream: GenerationStream) -> CaughtUp:
    """Wait until everything is computed; nobody needs what ends before the handover: the source tells its reader."""
    try:
        return CaughtUp(stream.generation_id, await stream.caught_up())
    except KindlingError:
        if not stream.has_reader:
            loop.drop(stream)
        raise


def _require_position(stream: GenerationStream, message: Round | Handover) -> None:
    expected = len(stream.token_ids)
    if message.position != expected:
        raise InvalidArgumentError(
            f"Tokens from position {message.position} came where {expected} is next; send the generation anew.",
            reason="POSITION_WRONG",
            metadata={"position": str(message.position), "expected": str(expected)},
            field="position",
        )
