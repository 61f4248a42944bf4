"""``python -m kindling.platform.rpc.probe HOST:PORT``: exits 0 if the server there says SERVING, as containers ask."""

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0
EXIT_HEALTHY, EXIT_UNHEALTHY, EXIT_USAGE = 0, 1, 2
_ARGUMENTS = 2


def main() -> int:
    """Ask once, by grpc.health.v1, and say on standard error why the answer is no."""
    if len(sys.argv) != _ARGUMENTS:
        sys.stderr.write("say which server: python -m kindling.platform.rpc.probe HOST:PORT\n")
        return EXIT_USAGE
    address = sys.argv[1]
    try:
        status = _ask(address)
    except grpc.RpcError as error:
        sys.stderr.write(f"{address} does not answer: {_details(error)}\n")
        return EXIT_UNHEALTHY
    if status != health_pb2.HealthCheckResponse.SERVING:
        sys.stderr.write(f"{address} says {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}\n")
        return EXIT_UNHEALTHY
    return EXIT_HEALTHY


def _ask(address: str) -> "health_pb2.HealthCheckResponse.ServingStatus.ValueType":
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
    return answer.status


def _details(error: Any) -> str:
    """What gRPC says of a failed call: what stubs raise is a call, too, though its type does not tell."""
    return str(error.details())


if __name__ == "__main__":
    sys.exit(main())
