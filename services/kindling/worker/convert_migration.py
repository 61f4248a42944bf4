"""Between the wire's messages of a migration and the worker's own values."""

from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import inference_pb2
from kindling.worker.domain.generation import CaughtUp, GenerationRequest, Migrated
from kindling.worker.domain.migration import Abandon, Handover, Moved, Outcome, Round, TakenOver
from kindling.worker.domain.sampling import SamplingParams


def begin_to_wire(instance_id: str, request: GenerationRequest) -> inference_pb2.ReceiveGenerationRequest:
    """Return the first message on a generation's way to an instance."""
    begin = inference_pb2.GenerateRequest(
        generation_id=request.generation_id,
        instance_id=instance_id,
        prompt_token_ids=request.prompt_token_ids,
        emitted_token_ids=request.emitted_token_ids,
        sampling=_sampling_to_wire(request.sampling),
        tenant=request.tenant,
    )
    return inference_pb2.ReceiveGenerationRequest(begin=begin)


def _sampling_to_wire(sampling: SamplingParams) -> inference_pb2.SamplingParams:
    return inference_pb2.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        max_tokens=sampling.max_tokens,
        stop_token_ids=sampling.stop_token_ids,
        ignore_eos=sampling.ignore_eos,
        top_logprobs=sampling.top_logprobs,
    )


def message_to_wire(message: Round | Handover | Abandon) -> inference_pb2.ReceiveGenerationRequest:
    """Return a later message."""
    if isinstance(message, Abandon):
        return inference_pb2.ReceiveGenerationRequest(abandon=inference_pb2.GenerationAbandoned())
    batch = inference_pb2.TokenBatch(position=message.position, token_ids=message.token_ids)
    if isinstance(message, Round):
        return inference_pb2.ReceiveGenerationRequest(round=batch)
    return inference_pb2.ReceiveGenerationRequest(handover=batch)


def message_from_wire(wire: inference_pb2.ReceiveGenerationRequest) -> Round | Handover | Abandon:
    """Return a later message; InvalidArgumentError if it says nothing, or begins anew."""
    match wire.WhichOneof("message"):
        case "round":
            return Round(wire.round.position, tuple(wire.round.token_ids))
        case "handover":
            return Handover(wire.handover.position, tuple(wire.handover.token_ids))
        case "abandon":
            return Abandon()
        case other:
            raise InvalidArgumentError(
                f"{other or 'nothing'} came where round, handover or abandon is expected.",
                reason="MESSAGE_UNEXPECTED",
                field="message",
            )


def answer_to_wire(answer: CaughtUp | TakenOver) -> inference_pb2.ReceiveGenerationResponse:
    """Return the answer to a message."""
    if isinstance(answer, TakenOver):
        return inference_pb2.ReceiveGenerationResponse(taken_over=inference_pb2.TakenOver())
    return inference_pb2.ReceiveGenerationResponse(caught_up=inference_pb2.CaughtUp(position=answer.position))


def migrated_to_wire(migrated: Migrated) -> inference_pb2.GenerateResponse:
    """Return the terminal event of a generation that goes on elsewhere."""
    return inference_pb2.GenerateResponse(
        migrated=inference_pb2.GenerationMigrated(
            worker_address=migrated.worker_address, instance_id=migrated.instance_id, position=migrated.position
        )
    )


def outcome_to_wire(outcome: Outcome) -> inference_pb2.MigrateInstanceResponse:
    """Return what became of one generation."""
    if isinstance(outcome, Moved):
        return inference_pb2.MigrateInstanceResponse(moved=_moved_to_wire(outcome))
    stayed = inference_pb2.GenerationStayed(
        generation_id=outcome.generation_id, reason=outcome.reason, message=outcome.message
    )
    return inference_pb2.MigrateInstanceResponse(stayed=stayed)


def _moved_to_wire(moved: Moved) -> inference_pb2.GenerationMoved:
    return inference_pb2.GenerationMoved(
        generation_id=moved.generation_id,
        position=moved.position,
        rounds=len(moved.round_tokens) - 1,
        sent_bytes=moved.sent_bytes,
        round_tokens=moved.round_tokens,
        seconds=moved.seconds,
        handover_seconds=moved.handover_seconds,
    )
