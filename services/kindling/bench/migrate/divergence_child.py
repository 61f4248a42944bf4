"""Computes generations anew in the middle and compares what follows; a process of its own, for torch's sake."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kindling.bench.child import answer_parent
from kindling.bench.migrate.results import Divergence
from kindling.bench.model import Shape, make_model, random_prompt
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(request["threads"])
    return {"generations": [asdict(one) for dtype in request["dtypes"] for one in _compare(request, dtype)]}


def _compare(request: dict[str, Any], dtype: str) -> Iterator[Divergence]:
    directory, shape = Path(request["directory"]) / dtype, Shape(**request["shape"])
    make_model(directory, shape, dtype)
    engine = TransformersEngine(DirectoryWeightSource(directory), directory)
    asked, head = _requests(request, shape), request["head_tokens"]
    whole = _tokens(engine, asked)
    anew = _tokens(engine, [one.going_on_after(whole[one.generation_id][:head]) for one in asked])
    for one in asked:
        same = same_tokens(whole[one.generation_id][head:], anew[one.generation_id])
        yield Divergence(dtype, one.sampling.greedy, same)


def _requests(request: dict[str, Any], shape: Shape) -> list[GenerationRequest]:
    """Half of them greedy, half drawn at temperature 1."""
    most = request["head_tokens"] + request["tail_tokens"]
    return [
        GenerationRequest(
            str(number),
            tuple(random_prompt(shape, request["prompt_tokens"], 200_000 + number)),
            SamplingParams(temperature=float(number % 2), seed=number, max_tokens=most, ignore_eos=True),
        )
        for number in range(request["generations"])
    ]


def _tokens(engine: TransformersEngine, requests: Sequence[GenerationRequest]) -> dict[str, list[int]]:
    """What follows in each, all at once; received as a target does: everything is computed before any goes on."""
    found: dict[str, list[int]] = {one.generation_id: [] for one in requests}
    for one in requests:
        engine.add(one, held=True)
    _run(engine, found)
    for one in requests:
        engine.release(one.generation_id)
    _run(engine, found)
    return found


def _run(engine: TransformersEngine, found: dict[str, list[int]]) -> None:
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Token):
                found[event.generation_id].append(event.token_id)


def same_tokens(undisturbed: Sequence[int], anew: Sequence[int]) -> int | None:
    """How many tokens are the same before the first that differs; None if none does."""
    pairs = enumerate(zip(undisturbed, anew, strict=True))
    return next((index for index, (expected, found) in pairs if expected != found), None)


if __name__ == "__main__":
    answer_parent(_measure)
