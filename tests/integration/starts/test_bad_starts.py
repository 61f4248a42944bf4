"""What keeps a service from starting is said in one line, with what to do, and by its exit code: real processes."""

import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kindling.platform.errors import PermissionDeniedError
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import storage_pb2_grpc
from support.model_directories import import_model, make_model
from support.storage_node import Place
from support.storage_process import storage_process

SERVICES = Path(__file__).parents[3] / "services"
NOBODY = "127.0.0.1:1"  # a port that nothing listens on
START_SECONDS = 60


@dataclass(frozen=True)
class End:
    """How a service that could not start ended."""

    code: int | None
    failure: dict[str, Any]
    events: tuple[str, ...]


async def ended(service: str, **settings: str) -> End:
    """Run a service until it gives up."""
    prefix = f"KINDLING_{service.upper()}_"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"kindling.{service}"),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SERVICES),
            prefix + "ETCD_ENDPOINTS": NOBODY,
            **{prefix + name.upper(): value for name, value in settings.items()},
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            _, output = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    log = [json.loads(line) for line in output.decode().splitlines() if line.startswith("{")]
    failures = [line for line in log if line["event"] == "service_failed"]
    assert len(failures) == 1, output.decode()
    return End(process.returncode, failures[0], tuple(line["event"] for line in log))


def storage(place: Path, **settings: str) -> dict[str, str]:
    """What a storage manager cannot do without."""
    small = {"node_id": "node-a", "remote_uri": f"file://{place}/remote", "cache_dir": f"{place}/cache"}
    return small | {"pool_bytes": "64MiB", "measure_at_start": "false", **settings}


@pytest.fixture
def taken() -> Any:
    """The address of a port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_port_that_is_taken(taken: str, tmp_path: Path) -> None:
    ends = await asyncio.gather(
        ended("scheduler", listen_address=taken),
        ended("gateway", listen_address=taken, http_port="0"),
        ended("gateway", http_port=taken.rpartition(":")[2], listen_address="127.0.0.1:0"),
        ended("storage", **storage(tmp_path, listen_address=taken)),
        ended("worker", node_id="node-a", engine="fake", listen_address=taken),
    )
    assert [end.code for end in ends] == [1] * 5
    assert {end.failure["reason"] for end in ends} == {"PORT_IN_USE"}
    assert all(taken in end.failure["message"] and "another" in end.failure["message"] for end in ends)


async def test_etcd_that_does_not_answer_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    patience = {"etcd_wait_seconds": "3"}
    ends = await asyncio.gather(
        ended("scheduler", **patience),
        ended("storage", **storage(tmp_path, **patience)),
        ended("worker", node_id="node-a", engine="fake", **patience),
    )
    assert [end.code for end in ends] == [1] * 3
    assert {end.failure["reason"] for end in ends} == {"ETCD_UNREACHABLE"}
    assert all("etcd_awaited" in end.events for end in ends)
    assert all(f"did not answer at {NOBODY} within 3 s" in end.failure["message"] for end in ends)
    for end, service in zip(ends, ("SCHEDULER", "STORAGE", "WORKER"), strict=True):
        assert f"KINDLING_{service}_ETCD_ENDPOINTS" in end.failure["message"]


async def test_a_cache_directory_of_another_format_version(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "checkpoints").mkdir(parents=True)
    (cache / "format.json").write_text('{"version": 2}')
    end = await ended("storage", **storage(tmp_path))
    assert (end.code, end.failure["reason"]) == (1, "CACHE_DIR_FORMAT")
    assert "holds data of format 2, and this version of Kindling reads 1" in end.failure["message"]
    assert "empty it" in end.failure["message"]


async def test_a_mark_of_the_format_that_is_garbage(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "format.json").write_bytes(b"\xff\xfe")
    end = await ended("storage", **storage(tmp_path))
    assert (end.code, end.failure["reason"]) == (1, "CACHE_DIR_FORMAT")


@pytest.mark.parametrize("pages", [{"huge_pages": "false"}, {"huge_pages": "true", "reserve_huge_pages": "true"}])
async def test_a_pool_that_is_larger_than_memory(tmp_path: Path, pages: dict[str, str]) -> None:
    end = await ended("storage", **storage(tmp_path, pool_bytes="64TiB", **pages))
    assert (end.code, end.failure["reason"]) == (1, "POOL_TOO_LARGE")
    assert "huge_pages_reserved" not in end.events  # or little would be free because of us
    assert (64 << 40) - (1 << 40) < int(end.failure["needed_bytes"]) <= 64 << 40
    assert 0 < int(end.failure["available_bytes"]) < 64 << 40
    for number in ("needed_bytes", "available_bytes"):
        assert end.failure[number] in end.failure["message"]


@pytest.mark.parametrize("unreadable", ["model.safetensors", "."])
async def test_a_source_that_may_not_be_read(tmp_path: Path, unreadable: str) -> None:
    source = make_model(tmp_path / "model")
    path = source / unreadable
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        async with (
            storage_process(Place(tmp_path), command=_without_override()) as process,
            open_channel(process.address) as channel,
        ):
            with pytest.raises(PermissionDeniedError, match="Grant read permission") as caught:
                await import_model(storage_pb2_grpc.StorageServiceStub(channel), source.as_uri())
    finally:
        path.chmod(mode)
    assert caught.value.reason == "SOURCE_NOT_READABLE"


def _without_override() -> tuple[str, ...]:
    """Root reads what it likes, unless it gives that up."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
