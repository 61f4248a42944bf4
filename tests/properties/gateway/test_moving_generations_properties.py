"""Whatever workers do, and whenever: the reader gets the same tokens, each once, in order, or hears that all hang."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.gateway.domain.events import Step
from kindling.gateway.domain.resume_budget import ResumeLimits
from kindling.platform.errors import DeadlineExceededError
from support.gateway_scripts import FOREVER, Die, Emit, Live, MoveTo, Pause, Script, Stage, stage, token_at, tokens_of

INSTANCES = "abc"
ACTIONS = st.one_of(
    st.builds(Emit, st.integers(1, 5)),
    st.builds(Live),
    st.builds(Pause, st.sampled_from([0.5, 2.9, 3.0, 3.1, 6.5, 20.0, FOREVER])),
    st.builds(MoveTo, st.sampled_from(INSTANCES)),
    st.builds(Die, st.sampled_from(["RPC_UNAVAILABLE", "INSTANCE_UNKNOWN", "GENERATION_EXISTS"])),
)
SCRIPTS = st.dictionaries(st.sampled_from(INSTANCES), st.lists(st.lists(ACTIONS, max_size=5), max_size=6))


@given(scripts=SCRIPTS, total=st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_the_tokens_are_the_same(scripts: dict[str, list[Script]], total: int):
    asyncio.run(_play(scripts, total))


async def _play(scripts: dict[str, list[Script]], total: int) -> None:
    attempts = sum(map(len, scripts.values()))
    hangs = any(Pause(FOREVER) in script for of_one in scripts.values() for script in of_one)
    async with stage(scripts, instances=INSTANCES, total=total, limits=ResumeLimits(attempts + 1)) as on:
        outcome = await _outcome(on)
        if isinstance(outcome, DeadlineExceededError):
            # All that are left hang: others have died, or were slow and gave their turn to one that hangs.
            assert (outcome.reason, hangs) == ("WORKERS_SILENT", True)
        else:
            assert tokens_of(outcome) == [token_at(position) for position in range(total)]


async def _outcome(on: Stage) -> list[Step] | DeadlineExceededError:
    try:
        return await on.play()
    except DeadlineExceededError as error:
        return error
