"""What the models cost on this machine, measured by a client before anything is foretold."""

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from kindling.bench.predict.bench_cluster import CONCURRENCY
from kindling.bench.predict.options import PredictOptions
from kindling.bench.predict.session import Answer, Session
from kindling.platform.clock import Clock

_SHORT, _LONG = 8, 264  # prompts, in tokens
_ANSWER_TOKENS = 64
_SHORTEST_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Calibration:
    """``base_seconds`` is the time to the first token in a running instance, but for computing the prompt;
    ``seconds_per_token_beside`` is by how much every other generation on the machine, in whichever worker, slows one
    down."""

    base_seconds: float
    prefill_tokens_per_second: float
    seconds_per_token: float
    seconds_per_token_beside: float
    parked_seconds: float

    def startup_seconds(self, answer: Answer) -> float:
        """How much later the first token came than it would have from an instance that was ready and had room."""
        prompt_seconds = answer.arrival.prompt_tokens / self.prefill_tokens_per_second
        return answer.first_token_seconds - self.base_seconds - prompt_seconds


async def calibrate(session: Session, options: PredictOptions, clock: Clock) -> Calibration:
    """Start every model once; then measure the last one running, beside the one before it, and starting parked.

    Figures are medians. One request runs at a time.
    """
    for name in options.names:
        await session.ask(name, _SHORT, 1)
    model = options.names[-1]
    short, long = [], []
    for _ in range(options.repeats):
        short.append(await session.ask(model, _SHORT, _ANSWER_TOKENS))
        long.append(await session.ask(model, _LONG, _ANSWER_TOKENS))
    short_seconds, long_seconds = _first_token(short), _first_token(long)
    prefill_seconds = max(_SHORTEST_SECONDS, long_seconds - short_seconds) / (_LONG - _SHORT)
    base_seconds = short_seconds - _SHORT * prefill_seconds
    alone_seconds = statistics.median(one.seconds_per_token for one in (*short, *long))
    crowded_seconds = statistics.median(one.seconds_per_token for one in await _crowd(session, options.names[-2:]))
    parked = await _parked(session, options, model, clock)
    return Calibration(
        base_seconds=base_seconds,
        prefill_tokens_per_second=1 / prefill_seconds,
        seconds_per_token=alone_seconds,
        seconds_per_token_beside=max(0.0, crowded_seconds - alone_seconds) / (2 * CONCURRENCY - 1),
        parked_seconds=max(0.0, _first_token(parked) - short_seconds),
    )


async def _crowd(session: Session, models: Sequence[str]) -> list[Answer]:
    """Have several models generate all they may at once."""
    async with asyncio.TaskGroup() as asking:
        everybody = [model for model in models for _ in range(CONCURRENCY)]
        tasks = [asking.create_task(session.ask(model, _SHORT, _ANSWER_TOKENS)) for model in everybody]
    return [task.result() for task in tasks]


async def _parked(session: Session, options: PredictOptions, model: str, clock: Clock) -> list[Answer]:
    """Ask for a model that is parked: its keep-alive has been over for as long as it takes to stop it."""
    answers = []
    for _ in range(options.repeats):
        await clock.sleep(options.keep_alive_seconds + 1.0)
        answers.append(await session.ask(model, _SHORT, 1))
    return answers


def _first_token(answers: list[Answer]) -> float:
    return statistics.median(one.first_token_seconds for one in answers)
