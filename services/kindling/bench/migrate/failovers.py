"""Workers are killed under streams."""

import time

from kindling.bench.migrate.bench_cluster import BenchCluster
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Failover, Results
from kindling.bench.migrate.stream import Answer
from kindling.bench.model import CONTEXT_LENGTH, random_prompt


async def measure_failovers(cluster: BenchCluster, options: MigrateOptions, results: Results) -> None:
    """Kill the worker of a stream, several times; it is back, with its instance, before the next."""
    for number in range(options.failovers):
        length, seed = options.failover_prompt, 90_000 + number
        prompt = random_prompt(options.shape, length, seed)
        async with cluster.client.streams([prompt], CONTEXT_LENGTH - length, seed) as (stream,):
            await stream.wait_tokens(options.head_tokens)
            home = await cluster.home()
            # The killed one starts again on its own core, so that it takes nothing from the other one.
            with cluster.cores.born_on_core_of(home):
                killed_at = time.monotonic()
                cluster.kill(home)
                await stream.wait_more(options.head_tokens)
                answer = stream.answer
                await cluster.wait_whole()
        position, gap = gap_after(answer, killed_at)
        known = [*prompt, *answer.token_ids[:position]]
        prefill = min([await _first_token_seconds(cluster, known) for _ in range(options.repeats)])
        results.failovers.append(Failover(gap, prefill))
        undisturbed = await cluster.client.whole(prompt, len(answer.token_ids), seed)
        results.compare("streams that lost their worker", answer, undisturbed)


def gap_after(answer: Answer, moment: float) -> tuple[int, float]:
    """The longest gap that ends after a moment, and the position of the token that ends it."""
    ends = [index for index in range(1, len(answer.times)) if answer.times[index] >= moment]
    position = max(ends, key=lambda index: answer.times[index] - answer.times[index - 1])
    return position, answer.times[position] - answer.times[position - 1]


async def _first_token_seconds(cluster: BenchCluster, prompt: list[int]) -> float:
    answer = await cluster.client.whole(prompt, 1)
    return answer.times[0] - answer.asked_at
