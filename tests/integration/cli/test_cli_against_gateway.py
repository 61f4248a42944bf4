"""The commands against a real gRPC server that answers as a gateway does."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.platform.errors import NotFoundError, UnavailableError
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    cluster_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scheduler_pb2,
)

runner = CliRunner()
CHECKPOINT = checkpoint_pb2.Checkpoint(
    digest="blake3:00", total_bytes=2**20, chunk_count=4, architecture="LlamaForCausalLM", parameter_count=5 * 10**8
)


class Models(model_pb2_grpc.ModelServiceServicer):
    def __init__(self):
        self.requests = []
        self.models = {}

    async def DeployModel(self, request, context):
        self.requests.append(request)
        for done in (0, 2**19):
            yield model_pb2.DeployModelResponse(progress=model_pb2.ImportProgress(done_bytes=done, total_bytes=2**20))
        self.models[request.name] = model_pb2.Model(
            name=request.name, checkpoint=CHECKPOINT, settings=request.settings, source_uri=request.source_uri
        )
        yield model_pb2.DeployModelResponse(deployed=self.models[request.name])

    async def ListModels(self, request, context):
        return model_pb2.ListModelsResponse(models=self.models.values())

    async def DeleteModel(self, request, context):
        if request.name not in self.models:
            raise NotFoundError(f"no model {request.name}; see `kindling models`", reason="MODEL_NOT_FOUND")
        del self.models[request.name]
        return model_pb2.DeleteModelResponse()

    async def EvictModel(self, request, context):
        self.requests.append(request)
        return model_pb2.EvictModelResponse(stopped_instances=1, dropped_bytes=2**20)


class Cluster(cluster_pb2_grpc.ClusterServiceServicer):
    def __init__(self):
        self.leads = True

    async def GetClusterStatus(self, request, context):
        if not self.leads:
            raise UnavailableError("no scheduler leads", reason="NO_LEADER", retry_after_seconds=2)
        worker = cluster_pb2.WorkerSummary(worker_id="node-1/worker-0", address="10.0.0.1:7000")
        counts = cluster_pb2.PrefetchCounts(prefetched_bytes=5 << 20, hits=3, misses=1, wasted_bytes=1 << 20)
        node = cluster_pb2.NodeStatus(node_id="node-1", workers=[worker], prefetch=counts)
        seen = cluster_pb2.GetClusterStatusResponse(leader_id="scheduler-0", nodes=[node])
        if request.include_estimates:
            init = cluster_pb2.InitEstimate(digest="blake3:abc", device_kind="cpu", seconds=0.5, starts=7)
            seen.estimates.CopyFrom(cluster_pb2.Estimates(inits=[init]))
        return seen


class Generation(generation_pb2_grpc.GenerationServiceServicer):
    def __init__(self):
        self.requests = []

    async def Complete(self, request, context):
        self.requests.append(request)
        queued = scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=1))
        yield generation_pb2.CompleteResponse(waiting=queued)
        for text in ("You said ", request.conversation.messages[-1].content, " [bold]"):
            yield generation_pb2.CompleteResponse(delta=generation_pb2.TextDelta(text=text))
        for address in ("10.0.0.1:7000", "10.0.0.2:7000") if request.trace else ():
            moved = generation_pb2.ChoiceMoved(kind=generation_pb2.MOVE_KIND_MIGRATED, worker_address=address)
            yield generation_pb2.CompleteResponse(moved=moved)
        yield generation_pb2.CompleteResponse(
            finished=generation_pb2.CompleteFinished(completion_tokens=3, start=scheduler_pb2.START_KIND_COLD)
        )


class Gateway:
    def __init__(self):
        self.models, self.cluster, self.generation = Models(), Cluster(), Generation()
        self.ended = asyncio.Event()

    async def serve(self, started):
        server = RpcServer("127.0.0.1:0", grace_seconds=0)
        server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, self.models, "kindling.v1.ModelService")
        server.add(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, self.cluster, "kindling.v1.ClusterService")
        server.add(
            generation_pb2_grpc.add_GenerationServiceServicer_to_server,
            self.generation,
            "kindling.v1.GenerationService",
        )
        async with server:
            started.set_result((server.address, asyncio.get_running_loop()))
            await self.ended.wait()


@pytest.fixture
def gateway(monkeypatch):
    gateway, started = Gateway(), Future()
    thread = threading.Thread(target=lambda: asyncio.run(gateway.serve(started)))
    thread.start()
    address, loop = started.result(10)
    monkeypatch.setenv("KINDLING_ADDRESS", address)
    yield gateway
    loop.call_soon_threadsafe(gateway.ended.set)
    thread.join()


@pytest.fixture
def source(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_deploy_sends_the_settings_and_says_what_was_deployed(gateway, source):
    options = ["--keep-alive", "1h30m", "--min-instances", "1", "--max-instances", "3", "--concurrency", "4"]
    options += ["--max-queued-requests", "7", "--max-queue-wait", "90s", "--devices", "2"]
    result = runner.invoke(app, ["deploy", "m", "--source", str(source), *options])
    assert result.exit_code == 0
    assert "deployed m: LlamaForCausalLM, 500 M parameters, 1.0 MiB in 4 chunks" in result.stdout
    (request,) = gateway.models.requests
    settings = request.settings
    assert request.source_uri == source.as_uri()
    assert settings.keep_alive.seconds == 5400
    assert (settings.min_instances, settings.max_instances, settings.concurrency_target) == (1, 3, 4)
    assert (settings.max_queued_requests, settings.max_queue_wait.seconds, settings.devices) == (7, 90, 2)
    assert not request.allow_pickle


def test_deploy_leaves_to_the_cluster_what_was_not_said(gateway, source):
    assert runner.invoke(app, ["deploy", "m", "--source", str(source)]).exit_code == 0
    (request,) = gateway.models.requests
    assert not request.settings.HasField("keep_alive")
    assert not request.settings.HasField("max_queue_wait")


def test_models_lists_what_was_deployed_and_says_how_when_nothing_was(gateway, source):
    assert "deploy one with kindling deploy" in runner.invoke(app, ["models"]).stdout
    runner.invoke(app, ["deploy", "m", "--source", str(source)])
    result = runner.invoke(app, ["models"])
    assert result.exit_code == 0
    assert "LlamaForCausalLM" in result.stdout


def test_delete_and_its_error(gateway, source):
    runner.invoke(app, ["deploy", "m", "--source", str(source)])
    assert runner.invoke(app, ["delete", "m"], input="y\n").exit_code == 0
    result = runner.invoke(app, ["delete", "m", "--yes"])
    assert result.exit_code == 1
    assert "error: no model m; see `kindling models` (MODEL_NOT_FOUND)" in result.stderr


def test_evict_names_the_tier(gateway):
    result = runner.invoke(app, ["evict", "m", "--keep", "ssd"])
    assert result.exit_code == 0
    assert "stopped 1 instance(s) of m, dropped 1.0 MiB" in result.stdout
    assert gateway.models.requests[0].keep == checkpoint_pb2.TIER_SSD


def test_status_names_the_leader(gateway):
    result = runner.invoke(app, ["status"])
    assert (result.exit_code, "scheduler-0 leads" in result.stdout) == (0, True)


def test_status_shows_estimates_when_asked(gateway):
    result = runner.invoke(app, ["status", "--estimates"])
    assert result.exit_code == 0
    assert "scheduler-0 leads" in result.stdout
    assert "abc" in result.stdout
    assert "500 ms" in result.stdout
    assert "node-1" not in result.stdout


def test_status_shows_what_prefetching_was_good_for_when_asked(gateway):
    result = runner.invoke(app, ["status", "--prefetch"])
    assert result.exit_code == 0
    assert "scheduler-0 leads" in result.stdout
    assert "75%" in result.stdout
    assert "10.0.0.1" not in result.stdout


def test_a_cluster_that_answers_but_cannot_serve_is_a_failure_and_not_unreachable(gateway):
    gateway.cluster.leads = False
    result = runner.invoke(app, ["status"])
    assert result.exit_code == 1
    assert "no scheduler leads (NO_LEADER)" in result.stderr
    assert "try again in 2 s" in result.stderr


def test_chat_prints_the_answer_alone_to_stdout(gateway):
    result = runner.invoke(app, ["chat", "m", "--message", "hello", "--system", "be kind", "--seed", "7"])
    assert (result.exit_code, result.stdout) == (0, "You said hello [bold]\n")
    assert "3 tokens" in result.stderr
    assert "cold start" in result.stderr
    (request,) = gateway.generation.requests
    assert [(one.role, one.content) for one in request.conversation.messages] == [
        ("system", "be kind"),
        ("user", "hello"),
    ]
    assert request.sampling.seed == 7


def test_chat_marks_moves_for_those_who_ask_and_not_in_the_answer(gateway):
    result = runner.invoke(app, ["chat", "m", "--message", "hello", "--trace"])
    assert (result.exit_code, result.stdout) == (0, "You said hello [bold]\n")
    assert " ⇄ node-1/worker-0  ⇄ 10.0.0.2:7000 " in result.stderr
    assert "⇄" not in runner.invoke(app, ["chat", "m", "--message", "hello"]).stderr


def test_a_mark_needs_no_leader(gateway):
    gateway.cluster.leads = False
    result = runner.invoke(app, ["chat", "m", "--message", "hello", "--trace"])
    assert result.exit_code == 0
    assert " ⇄ 10.0.0.1:7000 " in result.stderr


def test_chat_takes_a_pipe_as_one_message(gateway):
    result = runner.invoke(app, ["chat", "m"], input="two\nlines\n")
    assert (result.exit_code, result.stdout) == (0, "You said two\nlines\n [bold]\n")


def test_an_empty_pipe_is_wrong_usage(gateway):
    result = runner.invoke(app, ["chat", "m"], input=" \n")
    assert result.exit_code == 2
    assert "nothing to say" in result.stderr


def read_until(terminal, text):
    """Read up to a text and not a byte further: what follows is for the next call, however much came at once."""
    seen = b""
    while not seen.endswith(text):
        seen += os.read(terminal, 1)
    return seen


@pytest.fixture
def terminal(gateway):
    """A terminal with `kindling chat m` in it: our end, and the process."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "kindling.cli.main", "chat", "m"]
    # Whoever runs the tests in the background may have them, and all that they start, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    signal.signal(signal.SIGINT, before)
    os.close(theirs)
    yield ours, process
    process.kill()
    process.wait()
    os.close(ours)


def test_a_conversation_in_a_terminal_remembers_and_ends_at_ctrl_d(gateway, terminal):
    ours, process = terminal
    read_until(ours, b"> ")
    for said in (b"one", b"two"):
        os.write(ours, said + b"\n")
        read_until(ours, b"You said " + said)
        read_until(ours, b"> ")
    status = None
    while status is None:
        # What is typed between the prompt and the line editor's start is the terminal's own end of file, and lost.
        os.write(ours, b"\x04")
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(2)
    assert status == 0
    roles = [one.role for one in gateway.generation.requests[1].conversation.messages]
    assert roles == ["user", "assistant", "user"]


def test_ctrl_c_at_the_prompt_ends_a_conversation_at_once(terminal):
    ours, process = terminal
    read_until(ours, b"> ")
    status = None
    while status is None:
        # Between the prompt and the read there is a moment when Python only notes the signal; then it needs another.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(2)
    assert status == 0
