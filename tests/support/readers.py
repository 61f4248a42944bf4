"""Clients that read a stream on a thread of their own, and remember what came when."""

import threading
import time
from collections.abc import Iterator, Sequence

import grpc

from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2

READ_SECONDS = 120.0


class Reader(threading.Thread):
    """Reads one answer to a prompt of tokens to its end. Started when made."""

    def __init__(self, address: str, model: str, prompt: Sequence[int], sampling: inference_pb2.SamplingParams) -> None:
        super().__init__(name=f"reader of {model}")
        self.token_ids: list[int] = []
        self.times: list[float] = []
        self.reason = 0
        self.error: grpc.RpcError | None = None
        self._request = generation_pb2.CompleteRequest(
            model=model, token_ids=generation_pb2.TokenIds(ids=prompt), sampling=sampling
        )
        self._address = address
        self._came = threading.Condition()
        self._over = False
        self._call: grpc.Call | None = None
        self.start()

    def run(self) -> None:
        try:
            with grpc.insecure_channel(self._address) as channel:
                stub = generation_pb2_grpc.GenerationServiceStub(channel)
                self._call = stub.Complete(self._request, timeout=READ_SECONDS)
                for event in self._call:
                    self._take(event)
        except grpc.RpcError as error:
            self.error = error
        finally:
            with self._came:
                self._over = True
                self._came.notify_all()

    def wait_tokens(self, count: int) -> None:
        """Return once so many tokens have come; AssertionError if the answer ends before."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.token_ids) >= count or self._over, READ_SECONDS)
        assert len(self.token_ids) >= count, f"the answer ended after {len(self.token_ids)} tokens: {self.error}"

    def whole(self) -> list[int]:
        """Return all tokens once the answer has ended; raise what it failed with."""
        self.join(READ_SECONDS)
        assert not self.is_alive(), f"the answer hangs after {len(self.token_ids)} tokens"
        if self.error is not None:
            raise self.error
        return self.token_ids

    def leave(self) -> None:
        """Hang up in the middle."""
        assert self._call is not None
        self._call.cancel()
        self.join(READ_SECONDS)

    def gaps(self) -> Iterator[float]:
        """Seconds between each token and the one before."""
        return (later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False))

    def _take(self, event: generation_pb2.CompleteResponse) -> None:
        now = time.perf_counter()
        self.reason = event.choice_finished.reason or self.reason
        with self._came:
            self.token_ids += event.delta.token_ids
            self.times += [now] * len(event.delta.token_ids)
            self._came.notify_all()
