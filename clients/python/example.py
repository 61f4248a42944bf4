"""Deploys a model on a Kindling cluster, streams a generation, cancels one, and shows a typed error."""

import os
import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2, model_pb2, model_pb2_grpc

DEFAULT_ADDRESS = "127.0.0.1:8081"
DEPLOY_SECONDS = 600
PROMPT = "The quick brown fox"


def deploy(models: model_pb2_grpc.ModelServiceStub, source: str, name: str) -> model_pb2.Model:
    """Pack ``source`` into the cluster and return once the model can be called."""
    request = model_pb2.DeployModelRequest(request_id=uuid.uuid4().hex, name=name, source_uri=source)
    *_, last = models.DeployModel(request, timeout=DEPLOY_SECONDS)
    return last.deployed


def request_for(model: str, max_tokens: int) -> generation_pb2.CompleteRequest:
    """Ask for up to ``max_tokens`` tokens, always the likeliest one."""
    sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
    return generation_pb2.CompleteRequest(model=model, prompt=PROMPT, sampling=sampling)


def stream(generations: generation_pb2_grpc.GenerationServiceStub, model: str) -> None:
    """Print an answer as it comes."""
    tokens: list[int] = []
    reason = inference_pb2.FINISH_REASON_UNSPECIFIED
    for event in generations.Complete(request_for(model, 32)):
        match event.WhichOneof("event"):
            case "delta":
                print(event.delta.text, end="", flush=True)
                tokens += event.delta.token_ids
            case "choice_finished":
                reason = event.choice_finished.reason
    print("\ntokens:", *tokens)
    print("finished:", inference_pb2.FinishReason.Name(reason))


def cancel_midway(generations: generation_pb2_grpc.GenerationServiceStub, model: str) -> None:
    """Cancel a generation after its first tokens; that frees its place in the model at once."""
    received = 0
    call = generations.Complete(request_for(model, 1500))
    try:
        for event in call:
            received += len(event.delta.token_ids)
            if received >= 5:
                call.cancel()
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
        print(f"cancelled: {error.code().name} after {received} tokens")
        return
    raise RuntimeError("the generation should have been cancelled, but ended by itself")


def call_missing_model(generations: generation_pb2_grpc.GenerationServiceStub) -> None:
    """Show what an error of Kindling's carries."""
    try:
        next(generations.Complete(request_for("no-such-model", 1)))
    except grpc.RpcError as error:
        print("refused:", describe(error))
        return
    raise RuntimeError("a model that does not exist answered")


def describe(error: grpc.RpcError) -> str:
    """Say what went wrong, with the ErrorInfo that every error of Kindling's has: programs match on its reason."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    if status is None or not any(detail.Unpack(info) for detail in status.details):
        return f"{error.code().name}: {error.details()}"
    typed = f"reason={info.reason} domain={info.domain} metadata={dict(info.metadata)}"
    return f"{error.code().name} {typed}: {error.details()}"


def main(source: str, name: str) -> None:
    """Do everything, one after the other."""
    with grpc.insecure_channel(os.environ.get("KINDLING_ADDRESS", DEFAULT_ADDRESS)) as channel:
        generations = generation_pb2_grpc.GenerationServiceStub(channel)
        checkpoint = deploy(model_pb2_grpc.ModelServiceStub(channel), source, name).checkpoint
        print(f"deployed: {name}, {checkpoint.architecture} of {checkpoint.parameter_count} parameters")
        stream(generations, name)
        cancel_midway(generations, name)
        call_missing_model(generations)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: example.py SOURCE MODEL; the gateway's address is $KINDLING_ADDRESS, else {DEFAULT_ADDRESS}")
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as failure:
        sys.exit(f"error: {describe(failure)}")
