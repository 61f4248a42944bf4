"""`make test-compose`: the cluster of compose.yaml on a real engine, from `up` to `down -v`; tests build on each other.

Not named test_*: it needs root, minutes and a few GB, so that nothing but its make target runs it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from kindling.cli.sample import make_sample
from support.compose_project import PROJECT, ComposeProject, s3_store, torch_wheels
from support.docker_engine import DockerEngine, MissingError, docker_engine, prepare

pytestmark = pytest.mark.timeout(900)
SERVING = {"etcd", "scheduler-a", "scheduler-b", "storage-a", "storage-b", "worker-a", "worker-b", "gateway"}
LEFT_OUT = "no stand-in is to be had for jaeger, prometheus and grafana: they were not started"
TOKENS = 700
SAY = ("chat", "tiny", "--message", "Tell me of the sea.", "--seed", "7", "--max-tokens", str(TOKENS))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is mounted; `tiny` in it is fp32, where a resumed generation is the same bit for bit."""
    directory = tmp_path_factory.mktemp("models")
    directory.parent.chmod(0o755)
    directory.parent.parent.chmod(0o755)
    directory.chmod(0o755)
    tiny = directory / "tiny"
    make_sample(tiny, layers=4, hidden_size=256)
    weights = tiny / "model.safetensors"
    save_file({name: each.float() for name, each in load_file(weights).items()}, weights, metadata={"format": "pt"})
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    for file in tiny.iterdir():
        file.chmod(0o644)
    return directory


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """A running engine that has the images."""
    try:
        prepare()
    except MissingError as error:
        pytest.fail(f"this machine cannot run the compose tests: {error}")
    with docker_engine() as engine:
        with engine.building(), torch_wheels() as wheels:
            began = time.monotonic()
            settings = {"KINDLING_BUILD_NETWORK": "host", "KINDLING_TORCH_WHEELS": wheels}
            ComposeProject(engine, settings).run("build")
            print(f"\nimages built in {time.monotonic() - began:.0f} s")
        with engine.running():
            yield engine


@pytest.fixture(scope="module")
def store(engine: DockerEngine, models: Path) -> Iterator[str]:
    with s3_store(engine, models / "tiny") as url:
        yield url


@pytest.fixture(scope="module")
def project(engine: DockerEngine, models: Path, store: str) -> Iterator[ComposeProject]:
    """The project with small tiers; whatever is left of it in the end goes."""
    settings = {
        "KINDLING_MODELS": str(models),
        "KINDLING_POOL": "256MiB",
        "KINDLING_STORAGE_MEMORY": "768m",
        "KINDLING_THREADS": "1",
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    project = ComposeProject(engine, settings)
    try:
        yield project
    finally:
        project.run("down", "--volumes", "--timeout", "10")


def test_up_starts_all_that_serves_and_says_what_was_left_out(project: ComposeProject) -> None:
    began = time.monotonic()
    project.run("up", "--detach", "--wait")
    print(f"\nup in {time.monotonic() - began:.0f} s; {LEFT_OUT}")
    rows = [json.loads(line) for line in project.run("ps", "--format", "json").output.splitlines()]
    assert {row["Service"]: row["Health"] for row in rows if row["Service"] in SERVING} == dict.fromkeys(
        SERVING, "healthy"
    )


def test_images_run_as_nobody_special_and_only_the_workers_has_torch(project: ComposeProject) -> None:
    probe = "import importlib.util as u, os; print(os.getuid(), u.find_spec('torch') is not None)"
    found = {
        service: project.run("exec", "-T", service, "python3", "-c", probe).output.split()
        for service in ("gateway", "scheduler-a", "storage-a", "worker-a")
    }
    assert found == {
        "gateway": ["10001", "False"],
        "scheduler-a": ["10001", "False"],
        "storage-a": ["10001", "False"],
        "worker-a": ["10001", "True"],
    }


def test_a_mounted_directory_without_read_permission_is_refused(project: ComposeProject, models: Path) -> None:
    weights = models / "tiny" / "model.safetensors"
    weights.chmod(0o600)
    refused = project.kindling("deploy", "tiny", "--source", "file:///models/tiny", check=False)
    weights.chmod(0o644)
    assert refused.code == 1
    assert "SOURCE_NOT_READABLE" in refused.errors
    assert "/models/tiny/model.safetensors may not be read" in refused.errors


def test_deploys_a_mounted_directory_and_chats(project: ComposeProject) -> None:
    project.kindling("deploy", "tiny", "--source", "file:///models/tiny")
    answer = project.kindling("chat", "tiny", "--message", "Hello", "--max-tokens", "16")
    assert "cold start" in answer.errors
    assert answer.output.strip()


def test_deploys_from_s3_and_chats(project: ComposeProject) -> None:
    project.kindling("deploy", "remote", "--source", "s3://models/tiny")
    ours, theirs = (
        project.kindling("chat", name, "--message", "Hello", "--max-tokens", "16", "--seed", "5").output
        for name in ("remote", "tiny")
    )
    assert ours == theirs
    project.kindling("delete", "remote", "--yes")


def test_openais_api_is_published(project: ComposeProject) -> None:
    request = json.dumps({"model": "tiny", "prompt": "One", "max_tokens": 4})
    script = f"""
import urllib.request
headers = {{"content-type": "application/json"}}
asked = urllib.request.Request("http://127.0.0.1:8080/v1/completions", {request.encode()!r}, headers)
print(urllib.request.urlopen(asked, timeout=60).read().decode())
"""
    done = subprocess.run(
        project.engine.inside([sys.executable, "-c", script]), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 4


def test_a_stream_outlives_its_worker(project: ComposeProject) -> None:
    whole = project.kindling(*SAY).output
    (worker,) = project.instances("tiny")
    with project.start("exec", "-T", "gateway", "kindling", *SAY) as stream:
        assert stream.stdout is not None
        assert stream.stderr is not None
        first = stream.stdout.read(len(whole) // 20)
        project.kill(f"worker-{worker.split('/')[0].removeprefix('node-')}")
        rest, errors = stream.stdout.read(), stream.stderr.read()
    assert stream.returncode == 0, errors
    assert first + rest == whole
    assert project.instances("tiny").keys() - {worker}
    project.run("up", "--detach", "--wait")


def test_the_standby_takes_over_from_a_killed_leader(project: ComposeProject) -> None:
    leader = project.leader()
    project.kill(leader)
    began = time.monotonic()
    project.kindling("evict", "tiny", "--keep", "ssd")
    answer = project.kindling("chat", "tiny", "--message", "Hello", "--max-tokens", "4")
    print(f"\nthe standby had evicted and started a model {time.monotonic() - began:.1f} s after the kill")
    assert "cold start" in answer.errors
    assert {leader, project.leader()} == {"scheduler-a", "scheduler-b"}
    project.run("up", "--detach", "--wait")


def test_a_cluster_that_was_down_has_its_models_and_a_warm_ssd(project: ComposeProject) -> None:
    project.run("down", "--timeout", "20")
    assert _left(project.engine, "container") == []
    project.run("up", "--detach", "--wait")
    assert "tiny" in project.kindling("models").output
    assert "cold start" in project.kindling("chat", "tiny", "--message", "Hello", "--max-tokens", "4").errors
    (row,) = project.instances("tiny").values()
    assert " SSD " in row


def test_a_pool_beyond_the_containers_memory_is_refused_with_both_numbers(project: ComposeProject) -> None:
    settings = {"POOL_BYTES": "4GiB", "CACHE_DIR": "/tmp/cache", "SOCKET_PATH": "/tmp/s", "NODE_ID": "node-c"}
    options = [part for name, value in settings.items() for part in ("--env", f"KINDLING_STORAGE_{name}={value}")]
    refused = project.run("run", "--rm", "-T", "--no-deps", *options, "storage-a", check=False)
    log = [json.loads(line) for line in (refused.output + refused.errors).splitlines() if line.startswith("{")]
    error = next(line for line in log if line["event"] == "service_failed")
    assert refused.code == 1
    assert error["reason"] == "POOL_TOO_LARGE"
    assert error["needed_bytes"] == str(4 << 30)
    assert 0 < int(error["available_bytes"]) <= 768 << 20


def test_traces_arrive_at_the_collector(project: ComposeProject) -> None:
    assert "Received" in project.run("logs", "--no-log-prefix", "otel-collector").output


def test_down_with_volumes_leaves_nothing(project: ComposeProject) -> None:
    project.run("down", "--volumes", "--timeout", "20")
    assert {kind: _left(project.engine, kind) for kind in ("container", "volume", "network")} == {
        "container": [],
        "volume": [],
        "network": [],
    }


def _left(engine: DockerEngine, kind: str) -> list[str]:
    every = ["--all"] if kind == "container" else []
    label = f"label=com.docker.compose.project={PROJECT}"
    return engine.docker(kind, "ls", *every, "--quiet", "--filter", label).split()
