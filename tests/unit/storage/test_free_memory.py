from pathlib import Path

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.storage.adapters.free_memory import FreeMemory, free_memory, require_pool_memory

GIB = 1 << 30


def machine(root: Path, groups: str, available_kib: int = 8 << 20) -> dict[str, Path]:
    """A /proc and a /sys/fs/cgroup."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kib} kB\n")
    return {"proc": root / "proc", "cgroups": root / "cgroup"}


def group(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)


def test_a_machine_without_groups_has_what_it_says(tmp_path: Path) -> None:
    assert free_memory(**machine(tmp_path, "")) == FreeMemory(8 * GIB, "free on this machine")


def test_version_2_as_a_container_sees_it(tmp_path: Path) -> None:
    group(
        tmp_path / "cgroup",
        memory__max=f"{2 * GIB}\n",
        memory__current=f"{GIB}\n",
        memory__stat=f"anon 7\nactive_file {GIB // 4}\ninactive_file {GIB // 4}\n",
    )
    found = free_memory(**machine(tmp_path, "0::/\n"))
    assert found == FreeMemory(2 * GIB - GIB // 2, f"left of the memory limit of {2 * GIB}")


def test_version_1_in_a_container_names_the_hosts_path(tmp_path: Path) -> None:
    unlimited, own = f"{(1 << 63) - 4096}\n", tmp_path / "cgroup" / "memory"
    group(own, memory__limit_in_bytes=f"{GIB}\n", memory__usage_in_bytes=f"{GIB // 2}\n", memory__stat="total_rss 1\n")
    assert free_memory(**machine(tmp_path, "4:memory:/docker/abc\n3:cpu:/\n")).free_bytes == GIB // 2
    (own / "memory.limit_in_bytes").write_text(unlimited)
    assert free_memory(**machine(tmp_path / "other", "") | {"cgroups": tmp_path / "cgroup"}).free_bytes == 8 * GIB


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    outer = tmp_path / "cgroup" / "slice"
    group(outer, memory__max=f"{GIB}\n", memory__current="0\n")
    group(outer / "unit", memory__max="max\n", memory__current="0\n")
    assert free_memory(**machine(tmp_path, "0::/slice/unit\n")).free_bytes == GIB


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", memory__max="4096\n", memory__current="8192\n")
    assert free_memory(**machine(tmp_path, "0::/\n")).free_bytes == 0


def test_a_pool_may_take_what_is_free_and_huge_pages_besides() -> None:
    require_pool_memory(GIB, 0, FreeMemory(GIB, "free"))
    require_pool_memory(2 * GIB, GIB, FreeMemory(GIB, "free"))
    require_pool_memory(GIB, 2 * GIB, FreeMemory(0, "free"))
    said = rf"needs {2 * GIB + 1} bytes of memory \(2\.0 GiB\), and {GIB} \(1\.0 GiB\) are free: lower"
    with pytest.raises(ResourceExhaustedError, match=said) as e:
        require_pool_memory(2 * GIB + 1, 0, FreeMemory(GIB, "free"))
    assert e.value.reason == "POOL_TOO_LARGE"
