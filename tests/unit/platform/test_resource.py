"""What spans, metrics and log lines say of the process that they come from."""

import pytest

from kindling.platform.telemetry import process_resource


def test_a_service_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    found = process_resource("worker", "node-0/worker-1").attributes
    assert found["service.name"] == "kindling-worker"
    assert found["service.namespace"] == "kindling"
    assert found["service.instance.id"] == "node-0/worker-1"


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,service.instance.id=pod-7,cluster=blue")
    found = process_resource("worker", "node-0/worker-1").attributes
    assert (found["service.name"], found["service.instance.id"], found["cluster"]) == ("theirs", "pod-7", "blue")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    assert process_resource("worker", "").attributes["service.name"] == "ours"
