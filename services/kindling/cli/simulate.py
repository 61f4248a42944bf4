"""`kindling simulate`: the scheduler on a simulated cluster, beside what one would otherwise have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from kindling.bench.console import report_console
from kindling.cli.console import err
from kindling.cli.parameters import JsonPath, check_output_directory
from kindling.simulate.mechanisms import Mechanism
from kindling.simulate.options import SimulateOptions
from kindling.simulate.policies import PolicyName

_ALL = ",".join(PolicyName)
_EXTRAS = ",".join(Mechanism)


class Suite(StrEnum):
    """Evaluations of others."""

    PAPER = "paper"


Name = TypeVar("Name", bound=StrEnum)


def simulate(
    trace: Annotated[str, typer.Option(help="azure-conv, azure-code, or a file in their format.")] = "azure-conv",
    models: Annotated[int, typer.Option(min=1, help="Models that the requests are for.")] = 32,
    model_profile: Annotated[str, typer.Option(help="What each of them is.")] = "opt-6.7b",
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 4,
    node_profile: Annotated[str, typer.Option(help="What each of them is.")] = "paper-a40",
    cv: Annotated[float, typer.Option(min=0, help="Draw arrivals anew, this bursty; 0 leaves them as they are.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="With --cv: requests per second; 0 is as the trace has them.")] = 0,
    duration: Annotated[float, typer.Option(min=0, help="With --cv: seconds; 0 is as long as the trace.")] = 0,
    zipf: Annotated[float, typer.Option(min=0, help="How unevenly popular the models are; 0 is even.")] = 0,
    lengths: Annotated[str, typer.Option(help="With --cv: azure-conv, azure-code, gsm8k or sharegpt.")] = "",
    policies: Annotated[str, typer.Option(metavar="NAME,…", help="What to compare.")] = _ALL,
    mechanisms: Annotated[str, typer.Option(metavar="NAME,…", help="What `full` has; `none` for nothing.")] = _EXTRAS,
    seeds: Annotated[int, typer.Option(min=1, help="Workloads to draw.")] = 5,
    keep_alive: Annotated[float, typer.Option(min=0, help="Seconds that an idle instance stays.")] = 300,
    concurrency: Annotated[int, typer.Option(min=1, help="Generations at once in an instance.")] = 8,
    price: Annotated[float, typer.Option(min=0, help="Dollars per device and hour.")] = 2.0,
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
    """Compare how long requests wait for their models: the scheduler's own code, under virtual time, beside others."""
    from kindling.simulate.command import Output, compare, reproduce
    from kindling.simulate.paper_suite import PaperOptions

    output = Output(json, report)
    if suite is Suite.PAPER:
        given = {name: value for name, value in (("rate", rate), ("duration_seconds", duration)) if value}
        reproduce(
            PaperOptions(concurrency_target=concurrency, seeds=seeds, **given), price, _say, report_console(), output
        )
        return
    options = SimulateOptions(
        policies=tuple(_named(PolicyName, policies, "--policies")),
        mechanisms=frozenset(_named(Mechanism, "" if mechanisms == "none" else mechanisms, "--mechanisms")),
        trace=trace,
        models=models,
        model=model_profile,
        nodes=nodes,
        node=node_profile,
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


def _named(kind: type[Name], names: str, option: str) -> list[Name]:
    known = {name.value: name for name in kind}
    asked = dict.fromkeys(filter(None, names.split(",")))
    if unknown := [name for name in asked if name not in known]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(known)}", param_hint=option)
    return [known[name] for name in asked]
