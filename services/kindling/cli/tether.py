"""Becomes another program that dies with its parent: ``python tether.py PARENT_PID PROGRAM ARGUMENT…``.

A program of its own, because the bond must be made between fork and exec, where a process with gRPC's threads can do
nothing safely. The kernel keeps it over exec: even a parent that is killed with SIGKILL leaves no children behind.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask the kernel for SIGKILL at the parent's death, then exec."""
    parent_pid, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent_pid):
        sys.exit("the parent died before the bond was made")
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
