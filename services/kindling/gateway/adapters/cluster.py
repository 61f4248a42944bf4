"""The cluster's state, from the leader over gRPC."""

from collections.abc import Awaitable

import grpc

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.ports import Leader
from kindling.v1 import cluster_pb2, cluster_pb2_grpc

CALL_SECONDS = 2.0


class GrpcCluster:
    """Implements :class:`kindling.gateway.ports.Cluster`."""

    def __init__(self, leader: LeaderClient) -> None:
        self._leader = leader

    async def leader(self) -> Leader:
        """Return the leader; see the port."""

        def call(channel: grpc.aio.Channel) -> Awaitable[cluster_pb2.GetClusterStatusResponse]:
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            return stub.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(), timeout=CALL_SECONDS)

        status = await self._leader.unary(call, retry_seconds=CALL_SECONDS)
        return Leader(status.leader_id, status.leader_address)
