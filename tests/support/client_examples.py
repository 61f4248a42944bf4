"""The example programs in `clients/`: what each needs, how it is built and run, and what it says."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from kindling.v1 import inference_pb2
from support import api, reference
from support.cluster import RunningCluster
from support.gateway_metrics import tokens_sent

ROOT = Path(__file__).resolve().parents[2]
BUF = ROOT / ".tools" / "node_modules" / ".bin" / "buf"
BUILD_SECONDS = 540
RUN_SECONDS = 120
PROMPT = "The quick brown fox"
MAX_TOKENS = 32
CANCELLED_AFTER, CANCELLED_MAX_TOKENS = 5, 1500
_OUTPUT = re.compile(
    r"deployed: (?P<deployed>[^\n]*)\n"
    r"(?P<text>.*)\n"
    r"tokens: (?P<token_ids>[0-9 ]+)\n"
    r"finished: (?P<reason>\w+)\n"
    r"cancelled: (?P<cancelled>\w+) after (?P<received>[0-9]+) tokens\n"
    r"refused: (?P<refused>[^\n]*)\n",
    re.DOTALL,
)


@dataclass(frozen=True)
class Transcript:
    """What an example printed, taken apart."""

    deployed: str
    text: str
    token_ids: list[int]
    reason: str
    cancelled: str
    received: int
    refused: str


@dataclass(frozen=True)
class ClientExample:
    """The example in one language."""

    language: str

    @property
    def missing(self) -> dict[str, str]:
        """What this machine lacks to build it: each program or file, and the Debian package that has it."""
        lines = (self._directory / "tools").read_text().splitlines()
        needed = dict(line.split() for line in lines if not line.startswith("#"))
        return {probe: package for probe, package in needed.items() if not _is_there(probe)}

    def build(self) -> None:
        """Generate the stubs and build the program; AssertionError with the tools' output if that fails."""
        done = self._make("build", seconds=BUILD_SECONDS)
        assert done.returncode == 0, f"{self.language} does not build:\n{done.stdout}{done.stderr}"

    def run(self, address: str, source: str, model: str) -> Transcript:
        """Run the program against a gateway; AssertionError with its output if it fails or says something else."""
        done = self._make("run", f"ARGS={source} {model}", seconds=RUN_SECONDS, KINDLING_ADDRESS=address)
        said = f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
        assert (done.returncode, done.stderr) == (0, ""), said
        found = _OUTPUT.fullmatch(done.stdout)
        assert found is not None, said
        token_ids = [int(token_id) for token_id in found["token_ids"].split()]
        received = int(found["received"])
        named = {name: found[name] for name in ("deployed", "text", "reason", "cancelled", "refused")}
        return Transcript(token_ids=token_ids, received=received, **named)

    @property
    def _directory(self) -> Path:
        return ROOT / "clients" / self.language

    def _make(self, *arguments: str, seconds: float, **env: str) -> subprocess.CompletedProcess[str]:
        tools = [f"BUF={BUF}", f"PYTHON={sys.executable}"]
        command = ["make", "--silent", "--no-print-directory", "-C", str(self._directory), *tools, *arguments]
        done = subprocess.run(command, check=False, env=_environment() | env, capture_output=True, timeout=seconds)
        # Decoded here, for subprocess would take carriage returns in an answer's text for ends of lines.
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


EXAMPLES = {language: ClientExample(language) for language in ("go", "typescript", "cpp", "java", "python")}


def expected_answer(address: str, name: str, source: Path) -> api.Answer:
    """Deploy ``source`` and return its answer to the examples' prompt: Python's stubs and transformers agree on it."""
    api.deploy(address, name, source)
    prompt = AutoTokenizer.from_pretrained(source).encode(PROMPT)
    sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True)
    answer = api.answer_of(api.stream(address, name, prompt, sampling))
    assert answer.token_ids == reference.generate(source, prompt, MAX_TOKENS, ignore_eos=True)
    return answer


def check_example(example: ClientExample, cluster: RunningCluster, source: Path, expected: api.Answer) -> None:
    """Run an example and check that it saw what Python sees, its cancellation, and a typed error."""
    name = f"hello-{example.language}"
    transcript = example.run(cluster.grpc_address, source.as_uri(), name)
    _check_transcript(transcript, expected, name)
    sent = tokens_sent(cluster.http_url, name)
    assert MAX_TOKENS + transcript.received <= sent < MAX_TOKENS + CANCELLED_MAX_TOKENS, "the cluster went on"


def _check_transcript(transcript: Transcript, expected: api.Answer, name: str) -> None:
    assert transcript.deployed.startswith(f"{name}, LlamaForCausalLM of ")
    assert transcript.token_ids == expected.token_ids
    assert transcript.text == expected.text
    assert transcript.reason == "FINISH_REASON_LENGTH"
    assert transcript.cancelled == "CANCELLED"
    assert CANCELLED_AFTER <= transcript.received < CANCELLED_MAX_TOKENS
    assert transcript.refused.startswith("NOT_FOUND reason=MODEL_NOT_FOUND domain=kindling metadata")
    metadata, message = transcript.refused.split(": The model ")
    assert metadata.rstrip("]}'\"").endswith("no-such-model")
    assert message.startswith("'no-such-model' does not exist")


def _is_there(probe: str) -> bool:
    return Path(probe).exists() if probe.startswith("/") else shutil.which(probe) is not None


def _environment() -> dict[str, str]:
    """Ours, without what belongs to the tests or to a `make` that runs them, and with UTF-8 for what is printed."""
    ours = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")}
    return ours | {"LC_ALL": "C.UTF-8"}
