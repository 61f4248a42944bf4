"""`kindling simulate`: the scheduler on a simulated cluster, beside what one would otherwise have."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kindling.bench.console import report_console
from kindling.cli.console import err
from kindling.cli.parameters import JsonPath, check_output_directory
from kindling.simulate.mechanisms import Mechanism
from kindling.simulate.model_profiles import ARCHITECTURES
from kindling.simulate.node_profiles import NODE_PROFILES
from kindling.simulate.options import SimulateOptions
from kindling.simulate.policies import PolicyName

_ALL = ",".join(PolicyName)
_EXTRAS = ",".join(Mechanism)
_HEEDED_BY_SUITE = frozenset({"suite", "rate", "duration", "concurrency", "seeds", "price", "json", "report"})
_MEASURED_INSTEAD = frozenset({"model_profile", "node_profile"})
_LONGEST_KEEP_ALIVE_SECONDS = 1e6
_HIGHEST_PRICE = 1e6


class Suite(StrEnum):
    """Evaluations of others."""

    PAPER = "paper"


Name = TypeVar("Name", bound=StrEnum)


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"


def simulate(
    context: typer.Context,
    trace: Annotated[str, typer.Option(help="azure-conv, azure-code, or a file in their format.")] = "azure-conv",
    models: Annotated[int, typer.Option(min=1, help="Models that the requests are for.")] = 32,
    model_profile: Annotated[str, typer.Option(help=f"What each of them is: {_either(ARCHITECTURES)}.")] = "opt-6.7b",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 4,
    node_profile: Annotated[str, typer.Option(help=f"What each of them is: {_either(NODE_PROFILES)}.")] = "paper-a40",
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Take machine and model from the JSON of `kindling bench predict`; figures can be edited.",
        ),
    ] = None,
    cv: Annotated[float, typer.Option(min=0, help="Draw arrivals anew, this bursty; 0 leaves them as they are.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="With --cv: requests per second; 0 is as the trace has them.")] = 0,
    duration: Annotated[float, typer.Option(min=0, help="Seconds, from the trace's beginning; 0 is all of it.")] = 0,
    zipf: Annotated[float, typer.Option(min=0, help="How unevenly popular the models are; 0 is even.")] = 0,
    lengths: Annotated[str, typer.Option(help="With --cv: azure-conv, azure-code, gsm8k or sharegpt.")] = "",
    policies: Annotated[str, typer.Option(metavar="NAME,…", help="What to compare.")] = _ALL,
    mechanisms: Annotated[str, typer.Option(metavar="NAME,…", help="What `full` has; `none` for nothing.")] = _EXTRAS,
    seeds: Annotated[int, typer.Option(min=1, help="Workloads to draw.")] = 5,
    keep_alive: Annotated[
        float, typer.Option(min=0, max=_LONGEST_KEEP_ALIVE_SECONDS, help="Seconds that an idle instance stays.")
    ] = 300,
    concurrency: Annotated[int, typer.Option(min=1, help="Generations at once in an instance.")] = 8,
    price: Annotated[float, typer.Option(min=0, max=_HIGHEST_PRICE, help="Dollars per device and hour.")] = 2.0,
    suite: Annotated[
        Suite | None,
        typer.Option(help="ServerlessLLM's evaluation; heeds --rate, --duration, --concurrency, --seeds, --price."),
    ] = None,
    json: JsonPath = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", callback=check_output_directory, help="Write tables and pictures there."),
    ] = None,
) -> None:
    """Compare how long requests wait for their models: the scheduler's own code, under virtual time, beside others.

    full: Kindling's planner. In its place, on the same machines:
    random: any free device.
    locality: where the checkpoint is nearest, waiting for that device if need be.
    preempting: the same; what generates there gives way, as in Shepherd.
    download: any free device, downloading each time, as Ray Serve does.
    download-cached: the same with a cache on the SSD.
    always-on: a device for each model, which stays loaded.
    pooled: as many devices, each serving every model. Nothing real does: a floor.
    """
    from kindling.simulate.command import Output, compare, reproduce
    from kindling.simulate.paper_suite import PaperOptions

    output = Output(json, report)
    if suite is Suite.PAPER:
        _refuse(context, lambda name: name not in _HEEDED_BY_SUITE, "the paper's evaluation has its own; leave it out")
        given = {name: value for name, value in (("rate", rate), ("duration_seconds", duration)) if value}
        reproduce(
            PaperOptions(concurrency_target=concurrency, seeds=seeds, **given), price, _say, report_console(), output
        )
        return
    if measured is not None:
        _refuse(context, _MEASURED_INSTEAD.__contains__, "what was measured stands for it; leave one of both out")
    compared = tuple(_named(PolicyName, policies, "--policies"))
    if not compared:
        raise typer.BadParameter(f"name one at least of {_either(PolicyName)}", param_hint="--policies")
    options = SimulateOptions(
        policies=compared,
        mechanisms=frozenset(_named(Mechanism, "" if mechanisms == "none" else mechanisms, "--mechanisms")),
        trace=trace,
        models=models,
        model=model_profile,
        nodes=nodes,
        node=node_profile,
        measured=measured,
        cv=cv,
        rate=rate,
        duration_seconds=duration,
        zipf=zipf,
        lengths=lengths,
        seeds=seeds,
        keep_alive_seconds=keep_alive,
        concurrency_target=concurrency,
        price_per_device_hour=price,
    )
    compare(options, _say, report_console(), output)


def _say(text: str) -> None:
    err.print(f"[dim]{text}[/]")


def _refuse(context: typer.Context, given_in_vain: Callable[[str], bool], why: str) -> None:
    """Options that change nothing would make figures look like something else than they are."""
    for parameter in context.command.params:
        name, source = str(parameter.name), context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE" and given_in_vain(name):
            raise typer.BadParameter(why, param_hint=parameter.opts[0])


def _named(kind: type[Name], names: str, option: str) -> list[Name]:
    known = {name.value: name for name in kind}
    asked = dict.fromkeys(filter(None, (name.strip() for name in names.split(","))))
    if unknown := [name for name in asked if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {_either(known)}", param_hint=option)
    return [known[name] for name in asked]
