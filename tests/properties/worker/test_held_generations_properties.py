"""Whatever is held, extended and released when, no token is lost or repeated, and nothing is left behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.ports import Engine
from support.engines import CONTEXT_LENGTH, VOCAB_SIZE, prompt_of, request, run, tokens, write_model

KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 16 * 4
LENGTHS = (3, 200, 253, 256)
TOKENS = 14
STEPS = st.tuples(
    st.sampled_from(["step", "hold", "extend", "release", "replace"]), st.integers(0, 3), st.integers(0, 5)
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    write_model(directory, "llama")
    return directory


@pytest.fixture(scope="module")
def real(checkpoint: Path) -> Iterator[TransformersEngine]:
    """An engine with room for two or three of the four generations, so that they give way to each other."""
    engine = TransformersEngine(
        DirectoryWeightSource(checkpoint), checkpoint, kv_budget_bytes=1280 * KV_BYTES_PER_TOKEN, max_batch_tokens=48
    )
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def real_tokens(real: TransformersEngine) -> list[list[int]]:
    return undisturbed(real)


def asked(number: int, emitted: tuple[int, ...] = ()) -> GenerationRequest:
    sampling = {"temperature": 1.0, "seed": number} if number % 2 else {}
    return request(str(number), prompt_of(LENGTHS[number], number), emitted, max_tokens=TOKENS, **sampling)


def undisturbed(engine: Engine) -> list[list[int]]:
    return [tokens(run(engine, [asked(number)])[str(number)]) for number in range(len(LENGTHS))]


class Mischief:
    """Four generations of an engine, disturbed as told; what they emit and are extended by is one sequence."""

    def __init__(self, engine: Engine, expected: list[list[int]]) -> None:
        self.engine = engine
        self.expected = expected
        self.sequences: list[list[int]] = [[] for _ in LENGTHS]
        self.finished: dict[str, Finished] = {}
        self.held: set[int] = set()
        for number in range(len(LENGTHS)):
            engine.cancel(str(number))  # an example that failed may have left it
            engine.add(asked(number))

    def act(self, deed: str, number: int, amount: int) -> None:
        if str(number) in self.finished and deed != "step":
            return
        getattr(self, f"_{deed}")(number, amount)
        self.engine.check_integrity()

    def finish(self) -> None:
        for number in range(len(LENGTHS)):
            self._release(number, 0)
        while self.engine.has_work:
            self._step(0, 1)
            self.engine.check_integrity()

    def _step(self, _: int, amount: int) -> None:
        for _ in range(amount):
            for event in self.engine.step():
                if isinstance(event, Token):
                    sequence = self.sequences[int(event.generation_id)]
                    assert event.position == len(sequence)
                    assert int(event.generation_id) not in self.held
                    sequence.append(event.token_id)
                elif isinstance(event, Finished):
                    self.finished[event.generation_id] = event
                else:
                    assert int(event.generation_id) in self.held
                    assert event.position == len(self.sequences[int(event.generation_id)])

    def _hold(self, number: int, _: int) -> None:
        emitted = self.engine.hold(str(number))
        if emitted is not None:
            self.held.add(number)
            assert list(emitted) == self.sequences[number]

    def _extend(self, number: int, amount: int) -> None:
        if number in self.held and self.engine.emitted(str(number)) is not None:
            sequence = self.sequences[number]
            more = self.expected[number][len(sequence) : len(sequence) + amount]
            self.engine.extend(str(number), tuple(more))
            sequence += more

    def _release(self, number: int, _: int) -> None:
        self.engine.release(str(number))
        self.held.discard(number)

    def _replace(self, number: int, amount: int) -> None:
        """Cancel it and add it anew, held, as one that comes from another worker."""
        if len(self.sequences[number]) < TOKENS and self.engine.cancel(str(number)) is not None:
            self.engine.add(asked(number, tuple(self.sequences[number])), held=bool(amount % 2))
            (self.held.add if amount % 2 else self.held.discard)(number)


def check(engine: Engine, expected: list[list[int]], deeds: list[tuple[str, int, int]]) -> None:
    mischief = Mischief(engine, expected)
    for deed in deeds:
        mischief.act(*deed)
    mischief.finish()
    assert mischief.sequences == expected
    assert [mischief.finished[str(number)].reason for number in range(len(LENGTHS))] == [FinishReason.LENGTH] * 4
    assert engine.stats.running == engine.stats.waiting == engine.stats.kv_bytes_used == 0


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=100, deadline=None)
def test_no_token_is_lost_or_repeated_by_the_fake_engine(deeds: list[tuple[str, int, int]]) -> None:
    engine = FakeEngine(vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH)
    check(engine, undisturbed(FakeEngine(vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH)), deeds)


@given(deeds=st.lists(STEPS, max_size=40))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_token_is_lost_or_repeated_by_the_real_engine(
    real: TransformersEngine, real_tokens: list[list[int]], deeds: list[tuple[str, int, int]]
) -> None:
    check(real, real_tokens, deeds)
