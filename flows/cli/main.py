"""Start of the command line: find all commands, run one, and turn an error into an exit code."""

import gc
import importlib
import pkgutil
import sys
import traceback

from flows import cli
from flows.cli.app import app
from tasks.runtime import gc_tuning
from transfer.core.errors import CrosstrainError

for _module in pkgutil.iter_modules(cli.__path__):
    importlib.import_module(f"{cli.__name__}.{_module.name}")

__all__ = ["app", "main"]


def main() -> None:
    """Run a command; a `CrosstrainError` ends it with its message and its exit code.

    Any other error has the exit code of a failed step, and shows its traceback.
    """
    gc_tuning.raise_threshold()
    try:
        app()
    except CrosstrainError as error:
        print(f"crosstrain: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        sys.exit(CrosstrainError.exit_code)
    finally:
        gc.freeze()  # else Python collects garbage among all objects at its end, for 2 s
