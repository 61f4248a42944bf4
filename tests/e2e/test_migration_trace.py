"""A migration's two sides are one trace, linked with the request whose generation moved."""

import threading
from pathlib import Path

import grpc
import httpx

from kindling.v1 import cluster_pb2, cluster_pb2_grpc, model_pb2, telemetry_pb2
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster, cluster_options, running_cluster
from support.migrations import Movable

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_both_sides_of_a_migration_are_linked(tmp_path: Path) -> None:
    pace = (("KINDLING_WORKER_FAKE_STEP_SECONDS", "0.01"),)
    with running_cluster(cluster_options(tmp_path / "data", nodes=2, extra_env=pace)) as cluster:
        settings = model_pb2.ModelSettings(min_instances=2)
        api.deploy(cluster.grpc_address, "mover", make_checkpoint(tmp_path / "model"), settings)
        movable = Movable(cluster, "mover")
        movable.wait_whole()
        source, target = _move_while_it_is_read(cluster, movable)
        request = _trace(cluster, TRACE_ID)
        (link,) = {link.trace_id for span in request for link in span.links}
        migration = {span.span_id: span for span in _trace(cluster, link)}
    (moving,) = [span for span in migration.values() if span.name == "worker.move_generation"]
    assert moving.service_instance == source
    received = [one for one in migration.values() if one.name.endswith("/ReceiveGeneration")]
    assert target in {one.service_instance for one in received}
    assert all(one.parent_span_id in migration for one in received)
    assert TRACE_ID in {link.trace_id for link in moving.links}
    readers = {span.service_instance for span in request if span.links}
    assert readers == {source, target}


def _move_while_it_is_read(cluster: RunningCluster, movable: Movable) -> tuple[str, str]:
    """Returns the workers that it moved from and to."""
    begun, url = threading.Event(), f"{cluster.http_url}/v1/completions"
    body = {"model": "mover", "prompt": "fox", "max_tokens": 300, "temperature": 0, "stream": True}
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}

    def read() -> None:
        with httpx.stream("POST", url, json=body | {"ignore_eos": True}, headers=headers, timeout=60) as answer:
            for _ in answer.iter_lines():
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    source, target = movable.home()
    assert [event.WhichOneof("event") for event in movable.move(source, target)] == ["moved"]
    reader.join(60)
    return source, target


def _trace(cluster: RunningCluster, trace_id: str) -> list[telemetry_pb2.Span]:
    with grpc.insecure_channel(cluster.grpc_address) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        return list(stub.GetTrace(cluster_pb2.GetTraceRequest(request_id=trace_id), timeout=30).spans)
