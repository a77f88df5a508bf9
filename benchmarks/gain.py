"""What transfer is worth: the whole chain on pairs of datasets, beside scratch and an SVM.

    python -m benchmarks.gain DATA_FOLDER [--pairs 'digits;silhouettes']

DATA_FOLDER holds animal_silhouettes.npz, animals10.npz and plants20.npz; the digits are the
demo's own. Each seed is another division of the target and another draw of its labels. Nothing is
chosen on the test split: settings are those of the demo and of PAIRS below, which were found by
trying a few on other random divisions of the same datasets. Writes gain.json and gain.md to
benchmarks/results/, and the table into the README.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.runtime import environment, paths
from tasks.versioning import demo_data

environment.prepare(Path.cwd())

from flows.runtime.run_flow import run  # noqa: E402
from tasks.data.scan import fingerprint, scan, specify  # noqa: E402
from tasks.data.split import folds_for, split_target  # noqa: E402
from transfer.data.items import labelled_items, test_items  # noqa: E402
from transfer.evaluation.report_schema import Result  # noqa: E402
from transfer.settings import project as typed  # noqa: E402
from transfer.settings.project import Settings  # noqa: E402

RESULTS = Path("benchmarks/results")
WORK = Path("build/benchmark")
BOUNDS = ("point", "low", "high")
START, END = "<!-- gain table -->", "<!-- end of gain table -->"


@dataclass(frozen=True)
class Pair:
    """Two datasets and what is set for them."""

    source: str
    target: str
    labels_per_class: int | None
    overrides: list[str] = field(default_factory=list)
    seeds: tuple[int, ...] = (0, 1, 2)


SILHOUETTES = [
    "augment.flip_horizontal=true",
    "augment.rotate=7",
    "augment.scale=0.1",
    "augment.translate=0.05",
    "augment.shear=5",
    "backbone.pool=false",
    "adapt.training.steps=500",
    "adapt.folds=5",
    "adapt.seeds=[0,1]",
    "adapt.methods=[linear_probe,fine_tune]",
    "methods.fine_tune.backbone_rate=1",
    "methods.fine_tune.decay=1",
    "methods.fine_tune.learning_rate=0.005",
    "split.test=0.4",
]
COLOUR = [
    "input.size=64",
    "augment.flip_horizontal=true",
    "augment.rotate=10",
    "pretrain.augment.flip_horizontal=true",
    "pretrain.training.steps=400",
    "adapt.training.steps=200",
    "adapt.seeds=[0,1]",
    "split.test=0.4",
    "split.val=0",
    "validate.min_items_per_class=4",
]
PAIRS = {
    "digits": Pair("data/mnist", "data/digits", 10),
    "digits, 5 labels": Pair("data/mnist", "data/digits", 5),
    "silhouettes": Pair(
        "data/mnist", "{data}/animal_silhouettes.npz", 10, SILHOUETTES, seeds=(0, 1)
    ),
    # The first seeds that cover all 20 classes, the smallest of which has five pictures.
    "animals to plants": Pair(
        "{data}/animals10.npz", "{data}/plants20.npz", None, COLOUR, seeds=(0, 2, 8)
    ),
    "rotated labels": Pair("{work}/mnist_rotated.npz", "data/digits", 10, seeds=(0, 1)),
    "noise": Pair("{work}/noise.npz", "data/digits", 10, seeds=(0, 1)),
}


def write_harmful_sources() -> None:
    """Two sources that cannot help: MNIST under each other's names, and noise."""
    from sklearn.utils import check_random_state

    WORK.mkdir(parents=True, exist_ok=True)
    images, labels = demo_data.mnist_arrays()
    names = np.array([str(digit) for digit in range(10)])
    rotated = (labels + 1) % 10
    np.savez(WORK / "mnist_rotated.npz", images=images, labels=rotated, class_names=names)
    noise = check_random_state(0).randint(0, 256, (2000, 28, 28)).astype(np.uint8)
    drawn = check_random_state(1).randint(0, 10, 2000)
    np.savez(WORK / "noise.npz", images=noise, labels=drawn, class_names=names)


def settings_of(pair: Pair, data: str, seed: int) -> Settings:
    """Settings of one run."""
    places = {"data": data, "work": str(WORK)}
    cap = "null" if pair.labels_per_class is None else pair.labels_per_class
    return typed.load(
        demo_data.PARAMS,
        [
            f"source.path={pair.source.format(**places)}",
            f"target.path={pair.target.format(**places)}",
            f"target.labels_per_class={cap}",
            f"split.seed={seed}",
            *pair.overrides,
        ],
    )


def support_vectors(settings: Settings) -> float:
    """Test accuracy of scikit-learn's SVM on the raw pixels of the same labelled items."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    target, source = fingerprint.fn(settings.target), fingerprint.fn(settings.source)
    spec = specify.fn(settings.input, [source, target])
    scanned = scan.fn(target, spec, settings.input)
    divided = split_target.fn(scanned, settings, folds_for(scanned, settings))
    labelled = labelled_items(scanned.path, divided.path)
    test = test_items(scanned.path, divided.path)
    model = make_pipeline(StandardScaler(), SVC())
    model.fit(labelled.records.flatten(1).numpy(), labelled.labels.numpy())
    return float(model.score(test.records.flatten(1).numpy(), test.labels.numpy()))


def measure(name: str, pair: Pair, data: str, seed: int) -> dict[str, Any]:
    """One run and its peers."""
    settings = settings_of(pair, data, seed)
    started = time.perf_counter()
    result: Result = run(settings, promote=False)
    row = {
        "pair": name,
        "seed": seed,
        "labels": result.data.target.labelled,
        "test_items": result.test_items,
        "svm": support_vectors(settings),
        "scratch_single": result.scratch.single_mean,
        "scratch": result.scratch.accuracy,
        "chosen": result.chosen.accuracy,
        "low": result.chosen.low,
        "high": result.chosen.high,
        "members": result.chosen.members,
        "gain": result.gain.model_dump(),
        "source_gain": result.sources[0].gain.model_dump(),
        "verdict": result.verdict,
        "seconds": round(time.perf_counter() - started, 1),
        "arms": [[a.method, a.seed, a.validation, a.test] for a in result.arms],
    }
    print(json.dumps({key: row[key] for key in row if key not in ("arms", "members")}), flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a pair, mean and standard deviation over seeds, in per cent."""
    lines = [
        "| pair | labels | test items | SVM | scratch, one arm | scratch ensemble | chosen "
        "| transfer gain [95 %] | verdicts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["pair"] for row in rows):
        own = [row for row in rows if row["pair"] == name]
        gains = "; ".join(
            "{:+.1f} [{:.1f}, {:.1f}]".format(*(100 * r["source_gain"][k] for k in BOUNDS))
            for r in own
        )
        cells = [name, str(own[0]["labels"]), str(own[0]["test_items"])]
        cells += [_spread(own, key) for key in ("svm", "scratch_single", "scratch", "chosen")]
        lines.append(f"| {' | '.join([*cells, gains, ', '.join(r['verdict'] for r in own)])} |")
    return "\n".join(lines) + "\n"


def _spread(rows: list[dict[str, Any]], key: str) -> str:
    values = [100 * row[key] for row in rows]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if values[1:] else 0:.1f}"


def main() -> None:
    """Run the pairs that were asked for and rewrite their lines of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of the .npz files")
    parser.add_argument(
        "--pairs", default=";".join(PAIRS), help="names, separated by ';'; '' for the table"
    )
    arguments = parser.parse_args()
    chosen = [name for name in PAIRS if name in arguments.pairs.split(";")]
    demo_data.write(paths.DATA)
    write_harmful_sources()
    for name in chosen:
        keep(name, [measure(name, PAIRS[name], arguments.data, seed) for seed in PAIRS[name].seeds])
    publish()


def stored() -> list[dict[str, Any]]:
    """Rows of earlier runs."""
    file = RESULTS / "gain.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    return rows


def keep(name: str, rows: list[dict[str, Any]]) -> None:
    """Replace a pair's rows in the results."""
    rows = [row for row in stored() if row["pair"] != name] + rows
    rows.sort(key=lambda row: (list(PAIRS).index(row["pair"]), row["seed"]))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "gain.json").write_text(json.dumps(rows, indent=1) + "\n")


def publish() -> None:
    """Write the table of all rows to results/gain.md and into the README."""
    text = table(stored())
    (RESULTS / "gain.md").write_text(text)
    readme = Path("README.md")
    if readme.exists():
        before, rest = readme.read_text().split(START)
        readme.write_text(f"{before}{START}\n{text}{END}{rest.split(END)[1]}")
    print(text)


if __name__ == "__main__":
    main()
