"""The public API as a test's thread calls it: blocking, one channel per call."""

import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import openai

from kindling.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    inference_pb2,
    model_pb2,
    model_pb2_grpc,
)

CALL_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """What GenerationService.Complete streamed for one choice."""

    text: str
    token_ids: list[int]
    finish_reason: int
    finished: generation_pb2.CompleteFinished


@contextmanager
def channel(address: str) -> Iterator[grpc.Channel]:
    """Open a channel for the length of the block."""
    with grpc.insecure_channel(address) as opened:
        yield opened


def deploy(
    address: str,
    name: str,
    source: Path,
    settings: model_pb2.ModelSettings | None = None,
    *,
    allow_pickle: bool = False,
) -> model_pb2.Model:
    """Deploy the directory ``source`` as ``name``."""
    request = model_pb2.DeployModelRequest(
        request_id=uuid.uuid4().hex,
        name=name,
        source_uri=source.absolute().as_uri(),
        settings=settings,
        allow_pickle=allow_pickle,
    )
    with channel(address) as opened:
        events = list(model_pb2_grpc.ModelServiceStub(opened).DeployModel(request, timeout=CALL_SECONDS))
    return events[-1].deployed


def delete(address: str, name: str) -> None:
    """Delete a model."""
    with channel(address) as opened:
        request = model_pb2.DeleteModelRequest(request_id=uuid.uuid4().hex, name=name)
        model_pb2_grpc.ModelServiceStub(opened).DeleteModel(request, timeout=CALL_SECONDS)


def status(address: str) -> cluster_pb2.GetClusterStatusResponse:
    """Return the cluster's status."""
    with channel(address) as opened:
        stub = cluster_pb2_grpc.ClusterServiceStub(opened)
        return stub.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(), timeout=CALL_SECONDS)


def stream(
    address: str, model: str, token_ids: Sequence[int], sampling: inference_pb2.SamplingParams
) -> Generator[generation_pb2.CompleteResponse]:
    """Yield the events of an answer to a prompt of tokens; closing it cancels the call."""
    request = generation_pb2.CompleteRequest(
        model=model, token_ids=generation_pb2.TokenIds(ids=token_ids), sampling=sampling
    )
    with channel(address) as opened:
        yield from generation_pb2_grpc.GenerationServiceStub(opened).Complete(request, timeout=CALL_SECONDS)


def answer_of(events: Iterator[generation_pb2.CompleteResponse]) -> Answer:
    """Gather the events of a single choice."""
    text, token_ids, reason = "", [], 0
    finished = generation_pb2.CompleteFinished()
    for event in events:
        text += event.delta.text
        token_ids += event.delta.token_ids
        reason = event.choice_finished.reason or reason
        if event.HasField("finished"):
            finished = event.finished
    return Answer(text, token_ids, reason, finished)


@contextmanager
def openai_client(http_url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, pointed at our gateway."""
    with openai.OpenAI(base_url=f"{http_url}/v1", api_key="none", max_retries=0, timeout=CALL_SECONDS) as client:
        yield client
