"""How many of the requests each model gets."""

import math

import numpy as np
from numpy.typing import NDArray

from kindling.platform.errors import InvalidArgumentError


def shares(models: int, zipf: float) -> NDArray[np.float64]:
    """Return the models' shares of the requests, most popular first: rank r gets as much as r to the power of -``zipf``.

    An exponent of 0 is even. They sum to 1.

    Raises InvalidArgumentError NO_MODELS or ZIPF_EXPONENT_INVALID.
    """
    if models < 1:
        raise InvalidArgumentError("A workload needs one model at least.", reason="NO_MODELS")
    if not (math.isfinite(zipf) and zipf >= 0):
        message = f"The Zipf exponent is {zipf}; give 0 for an even popularity, or a larger number."
        raise InvalidArgumentError(message, reason="ZIPF_EXPONENT_INVALID")
    weights = np.arange(1, models + 1, dtype=np.float64) ** -zipf
    return weights / weights.sum()


def impose(requests: int, models: int, zipf: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the index of a model for each request: striped (``i % models``) if even, else drawn by popularity.

    Raises InvalidArgumentError NO_MODELS or ZIPF_EXPONENT_INVALID.
    """
    popularity = shares(models, zipf)
    if zipf == 0:
        return np.arange(requests) % models
    return rng.choice(models, size=requests, p=popularity)
