"""The worker as a process: registry, shutdown, bad settings."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kindling.platform.etcd import Batch, EtcdClient, EventKind
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import inference_pb2, inference_pb2_grpc
from support.etcd_server import EtcdServer
from support.otlp_receiver import otlp_receiver
from support.worker_process import worker_process
from support.worker_service import DIGEST, generate_request
from support.worker_with_storage import start_instance


async def test_a_worker_is_in_the_registry_as_long_as_it_lives(
    etcd_server: EtcdServer, prefix: str, tmp_path: Path
) -> None:
    settings = {"engine": "fake", "name": "w7", "slots": "3", "memory_bytes": "5000"}
    async with worker_process(etcd_server.endpoint, prefix, tmp_path / "log", **settings) as worker:
        assert (worker.record.worker_id, worker.record.node_id) == ("node-a/w7", "node-a")
        assert (worker.record.device, worker.record.slots, worker.record.memory_bytes) == ("cpu", 3, 5000)
        async with EtcdClient([etcd_server.endpoint]) as etcd:
            updates = etcd.watch(prefix)
            await anext(updates)
            worker.process.send_signal(signal.SIGTERM)
            assert await worker.process.wait() == 0
            update = await anext(updates)
            assert isinstance(update, Batch)
            assert [event.kind for event in update.events] == [EventKind.DELETE]


async def test_sigterm_lets_generations_end(etcd_server: EtcdServer, prefix: str, tmp_path: Path) -> None:
    settings = {"engine": "fake", "fake_step_seconds": "0.01", "grace_seconds": "20"}
    async with (
        worker_process(etcd_server.endpoint, prefix, tmp_path / "log", **settings) as worker,
        open_channel(worker.address, retry=False) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        await start_instance(stub, DIGEST)
        watch = stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        call = stub.Generate(generate_request(max_tokens=100))
        first = await call.read()
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        worker.process.send_signal(signal.SIGTERM)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
        views = [view async for view in watch]
        assert views[-1].draining
        events = [first]
        while (event := await call.read()) is not grpc.aio.EOF:
            events.append(event)
        assert events[-1].finished.reason == inference_pb2.FINISH_REASON_LENGTH
        assert sum(len(event.tokens.token_ids) for event in events) == 100
        assert await worker.process.wait() == 0


async def test_sigterm_cancels_what_outlasts_the_grace(etcd_server: EtcdServer, prefix: str, tmp_path: Path) -> None:
    settings = {"engine": "fake", "fake_step_seconds": "0.01", "grace_seconds": "0.2"}
    async with (
        worker_process(etcd_server.endpoint, prefix, tmp_path / "log", **settings) as worker,
        open_channel(worker.address, retry=False) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        await start_instance(stub, DIGEST)
        call = stub.Generate(generate_request(max_tokens=4000))
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        last = None
        while (event := await call.read()) is not grpc.aio.EOF:
            last = event
        assert last is not None
        assert last.finished.reason == inference_pb2.FINISH_REASON_CANCELLED
        assert await worker.process.wait() == 0


async def test_sigterm_is_obeyed_while_etcd_is_away(tmp_path: Path) -> None:
    process = await _spawn(tmp_path, ENGINE="fake", ETCD_ENDPOINTS="127.0.0.1:1")
    assert process.stderr is not None
    while b"worker_started" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ENGINE": "vllm"}, "KINDLING_WORKER_ENGINE"),
        ({"SLOTS": "0", "ENGINE": "fake"}, "KINDLING_WORKER_SLOTS"),
        ({"NODE_ID": "../x", "ENGINE": "fake"}, "KINDLING_WORKER_NODE_ID"),
        ({"DEVICE": "toaster", "ENGINE": "fake"}, "KINDLING_WORKER_DEVICE"),
        ({}, "storage_address is needed"),
    ],
)
async def test_bad_settings_are_named_at_the_start(tmp_path: Path, settings: dict[str, str], complaint: str) -> None:
    process = await _spawn(tmp_path, **settings)
    _, errors = await process.communicate()
    assert process.returncode == 78
    assert complaint in errors.decode()


async def test_a_busy_port_is_said_clearly(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as busy:
        port = busy.sockets[0].getsockname()[1]
        process = await _spawn(tmp_path, ENGINE="fake", LISTEN_ADDRESS=f"127.0.0.1:{port}")
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"PORT_IN_USE" in errors


async def test_one_trace_covers_start_and_generation(
    etcd_server: EtcdServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with otlp_receiver() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        async with worker_process(etcd_server.endpoint, prefix, tmp_path / "log", engine="fake") as worker:
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
            parent = ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
            async with open_channel(worker.address) as channel:
                stub = inference_pb2_grpc.InferenceServiceStub(channel)
                request = inference_pb2.StartInstanceRequest(instance_id="m-1", model="m", checkpoint_digest=DIGEST)
                assert [event async for event in stub.StartInstance(request, metadata=[parent])]
                assert [event async for event in stub.Generate(generate_request(), metadata=[parent])]
            wanted = {"worker.start_instance", "worker.build_engine", "worker.generate"}
            await received.wait_for(lambda spans: wanted <= {span.name for span in spans.trace("ab" * 16)})
    spans = {span.name: span for span in received.trace("ab" * 16)}
    assert spans["worker.build_engine"].parent_id == spans["worker.start_instance"].span_id
    assert spans["worker.start_instance"].parent_id == spans["/kindling.v1.InferenceService/StartInstance"].span_id
    assert spans["worker.generate"].parent_id == spans["/kindling.v1.InferenceService/Generate"].span_id
    assert {span.service for span in spans.values()} == {"kindling-worker"}


async def test_one_trace_covers_a_migration_between_two_processes(
    etcd_server: EtcdServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"engine": "fake", "fake_step_seconds": "0.01", "grace_seconds": "0"}
    async with otlp_receiver() as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        async with (
            worker_process(etcd_server.endpoint, f"{prefix}a/", tmp_path / "a", **settings) as source,
            worker_process(etcd_server.endpoint, f"{prefix}b/", tmp_path / "b", **settings) as target,
        ):
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
            parent = ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
            async with open_channel(source.address) as here, open_channel(target.address) as there:
                stub, target_stub = (inference_pb2_grpc.InferenceServiceStub(channel) for channel in (here, there))
                await start_instance(stub, DIGEST)
                await start_instance(target_stub, DIGEST)
                call = stub.Generate(generate_request(max_tokens=100))
                token_ids = list((await call.read()).tokens.token_ids)
                request = inference_pb2.MigrateInstanceRequest(
                    instance_id="m-1", target_address=target.address, target_instance_id="m-1"
                )
                outcomes = [outcome async for outcome in stub.MigrateInstance(request, metadata=[parent])]
                assert [outcome.moved.generation_id for outcome in outcomes] == ["g"]
                while not (event := await call.read()).HasField("migrated"):
                    token_ids += event.tokens.token_ids
                assert event.migrated.worker_address == target.address
                attach = generate_request(max_tokens=100)
                attach.emitted_token_ids[:] = token_ids
                events = [event async for event in target_stub.Generate(attach)]
                assert events[0].tokens.position == len(token_ids)
                assert events[-1].finished.completion_tokens == 100
            wanted = {f"/kindling.v1.InferenceService/{name}" for name in ("MigrateInstance", "ReceiveGeneration")}
            await received.wait_for(lambda spans: wanted <= {span.name for span in spans.trace("ab" * 16)})


async def _spawn(directory: Path, **settings: str) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "KINDLING_WORKER_NODE_ID": "node-a",
        **{f"KINDLING_WORKER_{name}": value for name, value in settings.items()},
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kindling.worker"), env=environment, cwd=directory, stderr=asyncio.subprocess.PIPE
    )
