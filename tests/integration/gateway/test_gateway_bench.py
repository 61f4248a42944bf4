"""The benchmark of the gateway, in small."""

from contextlib import asynccontextmanager

import pytest

from kindling.bench.gateway import LIMITS, MODEL, GatewayBenchmark, Target, find_target, measure
from kindling.bench.http_client import HttpClient
from kindling.platform.errors import FailedPreconditionError
from support.gateway_peers import FakeModel, gateway_rig
from support.gateway_tokenizers import model_files


@asynccontextmanager
async def bench_rig(context_length: int = 4096):
    async with gateway_rig() as rig:
        rig.scheduler.models[MODEL] = FakeModel(model_files(rig.tokenizer), context_length=context_length)
        yield rig


async def test_it_measures_both_ways_and_counts_streams():
    async with bench_rig() as rig:
        host, port = rig.gateway.http.address.split(":")
        target = Target(host, int(port), rig.scheduler.workers[0], "tiny-0")
        result = await measure(target, rounds=2, streams=20)
    assert set(result.ratios) == set(LIMITS)
    assert result.ratios["concurrent_streams"] == 20
    assert {name: len(values) for name, values in result.samples.items()} == {
        "request_gateway_ms": 2,
        "request_worker_ms": 2,
        "token_gateway_us": 2,
        "token_worker_us": 2,
    }
    assert all(value > 0 for values in result.samples.values() for value in values)


async def test_streams_that_fail_are_not_counted_as_whole():
    async with bench_rig(context_length=100) as rig:
        host, port = rig.gateway.http.address.split(":")
        async with HttpClient(host, int(port)) as client:
            with pytest.raises(FailedPreconditionError, match="400"):
                await client.stream("/v1/completions", b'{"model": "bench", "prompt": [5], "max_tokens": 1500}')


async def test_a_cluster_without_an_instance_is_told():
    async with bench_rig() as rig:
        with pytest.raises(FailedPreconditionError, match="no instance"):
            await find_target(f"http://{rig.gateway.http.address}", rig.gateway.rpc.address)


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("request_overhead_ms", 3.1, False),
        ("token_overhead_us", 151.0, False),
        ("concurrent_streams", 499.0, False),
        ("concurrent_streams", 501.0, True),
    ],
)
def test_limits_are_held_to(name: str, value: float, holds: bool):
    ratios = {"request_overhead_ms": 2.0, "token_overhead_us": 100.0, "concurrent_streams": 500.0, name: value}
    assert GatewayBenchmark(ratios, {}, {}).holds is holds
