"""Kindling's engine as a worker runs it: behind its port, on a thread of its own, streams on an event loop."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import uvloop

from kindling.bench.engine.generate import Generate
from kindling.bench.engine.workload import Prompts
from kindling.platform.errors import FailedPreconditionError
from kindling.worker.adapters.devices import default_kv_budget
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.engine_loop import EngineLoop


@contextmanager
def our_engine(directory: Path, *, exact: bool) -> Iterator[Generate]:
    """Build the engine with the worker's defaults.

    Raises:
        FailedPreconditionError: EXACT_UNAVAILABLE.
    """
    budget = default_kv_budget(torch.device("cpu"), 1)
    engine = TransformersEngine(DirectoryWeightSource(directory), directory, kv_budget_bytes=budget, exact=exact)
    if exact and not engine.exact:
        raise FailedPreconditionError("the batch-invariant mode does not hold here", reason="EXACT_UNAVAILABLE")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.run(_loop_of(engine))
        try:
            yield lambda prompts, new_tokens: runner.run(_generate(loop, prompts, new_tokens))
        finally:
            runner.run(loop.close())


async def _loop_of(engine: TransformersEngine) -> EngineLoop:
    return EngineLoop(engine)


async def _generate(loop: EngineLoop, prompts: Prompts, new_tokens: int) -> int:
    sampling = SamplingParams(max_tokens=new_tokens, ignore_eos=True)
    requests = [GenerationRequest(str(index), tuple(prompt), sampling) for index, prompt in enumerate(prompts)]
    return sum(await asyncio.gather(*(_stream(loop, request) for request in requests)))


async def _stream(loop: EngineLoop, request: GenerationRequest) -> int:
    return sum([isinstance(event, Token) async for events in loop.generate(request) for event in events])
