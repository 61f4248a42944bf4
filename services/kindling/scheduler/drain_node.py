"""Draining nodes: everything moves away, and nothing is started there until it is asked to serve again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.platform.logging import get_logger
from kindling.scheduler.domain.setbacks import unknown_node
from kindling.scheduler.follow import follow
from kindling.scheduler.term import Term

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """What is left on a node, and why that does not move; the obstacle is empty while it moves."""

    instances: int
    generations: int
    obstacle: str


async def drain_node(term: Term, node_id: str) -> AsyncGenerator[DrainStatus, None]:
    """Drain a node and yield what is left there, until nothing is; it goes on if this is closed.

    Raises NotFoundError NODE_UNKNOWN.
    """
    _check_known(term, node_id)
    await term.mutations.drain(node_id)
    log.info("node_drained", node=node_id)
    left = follow(term, lambda: _left(term, node_id), lambda: not term.view.instances_on_node(node_id))
    async with aclosing(left):
        async for status in left:
            yield status


async def undrain_node(term: Term, node_id: str) -> None:
    """Let a node serve again. Raises NotFoundError NODE_UNKNOWN."""
    _check_known(term, node_id)
    await term.mutations.undrain(node_id)
    log.info("node_undrained", node=node_id)


def _check_known(term: Term, node_id: str) -> None:
    is_there = any(worker.node_id == node_id for worker in term.view.workers.values())
    if not (is_there or node_id in term.view.nodes or node_id in term.view.drained):
        raise unknown_node(node_id)


def _left(term: Term, node_id: str) -> DrainStatus:
    instances = term.view.instances_on_node(node_id)
    generations = sum(term.view.grants.in_flight(one.instance_id) for one in instances)
    return DrainStatus(len(instances), generations, term.planner.relocation.obstacle(node_id))
