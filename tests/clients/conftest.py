"""One cluster with the real engine for every client, and a word at the end on which clients it was."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kindling.cli.options import EngineKind
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster, cluster_options, running_cluster

CONTEXT_LENGTH = 2048


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    data_dir = tmp_path_factory.mktemp("cluster")
    with running_cluster(cluster_options(data_dir, workers_per_node=2, engine=EngineKind.TRANSFORMERS)) as running:
        yield running


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint so large, and with so long a context, that an answer takes a while."""
    directory = tmp_path_factory.mktemp("source") / "model"
    return make_checkpoint(directory, layers=8, hidden_size=128, context_length=CONTEXT_LENGTH)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say of each client whether it ran: what is skipped must not go unnoticed."""
    ends: dict[str, str] = {}
    for outcome in ("passed", "skipped", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            client = dict(report.user_properties).get("client")
            if client is not None:
                ends[client] = report.longrepr[2] if outcome == "skipped" else {"passed": "ran"}.get(outcome, "FAILED")
    terminalreporter.section("clients")
    for client, end in ends.items():
        terminalreporter.line(f"{client:14} {end}", green=end == "ran", red=end != "ran")
