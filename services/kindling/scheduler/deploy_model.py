"""Making a model callable: pack its source, then record it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.platform.errors import UnavailableError
from kindling.platform.logging import get_logger
from kindling.scheduler.domain.deployment import check_name, check_settings, check_source
from kindling.scheduler.domain.values import Checkpoint, Model, ModelSettings, Node
from kindling.scheduler.storage_ports import ImportOrder, ImportProgress
from kindling.scheduler.term import Term

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model as somebody wants it."""

    name: str
    order: ImportOrder
    settings: ModelSettings


async def deploy_model(term: Term, wanted: Deployment) -> AsyncGenerator[ImportProgress | Model, None]:
    """Yield how packing goes, then the model. Deploying the same again changes nothing; what was deployed with the
    same request id before is answered again, whatever has become of it.

    Raises INVALID_MODEL_NAME, INVALID_SOURCE, INVALID_MODEL_SETTINGS, REQUEST_ID_REUSED, NO_NODES, or what the node
    says of the source.
    """
    check_name(wanted.name)
    check_source(wanted.order.source_uri)
    check_settings(wanted.settings)
    answer = term.mutations.answers.find(wanted.order.request_id, wanted.name)
    if answer is not None and answer.deployed is not None:
        yield answer.deployed
        return
    async with term.retirements.importing(), aclosing(_import(term, wanted)) as events:
        async for event in events:
            yield event


async def _import(term: Term, wanted: Deployment) -> AsyncGenerator[ImportProgress | Model, None]:
    async with aclosing(term.storages.import_checkpoint(any_node(term), wanted.order)) as events:
        async for event in events:
            if isinstance(event, Checkpoint):
                yield await _record(term, wanted, event)
                return
            yield event
    raise UnavailableError("the node ended the import without a result; deploy again", reason="IMPORT_BROKEN")


async def _record(term: Term, wanted: Deployment, checkpoint: Checkpoint) -> Model:
    known = term.view.models.get(wanted.name)
    model = Model(
        name=wanted.name,
        checkpoint=checkpoint,
        settings=wanted.settings,
        source_uri=wanted.order.source_uri,
        create_time=known.create_time if known else term.clock.wall(),
    )
    await term.mutations.put_model(model, wanted.order.request_id)
    log.info("model_deployed", model=model.name, digest=checkpoint.digest)
    if known is not None and known.checkpoint.digest != checkpoint.digest:
        log.info("model_replaced", model=model.name, digest=known.checkpoint.digest)
    return model


def any_node(term: Term) -> Node:
    """A live node. Raises UnavailableError NO_NODES if there is none."""
    if not term.view.nodes:
        raise UnavailableError(
            "no node with a storage manager is there; start one (`kindling status` shows those that are)",
            reason="NO_NODES",
            retry_after_seconds=5.0,
        )
    return term.view.nodes[min(term.view.nodes)]
