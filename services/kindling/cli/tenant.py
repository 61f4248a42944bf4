"""`kindling tenant`: what each tenant may have at once, and what it has."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.markup import escape

from kindling.cli.client import connect
from kindling.cli.console import out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address
from kindling.cli.tables import table
from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import tenant_pb2

_DEFAULT = "-"  # no tenant is called so
_EVERYBODY_ELSE = "*"
_MOST = 1_000_000

app = typer.Typer(
    no_args_is_help=True, help="Bound what each tenant may have at once: generations, waiting requests, devices."
)
Name = Annotated[
    str,
    typer.Argument(
        metavar="TENANT",
        help="A tenant's name; '-' is whoever has an API key without a tenant, '*' each one without quotas of its own.",
    ),
]


@app.command("set")
def set_(
    name: Name,
    generations: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Most generations that run; others wait. 0 is no bound.")
    ] = None,
    waiting: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Most requests that wait; others are refused. 0 is no bound.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="Most instances started on its behalf. 0 is no bound.")
    ] = None,
    weight: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Turns for each one of a tenant with weight 1.")
    ] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Set some of a tenant's quotas; the others stay as they are. What runs and waits already is left alone."""
    if all(quota is None for quota in (generations, waiting, devices, weight)):
        raise typer.BadParameter(
            "say what to set: --generations, --waiting, --devices or --weight", param_hint="tenant set"
        )
    request = tenant_pb2.SetTenantRequest(
        tenant=_to_wire(name), generations=generations, waiting=waiting, devices=devices, weight=weight
    )
    quota = asyncio.run(_set(address, request))
    out.print(f"{escape(name)}: {describe(quota)}", soft_wrap=True)


@app.command("list")
def list_(address: Address = DEFAULT_ADDRESS) -> None:
    """Show what each tenant has, and may have at most."""
    out.print(render(asyncio.run(_list(address))))


@app.command()
def remove(name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Forget a tenant's own quotas; those of '*' hold for it then."""
    removed = asyncio.run(_remove(address, _to_wire(name)))
    out.print(f"{escape(name)} has no quotas of its own" + (" any more" if removed else ", and had none"))


def describe(quota: tenant_pb2.TenantQuota) -> str:
    """Return a tenant's quotas as a sentence."""
    bounds = (
        f"{_bound(quota.generations)} generations run",
        f"{_bound(quota.waiting)} requests wait",
        f"{_bound(quota.devices)} devices are its own",
    )
    return f"{', '.join(bounds)}; weight {quota.weight}"


def render(tenants: Sequence[tenant_pb2.TenantStatus]) -> RenderableType:
    """Return the tenants to print."""
    if not tenants:
        return "[dim]no tenant has quotas, and nothing runs or waits[/]"
    shown = table("tenant", "generations", "of", "waiting", "of", "devices", "of", "weight", "quotas")
    for one in tenants:
        is_somebody = one.tenant != _EVERYBODY_ELSE
        shown.add_row(
            escape(one.tenant or _DEFAULT),
            *_used(one.generations if is_somebody else None, one.quota.generations),
            *_used(one.waiting if is_somebody else None, one.quota.waiting),
            *_used(one.devices if is_somebody else None, one.quota.devices),
            str(one.quota.weight),
            "its own" if one.has_own_quota and is_somebody else "of everybody else",
        )
    return shown


def _used(count: int | None, most: int) -> tuple[str, str]:
    return "–" if count is None else str(count), str(most) if most else "unbounded"


def _bound(most: int) -> str:
    return f"at most {most}" if most else "any number of"


def _to_wire(name: str) -> str:
    """Raises InvalidArgumentError TENANT_INVALID for a name that a shell made empty."""
    if not name:
        raise InvalidArgumentError("a tenant has a name; '-' is the default one", reason="TENANT_INVALID")
    return "" if name == _DEFAULT else name


async def _set(address: str, request: tenant_pb2.SetTenantRequest) -> tenant_pb2.TenantQuota:
    async with connect(address) as client:
        return await client.set_tenant(request)


async def _list(address: str) -> list[tenant_pb2.TenantStatus]:
    async with connect(address) as client:
        return await client.tenants()


async def _remove(address: str, tenant: str) -> bool:
    async with connect(address) as client:
        return await client.remove_tenant(tenant)
