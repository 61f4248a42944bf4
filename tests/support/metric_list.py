"""What compose/METRICS.md says that there is."""

import re
from pathlib import Path

_LIST = Path(__file__).parents[2] / "compose" / "METRICS.md"


def listed_metrics() -> dict[str, set[str]]:
    """Return the attributes of each metric, by its name."""
    rows = [line.split("|")[1:-1] for line in _LIST.read_text().splitlines() if line.startswith("| `")]
    return {name.strip(" `"): set(re.findall(r"`([a-z_.]+)`", what)) for name, _, _, what in rows}
