"""Where the command line prints: results to stdout, everything about them to stderr."""

import enum
import sys

from rich.console import Console
from rich.markup import escape

from kindling.platform.errors import Code, KindlingError

# Tables keep their words whole in a pipe or a file, which have no width of their own.
_WIDTH_WITHOUT_TERMINAL = 240

out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
err = Console(stderr=True, highlight=False)


class ExitCode(enum.IntEnum):
    """What the shell sees."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


UNREACHABLE_REASONS = frozenset({"CLUSTER_UNREACHABLE", "RPC_UNAVAILABLE"})


def exit_code_of(error: KindlingError) -> ExitCode:
    """Return 3 if the cluster cannot be reached, 2 if what the user typed is wrong in itself, else 1."""
    if error.reason in UNREACHABLE_REASONS:
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if error.code is Code.INVALID_ARGUMENT else ExitCode.FAILURE


def print_error(error: KindlingError) -> None:
    """Say what went wrong and what to do next, on stderr."""
    err.print(f"[bold red]error:[/] {escape(error.message)} [dim]({error.reason})[/]", soft_wrap=True)
    if error.reason == "RPC_UNAVAILABLE":
        err.print("start a cluster with [bold]kindling up[/], or name one with --address", soft_wrap=True)
    if error.retry_after_seconds is not None:
        err.print(f"try again in {error.retry_after_seconds:.0f} s")
