"""Requests to a real cluster, one after the other or as they come, and what their client saw."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc

from kindling.bench.model import Shape, random_prompt
from kindling.platform.rpc.channel import remote_errors
from kindling.simulate.workload import Arrival
from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2

LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A request, by when it really came, with the times from then to its first and its last token."""

    arrival: Arrival
    first_token_seconds: float
    last_token_seconds: float

    @property
    def seconds_per_token(self) -> float:
        """The mean gap between tokens; 0 for an answer of one."""
        gaps = self.arrival.output_tokens - 1
        return (self.last_token_seconds - self.first_token_seconds) / gaps if gaps else 0.0


class Session:
    """Everything that is asked of one cluster; ``answers`` are in the order in which they ended."""

    def __init__(self, channel: grpc.aio.Channel, shape: Shape) -> None:
        self.answers: list[Answer] = []
        self._stub: generation_pb2_grpc.GenerationServiceAsyncStub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._shape = shape
        self._began = time.monotonic()
        self._asked = 0

    @property
    def now(self) -> float:
        """Seconds since its beginning."""
        return time.monotonic() - self._began

    async def ask(self, model: str, prompt_tokens: int, output_tokens: int) -> Answer:
        """Ask, read the whole answer and note it.

        Raises:
            KindlingError: what the cluster answers with.
        """
        self._asked += 1
        prompt = random_prompt(self._shape, prompt_tokens, seed=self._asked)
        arrival = Arrival(self.now, model, prompt_tokens, output_tokens)
        with remote_errors("the gateway"):
            times = [self.now async for _ in self._deltas(arrival, prompt)]
        answer = Answer(arrival, times[0] - arrival.at_seconds, times[-1] - arrival.at_seconds)
        self.answers.append(answer)
        return answer

    async def _deltas(self, arrival: Arrival, prompt: Sequence[int]) -> AsyncIterator[None]:
        sampling = inference_pb2.SamplingParams(max_tokens=arrival.output_tokens, ignore_eos=True)
        tokens = generation_pb2.TokenIds(ids=prompt)
        request = generation_pb2.CompleteRequest(model=arrival.model, token_ids=tokens, sampling=sampling)
        async for event in self._stub.Complete(request, timeout=LONGEST_SECONDS):
            if event.HasField("delta"):
                yield
