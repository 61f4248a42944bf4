"""A client that reads an answer and remembers what came when."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from kindling.bench.migrate.options import MODEL
from kindling.platform.error_groups import first_error
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2

LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Move:
    """The token at ``position`` and those after it come from another worker."""

    position: int
    kind: "generation_pb2.MoveKind.ValueType"
    worker_address: str


@dataclass(slots=True)
class Answer:
    """What a client has seen: tokens, the moment at which each came (monotonic seconds), moves. Grows while it is read.

    Draws are seeded at a temperature that leaves everything to chance, so that a token lost or repeated changes all
    that follows.
    """

    prompt: tuple[int, ...]
    seed: int
    asked_at: float
    token_ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    @property
    def gaps(self) -> list[float]:
        """Seconds between each token and the one before."""
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]

    @property
    def migrations(self) -> list[Move]:
        """The moves that were migrations and after which more came."""
        migrated = generation_pb2.MOVE_KIND_MIGRATED
        return [move for move in self.moves if move.kind == migrated and 0 < move.position < len(self.times)]

    def pause(self, move: Move) -> float:
        """Seconds between the last token before a move and the first after it."""
        return self.times[move.position] - self.times[move.position - 1]

    def gaps_within(self, begins: float, ends: float) -> list[float]:
        """The gaps that lie within an interval."""
        pairs = itertools.pairwise(self.times)
        return [later - earlier for earlier, later in pairs if begins <= earlier and later <= ends]


class Stream:
    """An answer that is being read."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._grown = asyncio.Condition()
        self._over = False

    async def wait_tokens(self, count: int) -> None:
        """Return once so many tokens have come.

        Raises:
            FailedPreconditionError: STREAM_ENDED, if the answer ends before.
        """
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.answer.token_ids) >= count or self._over)
        if len(self.answer.token_ids) < count:
            raise FailedPreconditionError(
                f"an answer ended after {len(self.answer.token_ids)} tokens where {count} were awaited",
                reason="STREAM_ENDED",
            )

    async def wait_more(self, count: int) -> None:
        """Return once so many tokens more have come."""
        await self.wait_tokens(len(self.answer.token_ids) + count)

    async def wait_moves(self, count: int) -> None:
        """Return once the answer has gone on in so many other places."""
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.answer.migrations) >= count or self._over)

    async def read(self, events: AsyncIterator[generation_pb2.CompleteResponse]) -> None:
        """Read to the end."""
        try:
            with remote_errors("the gateway"):
                async for event in events:
                    await self._take(event, time.monotonic())
        finally:
            async with self._grown:
                self._over = True
                self._grown.notify_all()

    async def _take(self, event: generation_pb2.CompleteResponse, now: float) -> None:
        if event.HasField("moved"):
            self.answer.moves.append(Move(event.moved.position, event.moved.kind, event.moved.worker_address))
        if event.HasField("delta"):
            self.answer.token_ids += event.delta.token_ids
            self.answer.times += [now] * len(event.delta.token_ids)
            async with self._grown:
                self._grown.notify_all()


async def all_more(streams: Sequence[Stream], count: int) -> None:
    """Return once so many tokens more have come of each."""
    await asyncio.gather(*(stream.wait_more(count) for stream in streams))


class Client:
    """Asks a gateway for answers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: generation_pb2_grpc.GenerationServiceAsyncStub = generation_pb2_grpc.GenerationServiceStub(channel)

    @asynccontextmanager
    async def streams(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, first_seed: int = 1
    ) -> AsyncIterator[list[Stream]]:
        """Read an answer to each prompt, all at once; those that have not ended with the block are hung up on."""
        now = time.monotonic()
        answers = [Answer(tuple(prompt), first_seed + number, now) for number, prompt in enumerate(prompts)]
        streams = [Stream(answer) for answer in answers]
        try:
            async with asyncio.TaskGroup() as readers:
                reading = [readers.create_task(stream.read(self._ask(stream.answer, max_tokens))) for stream in streams]
                yield streams
                for reader in reading:
                    reader.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from None

    async def whole(self, prompt: Sequence[int], max_tokens: int, seed: int = 1) -> Answer:
        """Return a whole answer."""
        stream = Stream(Answer(tuple(prompt), seed, time.monotonic()))
        await stream.read(self._ask(stream.answer, max_tokens))
        return stream.answer

    async def _ask(self, answer: Answer, max_tokens: int) -> AsyncIterator[generation_pb2.CompleteResponse]:
        sampling = inference_pb2.SamplingParams(
            temperature=1.0, seed=answer.seed, max_tokens=max_tokens, ignore_eos=True
        )
        request = generation_pb2.CompleteRequest(
            model=MODEL, token_ids=generation_pb2.TokenIds(ids=answer.prompt), sampling=sampling, trace=True
        )
        call = self._stub.Complete(request, timeout=LONGEST_SECONDS)
        try:
            async for event in call:
                yield event
        finally:
            call.cancel()
