"""How much slower streams at the source are while the target computes what they have emitted.

Two workers on one machine share its memory's bandwidth, whatever they do; so the same is measured while the target
computes prompts of the same length that have nothing to do with the source.
"""

import asyncio
import statistics
import time

from kindling.bench.migrate.bench_cluster import BenchCluster
from kindling.bench.migrate.load import gather, undisturbed_runs
from kindling.bench.migrate.moves import migrated_of
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Results
from kindling.bench.migrate.stream import Answer, Stream, all_more
from kindling.bench.model import CONTEXT_LENGTH, random_prompt


async def measure_bystanders(cluster: BenchCluster, options: MigrateOptions, results: Results) -> None:
    """Compare gaps during rounds with those before, several times."""
    for number in range(options.repeats):
        length, first_seed = options.bystander_prompt, 50_000 + number * options.streams
        prompts = [random_prompt(options.shape, length, first_seed + stream) for stream in range(options.streams)]
        async with cluster.client.streams(prompts, CONTEXT_LENGTH - length, first_seed) as streams:
            source = await gather(cluster, streams, options.head_tokens)
            results.busy_slowdowns += await _while_busy(cluster, streams, cluster.other(source), options.head_tokens)
            await all_more(streams, options.head_tokens)
            results.slowdowns += await _while_moving(cluster, streams, source, options)
            await all_more(streams, options.tail_tokens)
        answers = [stream.answer for stream in streams]
        for answer, undisturbed in zip(answers, await undisturbed_runs(cluster, answers), strict=True):
            results.compare("bystanders", answer, undisturbed)


async def _while_busy(cluster: BenchCluster, streams: list[Stream], worker: str, tokens_before: int) -> list[float]:
    began = time.monotonic()
    prompts = [tuple(reversed(stream.answer.prompt)) for stream in streams]
    await asyncio.gather(*(cluster.compute(worker, prompt) for prompt in prompts))
    ended = time.monotonic()
    return [gap for stream in streams for gap in slowdowns(stream.answer, began, ended, tokens_before)]


async def _while_moving(
    cluster: BenchCluster, streams: list[Stream], source: str, options: MigrateOptions
) -> list[float]:
    moves = [len(stream.answer.migrations) + 1 for stream in streams]
    began = time.monotonic()
    for _ in migrated_of(await cluster.move(source), options.shape, options.bystander_prompt):
        pass
    for stream, count in zip(streams, moves, strict=True):
        await stream.wait_moves(count)
    found: list[float] = []
    for stream in streams:
        handover = stream.answer.times[stream.answer.migrations[-1].position - 1]
        found += slowdowns(stream.answer, began, handover, options.head_tokens)
    return found


def slowdowns(answer: Answer, began: float, ended: float, tokens_before: int) -> list[float]:
    """The gaps of an interval, each over the median of ``tokens_before`` gaps before it."""
    before = answer.gaps_within(0.0, began)[-tokens_before:]
    typical = statistics.median(before) if before else 0.0
    return [gap / typical for gap in answer.gaps_within(began, ended)] if typical else []
