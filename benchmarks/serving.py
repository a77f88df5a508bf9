"""How fast the champion predicts: served by MLflow, called in process, and over a whole folder.

    python -m benchmarks.serving PROJECT [--target digits] [--seconds 4]

PROJECT is a folder in which `crosstrain demo` has run. Every figure is taken on this machine, with
whatever else it was doing: requests and bare calls alternate. Writes serving.json and serving.md to
benchmarks/results/.
"""

import argparse
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks.measure import write
from tasks.registry import versions
from tasks.tracking import files as model_files
from transfer.data.readers.unlabelled import Unlabelled
from transfer.data.storage.parquet_parts import Parts
from transfer.deployment import batch_scoring
from transfer.models import predictor

CLIENTS, BATCHES, FORMS = (1, 8), (1, 32), ("array", "PNG")
ROUNDS = 3


@dataclass(frozen=True)
class Server:
    """The champion behind `mlflow models serve`."""

    url: str
    start: float
    """Seconds until it answered."""
    processes: list[psutil.Process]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self.processes)


@contextmanager
def served(project: Path, name: str) -> Iterator[Server]:
    """Start the server, and stop it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["models", "serve", "-m", f"models:/{name}@champion", "-p", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [mlflow, *words, "--env-manager", "local"],
        cwd=project,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            "PATH": path,
            "MLFLOW_TRACKING_URI": "sqlite:///mlruns/mlflow.db",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_up(url):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"the server did not start in {project}")
            time.sleep(0.1)
        took, parent = time.perf_counter() - began, psutil.Process(process.pid)
        yield Server(f"{url}/invocations", took, [parent, *parent.children(recursive=True)])
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping").status_code == 200
    except httpx.TransportError:
        return False


def question(pictures: np.ndarray, form: str) -> bytes:
    """The body of a request."""
    if form == "array":
        return json.dumps({"inputs": pictures.tolist()}).encode()
    return json.dumps({"inputs": [_png(picture) for picture in pictures]}).encode()


def _png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def ask(server: Server, body: bytes, clients: int, seconds: float) -> dict[str, float]:
    """Let clients ask again and again, each on one connection."""
    end = time.perf_counter() + seconds

    def client(_: int) -> list[float]:
        taken = []
        with httpx.Client(headers={"Content-Type": "application/json"}, timeout=60) as connection:
            while (began := time.perf_counter()) < end:
                connection.post(server.url, content=body).raise_for_status()
                taken.append(time.perf_counter() - began)
        return taken

    began, cpu = time.perf_counter(), server.cpu()
    with ThreadPoolExecutor(clients) as pool:
        taken = [one for each in pool.map(client, range(clients)) for one in each]
    return _figures(taken, time.perf_counter() - began, server.cpu() - cpu)


def call(answer: Callable[[], object], seconds: float) -> dict[str, float]:
    """Call in this process, again and again."""
    taken, start, cpu = list[float](), time.perf_counter(), time.process_time()
    while (began := time.perf_counter()) < start + seconds:
        answer()
        taken.append(time.perf_counter() - began)
    return _figures(taken, time.perf_counter() - start, time.process_time() - cpu)


def _figures(taken: list[float], wall: float, cpu: float) -> dict[str, float]:
    p50, p95, p99 = (1000 * float(q) for q in np.quantile(taken, (0.5, 0.95, 0.99)))
    pace = {"requests": len(taken), "a_second": len(taken) / wall, "cpu": 1000 * cpu / len(taken)}
    return pace | {"p50": p50, "p95": p95, "p99": p99}


def latencies(
    project: Path, name: str, model: predictor.Predictor, seconds: float
) -> dict[str, Any]:
    """Requests of every kind, and the network alone on the same images."""
    files = sorted((project / "data").glob("digits/*/*.png"))[: max(BATCHES)]
    pictures = np.stack([np.asarray(Image.open(file)) for file in files])
    rows: list[dict[str, Any]] = []
    with served(project, name) as server:
        for batch in BATCHES:
            decoded = _decoded(model, files[:batch])
            bare = call(lambda decoded=decoded: model.predict_records(decoded), seconds)
            rows.append({"how": "network in process", "clients": 1, "batch": batch, **bare})
            for form in FORMS:
                body = question(pictures[:batch], form)
                ask(server, body, 1, 0.5)
                for clients in CLIENTS:
                    latency = ask(server, body, clients, seconds)
                    rows.append({"how": form, "clients": clients, "batch": batch, **latency})
    return {"start_seconds": server.start, "rows": rows}


def _decoded(model: predictor.Predictor, files: list[Path]) -> np.ndarray:
    card = model.card
    return np.stack(
        [
            batch_scoring.to_tensor(batch_scoring.decode(file.read_bytes(), card.limits), card.spec)
            for file in files
        ]
    )


def scoring(project: Path, model: predictor.Predictor, batch: int = 256) -> dict[str, Any]:
    """A folder scored to Parquet, and the network alone on the same images; they alternate."""
    folder = project / "data" / "mnist"
    files = sorted(folder.glob("*/*.png"))
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        decoded = _decoded(model, files)
        decoding = time.perf_counter() - began
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(decoded), batch):
            model.predict_records(decoded[start : start + batch])
        raw, raw_cpu = time.perf_counter() - began, time.process_time() - cpu
        scorer, cpu = batch_scoring.Scorer(model, "benchmark", 1, batch), time.process_time()
        whole = _score(scorer, folder)
        timing = {"raw": raw, "scored": whole, "decoding": decoding, "ratio": raw / whole}
        timing["cpu_ratio"] = raw_cpu / (time.process_time() - cpu)
        rounds.append(timing | {"waited": scorer.effort.waiting, "threads": scorer.effort.decoding})
    return {"pictures": len(files), "batch": batch, "rounds": rounds}


def _score(scorer: batch_scoring.Scorer, folder: Path) -> float:
    began = time.perf_counter()
    with TemporaryDirectory() as scratch:
        kept, keys = Parts(Path(scratch, "parts")), []
        items = Unlabelled.open(folder, scorer.model.card.limits, scorer.model.modality)
        for part, table in scorer.score(batch_scoring.parts(items, "")):
            kept.keep(part.key, table)
            keys.append(part.key)
        tables = (table for key in keys if (table := kept.read(key)) is not None)
        kept.publish(tables, scorer.schema, Path(scratch, "scores.parquet"), "")
    return time.perf_counter() - began


def page(results: dict[str, Any]) -> str:
    """Markdown."""
    model, rounds = results["model"], results["scoring"]["rounds"]
    middle = {key: median(one[key] for one in rounds) for key in rounds[0]}
    n = results["scoring"]["pictures"]
    share = 100 * middle["decoding"] / (middle["decoding"] + middle["raw"])
    lines = [
        f"{model['networks']} networks of {model['weights']} weights each, pictures of "
        f"{model['size']} x {model['size']} x {model['channels']}; {results['cores']} cores, "
        f"{results['threads']} threads of torch, load {results['load']} before.",
        "",
        f"## Requests: the server is up after {results['serving']['start_seconds']:.1f} s",
        "",
        "| asked with | clients | pictures | requests a second | p50 ms | p95 | p99 | CPU ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['how']} | {row['clients']} | {row['batch']} | {row['a_second']:.1f} | "
        f"{row['p50']:.1f} | {row['p95']:.1f} | {row['p99']:.1f} | {row['cpu']:.1f} |"
        for row in results["serving"]["rows"]
    ]
    lines += [
        "",
        f"## {n} PNG files of one folder, in batches of {results['scoring']['batch']}",
        "",
        "| round | bare network, pictures a second | scored to Parquet | share | by CPU time |",
        "|---|---|---|---|---|",
        *(
            f"| {i} | {n / one['raw']:.0f} | {n / one['scored']:.0f} | "
            f"{one['ratio']:.2f} | {one['cpu_ratio']:.2f} |"
            for i, one in enumerate(rounds, 1)
        ),
        "",
        f"Reading and decoding alone take {middle['decoding']:.2f} s, the network alone "
        f"{middle['raw']:.2f} s: decoding is {share:.0f} % of the work. It runs beside the "
        f"network, which waited {middle['waited']:.2f} s for it.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--target", default="digits")
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    os.chdir(arguments.project)
    project, name = Path.cwd(), f"crosstrain-{arguments.target}"
    champion = versions.champion(name)
    if champion is None:
        raise SystemExit(
            f"{project} has no champion of {arguments.target}; run `crosstrain demo` there"
        )
    model = predictor.load(model_files.model_folder(name, champion.version))
    networks = [network for member in model.networks for network in member]
    results = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "model": {
            "networks": len(networks),
            "weights": sum(p.numel() for p in networks[0].parameters()),
            **model.card.spec.model_dump(),
        },
        "scoring": scoring(project, model),
        "serving": latencies(project, name, model, arguments.seconds),
    }
    write("serving", results, page(results))


if __name__ == "__main__":
    main()
