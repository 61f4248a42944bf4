"""Holding, extending and releasing a generation changes none of its tokens, whatever computes them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import CaughtUp, Finished, FinishReason, Token
from kindling.worker.ports import Engine, StepEvent
from support.engines import CONTEXT_LENGTH, VOCAB_SIZE, prompt_of, request, run, tokens, write_model

MakeEngine = Callable[[], Engine]
GREEDY_AND_SEEDED = pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5, "top_p": 0.95}])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    write_model(directory, "llama")
    return directory


@pytest.fixture(params=["fake", "transformers"])
def make_engine(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[MakeEngine]:
    made: list[Engine] = []

    def fake() -> Engine:
        made.append(FakeEngine(vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH))
        return made[-1]

    def real() -> Engine:
        made.append(TransformersEngine(DirectoryWeightSource(checkpoint), checkpoint, max_batch_tokens=24))
        return made[-1]

    yield fake if request.param == "fake" else real
    for engine in made:
        engine.close()
        assert not engine.has_work


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()


def settle(engine: Engine) -> list[StepEvent]:
    """Step until there is nothing to do."""
    events: list[StepEvent] = []
    while engine.has_work:
        events += engine.step()
        engine.check_integrity()
    return events


@GREEDY_AND_SEEDED
def test_a_generation_received_in_rounds_goes_on_as_if_it_had_always_been_here(
    make_engine: MakeEngine, sampling: dict[str, float]
) -> None:
    whole = tokens(run(make_engine(), [request("x", prompt_of(60), max_tokens=30, **sampling)])["x"])
    engine = make_engine()
    engine.add(request("x", prompt_of(60), whole[:7], max_tokens=30, **sampling), held=True)
    assert settle(engine) == [CaughtUp("x", 7)]
    for start, end in ((7, 20), (20, 21), (21, 21), (21, 24)):
        engine.extend("x", tuple(whole[start:end]))
        assert settle(engine) == [CaughtUp("x", end)]
    assert engine.emitted("x") == tuple(whole[:24])
    engine.release("x")
    events = engine.step()
    assert [event.token_id for event in events if isinstance(event, Token)] == [whole[24]], "one step is enough"
    assert tokens([*events, *settle(engine)]) == whole[24:]


@GREEDY_AND_SEEDED
def test_a_hold_stops_at_the_step_boundary_and_changes_nothing(
    make_engine: MakeEngine, sampling: dict[str, float]
) -> None:
    asked = [request(name, prompt_of(40, n), max_tokens=25, **sampling) for n, name in enumerate("xy")]
    expected = run(make_engine(), asked)
    engine = make_engine()
    for one in asked:
        engine.add(one)
    events = [event for _ in range(9) for event in engine.step()]
    held = engine.hold("x")
    assert held == tuple(event.token_id for event in events if isinstance(event, Token) and event.generation_id == "x")
    assert engine.hold("x") == held
    events += settle(engine)
    assert engine.emitted("x") == held
    engine.release("x")
    events += settle(engine)
    of_x = [event for event in events if event.generation_id == "x" and not isinstance(event, CaughtUp)]
    of_y = [event for event in events if event.generation_id == "y"]
    assert (tokens(of_x), tokens(of_y)) == (tokens(expected["x"]), tokens(expected["y"]))


def test_one_held_in_the_middle_of_its_prompt_computes_it_and_no_more(make_engine: MakeEngine) -> None:
    whole = tokens(run(make_engine(), [request("x", prompt_of(90))])["x"])
    engine = make_engine()
    engine.add(request("x", prompt_of(90)))
    assert engine.hold("x") == ()
    assert settle(engine) == [CaughtUp("x", 0)]
    engine.release("x")
    assert tokens(settle(engine)) == whole


def test_a_prompt_of_one_token_is_caught_up_with_nothing_computed(engine: Engine) -> None:
    engine.add(request("x", (7,)), held=True)
    assert settle(engine) == [CaughtUp("x", 0)]
    engine.release("x")
    assert len(tokens(settle(engine))) == 8


def test_a_generation_at_rest_is_no_work_but_its_companions_are(engine: Engine) -> None:
    engine.add(request("held", prompt_of(30)), held=True)
    engine.add(request("other", prompt_of(5), max_tokens=12))
    events = settle(engine)
    assert CaughtUp("held", 0) in events
    assert len(tokens([event for event in events if event.generation_id == "other"])) == 12
    assert not engine.has_work
    assert engine.step() == []
    assert engine.stats.running == 1


def test_a_held_generation_is_cancelled_at_once(engine: Engine) -> None:
    engine.add(request("x", prompt_of(30), [1, 2, 3]), held=True)
    engine.step()
    assert engine.cancel("x") == Finished("x", FinishReason.CANCELLED, 30, 3)
    engine.check_integrity()
    assert not engine.has_work
    assert engine.stats.kv_bytes_used == 0
    assert engine.hold("x") is None
    assert engine.emitted("x") is None
    engine.release("x")
    assert engine.step() == []


@pytest.mark.parametrize(
    ("more", "sampling", "expected"),
    [
        ((9, 4), {"stop_token_ids": (4,)}, Finished("x", FinishReason.STOP, 3, 4)),
        ((9, 9, 9), {"max_tokens": 5}, Finished("x", FinishReason.LENGTH, 3, 5)),
        ((9, 4, 9), {"stop_token_ids": (4,)}, Finished("x", FinishReason.STOP, 3, 4)),
    ],
)
def test_tokens_that_end_a_held_generation_end_it(
    engine: Engine, more: tuple[int, ...], sampling: dict[str, int], expected: Finished
) -> None:
    engine.add(request("x", emitted=(1, 2), **sampling), held=True)
    settle(engine)
    engine.extend("x", more)
    assert engine.has_work
    assert engine.emitted("x") is None
    assert engine.hold("x") is None
    with pytest.raises(NotFoundError):
        engine.extend("x", (1,))
    assert settle(engine) == [expected]


def test_one_whose_tokens_end_it_already_ends_though_it_is_held(engine: Engine) -> None:
    engine.add(request("x", emitted=range(8)), held=True)
    assert settle(engine) == [Finished("x", FinishReason.LENGTH, 3, 8)]


def test_a_finished_generation_cannot_be_held_or_extended(engine: Engine) -> None:
    run(engine, [request("x")])
    assert engine.hold("x") is None
    engine.release("x")
    with pytest.raises(NotFoundError, match="has ended"):
        engine.extend("x", (1,))


def test_only_a_held_one_is_extended_and_only_by_the_models_tokens(engine: Engine) -> None:
    engine.add(request("x", max_tokens=20))
    engine.step()
    with pytest.raises(FailedPreconditionError, match="hold it first"):
        engine.extend("x", (1,))
    held = engine.hold("x")
    with pytest.raises(InvalidArgumentError, match="vocabulary"):
        engine.extend("x", (VOCAB_SIZE,))
    assert engine.emitted("x") == held
    engine.release("x")
    assert settle(engine)[-1] == Finished("x", FinishReason.LENGTH, 3, 20)
