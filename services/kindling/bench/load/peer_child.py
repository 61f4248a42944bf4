"""Loads a checkpoint once with somebody else's loader: from the call until every page of every tensor was touched."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kindling.bench.child import Answer, answer_parent
from kindling.bench.load.peer_table import BY_KEY
from kindling.bench.load.touch import touch_tensors


def measure(request: Answer) -> Mapping[str, Any]:
    """Imports, and the load of a tiny checkpoint, are done before the timer starts, as with ours."""
    peer = BY_KEY[request["key"]]
    os.environ.update(peer.environment)
    touch_tensors(peer.prepare(Path(request["tiny"]))())
    load = peer.prepare(Path(request["path"]))
    start = time.perf_counter()
    tensors = load()
    size_bytes = touch_tensors(list(tensors) if peer.keeps else tensors)
    return {"seconds": time.perf_counter() - start, "bytes": size_bytes}


if __name__ == "__main__":
    answer_parent(measure)
