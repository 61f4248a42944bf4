"""Bounds of histograms: OpenTelemetry's own are for milliseconds, so that up to 5 s all would be one bucket."""

from typing import Final

SECONDS: Final = [0.001 * 2**doublings for doublings in range(20)]
"""From a millisecond to nine minutes: what starts, loads and pauses take."""
SHARES: Final = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0]
"""From one per cent to tenfold: how far an estimate was off."""
