"""``python -m kindling.worker``: one inference worker, configured by ``KINDLING_WORKER_*``."""

import functools

from kindling.platform.process import run_service
from kindling.platform.settings import load_settings
from kindling.worker.app import serve
from kindling.worker.settings import WorkerSettings


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings(WorkerSettings)
    run_service("worker", settings, functools.partial(serve, settings), instance_id=settings.worker_id)


if __name__ == "__main__":
    main()
