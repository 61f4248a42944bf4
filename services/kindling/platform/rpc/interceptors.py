"""The one place where a servicer's exceptions become statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc

from kindling.platform.error_groups import single_error
from kindling.platform.errors import InternalError, KindlingError
from kindling.platform.logging import get_logger
from kindling.platform.rpc.status import grpc_status_of

log = get_logger("kindling.rpc")
# grpc's stubs describe the synchronous handlers; those of grpc.aio have the same attributes.
Handler = Any
Context = grpc.aio.ServicerContext[Any, Any]


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns a :class:`KindlingError` into ``google.rpc.Status``; anything else into INTERNAL, logged with its trace."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the method's handler."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        if handler.unary_unary:
            return _unary(handler, method)
        if handler.unary_stream:
            call = _streaming(handler.unary_stream, method)
            return grpc.unary_stream_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)
        if handler.stream_stream:
            call = _streaming(handler.stream_stream, method)
            return grpc.stream_stream_rpc_method_handler(
                call, handler.request_deserializer, handler.response_serializer
            )
        raise NotImplementedError(f"{method}: Kindling has no methods that answer a stream with one message")


def _unary(handler: Handler, method: str) -> Handler:
    inner = handler.unary_unary

    async def call(request: Any, context: Context) -> Any:
        try:
            return await inner(request, context)
        except Exception as error:  # noqa: BLE001 - this interceptor is one of the two places that catch everything
            await _abort(context, method, error)

    return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)


def _streaming(inner: Handler, method: str) -> Handler:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            # Closed explicitly, so that a cancelled call's clean-up runs now and not when the garbage collector comes.
            async with aclosing(inner(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - as above
            await _abort(context, method, error)

    return call


async def _abort(context: Context, method: str, error: Exception) -> NoReturn:
    known = single_error(error)
    if not isinstance(known, KindlingError):
        if isinstance(error, grpc.aio.AbortError):
            raise error
        log.error("call_crashed", method=method, exc_info=error)
        known = InternalError(f"{method} failed because of a bug; the log has its trace", reason="INTERNAL")
    status = grpc_status_of(known)
    await context.abort(status.code, status.details, status.trailing_metadata or ())
