"""What a test of a worker with a real storage manager does over and over."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from kindling.platform.rpc.channel import open_channel
from kindling.v1 import inference_pb2, inference_pb2_grpc, storage_pb2, storage_pb2_grpc


async def import_checkpoint(storage_address: str, source: Path) -> str:
    """Pack a Hugging Face directory and return its digest."""
    async with open_channel(storage_address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        request = storage_pb2.ImportCheckpointRequest(request_id=uuid4().hex, source_uri=source.as_uri())
        events = [event async for event in stub.ImportCheckpoint(request)]
    return str(events[-1].imported.digest)


async def leases(storage_address: str) -> list[str]:
    """Who holds leases now."""
    async with open_channel(storage_address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
    return [lease.holder for lease in status.leases]


async def start_instance(stub: Any, digest: str, instance_id: str = "m-1") -> inference_pb2.StartInstanceResponse:
    """Start an instance and return the terminal event."""
    request = inference_pb2.StartInstanceRequest(instance_id=instance_id, model="m", checkpoint_digest=digest)
    events = [event async for event in stub.StartInstance(request)]
    assert events[-1].HasField("ready")
    return events[-1]


async def greedy(stub: inference_pb2_grpc.InferenceServiceStub, prompt: Sequence[int], count: int) -> list[int]:
    """The greedy continuation of a prompt."""
    request = inference_pb2.GenerateRequest(
        generation_id=uuid4().hex,
        instance_id="m-1",
        prompt_token_ids=prompt,
        sampling=inference_pb2.SamplingParams(max_tokens=count, ignore_eos=True),
    )
    events = [event async for event in stub.Generate(request)]
    assert events[-1].finished.completion_tokens == count
    return [token for event in events[:-1] for token in event.tokens.token_ids]


def generate_with_transformers(directory: Path, prompt: Sequence[int], count: int) -> list[int]:
    """What transformers itself makes of the same directory."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto").eval()
    inputs = torch.tensor([list(prompt)])
    with torch.inference_mode():
        output = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=-1,
        )
    return [int(token) for token in output[0, len(prompt) :]]
