"""Puts the gateway together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from kindling.gateway.adapters.cluster import GrpcCluster
from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.model_files import ModelFiles
from kindling.gateway.adapters.models import GrpcModels
from kindling.gateway.adapters.scheduler import GrpcScheduler
from kindling.gateway.adapters.tokenizers import TokenizerCache
from kindling.gateway.adapters.workers import GrpcWorkers
from kindling.gateway.background import Background
from kindling.gateway.completion import Completions
from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.forwarding import ClusterForwarder, ModelForwarder, TenantForwarder
from kindling.gateway.generation import Generations
from kindling.gateway.http_server import HttpServer
from kindling.gateway.routes import OpenAIApi, build_http_app
from kindling.gateway.servicer import GenerationServicer
from kindling.gateway.settings import GatewaySettings
from kindling.platform.clock import SystemClock
from kindling.platform.logging import get_logger
from kindling.platform.process import Shutdown
from kindling.platform.rpc.channel import ChannelPool
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import cluster_pb2_grpc, generation_pb2_grpc, model_pb2_grpc, tenant_pb2_grpc

log = get_logger("kindling.gateway")


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves, and where."""

    http: HttpServer
    rpc: RpcServer


async def serve(settings: GatewaySettings, shutdown: Shutdown) -> None:
    """Serve until shutdown is requested; answers under way have ``grace_seconds`` to end."""
    async with running(settings) as gateway:
        log.info("gateway_started", http_address=gateway.http.address, grpc_address=gateway.rpc.address)
        await shutdown.requested.wait()


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Serve between ``async with``'s begin and end."""
    async with AsyncExitStack() as stack:
        # A call that fails is sent elsewhere by us, not again to the same place by the channel.
        channels = await stack.enter_async_context(ChannelPool(retry=False))
        background = await stack.enter_async_context(Background(settings.grace_seconds))
        clock = SystemClock()
        leader = LeaderClient(channels, settings.scheduler_list, clock, retry_seconds=settings.scheduler_retry_seconds)
        models = GrpcModels(leader, background, clock)
        tokenizers = await stack.enter_async_context(
            TokenizerCache(ModelFiles(leader), background, settings.tokenizer_cache_size)
        )
        generations = Generations(
            GrpcScheduler(leader), GrpcWorkers(channels), background, clock, settings.resume_limits
        )
        completions = Completions(models, tokenizers, generations, background)
        http = _http_server(settings, OpenAIApi(completions, models, GrpcCluster(leader), settings))
        rpc = await stack.enter_async_context(
            _rpc_server(
                settings, completions, ModelForwarder(leader, ApiKeys(settings.api_key_list), models.forget), leader
            )
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(http.serve())
        stack.callback(http.stop)
        stack.push_async_callback(rpc.drain)
        yield Gateway(http, rpc)


def _http_server(settings: GatewaySettings, api: OpenAIApi) -> HttpServer:
    return HttpServer(
        build_http_app(api, ApiKeys(settings.api_key_list)),
        host=settings.http_host,
        port=settings.http_port,
        grace_seconds=settings.grace_seconds,
        max_header_bytes=settings.max_header_bytes,
    )


def _rpc_server(
    settings: GatewaySettings, completions: Completions, models: ModelForwarder, leader: LeaderClient
) -> RpcServer:
    keys = ApiKeys(settings.api_key_list)
    server = RpcServer(
        settings.listen_address, advertise_host=settings.advertise_host, grace_seconds=settings.grace_seconds
    )
    server.add(
        generation_pb2_grpc.add_GenerationServiceServicer_to_server,
        GenerationServicer(completions, keys),
        "kindling.v1.GenerationService",
    )
    server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, models, "kindling.v1.ModelService")
    server.add(
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server,
        ClusterForwarder(leader, keys),
        "kindling.v1.ClusterService",
    )
    server.add(
        tenant_pb2_grpc.add_TenantServiceServicer_to_server,
        TenantForwarder(leader, keys),
        "kindling.v1.TenantService",
    )
    return server
