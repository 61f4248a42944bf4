"""The `kindling` command."""

from importlib.metadata import version as installed_version
from typing import Any

import typer
from typer.core import TyperGroup

from kindling.cli import bench, chat, checkpoint, demo, drain, local, migrate, model, simulate, status, tenant, trace
from kindling.cli.console import ExitCode, exit_code_of, out, print_error
from kindling.platform.errors import KindlingError
from kindling.platform.logging import quiet_logging


class KindlingGroup(TyperGroup):
    """Turns errors into messages and exit codes, so that nobody meets a traceback for something foreseen."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exit 1 on failure, 2 on bad values, 3 if the cluster cannot be reached, 130 on Ctrl-C."""
        quiet_logging()
        try:
            return super().invoke(ctx)
        except KindlingError as error:
            print_error(error)
            raise typer.Exit(exit_code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    name="kindling",
    cls=KindlingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serverless inference for large language models: a model costs nothing while nobody calls it, and answers "
    "within moments when somebody does.\n\nTry it: [bold]kindling demo[/]. Or step by step: [bold]kindling up[/], "
    "[bold]kindling deploy NAME --source DIR[/], [bold]kindling chat NAME[/].",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no cluster can be reached.",
)

_LOCAL = "A cluster on this machine"
_MODELS = "Models"
_CLUSTER = "Look and measure"
_NODES = "Move what runs"

app.command(rich_help_panel=_LOCAL)(local.up)
app.command(rich_help_panel=_LOCAL)(local.down)
app.command(rich_help_panel=_LOCAL)(demo.demo)
app.command(rich_help_panel=_MODELS)(model.deploy)
app.command(rich_help_panel=_MODELS)(model.models)
app.command(rich_help_panel=_MODELS)(chat.chat)
app.command(rich_help_panel=_MODELS)(model.delete)
app.command(rich_help_panel=_MODELS)(model.evict)
app.command(rich_help_panel=_CLUSTER)(status.status)
app.command(rich_help_panel=_CLUSTER)(trace.trace)
app.command(rich_help_panel=_CLUSTER)(simulate.simulate)
app.command(rich_help_panel=_NODES)(migrate.migrate)
app.command(rich_help_panel=_NODES)(drain.drain)
app.command(rich_help_panel=_NODES)(drain.undrain)
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel=_MODELS)
app.add_typer(tenant.app, name="tenant", rich_help_panel=_NODES)
app.add_typer(bench.app, name="bench", rich_help_panel=_CLUSTER)


@app.command(rich_help_panel=_CLUSTER)
def version() -> None:
    """Say which version this is."""
    out.print(f"kindling {installed_version('kindling')}")


if __name__ == "__main__":
    app()
