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
