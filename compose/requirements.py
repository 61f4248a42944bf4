"""Writes what pyproject.toml names, as one file of pip requirements per service, and `common.txt` for all of them."""

import sys
import tomllib
from pathlib import Path

SERVICES = ("gateway", "scheduler", "storage", "worker")


def main() -> None:
    """`requirements.py PYPROJECT DIRECTORY`: images can then install these before, and apart from, the code."""
    pyproject, directory = map(Path, sys.argv[1:])
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    for name, needed in {"common": project["dependencies"], **{each: extras[each] for each in SERVICES}}.items():
        (directory / f"{name}.txt").write_text("".join(f"{requirement}\n" for requirement in needed))


if __name__ == "__main__":
    main()
