"""Writes the benchmark's model; a process of its own, so that torch stays out of the one that measures."""

from pathlib import Path
from typing import Any

from kindling.bench.load.child import answer_parent
from kindling.bench.migrate.model import Shape, make_model


def _make(request: dict[str, Any]) -> dict[str, Any]:
    make_model(Path(request["directory"]), Shape(**request["shape"]))
    return {}


if __name__ == "__main__":
    answer_parent(_make)
