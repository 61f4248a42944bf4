"""The one thread that may touch an engine: it makes the steps, and obeys commands between them."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

from kindling.platform.errors import KindlingError
from kindling.worker.domain.generation import CaughtUp, Finished
from kindling.worker.domain.stats import EngineStats
from kindling.worker.ports import Engine, StepEvent
from kindling.worker.stream import GenerationStream

COMPANION_SECONDS = 0.01
"""How long a step waits, after a handover, for the next if one may come: else that would wait for the whole step."""

Command = Callable[[], bool]
T = TypeVar("T")


class EngineThread:
    """Steps an engine as long as there is work; made and used on one event loop, where streams get their events.

    Commands are obeyed in order, each at a step boundary, and concern the generation of the stream that they name, not
    a later one of the same id. ``on_stopped`` is called on the event loop once the engine is closed (or kept), with
    what made it fail, if anything did. ``steps`` counts the steps.
    """

    def __init__(self, engine: Engine, *, name: str, on_stopped: Callable[[BaseException | None], None]) -> None:
        self._engine = engine
        self._on_stopped = on_stopped
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._streams: dict[str, GenerationStream] = {}
        self._answers: set[asyncio.Future[object]] = set()
        self._keep_engine = False
        self._was_handed_over = False
        self._caught_up: set[str] = set()  # generations that a handover may come for at any moment
        self.kept_engine: Engine | None = None
        self.stats = engine.stats
        self.steps = 0
        self._event_loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread: Future[None] = self._executor.submit(self._run)
        self._thread.add_done_callback(self._post_stopped)

    def add(self, stream: GenerationStream, *, held: bool) -> None:
        """Take the stream's generation in; the stream fails with what ``Engine.add`` raises."""
        self._inbox.put(functools.partial(self._add, stream, held=held))

    def cancel(self, stream: GenerationStream) -> None:
        """End a generation; its stream gets a ``Finished``."""
        self._inbox.put(functools.partial(self._cancel, stream))

    def release(self, stream: GenerationStream) -> None:
        """Let a held generation go on."""
        self._inbox.put(functools.partial(self._release, stream))

    async def hold(self, stream: GenerationStream) -> tuple[int, ...] | None:
        """Hold a generation; see ``Engine.hold``. Its stream has everything before by then."""
        return await self._ask(lambda: self._engine.hold(stream.generation_id) if self._runs(stream) else None)

    async def extend(self, stream: GenerationStream, token_ids: tuple[int, ...], *, release: bool) -> None:
        """Extend a held generation and, if asked, release it; see ``Engine.extend``."""
        await self._ask(functools.partial(self._extend, stream, token_ids, release=release))

    def stop(self, *, keep_engine: bool) -> None:
        """Stop after the step under way; with ``keep_engine`` an engine without generations is not closed."""
        self._keep_engine = keep_engine
        self._inbox.put(_stop)

    def fail_answers(self, error: KindlingError) -> None:
        """Whoever waits for an answer that may never come gets ``error``."""
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)

    async def _ask(self, question: Callable[[], T]) -> T:
        """Have the thread answer between two steps."""
        answer: asyncio.Future[T] = self._event_loop.create_future()
        waiting: set[asyncio.Future[T]] = self._answers  # type: ignore[assignment]
        waiting.add(answer)
        try:
            self._inbox.put(functools.partial(self._answer, question, answer))
            return await answer
        finally:
            waiting.discard(answer)

    # On the thread.

    def _run(self) -> None:
        try:
            while self._obey():
                events = self._engine.step()
                self.steps += 1
                self._publish(events)
            if self._keep_engine and not self._streams and not self._engine.has_work:
                self.kept_engine = self._engine
        finally:
            if self.kept_engine is None:
                self._engine.close()

    def _obey(self) -> bool:
        """Carry out all commands, waiting for one while there is no work; False if one of them says to stop."""
        while True:
            try:
                command = self._next_command()
            except Empty:
                return True
            if not command():
                return False

    def _next_command(self) -> Command:
        """Wait for a command while there is no work, and for a moment for companions of what was handed over; Empty if
        none comes."""
        companions, self._was_handed_over = self._was_handed_over and bool(self._caught_up), False
        if not self._engine.has_work:
            return self._inbox.get()
        return self._inbox.get(timeout=COMPANION_SECONDS) if companions else self._inbox.get(block=False)

    def _runs(self, stream: GenerationStream) -> bool:
        return self._streams.get(stream.generation_id) is stream

    def _add(self, stream: GenerationStream, *, held: bool) -> bool:
        try:
            self._engine.add(stream.request, held=held)
        except KindlingError as error:
            self._event_loop.call_soon_threadsafe(stream.fail, error)
        else:
            self._streams[stream.generation_id] = stream
        return True

    def _cancel(self, stream: GenerationStream) -> bool:
        finished = self._engine.cancel(stream.generation_id) if self._runs(stream) else None
        if finished is not None:
            self._publish([finished])
        return True

    def _release(self, stream: GenerationStream) -> bool:
        if self._runs(stream):
            self._caught_up.discard(stream.generation_id)
            self._engine.release(stream.generation_id)
        return True

    def _extend(self, stream: GenerationStream, token_ids: tuple[int, ...], *, release: bool) -> None:
        if self._runs(stream):
            self._caught_up.discard(stream.generation_id)
            self._engine.extend(stream.generation_id, token_ids)
        if release:
            self._release(stream)
            self._was_handed_over = True

    def _answer(self, question: Callable[[], T], answer: asyncio.Future[T]) -> bool:
        try:
            result = question()
        except KindlingError as error:
            self._event_loop.call_soon_threadsafe(_settle, answer, functools.partial(answer.set_exception, error))
        else:
            self._event_loop.call_soon_threadsafe(_settle, answer, functools.partial(answer.set_result, result))
        return True

    def _publish(self, events: list[StepEvent]) -> None:
        """Hand a step's events over in one call; an id may be used anew, so each goes to the stream that asked."""
        deliveries = [(self._streams[event.generation_id], event) for event in events]
        for event in events:
            if isinstance(event, CaughtUp):
                self._caught_up.add(event.generation_id)
            elif isinstance(event, Finished):
                self._caught_up.discard(event.generation_id)
                del self._streams[event.generation_id]
        self._event_loop.call_soon_threadsafe(self._deliver, deliveries, self._engine.stats)

    def _post_stopped(self, thread: Future[None]) -> None:
        self._event_loop.call_soon_threadsafe(self._stopped, thread.exception())

    # On the event loop.

    def _deliver(self, deliveries: list[tuple[GenerationStream, StepEvent]], stats: EngineStats) -> None:
        self.stats = stats
        for stream, event in deliveries:
            stream.put(event)

    def _stopped(self, cause: BaseException | None) -> None:
        self._executor.shutdown(wait=False)
        self._on_stopped(cause)


def _settle(answer: "asyncio.Future[T]", set_outcome: Callable[[], None]) -> None:
    if not answer.done():
        set_outcome()


def _stop() -> bool:
    return False
