"""How often a generation goes on with other tokens once its keys and values were computed anew, as after a move.

In the fast mode the same numbers are summed up in another order then, so that their last bits differ.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from kindling.bench.child import ask_child
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Divergence, Results
from kindling.platform.errors import FailedPreconditionError

DTYPES: Final = ("bfloat16", "float32")
PART: Final = "divergence"


def measure_divergence(place: Path, options: MigrateOptions, results: Results) -> None:
    """Measure the fast mode in bf16 and, as a control, in fp32."""
    request = {
        "directory": str(place / PART),
        "shape": asdict(options.shape),
        "dtypes": DTYPES,
        "generations": options.recomputed,
        "prompt_tokens": options.load_prompt,
        "head_tokens": options.head_tokens,
        "tail_tokens": options.recomputed_tokens,
        "threads": len(os.sched_getaffinity(0)),
    }
    try:
        answer = ask_child("kindling.bench.migrate.divergence_child", request)
    except FailedPreconditionError as error:
        results.fail(PART, error.message)
    else:
        results.divergences += [Divergence(**one) for one in answer["generations"]]
