"""`load`: a registered model for predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosstrain.projects import working_in

if TYPE_CHECKING:
    import pandas as pd

    from transfer.models import predictor


@dataclass(frozen=True)
class Predictor:
    """A registered model, loaded. Its probabilities are calibrated."""

    model: "predictor.Predictor"
    name: str
    """In the registry."""
    version: int

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the columns of `predict_proba`."""
        return self.model.class_names

    def predict(self, items: Any) -> "pd.DataFrame":
        """The most probable class of each item, and its probability.

        Args:
            items: paths of files, or an array of one row per item, of the kind that the model
                was trained on.

        Returns:
            Columns ``label`` and ``probability``; a row per item; its index is the path or
            the number.

        Raises:
            DataRefusedError: an item cannot be read; the message says which and why.
        """
        import pandas as pd

        probabilities = self.predict_proba(items)
        values = probabilities.to_numpy()
        labels = [self.classes[best] for best in values.argmax(axis=1)]
        columns = {"label": labels, "probability": values.max(axis=1)}
        return pd.DataFrame(columns, index=probabilities.index)

    def predict_proba(self, items: Any) -> "pd.DataFrame":
        """Probability of each class, (N, K); rows sum to 1.

        Args:
            items: as for `predict`.

        Raises:
            DataRefusedError: an item cannot be read; the message says which and why.
        """
        import pandas as pd

        files = _files(items)
        if files is None:
            values, index = self.model.predict_arrays(items), None
        else:
            values, index = self.model.predict_files(files), [str(file) for file in files]
        return pd.DataFrame(values, columns=list(self.classes), index=index)


def _files(items: Any) -> list[Path] | None:
    """Items as paths; None where they are something else."""
    if isinstance(items, str | PathLike):
        items = [items]
    if not isinstance(items, Sequence) or not all(isinstance(i, str | PathLike) for i in items):
        return None
    return [Path(item).expanduser() for item in items]


def load(
    target: str, alias: str = "champion", project: str | PathLike[str] | None = None
) -> Predictor:
    """A registered model of a target.

    Args:
        target: name of the target dataset.
        alias: ``champion``; ``challenger``, the version judged last; or ``previous``, the version
            that a rollback restores.
        project: root of a project (see `init`); by default that of the working folder.

    Raises:
        NothingToDoError: the target has no model of that alias.
        ModelFileError: its files are missing or damaged.
        SettingsError: the folder is in no project.
    """
    with working_in(project) as root:
        from tasks.registry import versions

        name = versions.name_of(target)
        version = versions.version_of(name, alias)
    return load_version(name, version, root)


def load_version(name: str, version: int, project: str | PathLike[str]) -> Predictor:
    """A version of a registered model, with or without an alias.

    Raises:
        ModelFileError: its files are missing or damaged.
    """
    with working_in(project):
        from tasks.tracking import files
        from transfer.models import predictor

        return Predictor(predictor.load(files.model_folder(name, version)), name, version)
