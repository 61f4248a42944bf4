"""The thread on which an engine runs, and the asyncio streams that its tokens come out of."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue

from kindling.platform.errors import AlreadyExistsError, CancelledError, InternalError, KindlingError, UnavailableError
from kindling.worker.domain.generation import Finished, GenerationRequest, Token
from kindling.worker.domain.stats import EngineStats
from kindling.worker.ports import Engine

Event = Token | Finished
Command = Callable[[], bool]


class EngineLoop:
    """Owns an engine and the one thread that may touch it.

    Made and used on one event loop; ``stopped`` is set once the engine is closed. An engine whose step fails stops for
    good: every open stream raises the error, ``wait_closed`` raises it too, and later calls of ``generate`` raise it
    again. ``close`` closes the engine.
    """

    def __init__(self, engine: Engine, *, name: str = "engine") -> None:
        self._engine = engine
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._streams: dict[str, _Stream] = {}
        self._readers: dict[str, _Stream] = {}  # the same, as the engine's thread knows them
        self._failure: KindlingError | None = None
        self._closing = False
        self._keep_engine = False
        self.kept_engine: Engine | None = None
        self._stats = engine.stats
        self._event_loop = asyncio.get_running_loop()
        self.stopped = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._thread: Future[None] = self._executor.submit(self._run)
        self._thread.add_done_callback(self._post_stopped)

    @property
    def context_length(self) -> int:
        """Most tokens that a prompt and its completion may have together."""
        return self._engine.context_length

    @property
    def stats(self) -> EngineStats:
        """The engine's load after its latest step."""
        return self._stats

    @property
    def generation_ids(self) -> tuple[str, ...]:
        """Ids of the generations whose streams are open."""
        return tuple(self._streams)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[list[Event], None]:
        """Run a generation; each item is the non-empty list of all events since the last, the very last a ``Finished``.

        Leaving the iteration early (``aclose``, cancellation) cancels the generation.

        Raises:
            KindlingError: what ``Engine.add`` raises, or what made the engine fail; UnavailableError ENGINE_CLOSED.
        """
        stream = self._open(request)
        try:
            while not stream.ended:
                yield await stream.take()
        finally:
            del self._streams[request.generation_id]
            if not stream.ended:
                self.cancel(request.generation_id)

    def cancel(self, generation_id: str) -> None:
        """End a generation; its stream ends with ``Finished(CANCELLED)``. An unknown id is ended already."""
        self._inbox.put(functools.partial(self._cancel, generation_id))

    async def close(self, *, keep_engine: bool = False) -> None:
        """Stop after the step under way, close the engine, end open streams with UnavailableError; idempotent.

        A step that waits for weights must have been given up before. Its CancelledError is no failure then. With
        ``keep_engine`` one that did not fail and has nothing to do is left open, as ``kept_engine``.
        """
        if not self._closing:
            self._closing = True
            self._keep_engine = keep_engine
            self._inbox.put(_stop)
        await self.stopped.wait()

    def fail(self, error: KindlingError) -> None:
        """Stop for good as if a step had failed with ``error``; nothing changes if the loop has stopped already."""
        if not self._closing:
            self._failure = error
            self._end_streams()
            self._inbox.put(_stop)

    async def wait_closed(self) -> None:
        """Return when the loop was closed; raise the error that made it fail if it failed."""
        await self.stopped.wait()
        if self._failure is not None:
            raise self._failure

    def _open(self, request: GenerationRequest) -> "_Stream":
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise _closed_error()
        if request.generation_id in self._streams:
            raise AlreadyExistsError(
                f"Generation {request.generation_id!r} is running already; choose another id.",
                reason="GENERATION_EXISTS",
                metadata={"generation_id": request.generation_id},
            )
        stream = self._streams[request.generation_id] = _Stream()
        self._inbox.put(functools.partial(self._add, request, stream))
        return stream

    # On the engine's thread.

    def _run(self) -> None:
        try:
            while self._obey():
                self._publish(self._engine.step())
            if self._keep_engine and not self._engine.has_work:
                self.kept_engine = self._engine
        finally:
            if self.kept_engine is None:
                self._engine.close()

    def _obey(self) -> bool:
        """Carry out all commands, waiting for one while there is no work; False if one of them says to stop."""
        while True:
            try:
                command = self._inbox.get(block=not self._engine.has_work)
            except Empty:
                return True
            if not command():
                return False

    def _add(self, request: GenerationRequest, stream: "_Stream") -> bool:
        try:
            self._engine.add(request)
        except KindlingError as error:
            self._event_loop.call_soon_threadsafe(stream.fail, error)
        else:
            self._readers[request.generation_id] = stream
        return True

    def _cancel(self, generation_id: str) -> bool:
        finished = self._engine.cancel(generation_id)
        if finished is not None:
            self._publish([finished])
        return True

    def _publish(self, events: list[Event]) -> None:
        """Hand a step's events over in one call; an id may be used anew, so each goes to the stream that asked."""
        deliveries = [(self._readers[event.generation_id], event) for event in events]
        for event in events:
            if isinstance(event, Finished):
                del self._readers[event.generation_id]
        self._event_loop.call_soon_threadsafe(self._deliver, deliveries, self._engine.stats)

    def _post_stopped(self, thread: Future[None]) -> None:
        self._event_loop.call_soon_threadsafe(self._stop, thread.exception())

    # On the event loop.

    def _deliver(self, deliveries: list[tuple["_Stream", Event]], stats: EngineStats) -> None:
        self._stats = stats
        for stream, event in deliveries:
            stream.put(event)

    def _stop(self, cause: BaseException | None) -> None:
        if cause is not None and not (self._closing and isinstance(cause, CancelledError)):
            self._failure = self._failure or _failure(cause)
        self._executor.shutdown(wait=False)
        self._end_streams()
        self.stopped.set()

    def _end_streams(self) -> None:
        self._closing = True
        for stream in self._streams.values():
            stream.fail(self._failure or _closed_error())


class _Stream:
    """Events of one generation on their way to its reader."""

    __slots__ = ("_error", "_events", "_ready", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._events: list[Event] = []
        self._error: KindlingError | None = None
        self._ready = asyncio.Event()

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._ready.set()

    def fail(self, error: KindlingError) -> None:
        self._error = error
        self._ready.set()

    async def take(self) -> list[Event]:
        """Wait for events and return all there are; an error comes after the events before it."""
        await self._ready.wait()
        events, self._events = self._events, []
        if not events:
            self.ended = True
            assert self._error is not None, "a stream is ready by an event or an error"
            raise self._error
        self.ended = isinstance(events[-1], Finished)
        if self._error is None:
            self._ready.clear()
        return events


def _stop() -> bool:
    return False


def _failure(cause: BaseException) -> KindlingError:
    if isinstance(cause, KindlingError):
        return cause
    error = InternalError(
        f"The engine failed ({type(cause).__name__}: {cause}); the instance must be started anew.",
        reason="ENGINE_FAILED",
        metadata={"cause": type(cause).__name__},
    )
    error.__cause__ = cause
    return error


def _closed_error() -> UnavailableError:
    return UnavailableError(
        "The instance is stopping; send the request to another one.", reason="ENGINE_CLOSED", retry_after_seconds=0.1
    )
