"""Between the wire's messages and the worker's own values."""

from collections.abc import Iterable

from kindling.v1 import checkpoint_pb2, cluster_pb2, inference_pb2
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.domain.instance import (
    InstanceSpec,
    InstanceState,
    InstanceView,
    LoadProgress,
    LoadReport,
    Tier,
    TierTraffic,
    WorkerView,
)
from kindling.worker.domain.sampling import SamplingParams

_WIRE_TIER = {
    Tier.GPU: checkpoint_pb2.TIER_GPU,
    Tier.DRAM: checkpoint_pb2.TIER_DRAM,
    Tier.SSD: checkpoint_pb2.TIER_SSD,
    Tier.REMOTE: checkpoint_pb2.TIER_REMOTE,
}
_TIER = {wire: tier for tier, wire in _WIRE_TIER.items()}
_WIRE_STATE = {
    InstanceState.STARTING: cluster_pb2.INSTANCE_STATE_STARTING,
    InstanceState.READY: cluster_pb2.INSTANCE_STATE_READY,
    InstanceState.STOPPING: cluster_pb2.INSTANCE_STATE_STOPPING,
}
_WIRE_REASON = {
    FinishReason.STOP: inference_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: inference_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: inference_pb2.FINISH_REASON_CANCELLED,
}


def spec_from_wire(request: inference_pb2.StartInstanceRequest) -> InstanceSpec:
    """Return what is to be started."""
    return InstanceSpec(request.instance_id, request.model, request.checkpoint_digest)


def generation_from_wire(request: inference_pb2.GenerateRequest) -> GenerationRequest:
    """Return the generation asked for; InvalidArgumentError if its sampling parameters are wrong."""
    return GenerationRequest(
        generation_id=request.generation_id,
        prompt_token_ids=tuple(request.prompt_token_ids),
        sampling=_sampling(request.sampling),
        emitted_token_ids=tuple(request.emitted_token_ids),
        tenant=request.tenant,
    )


def _sampling(wire: inference_pb2.SamplingParams) -> SamplingParams:
    return SamplingParams(
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p if wire.HasField("top_p") else 1.0,
        top_k=wire.top_k,
        seed=wire.seed,
        stop_token_ids=tuple(wire.stop_token_ids),
        ignore_eos=wire.ignore_eos,
        top_logprobs=wire.top_logprobs if wire.HasField("top_logprobs") else None,
    )


def tokens_to_wire(tokens: list[Token]) -> inference_pb2.GenerateResponse:
    """Return one message with all of ``tokens``, of which there is at least one."""
    batch = inference_pb2.TokenBatch(
        position=tokens[0].position,
        token_ids=[token.token_id for token in tokens],
        logprobs=[_logprobs(token, token.logprob) for token in tokens if token.logprob is not None],
    )
    return inference_pb2.GenerateResponse(tokens=batch)


def _logprobs(token: Token, logprob: float) -> inference_pb2.TokenLogprobs:
    top = [inference_pb2.TokenLogprob(token_id=token_id, logprob=value) for token_id, value in token.top_logprobs]
    return inference_pb2.TokenLogprobs(logprob=logprob, top=top)


def finished_to_wire(finished: Finished) -> inference_pb2.GenerateResponse:
    """Return the terminal event."""
    return inference_pb2.GenerateResponse(
        finished=inference_pb2.GenerationFinished(
            reason=_WIRE_REASON[finished.reason],
            prompt_tokens=finished.prompt_tokens,
            completion_tokens=finished.completion_tokens,
        )
    )


def start_event_to_wire(event: LoadProgress | LoadReport) -> inference_pb2.StartInstanceResponse:
    """Return one event of a start."""
    if isinstance(event, LoadReport):
        return inference_pb2.StartInstanceResponse(ready=report_to_wire(event))
    progress = checkpoint_pb2.LoadProgress(loaded_bytes=event.loaded_bytes, total_bytes=event.total_bytes)
    if event.tier is not None:
        setattr(progress, "from", _WIRE_TIER[event.tier])
    return inference_pb2.StartInstanceResponse(progress=progress)


def report_to_wire(report: LoadReport) -> checkpoint_pb2.LoadReport:
    """Return what a start was made of."""
    return checkpoint_pb2.LoadReport(
        traffic=[_traffic_to_wire(traffic) for traffic in report.traffic],
        load_seconds=report.load_seconds,
        init_seconds=report.init_seconds,
        total_seconds=report.total_seconds,
        complete=report.complete,
    )


def _traffic_to_wire(traffic: TierTraffic) -> checkpoint_pb2.TierTraffic:
    wire = checkpoint_pb2.TierTraffic(bytes=traffic.bytes_read, seconds=traffic.seconds)
    setattr(wire, "from", _WIRE_TIER[traffic.tier])
    return wire


def report_from_wire(wire: checkpoint_pb2.LoadReport) -> LoadReport:
    """Return what the storage manager says of a load."""
    traffic = tuple(_traffic_from_wire(traffic) for traffic in wire.traffic)
    return LoadReport(traffic, wire.load_seconds, wire.init_seconds, wire.total_seconds)


def _traffic_from_wire(wire: checkpoint_pb2.TierTraffic) -> TierTraffic:
    return TierTraffic(_TIER[getattr(wire, "from")], wire.bytes, wire.seconds)


def tier_from_wire(wire: checkpoint_pb2.Tier.ValueType) -> Tier | None:
    """Return the tier; None if it is not said."""
    return _TIER.get(wire)


def worker_to_wire(worker_id: str, view: WorkerView) -> inference_pb2.WatchWorkerResponse:
    """Return what the worker runs."""
    return inference_pb2.WatchWorkerResponse(
        worker_id=worker_id,
        instances=_instances_to_wire(view.instances),
        draining=view.draining,
        parked=[cluster_pb2.ParkedCheckpoint(digest=one.digest, bytes=one.size_bytes) for one in view.parked],
    )


def _instances_to_wire(views: Iterable[InstanceView]) -> list[inference_pb2.RunningInstance]:
    return [
        inference_pb2.RunningInstance(
            instance_id=view.spec.instance_id,
            model=view.spec.model,
            checkpoint_digest=view.spec.digest,
            state=_WIRE_STATE[view.state],
            generation_ids=view.generation_ids,
            report=None if view.report is None else report_to_wire(view.report),
            tenants=view.tenants,
            generation_tokens=view.generation_tokens,
        )
        for view in views
    ]
