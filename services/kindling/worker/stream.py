"""What a generation has emitted, on its way to the one reader that it has or is to have."""

import asyncio
from collections.abc import Callable
from typing import Final

from opentelemetry import trace

from kindling.platform.errors import FailedPreconditionError, KindlingError
from kindling.worker.changes import Changes
from kindling.worker.domain.generation import Alive, CaughtUp, Finished, GenerationRequest, Migrated, Token
from kindling.worker.span_links import link

Event = Token | Finished | Migrated | Alive
LEAST_GROWTH_TOKENS: Final = 128


class GenerationStream:
    """A generation of an engine as the event loop knows it.

    ``token_ids`` are all that it has emitted, those emitted elsewhere included. ``over`` is set when nothing comes any
    more: it has ended, failed, moved away, or lost its reader. Without a reader what it emits is kept; ``settled`` is
    set when it has got one, or never will. ``span`` is that of the call that reads it, or brought it here.
    ``on_growth`` is called whenever it has half as many tokens again as when it was called last, prompt included, and
    at least 128 more.
    """

    __slots__ = (
        "_caught_up",
        "_changes",
        "_error",
        "_events",
        "_grown_at",
        "_has_spoken",
        "_on_growth",
        "_ready",
        "has_reader",
        "is_moving",
        "is_read_out",
        "over",
        "request",
        "settled",
        "span",
        "token_ids",
    )

    def __init__(
        self, request: GenerationRequest, *, has_reader: bool, on_growth: Callable[[], None] = lambda: None
    ) -> None:
        self.request = request
        self.token_ids = list(request.emitted_token_ids)
        self.span = trace.get_current_span()
        self.has_reader = has_reader
        self.is_moving = False
        self.is_read_out = False
        self.over = asyncio.Event()
        self.settled = asyncio.Event()
        self._events: list[Event] = []
        self._error: KindlingError | None = None
        self._ready = asyncio.Event()
        self._has_spoken = False
        self._caught_up = False
        self._changes = Changes()
        self._on_growth = on_growth
        self._grown_at = _next_growth(self.tokens)

    @property
    def generation_id(self) -> str:
        """The generation's id."""
        return self.request.generation_id

    @property
    def tokens(self) -> int:
        """How many tokens it has, prompt and answer."""
        return len(self.request.prompt_token_ids) + len(self.token_ids)

    # What the engine says.

    def put(self, event: Token | Finished | Migrated | CaughtUp) -> None:
        """Take an event in; nothing comes after the last one."""
        if self.over.is_set():
            return
        if isinstance(event, CaughtUp):
            self._caught_up = event.position == len(self.token_ids)
            self._changes.note()
            return
        if isinstance(event, Token):
            self.token_ids.append(event.token_id)
            if self.tokens >= self._grown_at:
                self._grown_at = _next_growth(self.tokens)
                self._on_growth()
        self._has_spoken = True
        self._events.append(event)
        self._ready.set()
        if not isinstance(event, Token):
            self._end()

    def put_alive(self) -> None:
        """Say that the engine gets on, unless there was something else to say since this was called last."""
        if not self._has_spoken and not self._events and not self.over.is_set():
            self._events.append(Alive(self.generation_id))
            self._ready.set()
        self._has_spoken = False

    def fail(self, error: KindlingError) -> None:
        """Nothing more comes: the reader gets what there is, then the error."""
        if not self.over.is_set():
            self._error = error
            self._ready.set()
            self._end()
        self.settled.set()

    def leave(self) -> None:
        """Nobody reads any more, or ever will."""
        self._end()
        self.settled.set()

    # What a reader does.

    def claim(self) -> None:
        """Become the reader."""
        assert not self.has_reader, "a generation has one reader"
        self.has_reader = True
        received, self.span = self.span, trace.get_current_span()
        link(self.span, received)
        self.settled.set()
        self._changes.note()

    def seek(self, position: int) -> bool:
        """Let reading begin at a position that is not past the last token; False if that cannot be.

        What was emitted elsewhere can be repeated, but not its log-probabilities.
        """
        tokens = [event for event in self._events if isinstance(event, Token)]
        first = tokens[0].position if tokens else len(self.token_ids)
        if position < first and self.request.sampling.top_logprobs is not None:
            return False
        again = [Token(self.generation_id, missing, self.token_ids[missing]) for missing in range(position, first)]
        kept = [event for event in self._events if not isinstance(event, Token) or event.position >= position]
        self._events = [*again, *kept]
        if self._events or self._error is not None:
            self._ready.set()
        else:
            self._ready.clear()
        return True

    async def take(self) -> list[Event]:
        """Wait for events and return all there are; an error comes after the events before it."""
        await self._ready.wait()
        events, self._events = self._events, []
        if not events:
            self.is_read_out = True
            assert self._error is not None, "a stream is ready by an event or an error"
            raise self._error
        self.is_read_out = isinstance(events[-1], Finished | Migrated)
        if self._error is None:
            self._ready.clear()
        return events

    # What a worker does that sends it here.

    def extend(self, token_ids: tuple[int, ...]) -> None:
        """Add tokens emitted elsewhere."""
        self._caught_up = self._caught_up and not token_ids
        self.token_ids += token_ids

    def require_unread(self) -> None:
        """Check that the generation is still to be received.

        Raises:
            FailedPreconditionError: GENERATION_RESUMED, if it was resumed here meanwhile, or GENERATION_ENDED.
            KindlingError: what the engine failed with.
        """
        if self._error is not None:
            raise self._error
        metadata = {"generation_id": self.generation_id}
        if self.has_reader:
            raise FailedPreconditionError(
                f"Generation {self.generation_id!r} has been resumed here already; let it go.",
                reason="GENERATION_RESUMED",
                metadata=metadata,
            )
        if self.over.is_set():
            raise FailedPreconditionError(
                f"Generation {self.generation_id!r} has ended here; send it anew.",
                reason="GENERATION_ENDED",
                metadata=metadata,
            )

    async def caught_up(self) -> int:
        """Return the next token's position as soon as everything is computed; raises what ``require_unread`` does."""
        while True:
            changed = self._changes.upcoming
            self.require_unread()
            if self._caught_up:
                return len(self.token_ids)
            await changed.wait()

    def _end(self) -> None:
        self.over.set()
        self._changes.note()


def _next_growth(tokens: int) -> int:
    return tokens + max(LEAST_GROWTH_TOKENS, tokens // 2)
