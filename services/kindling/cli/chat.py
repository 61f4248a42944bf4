"""`kindling chat`: a conversation in the terminal, streamed as it is made."""

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape
from rich.status import Status

from kindling.cli.client import ClusterClient, connect
from kindling.cli.console import err, out
from kindling.cli.moves import WorkerNames, print_mark
from kindling.cli.parameters import DEFAULT_ADDRESS, Address, ModelName
from kindling.cli.tables import tier_name
from kindling.cli.values import format_seconds
from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import generation_pb2, inference_pb2, scheduler_pb2


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How answers are made."""

    model: str
    system: str
    temperature: float
    max_tokens: int
    seed: int
    trace: bool


def chat(
    name: ModelName,
    message: Annotated[str, typer.Option("--message", "-m", help="Say this once and end.")] = "",
    system: Annotated[str, typer.Option(help="What the model is told before the conversation.")] = "",
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 always takes the likeliest token.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Most tokens in an answer.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Same seed, same answer; 0 draws one.")] = 0,
    trace: Annotated[bool, typer.Option("--trace", help="Mark where an answer goes on on another worker.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Talk to a model. Reads lines from the terminal, or the whole of a pipe as one message."""
    options = ChatOptions(name, system, temperature, max_tokens, seed, trace)
    interactive = not message and sys.stdin.isatty()
    once = "" if interactive else message or _piped()
    # The loop lives as long as the connection and rests at the prompt, where Ctrl-C must reach input() at once.
    with asyncio.Runner() as runner, _connected(runner, address) as client:
        if interactive:
            err.print(f"[dim]talking to {escape(name)}; Ctrl-D ends[/]")
            _talk(runner, client, Conversation(options))
        else:
            runner.run(Conversation(options).say(client, once))


@contextmanager
def _connected(runner: asyncio.Runner, address: str) -> Iterator[ClusterClient]:
    connection = AsyncExitStack()
    client = runner.run(connection.enter_async_context(connect(address)))
    try:
        yield client
    finally:
        runner.run(connection.aclose())


def _talk(runner: asyncio.Runner, client: ClusterClient, conversation: "Conversation") -> None:
    """Answer line after line. Ctrl-C ends an answer, and at the prompt the conversation, as Ctrl-D does."""
    while True:
        try:
            said = input("> ")
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        try:
            if said.strip():
                runner.run(conversation.say(client, said))
        except KeyboardInterrupt:
            out.print()


def _piped() -> str:
    text = sys.stdin.read()
    if not text.strip():
        raise InvalidArgumentError("there is nothing to say; give --message, or pipe a text in", reason="NO_MESSAGE")
    return text


class Conversation:
    """The messages so far; each :meth:`say` adds the user's and the model's."""

    def __init__(self, options: ChatOptions) -> None:
        self._options = options
        self._workers = WorkerNames()
        self._messages = [_message("system", options.system)] if options.system else []

    async def say(self, client: ClusterClient, text: str) -> None:
        """Print the answer to ``text`` as it comes; what came of it is remembered even if it is cut off."""
        self._messages.append(_message("user", text))
        answer: list[str] = []
        try:
            with err.status("waiting for the cluster") as waiting:
                async for event in client.complete(self._request()):
                    if event.HasField("moved"):
                        waiting.stop()
                        print_mark(event.moved, await self._workers.name(client, event.moved.worker_address))
                    else:
                        _show(event, waiting, answer)
        finally:
            self._messages.append(_message("assistant", "".join(answer)))

    def _request(self) -> generation_pb2.CompleteRequest:
        options = self._options
        return generation_pb2.CompleteRequest(
            model=options.model,
            conversation=generation_pb2.Conversation(messages=self._messages),
            sampling=inference_pb2.SamplingParams(
                temperature=options.temperature,
                max_tokens=options.max_tokens,
                seed=options.seed or random.getrandbits(63),
            ),
            trace=options.trace,
        )


def _show(event: generation_pb2.CompleteResponse, waiting: Status, answer: list[str]) -> None:
    match event.WhichOneof("event"):
        case "waiting":
            waiting.update(escape(describe_waiting(event.waiting)))
        case "delta":
            waiting.stop()
            answer.append(event.delta.text)
            out.out(event.delta.text, end="", highlight=False)
            out.file.flush()
        case "finished":
            waiting.stop()
            _summarise(event.finished)


def describe_waiting(event: scheduler_pb2.AcquireResponse) -> str:
    """Return what a request waits for: a place in the queue, or a model that is `loading 37 %`."""
    match event.WhichOneof("event"):
        case "queued":
            return f"queued, {event.queued.ahead} ahead"
        case "starting":
            return _describe_start(event.starting)
        case "granted":
            return "running"
        case _:
            return "waiting for the cluster"


def _describe_start(starting: scheduler_pb2.Starting) -> str:
    progress = starting.progress
    if not progress.total_bytes:
        return f"starting on {starting.node_id}"
    percent = 100 * progress.loaded_bytes // progress.total_bytes
    return f"loading {percent} % from {tier_name(getattr(progress, 'from'))} on {starting.node_id}"


def _message(role: str, content: str) -> generation_pb2.ChatMessage:
    return generation_pb2.ChatMessage(role=role, content=content)


def _summarise(finished: generation_pb2.CompleteFinished) -> None:
    out.print()
    start = "cold" if finished.start == scheduler_pb2.START_KIND_COLD else "warm"
    first = format_seconds(finished.first_token_seconds)
    err.print(f"[dim]{finished.completion_tokens} tokens, first after {first} ({start} start)[/]")
