"""Several streams at once move to and fro."""

import asyncio

from kindling.bench.migrate.bench_cluster import WORKERS, BenchCluster
from kindling.bench.migrate.moves import migrated_of
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Migrated, Results
from kindling.bench.migrate.stream import Answer, Stream, all_more
from kindling.bench.model import CONTEXT_LENGTH, random_prompt


async def measure_load(cluster: BenchCluster, options: MigrateOptions, results: Results) -> None:
    """Move streams until ``migrations`` generations were moved; each stream is compared with its undisturbed run."""
    batch = 0
    while len(results.load_migrated) < options.migrations:
        left = options.migrations - len(results.load_migrated)
        answers, migrated = await to_and_fro(cluster, options, left, batch)
        results.load_migrated += migrated
        for answer in answers:
            results.load_pauses += [answer.pause(move) for move in answer.migrations]
            results.load_gaps += answer.gaps
        for answer, undisturbed in zip(answers, await undisturbed_runs(cluster, answers), strict=True):
            results.compare("streams under load", answer, undisturbed)
        batch += 1


async def to_and_fro(
    cluster: BenchCluster, options: MigrateOptions, migrations: int, batch: int
) -> tuple[list[Answer], list[Migrated]]:
    """Move one batch of streams until that is done, or they are long; return what their clients saw."""
    migrated: list[Migrated] = []
    length, first_seed = options.load_prompt, 1 + batch * options.streams
    prompts = [random_prompt(options.shape, length, first_seed + number) for number in range(options.streams)]
    async with cluster.client.streams(prompts, CONTEXT_LENGTH - length, first_seed) as streams:
        source = await gather(cluster, streams, options.head_tokens)
        while len(migrated) < migrations and len(streams[0].answer.token_ids) < options.stream_tokens:
            moves = [len(stream.answer.migrations) + 1 for stream in streams]
            migrated += migrated_of(await cluster.move(source), options.shape, length)
            for stream, count in zip(streams, moves, strict=True):
                await stream.wait_moves(count)
            await all_more(streams, options.tail_tokens)
            source = cluster.other(source)
    await cluster.wait_idle()
    return [stream.answer for stream in streams], migrated


async def gather(cluster: BenchCluster, streams: list[Stream], head_tokens: int) -> str:
    """Have all streams on one worker; returns which, once each has had ``head_tokens`` there."""
    for stream in streams:
        await stream.wait_tokens(1)
    home, away = WORKERS
    if await cluster.generations(away):
        await cluster.move(away)
    await cluster.wait_generations(home, len(streams))
    await all_more(streams, head_tokens)
    return home


async def undisturbed_runs(cluster: BenchCluster, answers: list[Answer]) -> list[Answer]:
    """What the answers are when nothing happens."""
    runs = [cluster.client.whole(answer.prompt, len(answer.token_ids), answer.seed) for answer in answers]
    return await asyncio.gather(*runs)
