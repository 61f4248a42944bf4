"""fio's own reads, where it is installed: an independent floor."""

import json
import shutil
import subprocess
from pathlib import Path

from kindling.platform.errors import FailedPreconditionError

ENGINES = ("psync", "io_uring")


def is_installed() -> bool:
    """Whether there is an fio to run."""
    return shutil.which("fio") is not None


def read_seconds(path: Path, engine: str) -> float:
    """Read the whole file once with O_DIRECT in 16 MiB blocks into huge-page buffers; return fio's own time.

    Raises:
        FailedPreconditionError: FIO_FAILED.
    """
    size = path.stat().st_size // 4096 * 4096
    jobs = ("--numjobs=1", "--iodepth=4") if engine == "io_uring" else ("--numjobs=1", "--iodepth=1")
    command = [
        *("fio", "--name=read", f"--filename={path}", "--rw=read", "--bs=16m", "--direct=1", f"--size={size}"),
        *(f"--ioengine={engine}", "--mem=shmhuge", "--output-format=json", *jobs),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FailedPreconditionError(f"fio failed: {done.stderr.strip()[-200:]}", reason="FIO_FAILED")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["runtime"]) / 1e3
