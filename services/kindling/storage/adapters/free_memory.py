"""How much memory this process may still take: what the machine has left, and what its control groups allow."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kindling.platform.errors import ResourceExhaustedError

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
#: A limit at or above this is none: version 1 writes the largest number that it has.
_UNLIMITED_BYTES = 1 << 60
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """``free_bytes`` may be taken before ``bound`` (words for people) is reached."""

    free_bytes: int
    bound: str


def machine_memory(proc: Path = _PROC) -> FreeMemory:
    """What the whole machine has left, whatever this process may have of it."""
    return FreeMemory(_machine_bytes(proc), "free on this machine")


def free_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> FreeMemory:
    """The least that any bound leaves. Page cache counts as free, as the kernel gives it up first."""
    found = [machine_memory(proc)]
    for directory in _own_groups(proc, cgroups):
        limit = _limit_bytes(directory)
        if limit is not None:
            found.append(FreeMemory(max(0, limit - _used_bytes(directory)), f"left of the memory limit of {limit}"))
    return min(found, key=lambda each: each.free_bytes)


def require_pool_memory(pool_bytes: int, huge_bytes: int, memory: FreeMemory) -> None:
    """Raise ResourceExhaustedError (POOL_TOO_LARGE) unless there is room for a pool of ``pool_bytes``.

    ``huge_bytes`` are free huge pages, which are set apart already and count against no other bound. Without this the
    kernel would kill the process while it touches its pool, and not say why.
    """
    needed_bytes = pool_bytes - min(pool_bytes, huge_bytes)
    if needed_bytes <= memory.free_bytes:
        return
    raise ResourceExhaustedError(
        f"the DRAM pool needs {needed_bytes} bytes of memory ({needed_bytes / _GIB:.1f} GiB), and {memory.free_bytes} "
        f"({memory.free_bytes / _GIB:.1f} GiB) are {memory.bound}: lower KINDLING_STORAGE_POOL_BYTES (`kindling up`: "
        "--dram-pool; compose: KINDLING_POOL), or give this process more memory (compose: KINDLING_STORAGE_MEMORY)",
        reason="POOL_TOO_LARGE",
        metadata={"needed_bytes": str(needed_bytes), "available_bytes": str(memory.free_bytes)},
    )


def _machine_bytes(proc: Path) -> int:
    return _numbers(proc / "meminfo")["MemAvailable:"] * 1024


def _own_groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Directories that may limit this process. In a container the mount's root is its own group's."""
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        root = cgroups / controllers
        yield root
        group = root / path.lstrip("/")
        yield from (each for each in (group, *group.parents) if each != root and each.is_relative_to(root))


def _limit_bytes(directory: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _number(directory / name)
        if limit is not None and limit < _UNLIMITED_BYTES:
            return limit
    return None


def _used_bytes(directory: Path) -> int:
    for name in ("memory.current", "memory.usage_in_bytes"):
        used = _number(directory / name)
        if used is not None:
            counts = _numbers(directory / "memory.stat")
            # Version 1 counts a group's children in the names with `total_`.
            cached = sum(counts.get(f"total_{kind}", counts.get(kind, 0)) for kind in ("active_file", "inactive_file"))
            return max(0, used - cached)
    return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or the word `max`
        return None


def _numbers(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
