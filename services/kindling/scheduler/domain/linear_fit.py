"""Seconds that grow with a size: a line, fitted to outcomes as they come."""

import math

_NOISE = 0.1  # of an outcome, relative
_PRIOR_SPREAD = 3.0  # how wrong the prior may be, relative
_FORGETTING = 0.95
_LEAST_SECONDS = 1e-6
_LEAST_VARIANCE = 1e-9


class LinearFit:
    """``seconds = slope * size + base``, neither coefficient negative.

    Recursive least squares with a prior and exponential forgetting (Åström and Wittenmark, Adaptive Control, 2nd ed.,
    §2.2) of the *relative* error: each row is divided by its outcome, so that short ones count as much as long ones,
    and an outcome that is far too long hardly counts. It forgets only while it is surer than the prior was. Both
    coefficients are counted in units of the prior's, which must be positive.
    """

    def __init__(self, slope: float, base: float) -> None:
        self.count = 0
        self._units = slope, base
        self._state = 1.0, 1.0
        self._variance = _PRIOR_SPREAD**2, 0.0, _PRIOR_SPREAD**2  # of the slope, of both, of the base

    def learn(self, size: float, seconds: float) -> None:
        """Take an outcome in; both are finite and not negative."""
        self.count += 1
        outcome = max(seconds, _LEAST_SECONDS)
        row = size * self._units[0] / outcome, self._units[1] / outcome
        slope_gain, base_gain, gains = self._gains(row)
        # An outcome that is far too short would count for much: no more than half of what was expected is believed.
        error = max(-1.0, 1.0 - row[0] * self._state[0] - row[1] * self._state[1])
        self._state = self._state[0] + slope_gain * error / gains, self._state[1] + base_gain * error / gains
        self._learned(slope_gain, base_gain, gains)

    def seconds(self, size: float) -> float:
        """Return what is expected: finite, not negative, and no less for a larger size."""
        slope, base = self.coefficients
        return slope * size + base

    @property
    def coefficients(self) -> tuple[float, float]:
        """Seconds per unit of size, and seconds for a size of 0: the likeliest pair without a negative one."""
        slope, base = self._state
        slope_variance, both, base_variance = self._variance
        if slope < 0:
            slope, base = 0.0, max(0.0, base - slope * both / slope_variance)
        elif base < 0:
            slope, base = max(0.0, slope - base * both / base_variance), 0.0
        return slope * self._units[0], base * self._units[1]

    def _gains(self, row: tuple[float, float]) -> tuple[float, float, float]:
        slope_variance, both, base_variance = self._variance
        slope_gain = slope_variance * row[0] + both * row[1]
        base_gain = both * row[0] + base_variance * row[1]
        return slope_gain, base_gain, _NOISE**2 + row[0] * slope_gain + row[1] * base_gain

    def _learned(self, slope_gain: float, base_gain: float, gains: float) -> None:
        """Be surer by what the row told, and a little less sure of what is older."""
        slope_variance = max(_LEAST_VARIANCE, self._variance[0] - slope_gain * slope_gain / gains)
        base_variance = max(_LEAST_VARIANCE, self._variance[2] - base_gain * base_gain / gains)
        both = self._variance[1] - slope_gain * base_gain / gains
        if max(slope_variance, base_variance) < _FORGETTING * _PRIOR_SPREAD**2:
            slope_variance, both, base_variance = (one / _FORGETTING for one in (slope_variance, both, base_variance))
        bound = math.sqrt(slope_variance * base_variance)  # rounding must not make it more than that
        self._variance = slope_variance, min(max(both, -bound), bound), base_variance
