"""Directories for what is on its way from or to a remote place."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from kindling.checkpoint.files import writing
from kindling.checkpoint.writer import temporary_directory
from kindling.storage.adapters.io_executor import IoExecutor


@asynccontextmanager
async def scratch_directory(root: Path, io: IoExecutor) -> AsyncIterator[Path]:
    """A new directory below ``root`` that is gone after the context; ``sweep_temporaries`` finds what a crash left.

    Raises ResourceExhaustedError (DISK_FULL) or UnavailableError (STORE_WRITE_FAILED) if there can be none.
    """
    stack = ExitStack()

    def enter() -> Path:
        with writing(root, 0):
            return stack.enter_context(temporary_directory(root))

    directory = await io.acquire(enter, lambda _: stack.close())
    try:
        yield directory
    finally:
        await io.run(stack.close)
