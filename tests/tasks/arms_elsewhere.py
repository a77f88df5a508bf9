"""Trains the same arms by one engine, and lets one fail beside another. Prints what came of it.

    python -m tests.tasks.arms_elsewhere ENGINE

The working folder is an empty project.
"""

import json
import sys
import time
from pathlib import Path

from tasks.runtime import environment
from tasks.store import content_store
from tests.tasks import small
from transfer.core.errors import CrosstrainError

ENDLESS = 100_000


def main(engine: str) -> None:
    from prefect import flow

    from flows.runtime.run_flow import run
    from tasks.runtime import step
    from tasks.training import runners
    from tasks.training.adapt import ArmJob, adapt
    from transfer.arms.plan import ArmPlan
    from transfer.training.feature_cache import Features

    told = small.settings(run={"task_runner": engine})
    wild = small.settings(methods={"scratch": {"learning_rate": 1e9}})
    long = small.settings(adapt={"training": {"steps": ENDLESS, "batch_size": 8}})
    into = small.target(told)
    known = [small.source("big", into, told)]
    plans = [ArmPlan("scratch", (), "scratch"), ArmPlan("linear_probe", ("big",), "linear_probe")]
    found = {}

    @flow(name="arms")
    def arms() -> None:
        with step.timed() as watch, runners.start(told.run, 2) as runner:
            features = Features()

            def submit(plan, seed, settings):
                job, context = ArmJob.of(plan, seed, known), small.context(into, settings)
                return runner.submit(adapt, job, context, runner.stop, features)

            done = [runner.result(f) for f in [submit(plan, 0, told) for plan in plans]]
            found["arms"] = {one.name: one.ref.digest for one in done}
            found["timed"] = watch.seconds()["adapt"]
            endless = submit(plans[0], 1, long)
            while not list(Path("build/partial").rglob("*.0.0")):
                time.sleep(0.05)
            failing = submit(plans[0], 2, wild)
            try:
                runner.result(failing)
            except CrosstrainError as error:
                found["error"] = str(error)
            runner.stop.set()
            try:
                runner.result(endless)
            except BaseException as stopped:
                found["stopped"] = type(stopped).__name__

    run(arms)
    found["kept"] = [p.name for p in Path("build/partial").rglob("*") if p.is_file()]
    found["results"] = len(list(Path("build/adapt").glob("*/" + content_store.RECORD)))
    found["stop files"] = [p.name for p in Path("build/stop").glob("*")]
    print(json.dumps(found))


if __name__ == "__main__":
    environment.prepare(Path.cwd())
    main(sys.argv[1])
