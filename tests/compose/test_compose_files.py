"""The files of compose/ fit together, as far as no engine is needed to see it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kindling.gateway.settings import GatewaySettings
from kindling.scheduler.settings import SchedulerSettings
from kindling.storage.settings import StorageSettings
from kindling.worker.settings import WorkerSettings
from support.docker_engine import TOOLS

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "compose"
DOCKERFILE = (COMPOSE / "Dockerfile").read_text()
TEXT = (COMPOSE / "compose.yaml").read_text()
PROJECT: dict[str, Any] = yaml.safe_load(TEXT)
OURS = {name: service for name, service in PROJECT["services"].items() if "build" in service}
STAGES = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
TARGETS = ("gateway", "scheduler", "storage", "worker")
FROM_OUTSIDE = set(PROJECT["services"]) - set(OURS)


def docker_compose() -> list[str]:
    """The client with compose, or a loud skip. `make test-compose` leaves one behind."""
    left_behind = TOOLS / "cli-plugins" / "docker-compose"
    for command in (["docker", "compose"], ["docker-compose"], [str(left_behind)]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return command
    pytest.skip("NO docker client with compose here: compose.yaml was NOT validated by it (`make test-compose` does)")


@pytest.mark.parametrize("overlays", [[], ["compose.gpu.yaml"], ["../tests/compose/compose.stand-ins.yaml"]])
def test_docker_compose_takes_the_files(overlays: list[str]) -> None:
    files = [part for name in ("compose.yaml", *overlays) for part in ("-f", name)]
    for example in ([], ["--env-file", ".env.example"]):
        command = [*docker_compose(), *example, *files, "config", "--quiet"]
        done = subprocess.run(command, cwd=COMPOSE, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_each_service_of_ours_is_a_target_and_each_target_a_service() -> None:
    assert {service["build"]["target"] for service in OURS.values()} == set(TARGETS)
    assert {stage for _, stage in STAGES} >= set(TARGETS)


def test_the_dockerfile_needs_no_more_than_a_plain_builder() -> None:
    assert "# syntax=" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
    assert {base for base, _ in STAGES} == {"python:3.11-slim", "python", "common"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_service_as_a_user_with_a_health_check(target: str) -> None:
    own = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    assert "\nUSER kindling\n" in own
    assert f'CMD ["python3", "-m", "kindling.{target}"]' in own
    assert "\nHEALTHCHECK " in DOCKERFILE.split(" AS common\n")[1].split("\nFROM ")[0]


def test_only_the_workers_image_has_torch() -> None:
    installed = {
        target: f"/{target}.txt" in DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0] for target in TARGETS
    }
    assert installed == {"gateway": True, "scheduler": False, "storage": True, "worker": True}
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    assert pyproject.count('"torch"') == 1
    assert 'worker = ["torch"' in pyproject


def test_nothing_is_privileged() -> None:
    for name, service in OURS.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    assert "privileged: true" not in TEXT
    assert "network_mode" not in TEXT


def test_versions_are_pinned() -> None:
    for name in FROM_OUTSIDE:
        tag = PROJECT["services"][name]["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name


def test_every_setting_that_is_given_exists() -> None:
    classes = {each.model_config["env_prefix"]: each for each in (GatewaySettings, SchedulerSettings)}
    classes |= {each.model_config["env_prefix"]: each for each in (StorageSettings, WorkerSettings)}
    for service in OURS.values():
        for variable in service["environment"]:
            for prefix, settings in classes.items():
                if variable.startswith(prefix):
                    assert variable.removeprefix(prefix).lower() in settings.model_fields, variable


def test_every_variable_has_a_line_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)[:-]", TEXT))
    named = set(re.findall(r"^(?:# )?(\w+)=", (COMPOSE / ".env.example").read_text(), re.MULTILINE))
    for_builds = {"KINDLING_TAG", "KINDLING_BUILD_NETWORK", "KINDLING_TORCH_WHEELS", "KINDLING_DEVICE"}
    assert used - named == for_builds


def test_ports_and_volumes_are_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for name in PROJECT["services"]:
        assert f"`{name}`" in readme, name
    for volume in PROJECT["volumes"]:
        assert f"`{volume}`" in readme, volume
    published = {port.rpartition(":")[2] for each in PROJECT["services"].values() for port in each.get("ports", [])}
    assert published == {"8080", "8081", "16686", "9090", "3000"}
    assert all(port in readme for port in published)
