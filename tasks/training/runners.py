"""What trains several arms at once: threads, or the worker processes of a Dask or Ray cluster.

A worker process receives names and plain settings, changes to the project's folder, and imports
the step there by its name; its result is in the store, and a reference comes back.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.futures import wait
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.runtime import step
from tasks.training.cancellation import Stop, Stopped
from transfer.core.errors import CrosstrainError, SettingsError
from transfer.settings.project import RunSettings

GRACE = 60.0
"""Seconds in which trainings of other processes may write a last checkpoint when a run ends."""


def check(settings: RunSettings) -> None:
    """Make sure that the engine is installed before anything is computed.

    Raises:
        SettingsError: the engine's package is missing.
    """
    name = settings.task_runner
    if name != "threads" and find_spec(f"prefect_{name}") is None:
        raise SettingsError(
            f"run.task_runner is {name!r} and the package prefect-{name} is not installed; "
            f"pip install 'crosstrain[{name}]', or set run.task_runner=threads"
        )


@dataclass
class Runner:
    """Starts steps on an engine."""

    engine: TaskRunner[Any]
    elsewhere: bool
    """Whether steps run in other processes."""
    stop: Stop = field(default_factory=Stop.of_run)
    """Ends the trainings among them."""
    _running: dict[Any, str] = field(default_factory=dict)

    def submit(self, task: Task[Any, Any], *args: Any) -> Any:
        """Start a step with its arguments in their order; gives a future of Prefect's."""
        if not self.elsewhere:
            return self.engine.submit(task, _parameters(task.fn, args))
        call = (Path.cwd(), task.fn.__module__, task.fn.__name__, args)
        with _light_context():
            future = self.engine.submit(_carried(task), _parameters(carry, call))
        self._running[future] = task.name
        return future

    def result(self, future: Any) -> Any:
        """What a step returned, once it has ended; raises what it raised."""
        try:
            outcome = future.result()
        except _StoppedElsewhere:
            raise Stopped from None
        if not self.elsewhere:
            return outcome
        if (name := self._running.pop(future, None)) is not None:
            step.note(name, outcome.seconds, outcome.result)
        return outcome.result

    def halt(self) -> None:
        """Wait for steps in other processes, which write a last checkpoint when stopped."""
        wait(list(self._running), timeout=GRACE)


@contextmanager
def start(settings: RunSettings, at_once: int) -> Iterator[Runner]:
    """An engine for ``at_once`` steps at the same time, or the existing cluster.

    Raises:
        CrosstrainError: no cluster answers at ``run.cluster``.
    """
    engines = {"threads": _threads, "dask": _dask, "ray": _ray}
    engine: Any = engines[settings.task_runner](settings.cluster, at_once)
    try:
        with _ignored_interrupts():
            engine.__enter__()
            if settings.task_runner == "dask":
                engine.client  # noqa: B018  starts the workers, or connects to the cluster
    except (OSError, RuntimeError, ValueError) as error:
        raise CrosstrainError(
            f"no {settings.task_runner} cluster answers at run.cluster={settings.cluster} "
            f"({error}); start it, or set run.cluster=null for one on this machine"
        ) from error
    runner = Runner(engine, settings.task_runner != "threads")
    try:
        yield runner
    finally:
        runner.halt()
        engine.__exit__(None, None, None)
        runner.stop.forget()


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C in a terminal does not end: the run stops them itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _threads(cluster: str | None, at_once: int) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=at_once)


def _dask(cluster: str | None, at_once: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    logging.getLogger("distributed").setLevel(logging.ERROR)  # failures come back as errors
    if cluster:
        return DaskTaskRunner(address=cluster)
    own = {
        "n_workers": at_once,
        "threads_per_worker": 1,
        "memory_limit": 0,  # an arm may need more than a worker's share of the memory
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.ERROR,
    }
    return DaskTaskRunner(cluster_kwargs=own)


def _ray(cluster: str | None, at_once: int) -> TaskRunner[Any]:
    from prefect_ray import RayTaskRunner

    quiet = {"logging_level": "ERROR", "configure_logging": False}
    if cluster:
        return RayTaskRunner(address=cluster, init_kwargs=quiet)
    return RayTaskRunner(
        init_kwargs={"address": "local", "num_cpus": at_once, "include_dashboard": False, **quiet}
    )


def _light_context() -> AbstractContextManager[object]:
    """The flow's context without the flow's code: a worker would import all that it imports,
    and a training needs none of that."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        return nullcontext()
    return context.model_copy(update={"flow": Flow(_no_flow, name=context.flow.name)})


def _no_flow() -> None:
    """Stands for the flow in a worker."""


def _parameters(function: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Any]:
    """Arguments by name, which is how Prefect's engines take them."""
    bound = signature(function).bind(*args)
    bound.apply_defaults()
    return bound.arguments


def _carried(task: Task[Any, Any]) -> Task[Any, Any]:
    """A task of the same name that another process can read: it imports the step itself."""
    return Task(carry, name=task.name, tags=task.tags, cache_policy=NO_CACHE, persist_result=False)


@dataclass(frozen=True)
class Carried:
    """What a step returned in another process, and the wall time it took there."""

    result: Any
    seconds: float


def carry(project: Path, module: str, name: str, args: tuple[Any, ...]) -> Carried:
    """Run a step in a worker process.

    Args:
        project: the project's folder.
        module: where the step is defined.
        name: of the step's function there.
        args: of the step, in their order.

    Raises:
        CrosstrainError: this machine has no folder of that path.
    """
    if not project.is_dir():
        raise CrosstrainError(
            f"{os.uname().nodename} has no folder {project}; workers need the project at the same "
            "path on every machine: see docs/scale.md"
        )
    os.chdir(project)
    start = time.perf_counter()
    try:
        result = getattr(import_module(module), name).fn.__wrapped__(*args)
    except Stopped:
        raise _StoppedElsewhere from None
    return Carried(result, time.perf_counter() - start)


class _StoppedElsewhere(Exception):  # noqa: N818
    """`Stopped` on its way between processes: Dask loses exceptions that are no `Exception`."""
