"""The generations of an engine, and the asyncio streams that their tokens come out of."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from kindling.platform.errors import CancelledError, InternalError, KindlingError, UnavailableError
from kindling.worker.changes import Changes
from kindling.worker.domain.generation import GenerationRequest, Migrated, generation_exists
from kindling.worker.domain.stats import EngineStats
from kindling.worker.engine_thread import EngineThread
from kindling.worker.ports import Engine
from kindling.worker.stream import Event, GenerationStream


class EngineLoop:
    """Owns an engine and its thread.

    Made and used on one event loop; ``stopped`` is set once the engine is closed. An engine whose step fails stops for
    good: every open stream raises the error, ``wait_closed`` raises it too, and later calls of ``generate`` raise it
    again. ``close`` closes the engine. ``idle`` is set while there is no generation; ``changes`` tells when one comes,
    gets a reader or goes, and ``on_change`` is called then, and when one has grown by half.
    """

    def __init__(self, engine: Engine, *, name: str = "engine", on_change: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._on_change = on_change
        self._streams: dict[str, GenerationStream] = {}
        self._failure: KindlingError | None = None
        self._closing = False
        self.changes = Changes()
        self.idle = asyncio.Event()
        self.idle.set()
        self.stopped = asyncio.Event()
        self._thread = EngineThread(engine, name=name, on_stopped=self._stop)

    @property
    def context_length(self) -> int:
        """Most tokens that a prompt and its completion may have together."""
        return self._engine.context_length

    @property
    def stats(self) -> EngineStats:
        """The engine's load after its latest step."""
        return self._thread.stats

    @property
    def steps(self) -> int:
        """Steps that the engine has made."""
        return self._thread.steps

    @property
    def kept_engine(self) -> Engine | None:
        """The engine, if it was to be kept open and could be."""
        return self._thread.kept_engine

    @property
    def generation_ids(self) -> tuple[str, ...]:
        """Ids of the generations whose streams are open."""
        return tuple(self._streams)

    @property
    def generations(self) -> tuple[GenerationStream, ...]:
        """Those generations."""
        return tuple(self._streams.values())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[list[Event], None]:
        """Run a generation; each item is the non-empty list of all events since the last, the very last a ``Finished``,
        or a ``Migrated`` if it was given away.

        One that was received and has no reader yet goes on from what is computed: its tokens after the emitted ones
        come, those that are there already at once. Leaving the iteration early (``aclose``, cancellation) cancels the
        generation.

        Raises:
            KindlingError: what ``Engine.add`` raises, or what made the engine fail; UnavailableError ENGINE_CLOSED.
        """
        stream = await self._resume(request) or self._open(request, has_reader=True)
        try:
            while not stream.is_read_out:
                yield await stream.take()
        finally:
            self.drop(stream)

    def receive(self, request: GenerationRequest) -> GenerationStream:
        """Take a generation in that runs elsewhere, held and without a reader; ``GenerationStream.caught_up`` raises
        what ``Engine.add`` does. It replaces one of its id that was received earlier and has no reader.

        Raises:
            AlreadyExistsError: GENERATION_EXISTS.
            KindlingError: what made the engine fail; UnavailableError ENGINE_CLOSED.
        """
        earlier = self._streams.get(request.generation_id)
        if earlier is not None and not earlier.has_reader:
            self.drop(earlier)
        return self._open(request, has_reader=False)

    def drop(self, stream: GenerationStream) -> None:
        """Forget a generation and, if it has not ended, cancel it: nobody reads it any more."""
        if not stream.over.is_set():
            self._thread.cancel(stream)
        stream.leave()
        self._forget(stream)

    def give_away(self, stream: GenerationStream, worker_address: str, instance_id: str) -> bool:
        """Tell a held generation's reader where it goes on, and free what it holds here; False if it is over."""
        if stream.over.is_set():
            return False
        stream.put(Migrated(stream.generation_id, worker_address, instance_id, len(stream.token_ids)))
        self._thread.cancel(stream)
        self._forget(stream)
        return True

    async def hold(self, stream: GenerationStream) -> tuple[int, ...] | None:
        """Hold a generation at the next step boundary; see ``Engine.hold``. Its stream has all it emitted by then."""
        self._require_open()
        return await self._thread.hold(stream)

    async def extend(self, stream: GenerationStream, token_ids: tuple[int, ...], *, release: bool = False) -> None:
        """Add tokens emitted elsewhere to a held generation and, if asked, let it go on; see ``Engine.extend``.

        If it fails the generation can only be dropped.
        """
        self._require_open()
        stream.extend(token_ids)
        await self._thread.extend(stream, token_ids, release=release)

    def release(self, stream: GenerationStream) -> None:
        """Let a held generation go on."""
        self._thread.release(stream)

    def cancel(self, generation_id: str) -> None:
        """End a generation; its stream ends with ``Finished(CANCELLED)``. An unknown id is ended already."""
        if generation_id in self._streams:
            self._thread.cancel(self._streams[generation_id])

    def tell_alive(self) -> None:
        """Tell the readers of silent generations that the engine gets on."""
        for stream in self._streams.values():
            if stream.has_reader:
                stream.put_alive()

    async def close(self, *, keep_engine: bool = False) -> None:
        """Stop after the step under way, close the engine, end open streams with UnavailableError; idempotent.

        A step that waits for weights must have been given up before. Its CancelledError is no failure then. With
        ``keep_engine`` one that did not fail and has no generations is left open, as ``kept_engine``.
        """
        if not self._closing:
            self._closing = True
            self._thread.stop(keep_engine=keep_engine)
        await self.stopped.wait()

    def fail(self, error: KindlingError) -> None:
        """Stop for good as if a step had failed with ``error``; nothing changes if the loop has stopped already."""
        if not self._closing:
            self._failure = error
            self._end_streams()
            self._thread.stop(keep_engine=False)

    async def wait_closed(self) -> None:
        """Return when the loop was closed; raise the error that made it fail if it failed."""
        await self.stopped.wait()
        if self._failure is not None:
            raise self._failure

    async def _resume(self, request: GenerationRequest) -> GenerationStream | None:
        """Become the reader of a generation that was received; None if there is none, or its tokens are others."""
        stream = self._streams.get(request.generation_id)
        if stream is None or stream.has_reader:
            return None
        stream.claim()
        self._note_change()
        agreed = False
        try:
            agreed = await self._agree(stream, request)
        finally:
            if not agreed:
                self.drop(stream)
        return stream if agreed else None

    async def _agree(self, stream: GenerationStream, request: GenerationRequest) -> bool:
        """Bring the generation and its new reader to the same position; False if they have come different ways."""
        emitted = request.emitted_token_ids
        if stream.request.going_on_after(emitted) != request:
            return False
        if len(emitted) > len(stream.token_ids) and await self.hold(stream) is None:
            return False
        known = tuple(stream.token_ids)
        if known[: len(emitted)] != emitted[: len(known)]:
            return False
        if missing := emitted[len(known) :]:
            await self.extend(stream, missing)
        self.release(stream)
        return stream.seek(len(emitted))

    def _open(self, request: GenerationRequest, *, has_reader: bool) -> GenerationStream:
        self._require_open()
        if request.generation_id in self._streams:
            raise generation_exists(request.generation_id)
        stream = GenerationStream(request, has_reader=has_reader, on_growth=self._on_change)
        self._streams[request.generation_id] = stream
        self._thread.add(stream, held=not has_reader)
        self._note_change()
        return stream

    def _forget(self, stream: GenerationStream) -> None:
        if self._streams.get(stream.generation_id) is stream:
            del self._streams[stream.generation_id]
            self._note_change()

    def _note_change(self) -> None:
        if self._streams:
            self.idle.clear()
        else:
            self.idle.set()
        self.changes.note()
        self._on_change()

    def _require_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise _closed_error()

    def _stop(self, cause: BaseException | None) -> None:
        if cause is not None and not (self._closing and isinstance(cause, CancelledError)):
            self._failure = self._failure or _failure(cause)
        self._end_streams()
        self.stopped.set()

    def _end_streams(self) -> None:
        self._closing = True
        error = self._failure or _closed_error()
        self._thread.fail_answers(error)
        for stream in self._streams.values():
            stream.fail(error)


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
