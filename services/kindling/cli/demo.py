"""`kindling demo`: everything once, from a model's directory to a table of how fast it starts."""

import asyncio
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.markup import escape

from kindling.cli.child import Child, Role, log_tail
from kindling.cli.client import ClusterClient, connect, new_request_id
from kindling.cli.cluster import LocalCluster, local_cluster
from kindling.cli.console import ExitCode, err, out
from kindling.cli.first_tokens import FirstTokens, table
from kindling.cli.model import deploy_with_progress, source_uri
from kindling.cli.options import ClusterOptions, default_pool_bytes
from kindling.cli.ports import free_ports
from kindling.cli.signals import cancelled_by_signals
from kindling.cli.streaming import Question, ask
from kindling.cli.values import format_bytes, format_seconds
from kindling.platform.errors import InternalError
from kindling.platform.logging import configure_logging
from kindling.v1 import model_pb2

# One of each: with more, a start goes where it is expected to be soonest, and what is parked, or on a fast disk, may be
# expected some milliseconds later than what is in DRAM, or in a store as fast, elsewhere. Here each tier is to be seen.
NODES = 1
WORKERS_PER_NODE = 1
_SMALLEST_POOL_BYTES = 512 * 2**20
_PROMPT = "Tell me what a serverless model does while nobody calls it."
_ANSWER_TOKENS = 48


def demo(
    source: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Your own Hugging Face model directory; else a sample with random weights."),
    ] = None,
) -> None:
    """Start a cluster, deploy a model, chat with it, show how fast it starts, and clean up."""
    if source is not None:
        source_uri(source)
    directory = Path(tempfile.mkdtemp(prefix="kindling-demo-"))
    try:
        asyncio.run(_until_done(directory, source))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _until_done(directory: Path, source: Path | None) -> None:
    configure_logging("kindling-demo", "ERROR")
    try:
        with cancelled_by_signals():
            await _demo(directory, source or await _sample(directory), is_sample=source is None)
        _say("everything is stopped and removed; a cluster that stays: kindling up")
    except asyncio.CancelledError:
        err.print("interrupted; everything was stopped and removed")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


async def _demo(directory: Path, source: Path, *, is_sample: bool) -> None:
    options = _options(directory, source)
    what = "starting etcd, scheduler, gateway, a storage manager and a worker"
    starting = err.status(what)
    starting.start()
    try:
        async with local_cluster(options, notify=_notify) as cluster, connect(cluster.grpc_address) as client:
            starting.stop()
            _say(f"a cluster runs: {', '.join(cluster.names)}; the OpenAI API is at {cluster.http_url}/v1")
            model = await _deploy(client, source)
            await _show(cluster, client, model, chat=_has_chat_template(source), is_sample=is_sample)
            starting.update("stopping everything")
            starting.start()
    finally:
        starting.stop()


async def _show(
    cluster: LocalCluster, client: ClusterClient, model: model_pb2.Model, *, chat: bool, is_sample: bool
) -> None:
    if is_sample:
        _say("the sample's weights are random, so what it says is gibberish; your own: kindling demo --source DIR")
    question = Question(model.name, _PROMPT, _ANSWER_TOKENS, chat)
    err.print(f"[dim]> {escape(_PROMPT)}[/]")
    answer = await asyncio.to_thread(ask, cluster.http_url, question, _print_piece)
    out.print()
    err.print(f"[dim]first token after {format_seconds(answer.first_token_seconds)}[/]")
    with err.status("measuring the first token from every tier"):
        measured = await FirstTokens(client, cluster.http_url, model, chat=chat).measure()
    out.print()
    out.print(table(measured))
    out.print()


async def _deploy(client: ClusterClient, source: Path) -> model_pb2.Model:
    request = model_pb2.DeployModelRequest(
        request_id=new_request_id(), name=_model_name(source), source_uri=source_uri(source)
    )
    model = await deploy_with_progress(client, request)
    checkpoint = model.checkpoint
    _say(
        f"deployed {model.name}: {checkpoint.architecture}, {checkpoint.parameter_count / 1e6:,.0f} M parameters, "
        f"{format_bytes(checkpoint.total_bytes)} in {checkpoint.chunk_count} chunks"
    )
    return model


async def _sample(directory: Path) -> Path:
    """Make the sample in a process of its own, which can be ended at any time and keeps torch out of this one."""
    path = directory / "kindling-sample"
    argv = [sys.executable, "-m", "kindling.cli.sample", str(path)]
    child = Child("sample", Role.WORKER, argv, os.environ, directory / "sample.log")
    with err.status("making a sample model with random weights"):
        try:
            await child.start()
            status = await child.wait()
        finally:
            await child.stop(grace_seconds=1.0)
    if status != 0:
        raise InternalError(f"the sample could not be made:\n{log_tail(child.log_path)}", reason="SAMPLE_FAILED")
    return path


def _options(directory: Path, source: Path) -> ClusterOptions:
    http_port, grpc_port = free_ports(2)
    model_bytes = sum(file.stat().st_size for file in source.expanduser().iterdir() if file.is_file())
    most = default_pool_bytes(psutil.virtual_memory().available, NODES)
    return ClusterOptions(
        data_dir=directory / "data",
        nodes=NODES,
        workers_per_node=WORKERS_PER_NODE,
        dram_pool_bytes=min(max(model_bytes * 5 // 4, _SMALLEST_POOL_BYTES), most),
        http_port=http_port,
        grpc_port=grpc_port,
    )


def _model_name(source: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", source.expanduser().absolute().name)[:128] or "model"


def _has_chat_template(source: Path) -> bool:
    directory = source.expanduser()
    settings = directory / "tokenizer_config.json"
    return (directory / "chat_template.jinja").is_file() or (
        settings.is_file() and "chat_template" in settings.read_text()
    )


def _print_piece(text: str) -> None:
    out.out(text, end="", highlight=False)
    out.file.flush()


def _say(line: str) -> None:
    out.print(f"[green]•[/] {escape(line)}", soft_wrap=True)


def _notify(line: str) -> None:
    err.print(escape(line), soft_wrap=True)
