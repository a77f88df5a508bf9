"""Transfer on pairs of datasets and numbers of labels, selected honestly, beside what an oracle
would have claimed.

    python -m benchmarks.pairs DATA_FOLDER [--pairs 'digits;silhouettes'] [--labels 5,10,20,100]

DATA_FOLDER holds animal_silhouettes.npz, animals10.npz and plants20.npz; the digits are the
demo's own. Each division is another split of the target and another draw of its labels. Writes
pairs.json to benchmarks/results/ and the tables into docs/results.md; rows that were measured
before are kept, and shown as long as what is set for their pair is what was set then.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.runtime import environment, paths
from tasks.versioning import demo_data

environment.prepare(Path.cwd())

from flows.runtime.run_flow import run  # noqa: E402
from transfer.evaluation.report_schema import Result  # noqa: E402
from transfer.settings import project as typed  # noqa: E402

RESULTS = Path("benchmarks/results/pairs.json")
PAGE = Path("docs/results.md")
START, END = "<!-- table of results -->", "<!-- end of the table of results -->"
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Pair:
    """A target, what it may learn from, and what is set for it."""

    overrides: tuple[str, ...]
    labels: tuple[int | None, ...]
    seeds: tuple[int, ...] = SEEDS


DIGITS = (
    "split.test=0.4",
    "adapt.training.steps=150",
    "adapt.methods=[fine_tune,entropy,shot]",
)
SILHOUETTES = (
    "target.path={data}/animal_silhouettes.npz",
    "split.test=0.4",
    "augment.flip_horizontal=true",
    "augment.rotate=7",
    "augment.scale=0.1",
    "augment.translate=0.05",
    "augment.shear=5",
    "augment.mixup=0",
    "backbone.width=16",
    "adapt.training.steps=1400",
    "adapt.methods=[noisy_student]",
    "methods.noisy_student.learning_rate=0.005",
    "methods.noisy_student.backbone_rate=1",
    "methods.noisy_student.decay=1",
    "methods.noisy_student.teaching=0.43",
    "methods.noisy_student.rounds=2",
    "methods.noisy_student.align=true",
    "methods.noisy_student.strong.flip_horizontal=true",
)
PAIRS = {
    "digits": Pair(DIGITS, (5, 10, 20)),
    "digits, many labels": Pair(
        (*DIGITS, "adapt.methods=[fine_tune,entropy,shot,replicas]"), (100,)
    ),
    "digits without labels": Pair(
        (
            "split.test=0.4",
            "adapt.training.steps=300",
            "adapt.seeds=[0,1]",
        ),
        (0,),
    ),
    "silhouettes": Pair((*SILHOUETTES, "adapt.folds=5", "adapt.seeds=[0]"), (5, 10, 20)),
    "silhouettes, many labels": Pair((*SILHOUETTES, "adapt.training.steps=2800"), (100,)),
    "animals and ImageNet to plants": Pair(
        (
            "source.path={data}/animals10.npz",
            "target.path={data}/plants20.npz",
            "pretrained=[efficientnet_lite0]",
            "input.size=64",
            "augment.flip_horizontal=true",
            "augment.rotate=10",
            "pretrain.augment.flip_horizontal=true",
            "pretrain.training.steps=400",
            "adapt.training.steps=200",
            "adapt.methods=[linear_probe,logistic,fine_tune,fusion]",
            "split.test=0.4",
            "split.val=0",
            "validate.min_items_per_class=4",
        ),
        (None,),
        (0, 2, 8),
    ),
}


def settings_of(pair: Pair, data: str, labels: int | None, seed: int) -> typed.Settings:
    """Settings of one run."""
    replaced = [text.replace("{data}", data) for text in pair.overrides]
    cap = "null" if labels is None else labels
    return typed.load(
        demo_data.PARAMS, [*replaced, f"target.labels_per_class={cap}", f"split.seed={seed}"]
    )


def measure(name: str, data: str, labels: int | None, seed: int) -> dict[str, Any]:
    """One run, as a row."""
    started = time.perf_counter()
    result: Result = run(settings_of(PAIRS[name], data, labels, seed), promote=False)
    groups = dict.fromkeys(arm.group for arm in result.arms)
    row = {
        "pair": name,
        "set": list(PAIRS[name].overrides),
        "code": result.code_revision,
        "seeds": len(result.seeds),
        "labels": labels,
        "seed": seed,
        "test_items": result.test_items,
        "baseline": result.scratch.accuracy,
        "chosen": result.chosen.accuracy,
        "members": result.chosen.members,
        "oracle": result.oracle.model_dump(),
        "gain": result.gain.model_dump(),
        "sources": [used.model_dump() for used in result.sources],
        "foresight": result.foresight.model_dump(),
        "collapsed": result.collapsed,
        "left_out": result.left_out,
        "verdict": result.verdict,
        "merges": [note["merge"] for arm in result.arms for note in arm.notes if "merge" in note],
        "methods": {
            group: [arm.test for arm in result.arms if arm.group == group] for group in groups
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    keys = ("pair", "labels", "seed", "baseline", "chosen", "oracle", "verdict", "seconds")
    print(json.dumps({key: row[key] for key in keys}), flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line a pair and number of labels, mean and standard deviation over divisions."""
    lines = [
        "| pair | labels a class | divisions | seeds | baseline | chosen | oracle "
        "| gain [95 %] | verdicts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, labels in dict.fromkeys((row["pair"], row["labels"]) for row in rows):
        own = [row for row in rows if (row["pair"], row["labels"]) == (name, labels)]
        gains = "; ".join(_gain(row["gain"]) for row in own)
        cells = [name, "all" if labels is None else str(labels), str(len(own))]
        cells.append("/".join(dict.fromkeys(str(row["seeds"]) for row in own)))
        cells += [_spread(row["baseline"] for row in own), _spread(row["chosen"] for row in own)]
        cells += [_spread(row["oracle"]["accuracy"] for row in own), gains]
        lines.append(f"| {' | '.join([*cells, ', '.join(row['verdict'] for row in own)])} |")
    return "\n".join(lines)


def methods_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: test accuracy of every method, mean over its seeds and the divisions."""
    columns = list(dict.fromkeys((row["pair"], row["labels"]) for row in rows))
    heads = [f"{name}, {'all' if n is None else n}" for name, n in columns]
    lines = [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for group in sorted({group for row in rows for group in row["methods"]}):
        cells = []
        for column in columns:
            own = [row for row in rows if (row["pair"], row["labels"]) == column]
            values = [v for row in own for v in row["methods"].get(group, [])]
            cells.append(_spread(values) if values else "")
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sources_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what each of several sources gains alone, and what the choice loses without it."""
    lines = [
        "| pair | division | source | gain alone [95 %] | verdict | adds to the others [95 %] |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for source in row["sources"] if len(row["sources"]) > 1 else ():
            adds = _gain(source["adds"]) if source["adds"] else ""
            cells = [row["pair"], str(row["seed"]), source["name"], _gain(source["gain"])]
            lines.append(f"| {' | '.join([*cells, source['verdict'], adds])} |")
    return "\n".join(lines)


def merges_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what each merge of replicas was judged to be worth before it was kept."""
    lines = ["| pair | division | merge |", "|---|---|---|"]
    lines += [f"| {row['pair']} | {row['seed']} | {m} |" for row in rows for m in row["merges"]]
    return "\n".join(lines)


def harm(rows: list[dict[str, Any]]) -> str:
    """Say on how many rows the chosen model is worse than the baseline, beyond noise."""
    worse = [row for row in rows if row["gain"]["high"] < 0]
    points = [100 * row["gain"]["point"] for row in rows]
    barred = [row for row in rows if row["left_out"]]
    return (
        f"The chosen model is worse than its baseline beyond noise in {len(worse)} of {len(rows)} "
        f"runs; the smallest difference of all is {min(points):+.1f} points. In {len(barred)} of "
        "them the test barred a source that validation would have used: there the chosen model is "
        "the one that does without it."
    )


def _gain(gain: dict[str, float]) -> str:
    return "{:+.1f} [{:.1f}, {:.1f}]".format(*(100 * gain[k] for k in ("point", "low", "high")))


def _spread(values: Any) -> str:
    shares = [100 * value for value in values]
    return f"{statistics.mean(shares):.1f} ± {statistics.stdev(shares) if shares[1:] else 0:.1f}"


def stored() -> list[dict[str, Any]]:
    """Rows of earlier runs."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return rows


def keep(row: dict[str, Any]) -> None:
    """Replace a row in the results, and rewrite the page."""
    same = ("pair", "labels", "seed")
    rows = [old for old in stored() if any(old[key] != row[key] for key in same)] + [row]
    rows.sort(key=lambda r: (list(PAIRS).index(r["pair"]), r["labels"] or 0, r["seed"]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    publish(rows)


def publish(stored_rows: list[dict[str, Any]]) -> None:
    """Write the tables into the page, of the rows whose pair is still set as it was."""
    rows = [row for row in stored_rows if row["set"] == list(PAIRS[row["pair"]].overrides)]
    before, rest = PAGE.read_text().split(START)
    text = "\n\n".join(
        [
            table(rows),
            harm(rows),
            "Every method, its single arms:",
            methods_table(rows),
            "What each of several sources is worth:",
            sources_table(rows),
            "What the merges of replicas were judged to be worth, in their arms:",
            merges_table(rows),
        ]
    )
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of the .npz files")
    parser.add_argument("--pairs", default=";".join(PAIRS), help="names, separated by ';'")
    parser.add_argument("--labels", default="", help="numbers of labels a class; empty for all")
    parser.add_argument("--seeds", default="", help="divisions; empty for all of the pair")
    arguments = parser.parse_args()
    demo_data.write(paths.DATA)
    wanted = [int(n) for n in arguments.labels.split(",") if n]
    seeds = [int(n) for n in arguments.seeds.split(",") if n]
    for name in (name for name in PAIRS if name in arguments.pairs.split(";")):
        for labels in PAIRS[name].labels:
            if not wanted or labels in wanted:
                for seed in seeds or PAIRS[name].seeds:
                    keep(measure(name, arguments.data, labels, seed))
    publish(stored())


if __name__ == "__main__":
    main()
