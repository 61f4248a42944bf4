"""Values as people type and read them: sizes, durations, rates, names."""

import re

from kindling.platform.errors import InvalidArgumentError

_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SECONDS = 100 * 365.25 * 86400
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_COUNTS = re.compile(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID = r"[^\s/]+"
_NODE_ID = re.compile(_ID)
_WORKER_ID = re.compile(f"{_ID}/{_ID}")


def parse_bytes(text: str) -> int:
    """Return the bytes of ``4GiB``, ``512 MB`` or ``1000``; INVALID_SIZE for anything else and for zero."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size <= 0:
        raise InvalidArgumentError(
            f"{text!r} is not a size; write a number and a unit, such as 4GiB or 512MB", reason="INVALID_SIZE"
        )
    return size


def parse_seconds(text: str) -> float:
    """Return the seconds of ``90s``, ``5m``, ``1h30m`` or ``250ms``; INVALID_DURATION for anything else, and for what
    nobody lives to see the end of."""
    if text == "0":
        return 0.0
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if not _DURATION.fullmatch(text) or seconds > _LONGEST_SECONDS:
        raise InvalidArgumentError(
            f"{text!r} is not a duration; write a number and a unit, such as 90s, 5m or 1h30m, 100 years at most",
            reason="INVALID_DURATION",
        )
    return seconds


def parse_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of ``1,8,32``; INVALID_COUNTS for anything else, for zero and for repeated ones."""
    counts = tuple(int(part) for part in text.split(",")) if _COUNTS.fullmatch(text) else ()
    if not counts or len(set(counts)) < len(counts):
        raise InvalidArgumentError(
            f"{text!r} is not a list of numbers; write different numbers from 1 on, such as 1,8,32",
            reason="INVALID_COUNTS",
        )
    return counts


def check_model_name(name: str) -> str:
    """Return ``name`` if a model may have it; INVALID_MODEL_NAME otherwise."""
    if not _MODEL_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} cannot name a model; use letters, digits, '.', '_' and '-', at most 128 of them",
            reason="INVALID_MODEL_NAME",
        )
    return name


def check_worker_id(worker_id: str) -> str:
    """Return ``worker_id`` if it is one; INVALID_WORKER otherwise."""
    if not _WORKER_ID.fullmatch(worker_id):
        raise InvalidArgumentError(
            f"{worker_id!r} is not a worker; write NODE/WORKER, as `kindling status` shows them",
            reason="INVALID_WORKER",
        )
    return worker_id


def check_node_id(node_id: str) -> str:
    """Return ``node_id`` if it is one; INVALID_NODE otherwise."""
    if not _NODE_ID.fullmatch(node_id):
        raise InvalidArgumentError(
            f"{node_id!r} is not a node; write its name alone, as `kindling status` shows it", reason="INVALID_NODE"
        )
    return node_id


def format_bytes(size_bytes: float) -> str:
    """Return a size to read: ``1.5 GiB``, ``272 MiB``, ``0 B``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" or size_bytes >= 100 else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def format_rate(bytes_per_second: float) -> str:
    """Return a rate to read, in decimal gigabytes per second; a dash if it was never measured."""
    return f"{bytes_per_second / 1e9:.2f} GB/s" if bytes_per_second else "–"


def format_seconds(seconds: float) -> str:
    """Return a duration to read: ``12 ms``, ``3.4 s``, ``5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
