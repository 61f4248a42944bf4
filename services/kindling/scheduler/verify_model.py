"""Checks a checkpoint on every node at once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from kindling.checkpoint import is_digest
from kindling.platform.errors import KindlingError
from kindling.scheduler.deploy_model import any_node
from kindling.scheduler.domain.values import Node
from kindling.scheduler.domain.verification import ModelVerified, NodeVerified, VerifyProgress
from kindling.scheduler.manage_models import find_model
from kindling.scheduler.storage_ports import Storages, VerifyOrder
from kindling.scheduler.term import Term

VerifyEvent = VerifyProgress | NodeVerified | ModelVerified


async def verify_model(term: Term, name: str, *, repair: bool) -> AsyncGenerator[VerifyEvent, None]:
    """Yield how the nodes come on, what each found and, last, whether all is well. One node reads the remote store too.

    ``name`` is a model's, or a checkpoint's digest. Raises MODEL_NOT_FOUND, or UnavailableError without any node.
    """
    digest = name if is_digest(name) else find_model(term, name).checkpoint.digest
    reader, nodes = any_node(term), list(term.view.nodes.values())
    events: asyncio.Queue[VerifyProgress | NodeVerified] = asyncio.Queue()
    intact, waiting = True, len(nodes)
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(_ask(term.storages, node, VerifyOrder(digest, repair, node == reader), events))
            for node in nodes
        ]
        try:
            while waiting:
                event = await events.get()
                if isinstance(event, NodeVerified):
                    waiting -= 1
                    intact = intact and event.report is not None and event.report.is_intact
                yield event
        finally:
            for task in asked:
                task.cancel()
    yield ModelVerified(digest, intact)


async def _ask(
    storages: Storages, node: Node, order: VerifyOrder, events: "asyncio.Queue[VerifyProgress | NodeVerified]"
) -> None:
    """Put the node's events into the queue, an answer last whatever happens."""
    try:
        async with aclosing(storages.verify_checkpoint(node, order)) as answers:
            async for answer in answers:
                events.put_nowait(answer)
                if isinstance(answer, NodeVerified):
                    return
        problem = "the storage manager ended the verification early; try again"
    except KindlingError as error:
        problem = error.message
    events.put_nowait(NodeVerified(node.node_id, None, problem))
