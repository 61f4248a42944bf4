"""The HTTP API: OpenAI's paths, health and metrics."""

import time
import uuid
from dataclasses import replace

import orjson
from opentelemetry import trace
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kindling.gateway.completion import Completions
from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.domain.model_info import ModelInfo
from kindling.gateway.domain.openai_answer import AnswerHead, ChatFormat, CompletionFormat
from kindling.gateway.domain.openai_request import parse_chat, parse_completion
from kindling.gateway.domain.request import CompletionRequest
from kindling.gateway.http_answer import Answer
from kindling.gateway.http_body import read_json
from kindling.gateway.http_edge import Edge
from kindling.gateway.http_errors import crashed, http_exception
from kindling.gateway.ports import Cluster, Models
from kindling.gateway.settings import GatewaySettings
from kindling.platform.errors import KindlingError


class OpenAIApi:
    """The handlers of the HTTP API."""

    def __init__(self, completions: Completions, models: Models, cluster: Cluster, settings: GatewaySettings) -> None:
        self._completions = completions
        self._models = models
        self._cluster = cluster
        self._settings = settings

    async def chat(self, request: Request) -> Answer:
        """POST /v1/chat/completions."""
        parsed, options = parse_chat(await read_json(request, self._settings.max_body_bytes))
        answer_format = ChatFormat(_head("chatcmpl", parsed), options)
        events = self._completions.answer(replace(parsed, tenant=request.state.tenant))
        return Answer(events, answer_format, options, self._settings.queue_comment_seconds)

    async def complete(self, request: Request) -> Answer:
        """POST /v1/completions."""
        parsed, options = parse_completion(await read_json(request, self._settings.max_body_bytes))
        answer_format = CompletionFormat(_head("cmpl", parsed), options)
        events = self._completions.answer(replace(parsed, tenant=request.state.tenant))
        return Answer(events, answer_format, options, self._settings.queue_comment_seconds)

    async def list_models(self, _request: Request) -> Response:
        """GET /v1/models."""
        models = await self._models.list_all()
        return _json({"object": "list", "data": [_model(model) for model in models]})

    async def get_model(self, request: Request) -> Response:
        """GET /v1/models/{id}."""
        return _json(_model(await self._models.get(request.path_params["name"])))

    async def health(self, _request: Request) -> Response:
        """GET /health: 200 if a scheduler answers, else 503 and why."""
        try:
            leader = await self._cluster.leader()
        except KindlingError as error:
            body = {"status": "unavailable", "reason": error.reason, "message": error.message}
            return _json(body, status=503)
        return _json({"status": "ok", "scheduler": {"id": leader.scheduler_id, "address": leader.address}})

    async def metrics(self, _request: Request) -> Response:
        """GET /metrics, for Prometheus."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def build_http_app(api: OpenAIApi, api_keys: ApiKeys) -> Starlette:
    """Return the ASGI application."""
    return Starlette(
        routes=[
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
            Route("/v1/completions", api.complete, methods=["POST"]),
            Route("/v1/models", api.list_models),
            Route("/v1/models/{name:path}", api.get_model),
            Route("/health", api.health),
            Route("/metrics", api.metrics),
        ],
        middleware=[Middleware(Edge, api_keys=api_keys)],
        exception_handlers={HTTPException: http_exception, Exception: crashed},
    )


def _head(prefix: str, request: CompletionRequest) -> AnswerHead:
    answer_id = f"{prefix}-{uuid.uuid4().hex}"
    trace.get_current_span().set_attribute("gen_ai.response.id", answer_id)
    return AnswerHead(answer_id, int(time.time()), request.model)


def _model(model: ModelInfo) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_seconds,
        "owned_by": "kindling",
        "max_model_len": model.context_length,
    }


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
