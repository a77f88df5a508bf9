"""Keep crosstrain running: the servers and their deployments."""

from typing import Annotated

import typer

from flows.cli.app import OPERATION, Params, app, enter
from tasks.runtime import paths

PrefectPort = Annotated[int, typer.Option(help="Port of Prefect's UI.")]
MlflowPort = Annotated[int, typer.Option(help="Port of MLflow's UI.")]


@app.command(
    rich_help_panel=OPERATION,
    epilog="Example: crosstrain ui --prefect-port 4200 --mlflow-port 5000",
)
def ui(prefect_port: PrefectPort = 4200, mlflow_port: MlflowPort = 5000) -> None:
    """Start the UIs of Prefect and MLflow on this machine's loopback; Ctrl-C stops both."""
    enter()
    from flows.operation.ui import serve

    serve(prefect_port, mlflow_port)


@app.command(rich_help_panel=OPERATION, epilog="Example: crosstrain serve --params params.yaml")
def serve(
    params: Params = paths.PARAMS,
    prefect_port: PrefectPort = 4200,
    mlflow_port: MlflowPort = 5000,
) -> None:
    """Keep crosstrain running: both UIs, and every flow by schedule, by event or by a click.

    Ctrl-C stops all; runs that were interrupted continue at the next start.
    """
    enter()
    from flows.operation import ui as servers
    from transfer.settings import project

    project.load(params)
    servers.serve(prefect_port, mlflow_port, params)
