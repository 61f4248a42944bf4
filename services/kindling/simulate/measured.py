"""A machine and a model as measured, in a file: what `kindling bench predict --json` writes as ``measured``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError
from kindling.scheduler.domain.values import Tier
from kindling.simulate.mechanisms import CHUNK_BYTES, PARKED_SECONDS
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile

_Count = Annotated[int, Field(ge=1)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_FIELDS = ConfigDict(extra="forbid", strict=True)


class _Links(BaseModel):
    model_config = _FIELDS
    DRAM: _Rate | None = None
    SSD: _Rate
    REMOTE: _Rate


class _Node(BaseModel):
    model_config = _FIELDS
    name: str
    devices: _Count
    device_kind: str
    device_memory_bytes: _Count
    dram_pool_bytes: _Count
    ssd_bytes: _Count
    bandwidth_bytes_per_second: _Links
    init_seconds: _Seconds
    parked_seconds: _Seconds = PARKED_SECONDS
    chunk_bytes: _Count = CHUNK_BYTES


class _Model(BaseModel):
    model_config = _FIELDS
    name: str
    checkpoint_bytes: _Count
    layers: _Count
    prefill_tokens_per_second: _Rate
    seconds_per_token: _Rate
    kv_bytes_per_token: _Count
    devices: _Count = 1
    prompt_tokens_beside: Annotated[int, Field(ge=0)] = 0
    seconds_per_token_beside: _Seconds = 0.0


class _Measured(BaseModel):
    model_config = _FIELDS
    node: _Node
    model: _Model


class _File(BaseModel):
    """Other figures may stand beside it."""

    measured: _Measured


def measured_values(node: NodeProfile, model: ModelProfile) -> dict[Literal["node", "model"], dict[str, Any]]:
    """Return what ``read_measured`` reads back, for a JSON."""
    links = {tier.name: speed for tier, speed in node.bandwidth_bytes_per_second.items()}
    return {"node": asdict(node) | {"bandwidth_bytes_per_second": links}, "model": asdict(model)}


def read_measured(path: Path) -> tuple[NodeProfile, ModelProfile]:
    """Return the machine and the model of a file; one without a link from DRAM computes on the pool, as CPUs do.

    Raises FailedPreconditionError MEASURED_UNREADABLE or InvalidArgumentError MEASURED_MALFORMED.
    """
    try:
        found = _File.model_validate_json(path.read_bytes()).measured
    except OSError as error:
        message = f"{str(path)!r} cannot be read: {error.strerror}; `kindling bench predict --json` writes such a file."
        raise FailedPreconditionError(message, reason="MEASURED_UNREADABLE", metadata={"path": str(path)}) from error
    except ValidationError as error:
        raise _malformed(path, error) from error
    links = found.node.bandwidth_bytes_per_second.model_dump(exclude_none=True)
    speeds = {Tier[name]: speed for name, speed in links.items()}
    node = NodeProfile(**found.node.model_dump() | {"bandwidth_bytes_per_second": speeds})
    return node, ModelProfile(**found.model.model_dump())


def _malformed(path: Path, error: ValidationError) -> InvalidArgumentError:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    message = f"{str(path)!r}, {place}: {first['msg']}; `kindling bench predict --json` writes such a file."
    return InvalidArgumentError(message, reason="MEASURED_MALFORMED", metadata={"path": str(path), "place": place})
