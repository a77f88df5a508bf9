"""`fit`: the whole chain as one call."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstrain import datasets
from crosstrain.projects import working_in

if TYPE_CHECKING:
    import pandas as pd

    from crosstrain.datasets import Data
    from crosstrain.predicting import Predictor
    from transfer.evaluation import report_schema


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    details: "report_schema.Result"
    """Everything, as in ``reports/retrain.json``."""
    project: Path
    """Root of the project in which the run worked."""

    @property
    def verdict(self) -> str:
        """Whether the source helped: ``positive``, ``none`` or ``negative``."""
        return str(self.details.verdict)

    @property
    def sentence(self) -> str:
        """The verdict with its figures, their interval and what they compare."""
        return self.details.sentence

    @property
    def promoted(self) -> bool:
        """Whether this run's model is the champion after it."""
        return self.details.promoted

    @property
    def report(self) -> Path:
        """The page for people; the next run of the project replaces it."""
        return self.project / "reports/retrain.html"

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One row per arm: its accuracies, their interval, and its weight in the chosen model."""
        import pandas as pd

        columns = ["group", "seed", "validation", "test", "test_low", "test_high", "weight"]
        rows = [arm.model_dump(include=set(columns)) for arm in self.details.arms]
        return pd.DataFrame(rows, columns=columns).rename(columns={"group": "arm"})

    def predictor(self) -> "Predictor":
        """The model of this run, promoted or not.

        Raises:
            NothingToDoError: the model was not registered.
        """
        from crosstrain.predicting import load_version
        from transfer.core.errors import NothingToDoError

        if self.details.version is None:
            raise NothingToDoError(
                "found no registered model of this run; expected a run with promote=True"
            )
        return load_version(self.details.model, self.details.version, self.project)

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.sentence)}</p>{self.table.round(3).to_html(index=False)}"


def fit(
    source: "Data",
    target: "Data",
    *,
    name: str = "",
    source_name: str = "",
    project: str | PathLike[str] | None = None,
    budget: str | None = None,
    promote: bool = True,
    **settings: Any,
) -> Result:
    """Run the chain: validate, split, pretrain, adapt, choose, evaluate, and promote a
    better model.

    Args:
        source: the large labelled dataset: a path to class folders, a manifest or an ``.npz`` file;
            or data in memory: ``(items, labels)``, a mapping of the arrays of an ``.npz`` dataset,
            a table with the columns ``path`` and ``label``.
        target: the small one, likewise.
        name: of the target in reports and in the registry; by default that of its file or folder.
        source_name: of the source, likewise.
        project: root of a project (see `init`); by default that of the working folder.
        budget: time that the run may take, such as ``"90s"`` or ``"5m"``; None trains everything.
        promote: False only reports: nothing is registered.
        settings: sections of settings with their fields, laid over those of ``params.yaml``:
            ``adapt={"seeds": [0]}``, or ``adapt__seeds=[0]``.

    Raises:
        SettingsError: the folder is in no project, or a setting is unknown or out of range.
        DataRefusedError: a dataset cannot be used; the message says which and why.
        CrosstrainError: a step failed. Another call continues where it stopped.
    """
    before = Path.cwd()
    with working_in(project) as root:
        from flows import retrain as chain
        from flows.runtime.run_flow import call
        from tasks.runtime import paths
        from transfer.modalities import lookup
        from transfer.settings import project as typed

        tree = merged(typed.read(paths.PARAMS), _tree(settings))
        key = lookup.get(tree.get("input", {}).get("modality", lookup.DEFAULT)).array_key
        arguments: dict[str, Any] = {
            "source": _dataset(source, source_name, key, before),
            "target": _dataset(target, name, key, before),
        }
        if budget is not None:
            arguments["run"] = {"budget": budget}
        run = typed.check(merged(tree, arguments), "crosstrain.fit")
        return Result(call(lambda: chain.retrain(run, promote=promote)), root)


def _dataset(data: "Data", name: str, array_key: str, before: Path) -> dict[str, str]:
    path = datasets.located(data, name, array_key, before)
    return {"path": str(path), "name": name}


def _tree(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a tree: ``adapt__seeds=...`` is ``adapt={"seeds": ...}``."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *outer, last = key.split("__")
        inner: dict[str, Any] = {last: value}
        for section in reversed(outer):
            inner = {section: inner}
        tree = merged(tree, inner)
    return tree


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees in one; where both have a value, that of ``upper``."""
    both = dict(lower)
    for key, value in upper.items():
        deeper = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if deeper else value
    return both
