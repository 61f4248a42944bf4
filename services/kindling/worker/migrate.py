"""Live migration, the source's side: every generation of an instance moves to another worker, by token ids.

For each, all at once: the target computes what was emitted so far while the source goes on; then the few tokens emitted
meanwhile; and so on until the gap of all is small. Then the source holds the generation after the token under way, and
sends the last tokens; from the target's answer on it goes on there, and its reader is told so. Whatever fails before
that answer, the source goes on as if nothing had been tried.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace

from kindling.platform.clock import Clock
from kindling.platform.errors import DeadlineExceededError, FailedPreconditionError, KindlingError
from kindling.worker.changes import Changes, race, wait_at_most
from kindling.worker.convoy import Convoy
from kindling.worker.domain.migration import MigrationLimits, Moved, Outcome, Stayed
from kindling.worker.engine_loop import EngineLoop
from kindling.worker.migration_ports import Receiver, TargetWorker
from kindling.worker.span_links import link
from kindling.worker.stream import GenerationStream

tracer = trace.get_tracer(__name__)


class Migration:
    """Moves the generations of ``source`` to one instance of the target, which runs the same checkpoint."""

    def __init__(
        self,
        source: EngineLoop,
        target: TargetWorker,
        target_instance_id: str,
        *,
        clock: Clock,
        limits: MigrationLimits,
        report: Callable[[Outcome], None],
    ) -> None:
        self._source = source
        self._target = target
        self._target_instance_id = target_instance_id
        self._clock = clock
        self._limits = limits
        self._report = report
        self._answers = Changes()
        self._tried: set[str] = set()
        self._under_way = 0

    async def run(self) -> None:
        """Move all generations and those that still come; return when none is left but those that could not be moved.

        One that was itself received here is moved when its reader has come. Cancelling leaves here what is not handed
        over yet.
        """
        async with asyncio.TaskGroup() as moves:
            while True:
                changed = self._source.changes.upcoming
                together = [stream for stream in self._untried() if stream.has_reader]
                convoy = Convoy(len(together), self._limits.gap_tokens)
                for stream in together:
                    self._tried.add(stream.generation_id)
                    self._under_way += 1
                    moves.create_task(self._move_or_stay(stream, convoy))
                if not self._under_way and not self._untried():
                    return
                await changed.wait()

    def _untried(self) -> list[GenerationStream]:
        return [stream for stream in self._source.generations if stream.generation_id not in self._tried]

    async def _move_or_stay(self, stream: GenerationStream, convoy: Convoy) -> None:
        try:
            with _moving(stream):
                await race(self._move(stream, convoy), stream.over.wait())
        except KindlingError as error:
            if not stream.over.is_set():
                self._report(Stayed(stream.generation_id, error.reason, error.message))
        finally:
            convoy.leave()
            self._under_way -= 1
            self._source.changes.note()

    async def _move(self, stream: GenerationStream, convoy: Convoy) -> None:
        attributes = {"kindling.generation.id": stream.generation_id}
        with tracer.start_as_current_span("worker.move_generation", attributes=attributes) as span:
            link(span, stream.span)
            link(stream.span, span)
            await self._move_in_rounds(stream, convoy)

    async def _move_in_rounds(self, stream: GenerationStream, convoy: Convoy) -> None:
        """Send rounds until the gap of all in the convoy is small or shrinks no more, then hand over."""
        limits = self._limits
        async with self._target.receive(self._target_instance_id) as receiver:
            began = self._clock.now()
            request = stream.request.going_on_after(stream.token_ids)
            await self._while_answers_come(limits.begin_seconds, receiver.begin(request))
            sent = len(request.emitted_token_ids)
            rounds = [len(request.prompt_token_ids) + sent]
            while await convoy.wants_round(stream, sent):
                gap = tuple(stream.token_ids[sent:])
                await self._while_answers_come(limits.round_seconds, receiver.round(sent, gap))
                sent += len(gap)
                rounds.append(len(gap))
            await self._hand_over(stream, receiver, rounds, began)

    async def _hand_over(self, stream: GenerationStream, receiver: Receiver, rounds: list[int], began: float) -> None:
        """Hold the generation and have the target go on with it, or go on here; nothing if it has ended."""
        sent = sum(rounds) - len(stream.request.prompt_token_ids)
        given_away = False
        try:
            tokens = await self._source.hold(stream)
            if tokens is None:
                return
            held = self._clock.now()
            bound = self._clock.sleep(self._limits.handover_seconds)
            await self._unless_over(bound, receiver.hand_over(sent, tokens[sent:]))
            given_away = self._source.give_away(stream, self._target.address, self._target_instance_id)
        finally:
            if not given_away:
                self._source.release(stream)
        if given_away:
            now = self._clock.now()
            self._report(
                Moved(
                    generation_id=stream.generation_id,
                    position=len(tokens),
                    round_tokens=(*rounds, len(tokens) - sent),
                    sent_bytes=receiver.sent_bytes,
                    seconds=now - began,
                    handover_seconds=now - held,
                )
            )

    async def _while_answers_come(self, seconds: float, answer: Coroutine[Any, Any, None]) -> None:
        """Wait for an answer as long as the target answers anything of this migration at least so often.

        It computes one generation after the other: how long it takes depends on how many move.
        """
        await self._unless_over(self._silence(seconds), answer)
        self._answers.note()

    async def _silence(self, seconds: float) -> None:
        """Return once no answer has come for so long."""
        while await wait_at_most(self._answers.upcoming, self._clock, seconds):
            pass

    async def _unless_over(self, bound: Coroutine[Any, Any, None], answer: Coroutine[Any, Any, None]) -> None:
        if (await race(answer, bound)).cancelled():
            raise DeadlineExceededError(
                f"{self._target.address} was silent for too long; the generation goes on where it was.",
                reason="TARGET_SILENT",
                metadata={"address": self._target.address},
            )


@contextmanager
def _moving(stream: GenerationStream) -> Iterator[None]:
    """Be the only one who moves the generation."""
    if stream.is_moving:
        raise FailedPreconditionError(
            f"Generation {stream.generation_id!r} is being moved already; wait for that.",
            reason="MIGRATION_UNDER_WAY",
            metadata={"generation_id": stream.generation_id},
        )
    stream.is_moving = True
    try:
        yield
    finally:
        stream.is_moving = False
