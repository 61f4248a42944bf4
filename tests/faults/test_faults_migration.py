"""A generation moves while something dies, stalls or ends: its reader gets what an undisturbed run gives."""

import os
import signal
import threading

import pytest

from kindling.v1 import inference_pb2
from support.frame_relay import FrameRelay, relay_to
from support.migrations import Movable, broken_calls_are_fine

PROMPT = list(range(20, 60))
HEAD = 20
Sampling = inference_pb2.SamplingParams


def moved_in_background(movable: Movable, source: str, target: str, relay: FrameRelay) -> threading.Thread:
    def move() -> None:
        with broken_calls_are_fine():
            list(movable.move(source, target, relay.address))

    thread = threading.Thread(target=move)
    thread.start()
    return thread


def test_a_generation_moves_and_its_reader_does_not_notice(movable, sampling, undisturbed, read) -> None:
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    events = list(movable.move(source, target))
    assert [event.WhichOneof("event") for event in events] == ["moved"]
    assert movable.generations(source) == []
    assert reader.whole() == undisturbed(PROMPT, sampling)


def test_twenty_times_to_and_fro(movable, undisturbed, read) -> None:
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=7000, ignore_eos=True)
    where = movable.map()
    reader = read(PROMPT, sampling)
    reader.wait_tokens(1)
    here, there = movable.home()
    for turn in range(20):
        events = list(where.move(here, there))
        assert [event.WhichOneof("event") for event in events] == ["moved"], (turn, len(reader.token_ids), events)
        here, there = there, here
    moved = len(reader.token_ids)
    assert moved < sampling.max_tokens, "it moved while it was read"
    assert reader.whole() == undisturbed(PROMPT, sampling)


def test_many_at_once(movable, sampling, undisturbed, read) -> None:
    prompts = [[20 + number, *PROMPT] for number in range(8)]
    expected = [undisturbed(prompt, sampling) for prompt in prompts]
    readers = [read(prompt, sampling) for prompt in prompts]
    for reader in readers:
        reader.wait_tokens(HEAD)
    source, target = movable.home()
    moved = [event for event in movable.move(source, target) if event.HasField("moved")]
    assert moved
    assert [reader.whole() for reader in readers] == expected


@pytest.mark.parametrize("message", [1, 2, 3], ids=["round-1", "round-2", "later"])
@pytest.mark.parametrize("victim", ["source", "target", "both"])
def test_a_worker_is_killed_in_a_round(movable, undisturbed, read, message: int, victim: str) -> None:
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True)
    expected = undisturbed(PROMPT, sampling)
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.hold_at = message
        moving = moved_in_background(movable, source, target, relay)
        relay.sent.wait_for(message)
        for name in {"source": [source], "target": [target], "both": [source, target]}[victim]:
            movable.cluster.kill(name)
        relay.heal()
        relay.cut()
        moving.join()
        assert reader.whole() == expected
    movable.wait_idle()


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_worker_is_killed_right_after_the_handover(movable, undisturbed, read, victim: str) -> None:
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True)
    expected = undisturbed(PROMPT, sampling)
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    workers = dict(zip(("source", "target"), movable.home(), strict=True))
    (event,) = movable.move(workers["source"], workers["target"])
    assert event.HasField("moved")
    movable.cluster.kill(workers[victim])
    assert reader.whole() == expected


def test_a_slow_network_only_takes_longer(movable, sampling, undisturbed, read) -> None:
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.delay_seconds = relay.answered.delay_seconds = 0.02
        (event,) = movable.move(source, target, relay.address)
        assert event.HasField("moved")
        assert reader.whole() == undisturbed(PROMPT, sampling)


@pytest.mark.parametrize("message", [1, 2, 3])
def test_a_partition_between_the_workers_leaves_the_source_generating(
    movable, sampling, undisturbed, read, message: int
) -> None:
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.hold_at = message
        moving = moved_in_background(movable, source, target, relay)
        relay.sent.wait_for(message)
        relay.partition()
        assert reader.whole() == undisturbed(PROMPT, sampling)
        moving.join()
    movable.wait_idle()


def test_a_generation_ends_in_the_middle_of_a_round(movable, undisturbed, read) -> None:
    sampling = Sampling(temperature=0, max_tokens=60, ignore_eos=True)
    expected = undisturbed(PROMPT, sampling)
    reader = read(PROMPT, sampling)
    reader.wait_tokens(5)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.hold_at = 1
        moving = moved_in_background(movable, source, target, relay)
        assert reader.whole() == expected
        relay.heal()
        moving.join()
    movable.wait_idle()


def test_a_stop_token_comes_in_the_middle_of_a_round(movable, undisturbed, read) -> None:
    free = undisturbed(PROMPT, Sampling(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True))
    stop = next(token for place, token in enumerate(free) if place > 40 and token not in free[:place])
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True, stop_token_ids=[stop])
    reader = read(PROMPT, sampling)
    reader.wait_tokens(5)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.hold_at = 2
        moving = moved_in_background(movable, source, target, relay)
        assert reader.whole() == free[: free.index(stop) + 1]
        relay.heal()
        moving.join()
    movable.wait_idle()


def test_a_reader_hangs_up_in_the_middle_of_a_round(movable, read) -> None:
    reader = read(PROMPT, Sampling(temperature=0, max_tokens=500, ignore_eos=True))
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    with relay_to(movable.address(target)) as relay:
        relay.sent.hold_at = 2
        moving = moved_in_background(movable, source, target, relay)
        relay.sent.wait_for(1)
        reader.leave()
        relay.heal()
        moving.join()
    movable.wait_idle()


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_worker_that_hangs_is_given_up_on(movable, undisturbed, read, who: str) -> None:
    sampling = Sampling(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True)
    expected = undisturbed(PROMPT, sampling)
    reader = read(PROMPT, sampling)
    reader.wait_tokens(HEAD)
    workers = dict(zip(("source", "target"), movable.home(), strict=True))
    if who == "target":
        (event,) = movable.move(workers["source"], workers["target"])
        assert event.HasField("moved")
    pid = movable.cluster.pid(workers[who])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert reader.whole() == expected
    finally:
        os.kill(pid, signal.SIGCONT)
    movable.wait_idle()
