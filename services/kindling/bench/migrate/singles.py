"""One stream at a time moves, with prompts of several lengths."""

import statistics

from kindling.bench.migrate.bench_cluster import BenchCluster
from kindling.bench.migrate.moves import migrated_of
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Results, Single
from kindling.bench.model import CONTEXT_LENGTH, random_prompt


async def measure_singles(cluster: BenchCluster, options: MigrateOptions, results: Results) -> None:
    """Move streams of every length, in turns."""
    for number in range(options.repeats):
        for length in options.prompt_lengths:
            await _move_one(cluster, options, results, length, seed=1000 * number + length)


async def _move_one(cluster: BenchCluster, options: MigrateOptions, results: Results, length: int, seed: int) -> None:
    prompt = random_prompt(options.shape, length, seed)
    async with cluster.client.streams([prompt], CONTEXT_LENGTH - length, first_seed=seed) as (stream,):
        await stream.wait_tokens(options.head_tokens)
        outcomes = await cluster.move(await cluster.home())
        await stream.wait_moves(1)
        await stream.wait_more(options.tail_tokens)
    answer = stream.answer
    undisturbed = await cluster.client.whole(prompt, len(answer.token_ids), seed)
    results.compare(f"one stream of {length} tokens", answer, undisturbed)
    for migrated in migrated_of(outcomes, options.shape, length):
        pause = answer.pause(answer.migrations[0])
        results.singles.append(Single(migrated, pause, statistics.median(answer.gaps)))
    if results.timeline is None or length <= sorted(options.prompt_lengths)[len(options.prompt_lengths) // 2]:
        results.timeline = answer
