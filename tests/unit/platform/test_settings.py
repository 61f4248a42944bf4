"""A bad setting is a start-up error that names the variable."""

import pytest
from pydantic_settings import SettingsConfigDict

from kindling.platform.settings import EXIT_BAD_CONFIGURATION, ServiceSettings, load_settings


class SampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="KINDLING_SAMPLE_")

    slots: int = 1


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDLING_SAMPLE_SLOTS", "3")
    monkeypatch.setenv("KINDLING_SAMPLE_ETCD_ENDPOINTS", "a:1, b:2,")
    settings = load_settings(SampleSettings)
    assert settings.slots == 3
    assert settings.etcd_endpoint_list == ["a:1", "b:2"]


@pytest.mark.parametrize(("name", "value"), [("SLOTS", "many"), ("LOG_LEVEL", "LOUD"), ("LEASE_TTL_SECONDS", "0")])
def test_a_bad_value_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"KINDLING_SAMPLE_{name}", value)
    with pytest.raises(SystemExit) as caught:
        load_settings(SampleSettings)
    assert caught.value.code == EXIT_BAD_CONFIGURATION
    assert f"KINDLING_SAMPLE_{name}" in capsys.readouterr().err


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "blamed"),
    [
        ({"KINDLING_TRACE_RING_SPANS": "many"}, "KINDLING_TRACE_RING_SPANS"),
        ({"KINDLING_TRACE_RING_SPANS": "-1"}, "KINDLING_TRACE_RING_SPANS"),
        (COLLECTOR | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (COLLECTOR | {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"),
    ],
)
def test_telemetry_that_there_is_not_is_refused(
    environment: dict[str, str], blamed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        load_settings(SampleSettings)
    assert caught.value.code == EXIT_BAD_CONFIGURATION
    assert capsys.readouterr().err.startswith(f"{blamed}: ")


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},  # nothing is sent anywhere
        COLLECTOR | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_SDK_DISABLED": "true"},
        COLLECTOR | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "KINDLING_TRACE_RING_SPANS": "2048"},
        {"KINDLING_TRACE_RING_SPANS": ""},
    ],
)
def test_what_makes_no_difference_is_not_refused(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings(SampleSettings).slots == 1
