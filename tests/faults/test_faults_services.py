"""Schedulers, etcd and gateways die or stop while generations run and move."""

import os
import signal
import threading
import time

import grpc
import pytest

from kindling.v1 import cluster_pb2, cluster_pb2_grpc, inference_pb2
from support import api
from support.migrations import Movable, broken_calls_are_fine, until

PROMPT = list(range(20, 60))
HEAD = 20
SAMPLING = inference_pb2.SamplingParams(temperature=0.9, seed=7, max_tokens=500, ignore_eos=True)


def migrate_model(movable: Movable, target: str) -> list[cluster_pb2.MigrateModelResponse]:
    with api.channel(movable.cluster.grpc_address) as channel:
        request = cluster_pb2.MigrateModelRequest(model=movable.model, to_worker_id=target)
        return list(cluster_pb2_grpc.ClusterServiceStub(channel).MigrateModel(request, timeout=60))


def test_the_scheduler_moves_a_model(movable, undisturbed, read) -> None:
    expected = undisturbed(PROMPT, SAMPLING)
    reader = read(PROMPT, SAMPLING)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    last = migrate_model(movable, target)[-1]
    assert [one.stage for one in last.migrations] == [cluster_pb2.MIGRATION_STAGE_DONE]
    assert [one.stayed for one in last.migrations] == [0]
    assert movable.generations(target)
    assert reader.whole() == expected
    del source


@pytest.mark.parametrize("pause_seconds", [0.0, 0.02, 0.05, 0.1, 0.3])
def test_the_scheduler_is_killed_while_it_moves_a_model(movable, undisturbed, read, pause_seconds: float) -> None:
    expected = undisturbed(PROMPT, SAMPLING)
    reader = read(PROMPT, SAMPLING)
    reader.wait_tokens(HEAD)
    _, target = movable.home()

    def migrate() -> None:
        with broken_calls_are_fine():
            migrate_model(movable, target)

    migrating = threading.Thread(target=migrate)
    migrating.start()
    time.sleep(pause_seconds)  # wherever it is then: every step must bear it
    movable.cluster.kill("scheduler-0")
    assert reader.whole() == expected
    migrating.join()
    movable.wait_whole()
    movable.wait_idle()


@pytest.mark.parametrize("seconds", [10.0, 60.0])
def test_etcd_stops_for_a_while(movable, undisturbed, read, seconds: float) -> None:
    """What runs goes on, and moves; who asks anew is answered rightly or told that no scheduler leads."""
    expected = undisturbed(PROMPT, SAMPLING)
    where, (source, target) = movable.map(), sorted(movable.instances())
    readers = [read(PROMPT, SAMPLING) for _ in range(4)]
    for reader in readers:
        reader.wait_tokens(HEAD)
    pid = movable.cluster.pid("etcd")
    os.kill(pid, signal.SIGSTOP)
    try:
        ends = time.monotonic() + seconds
        list(where.move(source, target))
        assert [reader.whole() for reader in readers] == [expected] * 4
        while time.monotonic() < ends:
            late = read(PROMPT, SAMPLING)
            late.join(ends - time.monotonic())
            if not late.is_alive():
                assert late.token_ids == expected or late.error.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        os.kill(pid, signal.SIGCONT)
    movable.wait_whole()
    assert read(PROMPT, SAMPLING).whole() == expected


def test_the_gateway_is_killed_and_its_generations_end(movable, read) -> None:
    reader = read(PROMPT, SAMPLING)
    reader.wait_tokens(HEAD)
    source, target = movable.home()
    list(movable.move(source, target))
    movable.cluster.kill("gateway")
    reader.join()
    assert reader.error is not None
    movable.wait_whole()
    until(lambda: not any(movable.generations(worker) for worker in (source, target)), "the generation is dropped")
