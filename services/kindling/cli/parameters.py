"""Options that several commands take."""

import os
from pathlib import Path
from typing import Annotated

import typer

from kindling.cli.client import DEFAULT_ADDRESS
from kindling.cli.options import DEFAULT_DATA_DIR
from kindling.cli.values import check_model_name, check_node_id
from kindling.platform.errors import InvalidArgumentError


def check_output_file(path: Path | None) -> Path | None:
    """Return ``path`` if a file can be written there: said before a run of minutes, not after it.

    Raises InvalidArgumentError FILE_NOT_WRITABLE.
    """
    if path is None:
        return None
    if path.is_dir():
        raise _not_writable(path, "it is a directory")
    if not path.parent.is_dir():
        raise _not_writable(path, f"there is no directory {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _not_writable(path, "permission denied")
    return path


def check_output_directory(path: Path | None) -> Path | None:
    """Return ``path`` once there is a directory that can be written to; it is made if need be.

    Raises InvalidArgumentError FILE_NOT_WRITABLE.
    """
    if path is None:
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, (error.strerror or str(error)).lower()) from error
    if not os.access(path, os.W_OK):
        raise _not_writable(path, "permission denied")
    return path


def _not_writable(path: Path, why: str) -> InvalidArgumentError:
    message = f"{str(path)!r} cannot be written: {why}; name another place."
    return InvalidArgumentError(message, reason="FILE_NOT_WRITABLE", metadata={"path": str(path)})


Address = Annotated[
    str,
    typer.Option(
        "--address", envvar="KINDLING_ADDRESS", metavar="HOST:PORT", help="Where the cluster's gateway serves gRPC."
    ),
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", parser=check_model_name)]
NodeId = Annotated[str, typer.Argument(metavar="NODE", help="The node, as `status` shows it.", parser=check_node_id)]
DataDir = Annotated[
    Path, typer.Option("--data-dir", file_okay=False, help="Where the cluster keeps models, state and logs.")
]
JsonPath = Annotated[
    Path | None,
    typer.Option("--json", metavar="PATH", callback=check_output_file, help="Write the figures there too."),
]

__all__ = ["DEFAULT_ADDRESS", "DEFAULT_DATA_DIR", "Address", "DataDir", "JsonPath", "ModelName", "NodeId"]
