"""Promotion under fire: races and kill -9, and what holds after each.

    python -m benchmarks.promotion [--races 200] [--kills 200] [--postgres 40]

In a race, two to four processes promote, refuse and roll back at the same time while one reads the
champion without a pause. In a kill, a process dies at a random moment or before a random step, half
of the times beside another that goes on. After each: one champion, which is the one of the last
event; every event once; each event's champion before is the version of the event before it; the
previous one and the challenger as the events say; the record of the champion as its event says;
no journal. Writes promotion.json and promotion.md to benchmarks/results/; fails at a fault.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import write

NAME, VERSIONS = "plants", (1, 2, 3, 4)
MOVES = ("promoted", "rolled back")
STEPS = (
    "set_model_version_tag",
    "log_text",
    "set_registered_model_alias",
    "set_registered_model_tag",
    "delete_registered_model_tag",
)
"""Of MLflow's client, before each of which a process may die; and before each fsync and unlink."""


class Child:
    """A forked process that does something and tells what it gave."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.reading)
            with os.fdopen(writing, "w") as out:
                out.write("ready\n")
                out.flush()
                json.dump(action(), out)
            os._exit(0)
        os.close(writing)
        self.out = os.fdopen(self.reading)
        self.out.readline()

    def result(self) -> Any:
        """What it gave; None when it died."""
        text = self.out.read()
        self.out.close()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"a process ended with exit code {code}")
        return json.loads(text) if code == 0 else None


def prepare() -> list[int]:
    """Register the versions and promote the first."""
    from tasks.registry import versions
    from tasks.tracking import models, runs

    run = runs.log_run(runs.RunRecord("key", "run", {}, {}, {}, [], [], {}))
    Path("model").mkdir()
    Path("model/card.json").write_text("{}")
    registered = []
    for version in VERSIONS:
        Path("model/weights.safetensors").write_text(str(version))
        registered.append(models.register(NAME, Path("model"), f"model {version}", run, {}))
    versions.promote(NAME, 1, reasons=["first"], blessing={"number": 0})
    return registered


def act(kind: str, version: int, number: int) -> str:
    """Promote, refuse or roll back, and say what became of it."""
    from tasks.registry import versions
    from transfer.core.errors import NothingToDoError

    if kind == "refuse":
        versions.refuse(NAME, version, [f"refusal {number}"], {"number": number})
        return "refused"
    try:
        if kind == "promote":
            blessing = {"number": number}
            done = versions.promote(NAME, version, reasons=["better"], blessing=blessing)
        else:
            done = versions.rollback(NAME, f"rollback {number}")
    except NothingToDoError:
        return "nothing to do"
    return {"promote": "promoted", "rollback": "rolled back"}[kind] if done.moved else "no change"


def mortal(die_at: int | None, action: Callable[[], Any]) -> tuple[Any, int]:
    """Do something, and die before one of its steps; the result, and how many steps there were."""
    from mlflow import MlflowClient

    count = 0

    def guard(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **kwargs)

        return step

    for name in STEPS:
        setattr(MlflowClient, name, guard(getattr(MlflowClient, name)))
    for name in ("fsync", "unlink"):
        setattr(os, name, guard(getattr(os, name)))
    return action(), count


def read_until(stop: Path) -> dict[str, Any]:
    """Read the champion until a file appears; how often, and what was wrong."""
    from tasks.registry import versions

    polls, faults, longest = 0, [], 0.0
    while not stop.exists():
        began = time.perf_counter()
        champion = versions.champion(NAME)
        longest = max(longest, time.perf_counter() - began)
        polls += 1
        if champion is None or champion.version not in VERSIONS:
            faults.append(f"a reader saw {champion}")
        elif champion.aliases.get("previous") == champion.version:
            faults.append(f"a reader saw half a move: {champion.aliases}")
    return {"polls": polls, "faults": faults, "longest": longest}


def examine() -> dict[str, Any]:
    """The events, and everything that does not hold."""
    from tasks.registry import alias_moves, versions
    from tasks.tracking import connection

    champion = versions.champion(NAME)
    events = versions.history(NAME)
    assert champion is not None
    moved = [event for event in events if event["event"] in MOVES]
    judged = [event for event in events if event["event"] != "rolled back"]
    expected = {"champion": moved[-1]["version"], "challenger": judged[-1]["version"]}
    if moved[-1]["champion_before"] is not None:
        expected["previous"] = moved[-1]["champion_before"]
    before = [None, *(event["version"] for event in moved[:-1])]
    blessed = [e for e in moved if e["event"] == "promoted" and e["version"] == champion.version]
    record = json.dumps(champion.blessing, sort_keys=True).encode()
    registered_aliases = connection.client().get_registered_model(NAME).aliases
    checks = {
        "aliases": {alias: int(version) for alias, version in registered_aliases.items()}
        == expected,
        "each event once": len({e["id"] for e in events}) == len(events),
        "champion before": [e["champion_before"] for e in moved] == before,
        "record": hashlib.sha256(record).hexdigest() == blessed[-1]["blessing_sha256"],
        "no journal": alias_moves.ledger().interrupted() is None,
    }
    faults = [
        f"{name} does not hold: {registered_aliases}" for name, holds in checks.items() if not holds
    ]
    return {"events": Counter(event["event"] for event in events), "faults": faults}


def draw(rng: random.Random, number: int) -> Callable[[], Any]:
    """A random action."""
    kind = rng.choices(("promote", "refuse", "rollback"), (5, 2, 3))[0]
    version = rng.choice(VERSIONS)
    return lambda: act(kind, version, number)


def race(rng: random.Random, number: int, before: Counter[str]) -> dict[str, Any]:
    """Two to four actions and a reader at once."""
    stop = Path(f"stop{number}")
    reader = Child(lambda: read_until(stop))
    actors = [Child(draw(rng, 10 * number + n)) for n in range(rng.randint(2, 4))]
    kinds = [actor.result() for actor in actors]
    stop.touch()
    read = reader.result()
    examined = Child(examine).result()
    new = Counter(examined["events"]) - before
    wanted = Counter(kind for kind in kinds if kind in (*MOVES, "refused"))
    faults = [*read["faults"], *examined["faults"]]
    if new != wanted:
        faults.append(f"reported {dict(wanted)}, and the events are {dict(new)}")
    return {
        **examined,
        "told": kinds,
        "polls": read["polls"],
        "wait": read["longest"],
        "faults": faults,
    }


def kill(
    rng: random.Random, number: int, before: Counter[str], steps: int, seconds: float
) -> dict[str, Any]:
    """An action that is killed, half of the times beside another; then everything examined."""
    by = rng.choice(("step", "time"))
    die_at = rng.randrange(steps) if by == "step" else None
    action = draw(rng, 10 * number)
    victim = Child(lambda: mortal(die_at, action))
    rivals = [Child(draw(rng, 10 * number + 1))] if rng.random() < 0.5 else []
    if by == "time":
        time.sleep(rng.uniform(0, seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    died = (lived := victim.result()) is None
    kinds = [rival.result() for rival in rivals] + ([] if died else [lived[0]])
    journal = Child(has_journal).result()
    examined = Child(examine).result()
    new = Counter(examined["events"]) - before
    wanted = Counter(kind for kind in kinds if kind in (*MOVES, "refused"))
    faults = list(examined["faults"])
    if (new - wanted).total() > died or wanted - new:
        faults.append(f"reported {dict(wanted)}, and the events are {dict(new)}")
    end = "lived" if not died else "whole" if (new - wanted) else "not at all"
    return {**examined, "by": by, "end": end, "journal": journal, "faults": faults}


def has_journal() -> bool:
    """Whether a move was begun and not finished."""
    from tasks.registry import alias_moves

    return alias_moves.ledger().interrupted() is not None


def measure() -> tuple[int, float]:
    """Steps and seconds of a promotion."""
    from tasks.registry import versions

    champion = versions.champion(NAME)
    assert champion is not None
    other = champion.version % len(VERSIONS) + 1
    began = time.perf_counter()
    steps = mortal(None, lambda: act("promote", other, 0))[1]
    return steps, time.perf_counter() - began


def fire(races: int, kills: int) -> dict[str, Any]:
    """All races and kills in a new store in this folder."""
    rng = random.Random(0)
    assert Child(prepare).result() == list(VERSIONS)
    events = Counter({"promoted": 1})
    raced, killed = [], []
    for number in range(1, races + 1):
        raced.append(race(rng, number, events))
        events = Counter(raced[-1]["events"])
        progress("races", number, raced)
    steps, seconds = Child(measure).result()
    events = Counter(Child(examine).result()["events"])
    for number in range(races + 1, races + kills + 1):
        killed.append(kill(rng, number, events, steps, 1.2 * seconds))
        events = Counter(killed[-1]["events"])
        progress("kills", number - races, killed)
    return summary(raced, killed, steps)


def progress(what: str, number: int, rounds: list[dict[str, Any]]) -> None:
    """Say how far it is, and stop at a fault."""
    if rounds[-1]["faults"]:
        raise SystemExit(f"{what} {number}: {rounds[-1]}")
    if number % 20 == 0:
        print(f"{number} {what}", flush=True)


def summary(
    raced: list[dict[str, Any]], killed: list[dict[str, Any]], steps: int
) -> dict[str, Any]:
    """What there was."""
    return {
        "races": len(raced),
        "actions": Counter(kind for one in raced for kind in one["told"]),
        "reads": sum(one["polls"] for one in raced),
        "longest_read": round(max(one["wait"] for one in raced), 2),
        "kills": len(killed),
        "steps": steps,
        "by": Counter(one["by"] for one in killed),
        "ends": Counter(one["end"] for one in killed),
        "journals": sum(one["journal"] for one in killed),
        "faults": sum(len(one["faults"]) for one in (*raced, *killed)),
    }


@contextlib.contextmanager
def place(store: str | None) -> Iterator[None]:
    """An empty folder, with its own store or another."""
    here = Path.cwd()
    variables = {"MLFLOW_TRACKING_URI": store} if store else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ.update(variables, MLFLOW_DEFAULT_ARTIFACT_ROOT=f"{folder}/files")
        os.chdir(folder)
        yield
        os.chdir(here)


def table(stores: dict[str, dict[str, Any]]) -> str:
    """Markdown: a column for each store."""

    def counts(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{n} {kind}" for kind, n in sorted(value.items()))
        return str(value)

    rows = {
        "races": "races of 2 to 4 processes",
        "actions": "what their actions gave",
        "reads": "times the champion was read meanwhile",
        "longest_read": "longest read, seconds",
        "kills": "kills",
        "by": "killed at a random",
        "ends": "what was killed had happened",
        "journals": "times a journal was left, and carried through",
        "faults": "faults",
    }
    lines = [f"| | {' | '.join(stores)} |", f"|---|{'---|' * len(stores)}"]
    for key, title in rows.items():
        lines.append(f"| {title} | {' | '.join(counts(s[key]) for s in stores.values())} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fire at both stores and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--postgres", type=int, default=40, help="races and kills; 0 for none")
    arguments = parser.parse_args()
    from tests import postgres

    stores = {}
    with place(None):
        prepare()  # so that every import is done before a fork
    with place(None):
        stores["SQLite"] = fire(arguments.races, arguments.kills)
    if arguments.postgres:
        with postgres.serve() as server, place(server.database("fire")):
            stores["PostgreSQL"] = fire(arguments.postgres, arguments.postgres)
    write("promotion", stores, table(stores))


if __name__ == "__main__":
    main()
