"""Server reflection of every service: clients that have no protos can list and describe what is there."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from support import api
from support.cluster import RunningCluster

BUF = Path(__file__).parents[2] / ".tools" / "node_modules" / ".bin" / "buf"
COMMON = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "kindling.v1.TelemetryService"}
SECONDS = 30
# Each kind of process: where it listens, what it serves, and a method with what goes in and what comes out.
SERVICES: dict[str, tuple[Callable[[RunningCluster], str], set[str], tuple[str, str, str, str, bool]]] = {
    "gateway": (
        lambda cluster: cluster.grpc_address,
        {f"kindling.v1.{name}Service" for name in ("Generation", "Model", "Cluster", "Tenant")},
        ("GenerationService", "Complete", "CompleteRequest", "CompleteResponse", True),
    ),
    "scheduler": (
        lambda cluster: api.status(cluster.grpc_address).leader_address,
        {f"kindling.v1.{name}Service" for name in ("Scheduler", "Model", "Cluster", "Tenant")},
        ("SchedulerService", "Release", "ReleaseRequest", "ReleaseResponse", False),
    ),
    "storage": (
        lambda cluster: api.status(cluster.grpc_address).nodes[0].storage_address,
        {"kindling.v1.StorageService"},
        ("StorageService", "OpenCheckpoint", "OpenCheckpointRequest", "OpenCheckpointResponse", True),
    ),
    "worker": (
        lambda cluster: api.status(cluster.grpc_address).nodes[0].workers[0].address,
        {"kindling.v1.InferenceService"},
        ("InferenceService", "Generate", "GenerateRequest", "GenerateResponse", True),
    ),
}


@pytest.mark.parametrize("process", SERVICES)
def test_a_reflection_client_lists_services_and_describes_a_method(cluster: RunningCluster, process: str) -> None:
    address_of, served, (service, name, takes, gives, streams) = SERVICES[process]
    with grpc.insecure_channel(address_of(cluster)) as channel:
        reflected = ProtoReflectionDescriptorDatabase(channel)
        assert set(reflected.get_services()) == served | COMMON
        # Nothing is in this pool but what the server tells.
        method = DescriptorPool(reflected).FindServiceByName(f"kindling.v1.{service}").methods_by_name[name]
    assert [method.input_type.name, method.output_type.name] == [takes, gives]
    assert (method.client_streaming, method.server_streaming) == (False, streams)
    assert method.input_type.fields


def test_a_client_without_protos_calls_the_gateway(cluster: RunningCluster) -> None:
    """`buf curl` has no schema but what reflection gives it: it asks in JSON and gets JSON."""
    url = f"http://{cluster.grpc_address}/kindling.v1.ClusterService/GetClusterStatus"
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", "{}", url]
    done = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    assert json.loads(done.stdout)["leaderId"] == api.status(cluster.grpc_address).leader_id
