"""What workers hold in memory before and after much work."""

import asyncio

from kindling.bench.migrate.bench_cluster import BenchCluster
from kindling.bench.migrate.load import to_and_fro
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.model import random_prompt

AT_ONCE = 32
_PROMPT_TOKENS, _NEW_TOKENS = 16, 8


async def warm_up(cluster: BenchCluster, options: MigrateOptions) -> None:
    """Do all of the work once, so that what it takes once and for all is there: half of it did not suffice."""
    migrations = 0
    while migrations < options.migrations:
        _, migrated = await to_and_fro(cluster, options, options.migrations - migrations, batch=10_000)
        migrations += len(migrated)
    await short_generations(cluster, options, options.generations)


async def short_generations(cluster: BenchCluster, options: MigrateOptions, count: int) -> None:
    """Run short generations, many at once."""
    prompt = random_prompt(options.shape, _PROMPT_TOKENS, seed=7)
    for first in range(0, count, AT_ONCE):
        batch = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(cluster.client.whole(prompt, _NEW_TOKENS, 1 + number) for number in batch))
    await cluster.wait_idle()
