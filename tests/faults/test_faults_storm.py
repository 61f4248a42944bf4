"""Fifty generations at a time, and two minutes of workers and schedulers killed and generations moved at random.

A failure names the seed; KINDLING_STORM_SEED runs the same storm again.
"""

import os
import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from kindling.v1 import inference_pb2
from support.migrations import Movable, broken_calls_are_fine

SECONDS = 120.0
AT_ONCE = 50
SEED = int(os.environ.get("KINDLING_STORM_SEED", "20261122"))


@dataclass
class Weather:
    """What is done to the cluster, drawn from one seed."""

    movable: Movable
    chance: random.Random
    log: list[str] = field(default_factory=list)

    def strike(self) -> None:
        workers = ["node-0/worker-0", "node-1/worker-0"]
        self.chance.shuffle(workers)
        kind = self.chance.choices(["move", "kill worker", "kill scheduler"], [8, 2, 1])[0]
        self.log.append(f"{kind} {workers[0]}")
        if kind == "move":
            self._move(*workers)
        elif kind == "kill worker":
            self.movable.cluster.kill(workers[0])
        else:
            self.movable.cluster.kill("scheduler-0")

    def _move(self, source: str, target: str) -> None:
        with broken_calls_are_fine():
            where = self.movable.map()
            if {source, target} <= where.instances.keys() & where.addresses.keys():
                for event in where.move(source, target):
                    self.log.append(str(event.WhichOneof("event")))


@pytest.mark.timeout(600)
def test_a_storm(movable, undisturbed, read) -> None:
    chance = random.Random(SEED)
    plans = [_plan(chance) for _ in range(AT_ONCE)]
    expected = [undisturbed(prompt, sampling) for prompt, sampling in plans]
    weather, ended = Weather(movable, chance), threading.Event()
    wrong: list[str] = []
    answers = [0] * AT_ONCE

    def keep_asking(number: int) -> None:
        while not ended.is_set():
            reader = read(*plans[number])
            try:
                same = reader.whole() == expected[number]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                wrong.append(f"{number}: {error}")
                return
            if not same:
                wrong.append(f"{number}: {reader.token_ids} instead of {expected[number]}")
                return
            answers[number] += 1

    askers = [threading.Thread(target=keep_asking, args=(number,)) for number in range(AT_ONCE)]
    for asker in askers:
        asker.start()
    ends = time.monotonic() + SECONDS
    try:
        while time.monotonic() < ends:
            time.sleep(chance.uniform(0.5, 3.0))
            weather.strike()
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    moved = weather.log.count("moved")
    assert not wrong, f"seed {SEED}, after {weather.log}: {wrong[:3]}"
    assert min(answers) > 0
    assert moved > 0, f"nothing ever moved: {weather.log}"
    movable.wait_whole()
    movable.wait_idle()


def _plan(chance: random.Random) -> tuple[list[int], inference_pb2.SamplingParams]:
    prompt = [chance.randrange(10, 200) for _ in range(chance.randrange(4, 200))]
    temperature = chance.choice([0.0, 0.9])
    tokens = chance.randrange(50, 200)
    return prompt, inference_pb2.SamplingParams(
        temperature=temperature, seed=chance.randrange(2**31), max_tokens=tokens, ignore_eos=True
    )
