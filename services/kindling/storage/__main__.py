"""``python -m kindling.storage``: the storage manager of a node, configured by ``KINDLING_STORAGE_*`` alone."""

from kindling.platform.process import run_service
from kindling.platform.settings import load_settings
from kindling.storage.app import serve
from kindling.storage.settings import StorageSettings


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = load_settings(StorageSettings)
    run_service("storage", settings, lambda shutdown: serve(settings, shutdown), instance_id=settings.node_id)


if __name__ == "__main__":
    main()
