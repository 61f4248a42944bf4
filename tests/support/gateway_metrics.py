"""What a gateway's `/metrics` says about a model."""

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families

from kindling.cli.readiness import until
from kindling.platform.clock import SystemClock

IDLE_SECONDS = 30.0


def tokens_sent(http_url: str, model: str) -> int:
    """Return how many tokens of answers a gateway has had for a model, once no request for it is under way."""

    async def idle() -> bool:
        return _value(http_url, model, "kindling_gateway_active_requests") == 0

    async def wait() -> None:
        async with asyncio.timeout(IDLE_SECONDS):
            await until(idle, SystemClock())

    asyncio.run(wait())
    return _value(http_url, model, "kindling_gateway_tokens", gen_ai_token_type="output")


def _value(http_url: str, model: str, name: str, **labels: str) -> int:
    wanted = labels | {"gen_ai_request_model": model}
    families = text_string_to_metric_families(httpx.get(f"{http_url}/metrics").text)
    samples = [sample for family in families if family.name.startswith(name) for sample in family.samples]
    return sum(int(sample.value) for sample in samples if sample.labels.items() >= wanted.items())
