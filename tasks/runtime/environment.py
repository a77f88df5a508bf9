"""Environment variables of other tools, which must be set before those tools are imported.

Prefect, MLflow and OpenMP read these variables at import. A variable that the user has set is
not changed, except that the loopback addresses are added to NO_PROXY.
"""

import os
from pathlib import Path

SILENCE = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
SPEED = {
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
CORES = {
    # Waiting threads sleep instead of spinning: with another process on the same cores, such as
    # Prefect's server, a spinning pair of threads trains several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}
IMPORTS = {
    # A Python process that is started in the project's folder must not import from that folder:
    # a user's folder named `tasks` or `flows` would hide the packages of crosstrain.
    "PYTHONSAFEPATH": "1",
}
LOGS = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "crosstrain",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}
LOOPBACK = ("127.0.0.1", "localhost")


def prepare(project: Path) -> None:
    """Set the variables that are not set: no telemetry, Prefect's home in the project, fast start.

    Args:
        project: the project root.
    """
    home = {"PREFECT_HOME": str(project / ".prefect")}
    for name in ("NO_PROXY", "no_proxy"):  # local servers listen on the loopback only
        missing = [host for host in LOOPBACK if host not in os.environ.get(name, "").split(",")]
        os.environ[name] = ",".join([*filter(None, [os.environ.get(name)]), *missing])
    for name, value in (SILENCE | SPEED | CORES | IMPORTS | LOGS | home).items():
        os.environ.setdefault(name, value)
