"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from kindling.cli.client import DEFAULT_ADDRESS
from kindling.cli.options import DEFAULT_DATA_DIR
from kindling.cli.values import check_model_name, check_node_id

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

__all__ = ["DEFAULT_ADDRESS", "DEFAULT_DATA_DIR", "Address", "DataDir", "ModelName", "NodeId"]
