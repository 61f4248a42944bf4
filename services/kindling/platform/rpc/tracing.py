"""Client spans of gRPC calls that end when the call does, and calls that go without.

OpenTelemetry's own end with the last message that is read, and those of a unary call not at all if it is cancelled.
Ours cancel streams as soon as they know enough, so their spans would end when the garbage collector comes, or never.

Calls that last far longer than the request that made them, such as leases, have no span: it would reach collectors
hours after its parts, which would be orphans until then.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation.grpc import _aio_client as instrumentation
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.propagate import extract, inject

Metadata = tuple[tuple[str, str], ...]


class _EndsWithTheCall:
    """Replaces how spans end in OpenTelemetry's interceptors."""

    async def _wrap_unary_response(self, continuation: Callable[[], Awaitable[Any]], span: trace.Span) -> Any:
        try:
            call = await continuation()
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            span.end()
            raise
        return self._wrap_stream_response(span, call)

    def _wrap_stream_response(self, span: trace.Span, call: Any) -> Any:
        call.add_done_callback(partial(_end, span))
        return call


class _UnaryUnary(_EndsWithTheCall, instrumentation.UnaryUnaryAioClientInterceptor):
    pass


class _UnaryStream(_EndsWithTheCall, instrumentation.UnaryStreamAioClientInterceptor):
    pass


class _StreamStream(_EndsWithTheCall, instrumentation.StreamStreamAioClientInterceptor):
    pass


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Return what traces the calls of a channel."""
    tracer = trace.get_tracer(__name__)
    return [kind(tracer) for kind in (_UnaryUnary, _UnaryStream, _StreamStream)]


@contextmanager
def without_span() -> Iterator[Metadata]:
    """Have calls that begin inside the block make no span; metadata to send with them names the current one."""
    carrier: dict[str, str] = {}
    inject(carrier)
    with suppress_instrumentation():
        yield tuple(carrier.items())


@contextmanager
def apart() -> Iterator[None]:
    """Have what happens inside the block be no part of the current span: it is in traces of its own."""
    token = attach(Context())
    try:
        yield
    finally:
        detach(token)


@contextmanager
def as_part_of_caller(context: grpc.aio.ServicerContext[Any, Any]) -> Iterator[None]:
    """Make the span that an untraced call's metadata names the current one; the block must not yield to callers."""
    token = attach(extract(dict(context.invocation_metadata() or ())))
    try:
        yield
    finally:
        detach(token)


def _end(span: trace.Span, call: Any) -> None:
    code = _code(call)
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    # Cancelling is how a stream is left that has told enough.
    if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        span.set_status(trace.StatusCode.ERROR, code.name)
    span.end()


def _code(call: Any) -> grpc.StatusCode:
    """Return the status of a call that is over, for which its coroutine has nothing to wait."""
    coroutine = call.code()
    try:
        coroutine.send(None)
    except StopIteration as done:
        return grpc.StatusCode(done.value)
    coroutine.close()
    return grpc.StatusCode.UNKNOWN
