"""What every engine does, whatever computes its tokens."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kindling.platform.errors import AlreadyExistsError, InvalidArgumentError
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import Finished, FinishReason, Token
from kindling.worker.ports import Engine
from support.engines import CONTEXT_LENGTH, VOCAB_SIZE, prompt_of, reason, request, run, tokens, write_model

MakeEngine = Callable[[], Engine]


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
        engine.close()
        assert not engine.has_work


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()


def test_an_engine_without_generations_has_no_work(engine: Engine) -> None:
    assert not engine.has_work
    assert engine.step() == []
    assert engine.context_length == CONTEXT_LENGTH


def test_generations_run_to_their_limit_with_contiguous_positions(engine: Engine) -> None:
    requests = [request(str(n), prompt_of(n), max_tokens=3 * n) for n in (1, 4, 30)]
    outcome = run(engine, requests)
    for n in (1, 4, 30):
        assert len(tokens(outcome[str(n)])) == 3 * n
        assert outcome[str(n)][-1] == Finished(str(n), FinishReason.LENGTH, prompt_tokens=n, completion_tokens=3 * n)


def test_the_same_request_gives_the_same_tokens_in_any_company(make_engine: MakeEngine) -> None:
    alone = run(make_engine(), [request("x", prompt_of(20), temperature=1.0, seed=5)])["x"]
    company = [request(str(n), prompt_of(n), temperature=1.0, seed=n) for n in (3, 40, 7)]
    together = run(make_engine(), [*company, request("x", prompt_of(20), temperature=1.0, seed=5)], every=2)["x"]
    assert tokens(together) == tokens(alone)


def test_another_seed_gives_other_tokens(engine: Engine) -> None:
    outcome = run(engine, [request(str(seed), temperature=1.0, seed=seed) for seed in (1, 2)])
    assert tokens(outcome["1"]) != tokens(outcome["2"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_a_resumed_generation_continues_as_if_nothing_had_happened(
    make_engine: MakeEngine, temperature: float, cut: int
) -> None:
    sampling = {"temperature": temperature, "seed": 11, "max_tokens": 20, "top_logprobs": 0}
    whole = tokens(run(make_engine(), [request("x", prompt_of(30), **sampling)])["x"])
    resumed = run(make_engine(), [request("x", prompt_of(30), whole[:cut], **sampling)])["x"]
    assert tokens(resumed) == whole[cut:]
    assert resumed[-1] == Finished("x", FinishReason.LENGTH, prompt_tokens=30, completion_tokens=20)


def test_a_stop_token_is_emitted_and_ends_the_generation(make_engine: MakeEngine) -> None:
    whole = tokens(run(make_engine(), [request("x", max_tokens=20)])["x"])
    stop = whole[5]
    stopped = run(make_engine(), [request("x", max_tokens=20, stop_token_ids=(stop,))])["x"]
    assert tokens(stopped) == whole[: whole.index(stop) + 1]
    assert reason(stopped) is FinishReason.STOP


def test_a_request_that_its_emitted_tokens_end_already_just_ends(make_engine: MakeEngine) -> None:
    engine = make_engine()
    outcome = run(engine, [request("full", emitted=range(8)), request("stopped", emitted=[4, 9], stop_token_ids=(9,))])
    assert outcome["full"] == [Finished("full", FinishReason.LENGTH, 3, 8)]
    assert outcome["stopped"] == [Finished("stopped", FinishReason.STOP, 3, 2)]


def test_max_tokens_is_capped_by_the_context(engine: Engine) -> None:
    outcome = run(engine, [request("x", prompt_of(CONTEXT_LENGTH - 5), max_tokens=10**9)])
    assert len(tokens(outcome["x"])) == 5
    assert reason(outcome["x"]) is FinishReason.LENGTH


def test_logprobs_are_reported_only_if_asked_for(engine: Engine) -> None:
    outcome = run(engine, [request("none"), request("own", top_logprobs=0), request("top", top_logprobs=3)])
    first = {name: events[0] for name, events in outcome.items()}
    assert all(isinstance(token, Token) for token in first.values())
    none, own, top = (first[name] for name in ("none", "own", "top"))
    assert isinstance(none, Token)
    assert (none.logprob, none.top_logprobs) == (None, ())
    assert isinstance(own, Token)
    assert own.logprob is not None
    assert own.top_logprobs == ()
    assert isinstance(top, Token)
    assert len(top.top_logprobs) == 3
    assert top.top_logprobs[0] == (top.token_id, top.logprob)


@pytest.mark.parametrize(
    ("prompt", "emitted", "expected"),
    [
        ((), (), "PROMPT_EMPTY"),
        ((VOCAB_SIZE,), (), "TOKEN_ID_INVALID"),
        ((-1,), (), "TOKEN_ID_INVALID"),
        ((1,), (VOCAB_SIZE,), "TOKEN_ID_INVALID"),
        ((1,) * CONTEXT_LENGTH, (), "CONTEXT_LENGTH_EXCEEDED"),
        ((1,) * (CONTEXT_LENGTH - 1), (1, 1), "CONTEXT_LENGTH_EXCEEDED"),
    ],
)
def test_a_request_that_cannot_run_is_refused(
    engine: Engine, prompt: tuple[int, ...], emitted: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        engine.add(request("x", prompt, emitted))
    assert raised.value.reason == expected
    assert raised.value.field in {"prompt_token_ids", "emitted_token_ids"}
    assert not engine.has_work


def test_an_id_in_use_is_refused_and_free_again_afterwards(engine: Engine) -> None:
    engine.add(request("x"))
    with pytest.raises(AlreadyExistsError, match="running already"):
        engine.add(request("x"))
    first = tokens(run(engine, [])["x"])
    assert tokens(run(engine, [request("x")])["x"]) == first


def test_cancel_ends_a_generation_at_once_and_frees_its_memory(engine: Engine) -> None:
    engine.add(request("kept", max_tokens=12))
    engine.add(request("gone", prompt_of(9), max_tokens=100))
    events = [event for _ in range(4) for event in engine.step()]
    emitted = sum(event.generation_id == "gone" for event in events)
    assert engine.stats.running == 2
    before = engine.stats.kv_bytes_used
    assert engine.cancel("gone") == Finished("gone", FinishReason.CANCELLED, 9, emitted)
    assert engine.stats.kv_bytes_used < before
    assert engine.cancel("gone") is None
    engine.check_integrity()
    rest = run(engine, [])
    assert set(rest) == {"kept"}
    assert engine.stats.kv_bytes_used == 0


def test_a_generation_can_be_cancelled_before_its_first_step(engine: Engine) -> None:
    engine.add(request("x"))
    assert engine.cancel("x") == Finished("x", FinishReason.CANCELLED, 3, 0)
    assert not engine.has_work
    assert engine.step() == []
