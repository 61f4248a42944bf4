"""Writes the benchmark's model; a process of its own, so that torch stays out of the one that waits."""

from pathlib import Path
from typing import Any

from kindling.bench.engine.workload import make_model
from kindling.bench.load.child import answer_parent


def _make(request: dict[str, Any]) -> dict[str, Any]:
    make_model(Path(request["directory"]))
    return {}


if __name__ == "__main__":
    answer_parent(_make)
