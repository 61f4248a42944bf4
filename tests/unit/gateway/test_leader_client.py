"""Which scheduler is asked when the one that leads is lost, and for how long."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import ChannelPool
from support.gateway_scripts import JumpingClock

RETRY_SECONDS = 30.0
QUIET_SECONDS = 100.0


class PassingClock(JumpingClock):
    """Whoever sleeps makes the time pass."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class Addresses:
    """Channels that are the addresses themselves."""

    def get(self, address: str) -> str:
        return address


def client_of(clock: PassingClock) -> LeaderClient:
    return LeaderClient(cast("ChannelPool", Addresses()), ["a", "b"], clock, retry_seconds=RETRY_SECONDS)


def lost() -> UnavailableError:
    return UnavailableError("gone", reason="RPC_UNAVAILABLE")


@pytest.mark.parametrize("quiet_calls", [1, 2])
async def test_a_stream_that_was_quiet_for_long_goes_on_with_the_standby(quiet_calls: int):
    clock, asked = PassingClock(), []

    async def call(address: str) -> AsyncIterator[str]:
        asked.append(address)
        if len(asked) <= quiet_calls:
            clock.advance(QUIET_SECONDS)
            raise lost()
        yield "last"

    answers = client_of(clock).stream(call, lambda answer: answer == "last")
    assert [answer async for answer in answers] == ["last"]
    assert asked == ["a", "b", "a"][: quiet_calls + 1]


async def test_a_stream_that_nobody_answers_is_given_up_in_time():
    clock = PassingClock()
    began = clock.now()

    async def call(address: str) -> AsyncIterator[str]:
        raise lost()
        yield

    with pytest.raises(UnavailableError) as caught:
        await anext(client_of(clock).stream(call, lambda answer: True))
    assert caught.value.reason == "NO_SCHEDULER"
    assert RETRY_SECONDS <= clock.now() - began <= RETRY_SECONDS + 1
