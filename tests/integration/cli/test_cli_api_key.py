"""The key in KINDLING_API_KEY goes with every call of the command line."""

import pytest

from kindling.cli.client import connect
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import model_pb2, model_pb2_grpc


class Models(model_pb2_grpc.ModelServiceServicer):
    """Notes the key of each call."""

    def __init__(self) -> None:
        self.keys: list[str | bytes | None] = []

    async def ListModels(self, request, context):
        self.keys.append(dict(context.invocation_metadata()).get("authorization"))
        return model_pb2.ListModelsResponse()

    async def DeployModel(self, request, context):
        self.keys.append(dict(context.invocation_metadata()).get("authorization"))
        yield model_pb2.DeployModelResponse(deployed=model_pb2.Model(name=request.name))


async def keys_of_calls() -> list[str | bytes | None]:
    models, server = Models(), RpcServer("127.0.0.1:0")
    server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, models, "kindling.v1.ModelService")
    async with server, connect(server.address) as client:
        await client.models()
        assert [event.deployed.name async for event in client.deploy(model_pb2.DeployModelRequest(name="m"))] == ["m"]
    return models.keys


@pytest.mark.parametrize(("key", "sent"), [("acme:SECRET", "Bearer acme:SECRET"), ("", None)])
async def test_it_is_sent_with_calls_and_streams(monkeypatch: pytest.MonkeyPatch, key: str, sent: str | None) -> None:
    monkeypatch.setenv("KINDLING_API_KEY", key)
    assert await keys_of_calls() == [sent, sent]
