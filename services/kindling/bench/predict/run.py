"""The whole run: calibrate a real cluster, replay requests in it, then in the simulator."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import grpc

from kindling.bench.predict.bench_cluster import Node, StartCluster, deployed, forget_dram, status
from kindling.bench.predict.calibrate import calibrate
from kindling.bench.predict.foretell import foretell
from kindling.bench.predict.models import checkpoint_bytes, make_models
from kindling.bench.predict.options import CHUNK_BYTES, CONTEXT_TOKENS, PredictOptions
from kindling.bench.predict.profile import learned, starts_by_tier, startup_errors
from kindling.bench.predict.results import Replay, Results, Startups
from kindling.bench.predict.session import Answer, Session
from kindling.platform.clock import Clock, SystemClock
from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.lengths import FittedLengths, lengths_named
from kindling.simulate.redraw import redraw
from kindling.simulate.workload import Arrival, Workload

Say = Callable[[str], None]
LENGTHS: Final = "gsm8k"


def measure(start_cluster: StartCluster, options: PredictOptions, say: Say) -> Results:
    """Return what was measured and what was foretold.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED if the models cannot be made, NOTHING_LEARNED.
        InvalidArgumentError: NO_REQUESTS, or what ``redraw`` raises.
        KindlingError: what the cluster answers with.
    """
    workloads = {seed: draw(options, seed) for seed in options.seeds}
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        say("making the models")
        models = make_models(Path(name), options)
        replays = [
            asyncio.run(_measure(start_cluster, Path(name) / f"cluster-{seed}", models, seed, workload, options, say))
            for seed, workload in workloads.items()
        ]
    return Results(tuple(replays))


def draw(options: PredictOptions, seed: int) -> Workload:
    """Return the requests to replay for a seed.

    Raises InvalidArgumentError NO_REQUESTS, or what ``redraw`` raises.
    """
    lengths = FittedLengths(lengths_named(LENGTHS), CONTEXT_TOKENS)
    duration = options.duration_seconds
    workload = redraw(
        options.rate,
        options.names,
        cv=options.cv,
        zipf=options.zipf,
        lengths=lengths,
        seed=seed,
        duration_seconds=duration,
    )
    if not workload.arrivals:
        message = f"No request comes in {workload.name}, seed {seed}; give a higher rate or a longer duration."
        raise InvalidArgumentError(message, reason="NO_REQUESTS")
    return workload


async def _measure(
    start_cluster: StartCluster,
    place: Path,
    models: Mapping[str, Path],
    seed: int,
    workload: Workload,
    options: PredictOptions,
    say: Say,
) -> Replay:
    size_bytes = checkpoint_bytes(next(iter(models.values())))
    pool_bytes = int(options.pool_models * size_bytes) // CHUNK_BYTES * CHUNK_BYTES
    node = Node(options.workers, pool_bytes, int(size_bytes / options.load_seconds))
    say(f"seed {seed}: starting the cluster")
    async with start_cluster(place, node) as cluster, deployed(cluster, models, options) as channel:
        return await _compare(channel, node, size_bytes, seed, workload, options, say)


async def _compare(
    channel: grpc.aio.Channel,
    node: Node,
    size_bytes: int,
    seed: int,
    workload: Workload,
    options: PredictOptions,
    say: Say,
) -> Replay:
    clock = SystemClock()
    say("bringing the models to the SSD")
    filling = Session(channel, options.shape)
    for name in options.names:
        await filling.ask(name, 1, 1)
    await forget_dram(channel, options)
    say("calibrating")
    session = Session(channel, options.shape)
    calibration = await calibrate(session, options, clock)
    known = await status(channel)
    before = [one.arrival for one in session.answers]
    say(f"replaying {len(workload.arrivals)} requests within {options.duration_seconds:g} s")
    answers = await replay(session, workload, clock)
    errors = startup_errors(await status(channel), starts_by_tier(known))
    starts = {tier: len(of_tier) for tier, of_tier in errors.items()}
    say("foretelling")
    profile = learned(known, calibration)
    setup = profile.setup(node, size_bytes, options)
    simulated = foretell(before, [one.arrival for one in answers], setup)
    real = Startups(tuple(map(calibration.startup_seconds, answers)), starts)
    return Replay(seed, real, simulated, profile, workload.name, workload.gap_cv, errors, setup)


async def replay(session: Session, workload: Workload, clock: Clock) -> list[Answer]:
    """Ask when the workload says, from now on; return the answers by the time of arrival.

    Raises:
        KindlingError: what the cluster answers with.
    """
    began = clock.now()

    async def ask(arrival: Arrival) -> Answer:
        await clock.sleep(max(0.0, began + arrival.at_seconds - clock.now()))
        return await session.ask(arrival.model, arrival.prompt_tokens, arrival.output_tokens)

    async with asyncio.TaskGroup() as asking:
        tasks = [asking.create_task(ask(arrival)) for arrival in workload.arrivals]
    return sorted((task.result() for task in tasks), key=lambda one: one.arrival.at_seconds)
