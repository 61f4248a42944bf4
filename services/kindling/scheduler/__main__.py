"""``python -m kindling.scheduler``: run a scheduler configured by ``KINDLING_SCHEDULER_*``."""

from functools import partial

from kindling.platform.process import run_service
from kindling.platform.settings import load_settings
from kindling.scheduler.app import serve
from kindling.scheduler.settings import SchedulerSettings

if __name__ == "__main__":
    settings = load_settings(SchedulerSettings)
    run_service("scheduler", settings, partial(serve, settings), instance_id=settings.scheduler_id)
