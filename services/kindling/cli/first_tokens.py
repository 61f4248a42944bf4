"""How long the first token takes from each tier, measured through the OpenAI API and checked against the cluster."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from rich.table import Table

from kindling.cli.client import ClusterClient
from kindling.cli.readiness import until
from kindling.cli.streaming import Question, ask
from kindling.cli.tables import tier_name
from kindling.cli.values import format_bytes, format_rate, format_seconds
from kindling.platform.clock import Clock, SystemClock
from kindling.platform.errors import InternalError
from kindling.v1 import checkpoint_pb2, cluster_pb2, model_pb2

_TIERS = (
    checkpoint_pb2.TIER_REMOTE,
    checkpoint_pb2.TIER_SSD,
    checkpoint_pb2.TIER_DRAM,
    checkpoint_pb2.TIER_GPU,
)
_SETTLE_SECONDS = 30.0
_PROMPT = "Hello"
_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Measurement:
    """One start: from which tier, how long until the first token, and what the cluster said of it."""

    start: str
    first_token_seconds: float
    instance: cluster_pb2.InstanceStatus
    loaded_bytes: int

    @property
    def load_rate(self) -> float:
        """Bytes of weights per second of the instance's start, model building included; 0 if nothing was loaded."""
        is_parked = getattr(self.instance, "from") == checkpoint_pb2.TIER_GPU
        return (
            0.0 if is_parked or not self.instance.startup_seconds else self.loaded_bytes / self.instance.startup_seconds
        )


class FirstTokens:
    """Evicts a model down to each tier in turn and asks it something."""

    def __init__(
        self, client: ClusterClient, http_url: str, model: model_pb2.Model, *, chat: bool, clock: Clock | None = None
    ) -> None:
        self._client = client
        self._http_url = http_url
        self._model = model
        self._question = Question(model.name, _PROMPT, _TOKENS, chat)
        self._clock = clock or SystemClock()

    async def measure(self) -> list[Measurement]:
        """Return the cold starts, slowest tier first, one of a parked model, and a warm one.

        WRONG_TIER if the cluster says that a start came from elsewhere than it was meant to.
        """
        cold = [await self._cold(tier) for tier in _TIERS]
        return [*cold, await self._warm(cold[-1].instance.instance_id)]

    async def _cold(self, tier: "checkpoint_pb2.Tier.ValueType") -> Measurement:
        await self._settled(lambda instances: all(not one.generations for one in instances))
        await self._client.evict(self._model.name, tier)
        await self._settled(lambda instances: not instances)
        if tier == checkpoint_pb2.TIER_GPU:
            await self._parked()
        seconds = await self._ask()
        # The first token does not wait for the word that everything is loaded.
        await self._settled(lambda instances: all(one.startup_seconds for one in instances))
        instance = await self._instance()
        came_from = getattr(instance, "from")
        if came_from != tier:
            raise InternalError(
                f"the start was to come from {tier_name(tier)}, and the cluster says {tier_name(came_from)}; "
                "a pool or disk that is too small for the model does that",
                reason="WRONG_TIER",
            )
        name = "parked" if tier == checkpoint_pb2.TIER_GPU else f"cold, {tier_name(tier)}"
        return Measurement(name, seconds, instance, self._model.checkpoint.total_bytes)

    async def _warm(self, instance_id: str) -> Measurement:
        seconds = await self._ask()
        instance = await self._instance()
        if instance.instance_id != instance_id:
            raise InternalError("a warm start found another instance than the one that ran", reason="NOT_WARM")
        return Measurement("warm", seconds, cluster_pb2.InstanceStatus(), 0)

    async def _ask(self) -> float:
        answer = await asyncio.to_thread(ask, self._http_url, self._question, lambda _: None)
        return answer.first_token_seconds

    async def _instance(self) -> cluster_pb2.InstanceStatus:
        """Return the model's one instance, with what its start came to."""
        found = await self._instances()
        if len(found) != 1:
            raise InternalError(f"one instance was to run, and {len(found)} do", reason="WRONG_INSTANCES")
        return found[0]

    async def _instances(self) -> list[cluster_pb2.InstanceStatus]:
        status = await self._client.status()
        return [one for one in status.instances if one.model == self._model.name]

    async def _parked(self) -> None:
        """Return when the cluster knows that a worker has the model parked."""

        async def ask_cluster() -> bool:
            workers = [worker for node in (await self._client.status()).nodes for worker in node.workers]
            parked = {one.digest for worker in workers for one in worker.parked}
            return self._model.checkpoint.digest in parked

        async with asyncio.timeout(_SETTLE_SECONDS):
            await until(ask_cluster, self._clock)

    async def _settled(self, as_wanted: Callable[[list[cluster_pb2.InstanceStatus]], bool]) -> None:
        async def ask_cluster() -> bool:
            return as_wanted(await self._instances())

        async with asyncio.timeout(_SETTLE_SECONDS):
            await until(ask_cluster, self._clock)


def table(measured: list[Measurement]) -> Table:
    """Return the measurements to print."""
    size = format_bytes(max(one.loaded_bytes for one in measured))
    result = Table(
        title=f"first token, by where the {size} of weights came from",
        title_justify="left",
        caption="REMOTE and SSD are directories on this machine's disk; the rate is weights per second of the start",
        caption_justify="left",
    )
    for name in ("start", "first token", "instance start", "expected", "rate"):
        result.add_column(name, justify="left" if name == "start" else "right")
    for one in measured:
        started = one.instance.startup_seconds
        result.add_row(
            one.start,
            format_seconds(one.first_token_seconds),
            format_seconds(started) if started else "–",
            format_seconds(one.instance.estimated_seconds) if started else "–",
            format_rate(one.load_rate),
        )
    return result
