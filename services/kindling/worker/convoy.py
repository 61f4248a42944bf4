"""Generations that move together: each round begins, and the handover, when all are done with the round before.

The target computes all that has come in one step. A generation handed over while another one's first round, its whole
prompt, is computed there would pause for as long as that takes.
"""

import asyncio
import math

from kindling.worker.stream import GenerationStream


class Convoy:
    """Meets when all of ``size`` members have come that have not left. A gap of ``enough`` tokens needs no round."""

    def __init__(self, size: int, enough: int) -> None:
        self._size = size
        self._enough = enough
        self._largest_gap = math.inf
        self._sent: dict[GenerationStream, int] = {}
        self._answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def wants_round(self, stream: GenerationStream, sent: int) -> bool:
        """Wait for the others, with ``sent`` tokens at the target; return whether to make one more round.

        All get the same answer: the largest gap, as it is when the last one comes, is too large, and has shrunk.
        """
        self._sent[stream] = sent
        answer = self._answer
        self._meet()
        try:
            return await asyncio.shield(answer)
        finally:
            self._sent.pop(stream, None)

    def leave(self) -> None:
        """Be waited for no more."""
        self._size -= 1
        self._meet()

    def _meet(self) -> None:
        if not self._sent or len(self._sent) < self._size:
            return
        largest_gap = max(len(stream.token_ids) - sent for stream, sent in self._sent.items())
        self._answer.set_result(self._enough < largest_gap < self._largest_gap)
        self._largest_gap = largest_gap
        self._sent = {}
        self._answer = asyncio.get_running_loop().create_future()
