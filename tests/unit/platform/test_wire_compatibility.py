"""`buf breaking` against the committed baseline: what clients rely on cannot change, and anything may be added."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUF = ROOT / ".tools" / "node_modules" / ".bin" / "buf"
SECONDS = 30
ADDITIONS = (
    ("message GetModelRequest {", "message GetModelRequest {\n  // New.\n  string etag = 900;"),
    ("message GetModelRequest {", "// New.\nmessage AddRequest {}\n\nmessage GetModelRequest {"),
    ("message GetModelRequest {", "// New.\nmessage AddResponse {}\n\nmessage GetModelRequest {"),
    ("service ModelService {", "service ModelService {\n  // New.\n  rpc Add(AddRequest) returns (AddResponse);"),
)
BREAKS = {
    "renumbered": ("string source_uri = 3;", "string source_uri = 903;", 'field "3" with name "source_uri"'),
    "renamed": ("string source_uri = 3;", "string source = 3;", 'changed name from "source_uri"'),
    "another type": ("bool allow_pickle = 5;", "string allow_pickle = 5;", 'changed type from "bool" to "string"'),
    "deleted": ("uint32 max_queued_requests = 5;", "reserved 5;", 'field "5" with name "max_queued_requests"'),
    "no stream": ("(stream DeployModelResponse)", "(DeployModelResponse)", "from server streaming to server unary"),
    "no method": ("rpc EvictModel(EvictModelRequest) returns (EvictModelResponse);", "", 'present RPC "EvictModel"'),
    "no message": ("ListModelsRequest", "ListAllModelsRequest", 'present message "ListModelsRequest"'),
}


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "protos", tmp_path / "protos"))


def change(protos: Path, old: str, new: str) -> None:
    path = protos / "kindling" / "v1" / "model.proto"
    text = path.read_text()
    assert old in text, f"this test no longer fits {path.name}"
    path.write_text(text.replace(old, new))


def breaking(protos: Path) -> tuple[int, str]:
    command = [BUF, "breaking", "--against", "baseline.binpb"]
    done = subprocess.run(command, check=False, cwd=protos, capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stdout + done.stderr


def test_additions_are_no_break(protos: Path) -> None:
    for old, new in ADDITIONS:
        change(protos, old, new)
    assert breaking(protos) == (0, "")


@pytest.mark.parametrize("what", BREAKS)
def test_a_break_is_found_and_named(protos: Path, what: str) -> None:
    old, new, complaint = BREAKS[what]
    change(protos, old, new)
    code, said = breaking(protos)
    assert code == 100, said
    assert complaint in said
