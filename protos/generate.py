"""Generates the Python of every proto into a source root (by default services/); the drift test calls it too."""

import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
# Each package's import path under the source root, and the directory of its protos. protoc maps the one to the other,
# so that generated imports start with `kindling.`.
PACKAGES = {"kindling/v1": PROTOS / "kindling" / "v1", "kindling/etcdserverpb": PROTOS / "etcdserverpb"}


def generate(source_root: Path) -> None:
    """Write messages, stubs and type stubs of every package below ``source_root``."""
    for import_path, directory in PACKAGES.items():
        names = [f"{import_path}/{proto.name}" for proto in sorted(directory.glob("*.proto"))]
        subprocess.run([*_command(source_root), f"-I{import_path}={directory}", *names], check=True)


def _command(out: Path) -> list[str]:
    plugins = [f"--plugin={name}={BIN / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    return [sys.executable, "-m", "grpc_tools.protoc", *plugins, *outputs]


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS.parent / "services")
