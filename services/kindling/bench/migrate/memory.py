"""What workers hold in memory before and after much work."""

import asyncio

from kindling.bench.migrate.bench_cluster import BenchCluster
from kindling.bench.migrate.load import to_and_fro
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.model import random_prompt

AT_ONCE = 32
_PROMPT_TOKENS, _NEW_TOKENS = 16, 8


async def warm_up(cluster: BenchCluster, options: MigrateOptions) -> None:
    """Do some of all the work, so that what it takes once and for all is there."""
    migrations = 0
    while migrations < options.warm_up_migrations:
        _, migrated = await to_and_fro(cluster, options, options.warm_up_migrations - migrations, batch=10_000)
        migrations += len(migrated)
    await short_generations(cluster, options, options.warm_up_generations)


async def short_generations(cluster: BenchCluster, options: MigrateOptions, count: int) -> None:
    """Run short generations, many at once."""
    prompt = random_prompt(options.shape, _PROMPT_TOKENS, seed=7)
    for first in range(0, count, AT_ONCE):
        batch = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(cluster.client.whole(prompt, _NEW_TOKENS, 1 + number) for number in batch))
    await cluster.wait_idle()
