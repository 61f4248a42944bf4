"""The gateway's gRPC face: what the HTTP API offers, for gRPC clients."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from kindling.gateway.completion import Completions
from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.domain.events import (
    ChoiceEnded,
    ChoiceMoved,
    Completed,
    Delta,
    Event,
    FinishReason,
    Prepared,
    Queued,
    Starting,
)
from kindling.gateway.domain.openai_request import parse_chat, parse_completion
from kindling.gateway.domain.request import CompletionRequest
from kindling.gateway.domain.tenants import TENANT_HEADER
from kindling.v1 import checkpoint_pb2, generation_pb2, generation_pb2_grpc, inference_pb2, scheduler_pb2

Context = grpc.aio.ServicerContext[Any, Any]
_REASONS = {
    FinishReason.STOP: inference_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: inference_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: inference_pb2.FINISH_REASON_CANCELLED,
}


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Serves ``kindling.v1.GenerationService``."""

    def __init__(self, completions: Completions, api_keys: ApiKeys) -> None:
        self._completions = completions
        self._api_keys = api_keys

    async def Complete(
        self, request: generation_pb2.CompleteRequest, context: Context
    ) -> AsyncIterator[generation_pb2.CompleteResponse]:
        """Run a prompt or a conversation and stream the answer."""
        tenant = require_key(self._api_keys, context)
        async with aclosing(self._completions.answer(_completion(request, tenant))) as events:
            async for event in events:
                if not isinstance(event, Prepared):
                    yield _response_of(event)


def require_key(api_keys: ApiKeys, context: Context) -> str:
    """Check the key in the call's metadata, `authorization: Bearer KEY`, and return the caller's tenant."""
    claimed = dict(context.invocation_metadata() or ()).get(TENANT_HEADER)
    return api_keys.require(_key(context), claimed.decode("latin-1") if isinstance(claimed, bytes) else claimed)


def require_operator(api_keys: ApiKeys, context: Context) -> None:
    """Check that the key in the call's metadata is good, and no tenant's."""
    api_keys.require_operator(_key(context))


def _key(context: Context) -> bytes | None:
    value = dict(context.invocation_metadata() or ()).get("authorization")
    return value.encode() if isinstance(value, str) else value


def _completion(request: generation_pb2.CompleteRequest, tenant: str) -> CompletionRequest:
    return replace(_request_of(request), trace=request.trace, tenant=tenant)


def _request_of(request: generation_pb2.CompleteRequest) -> CompletionRequest:
    """Check the request by the rules that HTTP's are checked by."""
    body = _common(request)
    if request.WhichOneof("input") == "conversation":
        messages = request.conversation.messages
        body["messages"] = [{"role": message.role, "content": message.content} for message in messages]
        if request.sampling.HasField("top_logprobs"):
            body |= {"logprobs": True, "top_logprobs": request.sampling.top_logprobs}
        return parse_chat(body)[0]
    if request.WhichOneof("input") is not None:
        body["prompt"] = list(request.token_ids.ids) if request.HasField("token_ids") else request.prompt
    if request.sampling.HasField("top_logprobs"):
        body["logprobs"] = request.sampling.top_logprobs
    parsed = parse_completion(body)[0]
    # OpenAI's default of 16 tokens is a quirk of its HTTP API.
    return replace(parsed, sampling=replace(parsed.sampling, max_tokens=request.sampling.max_tokens or None))


def _common(request: generation_pb2.CompleteRequest) -> dict[str, Any]:
    sampling = request.sampling
    return {
        "model": request.model,
        "n": request.n or 1,
        "stop": list(request.stop),
        "temperature": sampling.temperature if request.HasField("sampling") else 1.0,
        "top_p": sampling.top_p if sampling.HasField("top_p") else 1.0,
        "top_k": sampling.top_k,
        "seed": sampling.seed or None,
        "max_tokens": sampling.max_tokens or None,
        "stop_token_ids": list(sampling.stop_token_ids) or None,
        "ignore_eos": sampling.ignore_eos,
    }


def _response_of(event: Event) -> generation_pb2.CompleteResponse:
    if isinstance(event, Delta):
        return generation_pb2.CompleteResponse(delta=_delta(event))
    if isinstance(event, ChoiceMoved):
        return generation_pb2.CompleteResponse(moved=_moved(event))
    if isinstance(event, ChoiceEnded):
        ended = generation_pb2.ChoiceFinished(index=event.index, reason=_REASONS[event.reason])
        return generation_pb2.CompleteResponse(choice_finished=ended)
    if isinstance(event, Completed):
        return generation_pb2.CompleteResponse(finished=_finished(event))
    assert isinstance(event, Queued | Starting)
    return generation_pb2.CompleteResponse(waiting=_waiting(event))


def _delta(delta: Delta) -> generation_pb2.TextDelta:
    logprobs = [
        inference_pb2.TokenLogprobs(
            logprob=item.chosen.logprob,
            top=[inference_pb2.TokenLogprob(token_id=top.token_id, logprob=top.logprob) for top in item.top],
        )
        for item in delta.logprobs
    ]
    return generation_pb2.TextDelta(index=delta.index, text=delta.text, token_ids=delta.token_ids, logprobs=logprobs)


def _moved(moved: ChoiceMoved) -> generation_pb2.ChoiceMoved:
    return generation_pb2.ChoiceMoved(
        index=moved.index,
        kind=generation_pb2.MoveKind.ValueType(moved.move.kind.value),
        position=moved.move.position,
        instance_id=moved.move.target.instance_id,
        worker_address=moved.move.target.worker_address,
    )


def _finished(completed: Completed) -> generation_pb2.CompleteFinished:
    return generation_pb2.CompleteFinished(
        prompt_tokens=completed.prompt_tokens,
        completion_tokens=completed.completion_tokens,
        first_token_seconds=completed.first_token_seconds,
        start=scheduler_pb2.StartKind.ValueType(completed.start.value),
    )


def _waiting(waiting: Queued | Starting) -> scheduler_pb2.AcquireResponse:
    if isinstance(waiting, Queued):
        return scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=waiting.ahead))
    progress = checkpoint_pb2.LoadProgress(loaded_bytes=waiting.loaded_bytes, total_bytes=waiting.total_bytes)
    setattr(progress, "from", waiting.tier.value)  # a keyword of Python's
    starting = scheduler_pb2.Starting(
        instance_id=waiting.instance_id,
        node_id=waiting.node_id,
        progress=progress,
        estimated_seconds=waiting.estimated_seconds,
    )
    return scheduler_pb2.AcquireResponse(starting=starting)
