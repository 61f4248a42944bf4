"""TCP ports on the loopback interface."""

import socket
from contextlib import ExitStack

from kindling.platform.errors import FailedPreconditionError

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def require_free(port: int, option: str) -> None:
    """Raise PORT_IN_USE if somebody listens on ``port``; ``option`` is what the user can change."""
    with socket.socket() as probe:
        # As servers do: ports in TIME_WAIT count as free, ports that somebody listens on do not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise FailedPreconditionError(
                f"port {port} on {HOST} is taken ({error.strerror}); "
                f"stop what listens there, or choose another {option}",
                reason="PORT_IN_USE",
                metadata={"port": str(port), "option": option},
            ) from None


def require_different(http_port: int, grpc_port: int) -> None:
    """Raise PORT_IN_USE if both are to be served on one port."""
    if http_port == grpc_port:
        raise FailedPreconditionError(
            f"port {http_port} cannot serve both HTTP and gRPC; choose another --http-port or --grpc-port",
            reason="PORT_IN_USE",
            metadata={"port": str(http_port)},
        )
