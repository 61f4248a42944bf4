"""Every engine lets tenants in by turns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.domain.generation import Finished
from kindling.worker.ports import Engine
from support.engines import CONTEXT_LENGTH, VOCAB_SIZE, request, run, write_model

PLACES = 2


def _fake(_directory: Path) -> Engine:
    return FakeEngine(vocab_size=VOCAB_SIZE, context_length=CONTEXT_LENGTH, max_running=PLACES)


def _transformers(directory: Path) -> Engine:
    write_model(directory, "llama")
    return TransformersEngine(DirectoryWeightSource(directory), directory, max_running=PLACES)


@pytest.fixture(params=[_fake, _transformers], ids=["fake", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine: Engine = request.param(tmp_path)
    yield engine
    engine.close()


def _order(engine: Engine, *names: str, emitted: tuple[int, ...] = ()) -> list[str]:
    """The order in which generations begin, each named after its tenant and a number."""
    outcome = run(engine, [request(name, tenant=name[:-1], max_tokens=4, emitted=emitted) for name in names])
    assert all(isinstance(events[-1], Finished) for events in outcome.values())
    return list(outcome)


def test_a_quiet_tenants_first_generation_comes_before_the_second_of_a_flood(engine: Engine) -> None:
    order = _order(engine, "flood1", "flood2", "flood3", "flood4", "flood5", "quiet1", "quiet2", "third1")
    assert order == ["flood1", "quiet1", "third1", "flood2", "quiet2", "flood3", "flood4", "flood5"]


def test_one_tenants_generations_come_in_order(engine: Engine) -> None:
    assert _order(engine, "a3", "a1", "a2", "a4") == ["a3", "a1", "a2", "a4"]


def test_one_that_comes_later_gets_the_next_free_place(engine: Engine) -> None:
    for number in range(6):
        engine.add(request(f"flood{number}", tenant="flood", max_tokens=4))
    engine.step()
    engine.add(request("quiet", tenant="quiet", max_tokens=4))
    begun = list(run(engine, []))
    assert begun.index("quiet") <= PLACES


def test_resumed_generations_keep_their_tenant(engine: Engine) -> None:
    asked = request("x", tenant="a")
    assert asked.going_on_after((1, 2)).tenant == "a"
    assert _order(engine, "flood1", "flood2", "flood3", "quiet1", emitted=(5,))[:2] == ["flood1", "quiet1"]


def test_one_that_waits_can_be_cancelled(engine: Engine) -> None:
    for name in ("a1", "a2", "a3", "b1"):
        engine.add(request(name, tenant=name[0], max_tokens=4))
    assert engine.cancel("b1") is not None
    assert "b1" not in run(engine, [])
