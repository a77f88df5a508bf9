"""One of the processes of a pretraining, started by torchrun.

    torchrun --nproc-per-node 2 -m tasks.training.pretrain_worker PRETRAINING.json

Reports progress and failures to its parent as lines of JSON on the standard output. It ends when
its standard input is closed, that is when the parent's process has ended for any reason.
"""

import json
import os
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed

from tasks.training.cancellation import Stopped, TimeUpError
from tasks.training.pretrain_job import Pretraining
from transfer.core.errors import CrosstrainError
from transfer.training.data_parallel import fit_together


def main() -> None:
    """Take part in a pretraining; the first process writes the result."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work = Pretraining.model_validate_json(Path(sys.argv[1]).read_text())
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    distributed.init_process_group("gloo")
    first = distributed.get_rank() == 0
    try:
        with nullcontext(str(work.out)) if first else TemporaryDirectory() as out:
            work.run(_report_steps, Path(out), fit_together)
        distributed.barrier()
    except Stopped:
        _fail(stopped=True)
    except TimeUpError:
        _fail(late=True)
    except CrosstrainError as error:
        _fail(error=str(error))
    distributed.destroy_process_group()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _report_steps(done: int, steps: int) -> None:
    _report(done=done, steps=steps)


def _fail(**reason: Any) -> None:
    _report(**reason)
    os._exit(1)  # the others wait in a sum for this process: torchrun ends them


def _report(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
