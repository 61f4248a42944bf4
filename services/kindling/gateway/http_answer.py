"""Answers over HTTP: whole or as server-sent events, given up when the client goes away."""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kindling.gateway.domain.events import ChoiceEnded, Completed, Delta, Event, Prepared, Queued, Starting
from kindling.gateway.domain.openai_answer import DONE, AnswerFormat, Choice, event_of
from kindling.gateway.domain.openai_error import openai_error
from kindling.gateway.domain.request import AnswerOptions
from kindling.platform.errors import KindlingError

T = TypeVar("T")
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_COMMENT = b": kindling queued\n\n"


class Answer:
    """An ASGI application that sends one answer. An error before the first byte is raised, a later one is sent."""

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        answer_format: AnswerFormat,
        options: AnswerOptions,
        comment_seconds: float,
    ) -> None:
        self._events = events
        self._format = answer_format
        self._options = options
        self._comment_seconds = comment_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or give it up as soon as the client is gone."""
        if self._options.stream:
            await while_connected(receive, self._stream(send))
            return
        body = await while_connected(receive, self._collect())
        if body is not None:
            await Response(body, media_type="application/json")(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        stream = _Stream(self._format, self._options, send, self._comment_seconds)
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    await stream.write(event)
        except KindlingError as error:
            if not stream.begun:
                raise
            await stream.fail(error)

    async def _collect(self) -> bytes:
        choices: dict[int, Choice] = {}
        prompts: tuple[tuple[int, ...], ...] = ()
        async with aclosing(self._events) as events:
            async for event in events:
                if isinstance(event, Delta):
                    choices.setdefault(event.index, Choice(event.index)).add(event)
                elif isinstance(event, ChoiceEnded):
                    choices.setdefault(event.index, Choice(event.index)).reason = event.reason
                elif isinstance(event, Prepared):
                    prompts = event.prompts
                elif isinstance(event, Completed):
                    return self._format.whole([choices[index] for index in sorted(choices)], prompts, event)
        raise AssertionError("an answer ends with Completed")


class _Stream:
    """Events in, chunks out: one ``send`` per event."""

    def __init__(self, answer_format: AnswerFormat, options: AnswerOptions, send: Send, comment_seconds: float) -> None:
        self.begun = False
        self._format = answer_format
        self._options = options
        self._send_message = send
        self._opened: set[int] = set()
        self._comment_seconds = comment_seconds
        self._silent_since = time.monotonic()

    async def write(self, event: Event) -> None:
        """Send what ``event`` is worth to the client."""
        if isinstance(event, Delta):
            if event.text or event.logprobs or self._options.return_token_ids:
                await self._send(self._opening(event.index) + self._format.piece(event))
        elif isinstance(event, ChoiceEnded):
            await self._send(self._opening(event.index) + self._format.ending(event))
        elif isinstance(event, Completed):
            usage = self._format.usage(event) if self._options.include_usage else b""
            await self._send(usage + DONE, more=False)
        elif isinstance(event, Queued | Starting):
            await self._comment()

    async def fail(self, error: KindlingError) -> None:
        """Send ``error`` and end the stream: its status is gone already."""
        await self._send(event_of(openai_error(error).body), more=False)

    async def _comment(self) -> None:
        now = time.monotonic()
        if now - self._silent_since >= self._comment_seconds:
            self._silent_since = now
            await self._send(_COMMENT)

    def _opening(self, index: int) -> bytes:
        if index in self._opened:
            return b""
        self._opened.add(index)
        return self._format.opening(index)

    async def _send(self, body: bytes, *, more: bool = True) -> None:
        if not self.begun:
            self.begun = True
            await self._send_message({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self._send_message({"type": "http.response.body", "body": body, "more_body": more})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of ``work``, or None if the client went away, which cancels it."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            watcher = group.create_task(_cancel_when_gone(receive, task))
            task.add_done_callback(lambda _: watcher.cancel())
    except BaseExceptionGroup as group_error:
        # Only ``work`` can fail.
        raise group_error.exceptions[0] from None
    return None if task.cancelled() else task.result()


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
