"""Writes a benchmark's model; a process of its own, so that torch stays out of the one that measures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from kindling.bench.child import answer_parent, ask_child
from kindling.bench.model import Shape, make_model


def make_model_apart(directory: Path, shape: Shape, dtype: str) -> None:
    """Write the model in a process of its own; see ``make_model``.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED.
    """
    ask_child(__name__, {"directory": str(directory), "shape": asdict(shape), "dtype": dtype})


def _make(request: dict[str, Any]) -> dict[str, Any]:
    make_model(Path(request["directory"]), Shape(**request["shape"]), request["dtype"])
    return {}


if __name__ == "__main__":
    answer_parent(_make)
