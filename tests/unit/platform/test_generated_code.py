"""The committed Python of the protos is what the protos say."""

import filecmp
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", out], check=True, capture_output=True)
    return out


@pytest.mark.parametrize("package", ["v1", "etcdserverpb"])
def test_generated_code_is_up_to_date(package: str, fresh: Path) -> None:
    committed, generated = ROOT / "services" / "kindling" / package, fresh / "kindling" / package
    names = sorted(path.name for path in generated.iterdir())
    kept = sorted(path.name for path in committed.glob("*_pb2*"))
    assert names == kept, "run `make protos`: files were added or removed"
    _, different, errors = filecmp.cmpfiles(committed, generated, names, shallow=False)
    assert (different, errors) == ([], []), "run `make protos`: these differ from the protos"
