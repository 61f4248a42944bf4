"""The benchmark's models: of one size, each with a checkpoint of its own."""

import shutil
import struct
from pathlib import Path

from kindling.bench.model_child import make_model_apart
from kindling.bench.predict.options import PredictOptions

_WEIGHTS = "model.safetensors"


def make_models(place: Path, options: PredictOptions) -> dict[str, Path]:
    """Write a directory for each model and return them by name.

    They differ in one number, which makes their digests different and leaves their cost the same.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED.
    """
    found = {name: place / name for name in options.names}
    first, *others = found.values()
    make_model_apart(first, options.shape, "float32")
    for number, directory in enumerate(others, start=1):
        shutil.copytree(first, directory)
        with (directory / _WEIGHTS).open("r+b") as weights:
            weights.seek(-4, 2)
            weights.write(struct.pack("<f", number / 1000))
    return found


def checkpoint_bytes(directory: Path) -> int:
    """The size of a model's weights."""
    return (directory / _WEIGHTS).stat().st_size
