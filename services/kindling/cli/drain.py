"""`kindling drain` and `undrain`: take a node out of the cluster and back in."""

import asyncio

from rich.markup import escape

from kindling.cli.client import connect
from kindling.cli.console import err, out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address, NodeId
from kindling.v1 import cluster_pb2


def drain(node: NodeId, address: Address = DEFAULT_ADDRESS) -> None:
    """Move everything away from a node and start nothing there any more, so that it can be taken down.

    Ends when nothing runs there. It goes on if you press Ctrl-C; ask again to see what is left.
    """
    asyncio.run(_drain(address, node))
    out.print(
        f"{escape(node)} is drained: nothing runs there, it can be taken down; "
        f"[bold]kindling undrain {escape(node)}[/] lets it serve again",
        soft_wrap=True,
    )


def undrain(node: NodeId, address: Address = DEFAULT_ADDRESS) -> None:
    """Let a drained node serve again."""
    asyncio.run(_undrain(address, node))
    out.print(f"{escape(node)} serves again")


def describe(left: cluster_pb2.DrainNodeResponse) -> str:
    """Return what is left on a node."""
    instances = f"{left.instances} instance{'' if left.instances == 1 else 's'}"
    return f"{instances} with {left.generations} generation{'' if left.generations == 1 else 's'} left"


async def _drain(address: str, node: str) -> None:
    """Show what is left; what keeps it there is told once, and stays to be read."""
    told = ""
    async with connect(address) as client:
        with err.status(f"draining {escape(node)}") as line:
            async for left in client.drain(node):
                line.update(f"draining {escape(node)}: {describe(left)}")
                if left.obstacle and left.obstacle != told:
                    err.print(f"[yellow]waiting:[/] {escape(left.obstacle)}", soft_wrap=True)
                told = left.obstacle


async def _undrain(address: str, node: str) -> None:
    async with connect(address) as client:
        await client.undrain(node)
