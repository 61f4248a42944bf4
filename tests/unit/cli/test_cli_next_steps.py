"""What `kindling up` tells one to do next works for the cluster that it has started."""

from pathlib import Path

from rich.text import Text

from kindling.cli.local import next_steps
from kindling.cli.options import DEFAULT_DATA_DIR, ClusterOptions

HERE = DEFAULT_DATA_DIR.expanduser().absolute()


def said(options: ClusterOptions) -> str:
    return Text.from_markup(next_steps(options, f"127.0.0.1:{options.grpc_port}")).plain


def test_a_cluster_at_the_default_place_needs_no_options() -> None:
    deploy, down = said(ClusterOptions(HERE)).split("; Ctrl-C here, or ")
    assert deploy == "next: kindling deploy NAME --source DIR"
    assert down == "kindling down, stops it"


def test_another_port_and_directory_are_said() -> None:
    text = said(ClusterOptions(Path("/data/my cluster"), grpc_port=9000))
    assert "kindling deploy NAME --source DIR --address 127.0.0.1:9000;" in text
    assert "kindling down --data-dir '/data/my cluster'," in text
