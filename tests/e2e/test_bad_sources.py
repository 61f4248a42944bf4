"""A source that cannot be deployed is refused with a reason, and nothing is lost or left behind."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster


def missing(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        path.unlink()
    directory.rmdir()


def empty(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        path.unlink()


def truncated(directory: Path) -> None:
    shard = directory / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])


def overlapping(directory: Path) -> None:
    _rewrite_header(directory, lambda first, second: second.update(data_offsets=first["data_offsets"]))


def enormous_offset(directory: Path) -> None:
    _rewrite_header(directory, lambda first, second: second.update(data_offsets=[0, 2**63]))


def negative_offset(directory: Path) -> None:
    _rewrite_header(directory, lambda first, second: first.update(data_offsets=[-4, 4]))


def index_outside(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../other/model.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def unknown_architecture(directory: Path) -> None:
    _change_config(directory, architectures=["PerceptronForCausalLM"])


def remote_code(directory: Path) -> None:
    _change_config(directory, auto_map={"AutoModelForCausalLM": "modeling.Model"})


def _change_config(directory: Path, **changes: object) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))


def _rewrite_header(directory: Path, change: Callable[[dict, dict], None]) -> None:
    shard = directory / "model.safetensors"
    data = shard.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    change(tensors[0], tensors[1])
    encoded = json.dumps(header).encode()
    shard.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data[8 + length :])


CASES = {
    missing: "SOURCE_NOT_FOUND",
    empty: "SOURCE_EMPTY",
    truncated: "SHARD_TRUNCATED",
    overlapping: "OFFSETS_OVERLAP",
    enormous_offset: "OFFSETS_INVALID",
    negative_offset: "OFFSETS_INVALID",
    index_outside: "PATH_ESCAPES",
    pickled: "PICKLE_REFUSED",
    unknown_architecture: "ARCHITECTURE_UNSUPPORTED",
    remote_code: "REMOTE_CODE_REFUSED",
}


@pytest.mark.parametrize("spoil", list(CASES), ids=lambda spoil: spoil.__name__)
def test_a_bad_source_is_refused_and_leaves_nothing(
    spoil: Callable[[Path], None], cluster: RunningCluster, tmp_path: Path
) -> None:
    source = make_checkpoint(tmp_path / "model")
    spoil(source)
    remote = cluster.cluster.options.data_dir / "remote"
    before = (set(remote.iterdir()), api.status(cluster.grpc_address).models)
    with pytest.raises(grpc.RpcError) as caught:
        api.deploy(cluster.grpc_address, "bad", source)
    code, reason = _refusal(caught.value)
    assert code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
    assert reason == CASES[spoil]
    assert str(source) in caught.value.details()
    # A checkpoint that an earlier test deleted may still be on its way out.
    assert set(remote.iterdir()) - before[0] == set()
    assert api.status(cluster.grpc_address).models == before[1]


@pytest.mark.parametrize("name", ["a/b", "a\0b", "..", "a..b", "", "x" * 10_000, "-x", "ü"])
def test_a_bad_name_is_refused(name: str, cluster: RunningCluster, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.deploy(cluster.grpc_address, name, tmp_path)
    assert _refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_MODEL_NAME")


def _refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status is not None, error
    assert any(detail.Unpack(info) for detail in status.details if detail.Is(info.DESCRIPTOR))
    return error.code(), info.reason
