"""The gateway's metrics, named by OpenTelemetry's GenAI conventions where they have a name."""

import time
from types import TracebackType
from typing import Self

from opentelemetry import metrics, trace

from kindling.gateway.domain.events import Moved
from kindling.platform.errors import KindlingError

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]
_meter = metrics.get_meter(__name__)
_duration = _meter.create_histogram(
    "gen_ai.server.request.duration",
    unit="s",
    description="Time from a request's arrival to the end of its answer.",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_first_token = _meter.create_histogram(
    "gen_ai.server.time_to_first_token",
    unit="s",
    description="Time from a request's arrival to its first token.",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_per_token = _meter.create_histogram(
    "gen_ai.server.time_per_output_token",
    unit="s",
    description="Mean time per token after the first one, by request.",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_tokens = _meter.create_counter("kindling.gateway.tokens", unit="{token}", description="Tokens in and out.")
_active = _meter.create_up_down_counter(
    "kindling.gateway.active_requests", unit="{request}", description="Requests that are being answered."
)
_moves = _meter.create_counter(
    "kindling.generation.moves",
    unit="{move}",
    description="Generations that went on in another place: migrated, resumed after a break-off, or hedged.",
)


def note_move(generation_id: str, move: Moved) -> None:
    """Count a move and put it on the current span as the event `migrated`, `resumed` or `hedged`."""
    kind = move.kind.name.lower()
    _moves.add(1, {"kind": kind})
    attributes: dict[str, str | int] = {
        "kindling.generation.id": generation_id,
        "kindling.generation.position": move.position,
        "kindling.from.worker": move.source.worker_address,
        "kindling.from.instance": move.source.instance_id,
        "kindling.to.worker": move.target.worker_address,
        "kindling.to.instance": move.target.instance_id,
    }
    trace.get_current_span().add_event(kind, attributes)


class RequestMeter:
    """Measures one request between ``with``'s begin and end, and describes it on the current span.

    Tokens of all its choices count together. The tenant is told on the span alone: anybody can name any number of them.
    """

    def __init__(self, operation: str, model: str, tenant: str = "") -> None:
        self.started_at = time.monotonic()
        self.first_token_at: float | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._last_token_at = self.started_at
        self._tenant = tenant
        self._attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": model}

    @property
    def first_token_seconds(self) -> float:
        """Time to the first token; to now if there is none yet."""
        return (self.first_token_at or time.monotonic()) - self.started_at

    def tokens(self, count: int) -> None:
        """Count tokens that have just come."""
        self._last_token_at = time.monotonic()
        self.first_token_at = self.first_token_at or self._last_token_at
        self.completion_tokens += count

    def __enter__(self) -> Self:
        _active.add(1, self._attributes)
        trace.get_current_span().set_attributes({**self._attributes, "kindling.tenant": self._tenant})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        _active.add(-1, self._attributes)
        outcome = dict(self._attributes)
        if error is not None:
            outcome["error.type"] = error.reason if isinstance(error, KindlingError) else type(error).__name__
        _duration.record(time.monotonic() - self.started_at, outcome)
        self._record_tokens()
        usage = {"gen_ai.usage.input_tokens": self.prompt_tokens, "gen_ai.usage.output_tokens": self.completion_tokens}
        trace.get_current_span().set_attributes(usage)

    def _record_tokens(self) -> None:
        _tokens.add(self.prompt_tokens, {**self._attributes, "gen_ai.token.type": "input"})
        _tokens.add(self.completion_tokens, {**self._attributes, "gen_ai.token.type": "output"})
        if self.first_token_at is None:
            return
        _first_token.record(self.first_token_at - self.started_at, self._attributes)
        if self.completion_tokens > 1:
            mean = (self._last_token_at - self.first_token_at) / (self.completion_tokens - 1)
            _per_token.record(mean, self._attributes)
