"""A storage manager as the service runs it, except that it is in no registry; settings from ``KINDLING_STORAGE_*``.

Prints its address on standard output once it serves; logs, as ever, go to standard error.
"""

import sys

from kindling.platform.process import Shutdown, run_service
from kindling.platform.settings import load_settings
from kindling.storage.app import running
from kindling.storage.settings import StorageSettings


def main() -> None:
    """Serve until told to stop."""
    settings = load_settings(StorageSettings)

    async def serve(shutdown: Shutdown) -> None:
        async with running(settings) as node:
            sys.stdout.write(node.server.address + "\n")
            sys.stdout.flush()
            await shutdown.requested.wait()

    run_service("storage", settings, serve)


if __name__ == "__main__":
    main()
