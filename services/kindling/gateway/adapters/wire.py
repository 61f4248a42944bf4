"""Wire messages to domain values and back."""

from collections.abc import Sequence

from kindling.gateway.domain.events import (
    Alive,
    Finished,
    FinishReason,
    Granted,
    Migrated,
    Place,
    Queued,
    Starting,
    StartKind,
    Tier,
    TokenBatch,
    TokenLogprobs,
)
from kindling.gateway.domain.model_info import ModelInfo
from kindling.gateway.ports import Generation
from kindling.v1 import inference_pb2, model_pb2, scheduler_pb2

_REASONS = {
    inference_pb2.FINISH_REASON_STOP: FinishReason.STOP,
    inference_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    inference_pb2.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
}


def is_grant(answer: scheduler_pb2.AcquireResponse) -> bool:
    """Whether this is the terminal event of Acquire."""
    return answer.HasField("granted")


def granted_of(granted: scheduler_pb2.Granted) -> Granted:
    """Return a grant."""
    return Granted(Place(granted.instance_id, granted.worker_address), StartKind(granted.start))


def waiting_of(answer: scheduler_pb2.AcquireResponse) -> Queued | Starting:
    """Return what a request waits for."""
    if answer.HasField("queued"):
        return Queued(answer.queued.ahead)
    starting = answer.starting
    return Starting(
        instance_id=starting.instance_id,
        node_id=starting.node_id,
        loaded_bytes=starting.progress.loaded_bytes,
        total_bytes=starting.progress.total_bytes,
        tier=Tier(getattr(starting.progress, "from")),
        estimated_seconds=starting.estimated_seconds,
    )


def model_of(model: model_pb2.Model) -> ModelInfo:
    """Return a model."""
    return ModelInfo(
        name=model.name,
        digest=model.checkpoint.digest,
        context_length=model.checkpoint.context_length,
        created_seconds=model.create_time.seconds,
    )


def generate_request_of(instance_id: str, generation: Generation) -> inference_pb2.GenerateRequest:
    """Return the call that runs a generation from where it stands."""
    sampling = generation.sampling
    return inference_pb2.GenerateRequest(
        generation_id=generation.generation_id,
        instance_id=instance_id,
        prompt_token_ids=generation.prompt_token_ids,
        emitted_token_ids=generation.emitted,
        sampling=inference_pb2.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed or 0,
            max_tokens=sampling.max_tokens or 0,
            stop_token_ids=sampling.stop_token_ids,
            ignore_eos=sampling.ignore_eos,
            top_logprobs=sampling.top_logprobs,
        ),
        tenant=generation.tenant,
    )


def worker_event_of(answer: inference_pb2.GenerateResponse) -> TokenBatch | Alive | Migrated | Finished:
    """Return what a worker says of a generation."""
    if answer.HasField("tokens"):
        tokens = answer.tokens
        logprobs = _logprobs(tokens.logprobs) if tokens.logprobs else ()
        return TokenBatch(tokens.position, tuple(tokens.token_ids), logprobs)
    if answer.HasField("migrated"):
        return Migrated(Place(answer.migrated.instance_id, answer.migrated.worker_address))
    if answer.HasField("finished"):
        return Finished(_REASONS.get(answer.finished.reason, FinishReason.CANCELLED))
    return Alive()


def _logprobs(items: Sequence[inference_pb2.TokenLogprobs]) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(item.logprob, tuple((top.token_id, top.logprob) for top in item.top)) for item in items)
