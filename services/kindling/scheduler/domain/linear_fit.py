"""Seconds that grow with a size: a line, fitted to outcomes as they come."""

import math

_NOISE = 0.1  # of an outcome, relative, unless it is known better
_SURPRISE = 3.0  # standard deviations from which on an outcome is doubted
_PRIOR_SPREAD = 10.0  # how wrong the prior may be, relative
_FORGETTING = 0.9
_LEAST_SECONDS = 1e-6
_LEAST_VARIANCE = 1e-9


class LinearFit:
    """``seconds = slope * size + base``, neither coefficient negative.

    Recursive least squares with a prior and exponential forgetting (Åström and Wittenmark, Adaptive Control, 2nd ed.,
    §2.2) of the *relative* error: each row is divided by the geometric mean of estimate and outcome, so that short ones
    count as much as long ones, and half of what was expected is as far off as twice as much. The further an outcome is
    from what is nearly sure, the less it counts. It forgets only while it is surer than the prior was. Both
    coefficients are counted in units of the prior's, which must be positive.
    """

    def __init__(self, slope: float, base: float, noise: float = _NOISE) -> None:
        self.count = 0
        self._noise = noise
        self._units = slope, base
        self._state = 1.0, 1.0
        self._variance = _PRIOR_SPREAD**2, 0.0, _PRIOR_SPREAD**2  # of the slope, of both, of the base

    def learn(self, size: float, seconds: float) -> None:
        """Take an outcome in; both are finite and not negative."""
        self.count += 1
        (slope, base), (slope_variance, both, base_variance) = self._state, self._variance
        scale = math.sqrt(max(seconds, _LEAST_SECONDS) * max(self.seconds(size), _LEAST_SECONDS))
        slope_row, base_row = size * self._units[0] / scale, self._units[1] / scale
        error = seconds / scale - slope_row * slope - base_row * base
        slope_gain = slope_variance * slope_row + both * base_row
        base_gain = both * slope_row + base_variance * base_row
        spread = max(self._noise**2 + slope_row * slope_gain + base_row * base_gain, (error / _SURPRISE) ** 2)
        self._state = slope + slope_gain * error / spread, base + base_gain * error / spread
        self._variance = _grown(
            slope_variance - slope_gain * slope_gain / spread,
            both - slope_gain * base_gain / spread,
            base_variance - base_gain * base_gain / spread,
        )

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


def _grown(slope_variance: float, both: float, base_variance: float) -> tuple[float, float, float]:
    """Be a little less sure of what is older, and let rounding make nothing impossible."""
    slope_variance, base_variance = max(slope_variance, _LEAST_VARIANCE), max(base_variance, _LEAST_VARIANCE)
    if max(slope_variance, base_variance) < _FORGETTING * _PRIOR_SPREAD**2:
        slope_variance, both, base_variance = (one / _FORGETTING for one in (slope_variance, both, base_variance))
    bound = math.sqrt(slope_variance * base_variance)
    return slope_variance, min(max(both, -bound), bound), base_variance
