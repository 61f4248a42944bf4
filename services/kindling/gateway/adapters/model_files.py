"""A model's small files, from the leader over gRPC."""

from collections.abc import AsyncIterable, Awaitable

import grpc

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.domain.model_info import ModelInfo
from kindling.platform.errors import AbortedError, DataLossError, FailedPreconditionError
from kindling.v1 import model_pb2, model_pb2_grpc

FETCH_SECONDS = 60.0
MAX_TOTAL_BYTES = 256 * 2**20
# What tokenizers are made of. Other files, among them any code, are not even kept.
_WANTED = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "merges.txt",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)


class ModelFiles:
    """Reads the files that a tokenizer is made of."""

    def __init__(self, leader: LeaderClient) -> None:
        self._leader = leader

    async def read(self, model: ModelInfo) -> dict[str, bytes]:
        """Return the files by name.

        Raises:
            AbortedError: MODEL_CHANGED, if the model points at another checkpoint by now.
            DataLossError: FILE_INCOMPLETE, if a file came in part.
        """
        request = model_pb2.ReadModelFilesRequest(name=model.name)

        def call(channel: grpc.aio.Channel) -> Awaitable[dict[str, bytes]]:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            return _collect(stub.ReadModelFiles(request, timeout=FETCH_SECONDS), model)

        return await self._leader.unary(call)


async def _collect(call: AsyncIterable[model_pb2.ReadModelFilesResponse], model: ModelInfo) -> dict[str, bytes]:
    files: dict[str, bytearray] = {}
    sizes: dict[str, int] = {}
    async for answer in call:
        part = answer.part
        if answer.checkpoint_digest != model.digest:
            raise AbortedError(f"{model.name!r} was deployed anew; ask again.", reason="MODEL_CHANGED")
        if part.path not in _WANTED:
            continue
        sizes[part.path] = part.file_bytes
        files.setdefault(part.path, bytearray()).extend(part.data)
        _require_room(sum(map(len, files.values())))
    for path, content in files.items():
        if len(content) != sizes[path]:
            raise DataLossError(
                f"{path} of {model.name!r} came with {len(content)} of {sizes[path]} bytes.", reason="FILE_INCOMPLETE"
            )
    return {path: bytes(content) for path, content in files.items()}


def _require_room(total_bytes: int) -> None:
    if total_bytes > MAX_TOTAL_BYTES:
        raise FailedPreconditionError(
            f"The tokenizer's files have more than {MAX_TOTAL_BYTES} bytes.", reason="TOKENIZER_UNREADABLE"
        )
