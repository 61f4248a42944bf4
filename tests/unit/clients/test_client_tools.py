"""What a machine lacks to build a client is named, with the Debian package that has it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.client_examples import EXAMPLES, ROOT

PROTOS = ROOT / "protos"
# What the gateway serves, as the README says.
PUBLIC = ("cluster", "generation", "model", "tenant")
LISTS = {
    "go": "buf.gen.yaml",
    "typescript": "buf.gen.yaml",
    "cpp": "CMakeLists.txt",
    "java": "buf.gen.yaml",
    "python": "Makefile",
}
# What `clients/install-tools` itself runs.
SHELL_TOOLS = ("bash", "dirname", "env", "grep", "sort")
PROGRAMS = {
    "go": {"go": "golang-go", "protoc-gen-go": "protoc-gen-go-1-5", "protoc-gen-go-grpc": "protoc-gen-go-grpc"},
    "typescript": {"node": "nodejs", "npm": "npm"},
    "cpp": {"cmake": "cmake", "g++": "g++", "protoc": "protobuf-compiler", "grpc_cpp_plugin": "protobuf-compiler-grpc"},
    "java": {"java": "default-jdk-headless", "javac": "default-jdk-headless", "protoc": "protobuf-compiler"},
    "python": {"python3": "python3"},
}


def needed(*names: str) -> set[str]:
    """Protos by name, with what they import."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            source = (PROTOS / "kindling" / "v1" / f"{name}.proto").read_text()
            waiting += re.findall(r'import "kindling/v1/(\w+)\.proto"', source)
    return found


@pytest.mark.parametrize("language", EXAMPLES)
def test_each_client_has_stubs_of_every_public_service(language: str) -> None:
    text = (ROOT / "clients" / language / LISTS[language]).read_text()
    listed = re.search(r"^NAMES := (.*)", text, re.MULTILINE)
    named = listed[1].split() if listed else re.findall(r"kindling/v1/(\w+)", text)
    assert set(named) == needed(*PUBLIC)


def test_the_readme_names_the_same_protos_for_other_languages() -> None:
    (names,) = re.findall(r"protos/kindling/v1/\{([\w,]+)\}\.proto", (ROOT / "README.md").read_text())
    assert set(names.split(",")) == needed(*PUBLIC)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with next to nothing on it."""
    for name in SHELL_TOOLS:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("language", EXAMPLES)
def test_each_missing_program_is_named_with_its_package(language: str, bare: Path) -> None:
    assert EXAMPLES[language].missing.items() >= PROGRAMS[language].items()


def test_a_program_that_is_there_is_not_missing(bare: Path) -> None:
    python = bare / "python3"
    python.write_text("")
    python.chmod(0o755)
    assert EXAMPLES["python"].missing == {}


def test_the_installer_says_what_to_install_where_it_may_not(bare: Path) -> None:
    not_root = bare / "id"
    not_root.write_text("#!/bin/sh\necho 1000\n")
    not_root.chmod(0o755)
    done = subprocess.run([ROOT / "clients" / "install-tools"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    packages = {package for programs in PROGRAMS.values() for package in programs.values()}
    assert packages <= set(done.stderr.partition("sudo apt-get install")[2].split())
