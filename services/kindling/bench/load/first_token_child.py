"""The time from asking a worker for an instance to its first token, by the worker's own engine.

As in a running worker, torch and the model code are imported, and a tiny model has run, before the timer starts.
"""

import os
import time
from collections.abc import Mapping
from typing import Any

import uvloop

from kindling.bench.child import Answer, answer_parent
from kindling.bench.load.worker_child import evict
from kindling.platform.clock import SystemClock
from kindling.platform.rpc.channel import open_channel
from kindling.worker.adapters.storage_client import StorageClient
from kindling.worker.adapters.transformers_factory import TransformersEngineFactory
from kindling.worker.domain.generation import GenerationRequest
from kindling.worker.domain.instance import InstanceSpec, LoadProgress
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.instances import Instances

_KV_BYTES = 1 << 30


def measure(request: Answer) -> Mapping[str, Any]:
    """First token of ``digest``; with ``pushed_out_by``, after that checkpoint was loaded over the first one's tail."""
    return uvloop.run(_measure(request))  # as workers do


async def _measure(request: Answer) -> dict[str, float]:
    engines = TransformersEngineFactory("cpu", len(os.sched_getaffinity(0)), _KV_BYTES)
    engines.warm_up()
    async with open_channel(request["address"]) as channel:
        await channel.channel_ready()
        async with StorageClient(channel, holder="bench/worker", clock=SystemClock()) as client:
            if request["keep"]:
                await evict(channel, request["digest"], request["keep"])
            for digest in request["load_before"]:
                await _load(client, digest)
            async with Instances(slots=1, checkpoints=client, engines=engines, clock=SystemClock()) as instances:
                await _first_token(instances, request["tiny"], 16)
                return await _first_token(instances, request["digest"], request["prompt_tokens"])


async def _load(client: StorageClient, digest: str) -> None:
    async with client.open(digest, _ignore) as checkpoint:
        await checkpoint.loaded()


async def _first_token(instances: Instances, digest: str, prompt_tokens: int) -> dict[str, float]:
    start = time.perf_counter()
    async for _ in instances.start(InstanceSpec(digest, "bench", digest)):
        pass
    ready = time.perf_counter() - start
    await _generate(instances, digest, range(prompt_tokens))
    first = time.perf_counter() - start
    # The same again, with other tokens, when every weight is there: the prefill alone.
    again = time.perf_counter()
    await _generate(instances, digest, range(prompt_tokens, 2 * prompt_tokens))
    prefill = time.perf_counter() - again
    await instances.stop(digest, 0.0)
    return {"first_token_seconds": first, "ready_seconds": ready, "prefill_seconds": prefill}


async def _generate(instances: Instances, instance_id: str, prompt: range) -> None:
    sampling = SamplingParams(max_tokens=1, ignore_eos=True)
    request = GenerationRequest(f"bench-{prompt.start}", tuple(prompt), sampling)
    async for _ in instances.generate(instance_id, request):
        pass


def _ignore(_progress: LoadProgress) -> None:
    return


if __name__ == "__main__":
    answer_parent(measure)
