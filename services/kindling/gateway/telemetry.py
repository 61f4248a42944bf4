"""The gateway's metrics and spans of answers, by OpenTelemetry's GenAI conventions where they have a name for it."""

import time
from types import TracebackType
from typing import Final, Self

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from kindling.gateway.domain.events import FinishReason, Moved
from kindling.gateway.domain.request import CompletionRequest
from kindling.platform.errors import KindlingError

_REQUEST_SECONDS: Final = [0.01 * 2**doublings for doublings in range(14)]
_FIRST_TOKEN_SECONDS: Final = [
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
]
_COLD_SECONDS: Final = [20.0, 40.0, 80.0, 160.0]
"""Beyond the conventions' buckets: first tokens that wait for a checkpoint of tens of GB."""
_PER_TOKEN_SECONDS: Final = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
_TOKENS: Final = [4.0**power for power in range(14)]
_PROVIDER: Final = {"gen_ai.provider.name": "kindling"}
_meter = metrics.get_meter(__name__)
_tracer = trace.get_tracer(__name__)
_duration = _meter.create_histogram(
    "gen_ai.server.request.duration",
    unit="s",
    description="Time from a request's arrival to the end of its answer.",
    explicit_bucket_boundaries_advisory=_REQUEST_SECONDS,
)
_first_token = _meter.create_histogram(
    "gen_ai.server.time_to_first_token",
    unit="s",
    description="Time from a request's arrival to its first token.",
    explicit_bucket_boundaries_advisory=_FIRST_TOKEN_SECONDS + _COLD_SECONDS,
)
_per_token = _meter.create_histogram(
    "gen_ai.server.time_per_output_token",
    unit="s",
    description="Mean time per token after the first one, by request.",
    explicit_bucket_boundaries_advisory=_PER_TOKEN_SECONDS,
)
_tokens = _meter.create_counter("kindling.gateway.tokens", unit="{token}", description="Tokens in and out.")
_usage = _meter.create_histogram(
    "gen_ai.client.token.usage",
    unit="{token}",
    description="Tokens of a request, in and out.",
    explicit_bucket_boundaries_advisory=_TOKENS,
)
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


def _asked_for(request: CompletionRequest) -> dict[str, AttributeValue]:
    """What the conventions want told of a request, on its span alone: not what it says, nor what it was answered."""
    sampling = request.sampling
    asked: dict[str, AttributeValue | None] = {
        "kindling.tenant": request.tenant,
        "gen_ai.response.model": request.model,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k or None,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.choice.count": request.n if request.n != 1 else None,
    }
    return {name: value for name, value in asked.items() if value is not None}


class RequestMeter:
    """Measures one request between ``with``'s begin and end, and describes it in a span called ``chat MODEL``.

    Tokens of all its choices count together. The tenant is told on the span alone: anybody can name any number of them.
    The span is never made the current one, since an answer may be ended from another context than it began in.
    """

    def __init__(self, operation: str, request: CompletionRequest) -> None:
        self.started_at = time.monotonic()
        self.first_token_at: float | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._last_token_at = self.started_at
        self._finish_reasons: list[str] = []
        self._attributes = {"gen_ai.operation.name": operation, "gen_ai.request.model": request.model, **_PROVIDER}
        self._span = _tracer.start_span(
            f"{operation} {request.model}", attributes={**self._attributes, **_asked_for(request)}
        )

    @property
    def first_token_seconds(self) -> float:
        """Time to the first token; to now if there is none yet."""
        return (self.first_token_at or time.monotonic()) - self.started_at

    def tokens(self, count: int) -> None:
        """Count tokens that have just come."""
        self._last_token_at = time.monotonic()
        if self.first_token_at is None:
            self.first_token_at = self._last_token_at
            self._span.add_event("first_token")
        self.completion_tokens += count

    def finished(self, reason: FinishReason) -> None:
        """Note why a choice ended."""
        self._finish_reasons.append(reason.value)

    def __enter__(self) -> Self:
        _active.add(1, self._attributes)
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
        self._end_span(outcome.get("error.type", ""))

    def _end_span(self, error_type: str) -> None:
        self._span.set_attributes(
            {
                "gen_ai.usage.input_tokens": self.prompt_tokens,
                "gen_ai.usage.output_tokens": self.completion_tokens,
                "gen_ai.response.finish_reasons": self._finish_reasons,
            }
        )
        if error_type:
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(trace.StatusCode.ERROR, error_type)
        self._span.end()

    def _record_tokens(self) -> None:
        for kind, count in (("input", self.prompt_tokens), ("output", self.completion_tokens)):
            _tokens.add(count, {**self._attributes, "gen_ai.token.type": kind})
            _usage.record(count, {**self._attributes, "gen_ai.token.type": kind})
        if self.first_token_at is None:
            return
        _first_token.record(self.first_token_at - self.started_at, self._attributes)
        if self.completion_tokens > 1:
            mean = (self._last_token_at - self.first_token_at) / (self.completion_tokens - 1)
            _per_token.record(mean, self._attributes)
