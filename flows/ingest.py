"""New data into a dataset: checked, added, recorded as a version, and told."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.runtime.events import announce
from flows.runtime.form import FormSettings
from flows.runtime.hooks import HOOKS
from tasks.data import ingest as steps
from tasks.reports.ingest_summary import markdown
from tasks.runtime.step import log
from transfer.core.errors import CrosstrainError
from transfer.data.ingest.changes import Changes


@flow(name="ingest", flow_run_name="{incoming.name} into {dataset}", **HOOKS)
def ingest(
    settings: FormSettings,
    incoming: Path,
    dataset: str,
    relabel: bool = False,
    new_classes: bool = False,
    replace: bool = False,
    commit: bool = False,
    push: bool = False,
) -> Changes:
    """Add a delivery to a dataset under data/, and record the result as a new version.

    One ingest at a time; one that was interrupted is carried through first. Existing items keep
    their split. What cannot be used goes to quarantine/, with reasons.

    Args:
        settings: the settings; `image.limits`, `validate` and `ingest` count here.
        incoming: a folder, an archive or an .npz file.
        dataset: name of a dataset in data/; one that is not there is made.
        relabel: where a known item comes with another label, the delivery is right.
        new_classes: take classes that the dataset does not have.
        replace: the delivery is the whole dataset: remove what it lacks.
        commit: commit data.dvc to Git, with what changed as the message.
        push: push the data to DVC's default remote.
    """
    wishes = steps.IngestOptions(relabel, new_classes, replace, commit, push)
    with steps.exclusive():
        before = _recover()
        place = steps.prepare(dataset, wishes)
        changes: Changes = steps.plan(steps.receive(incoming, settings), place, wishes, settings)
        if changes.taken:
            return _finish()
    if before is not None and before.digest == changes.digest:
        return before
    create_markdown_artifact(markdown(changes), key="ingest")
    return changes


@flow(name="resume ingest", **HOOKS)
def resume() -> Changes | None:
    """Carry an interrupted ingest through, if there is one."""
    with steps.exclusive():
        return _recover()


def _recover() -> Changes | None:
    """Carry through, or take back, what a killed process began."""
    if not steps.interrupted():
        return None
    if steps.is_taken_back():
        steps.take_back()
        return None
    return _finish()


def _finish() -> Changes:
    """Do what the journal says, and tell of it."""
    steps.carry_out()
    steps.accept()
    told, failed = steps.share()
    announce("data-changed", told.dataset, {**told.numbers(), "md5": told.after})
    changes: Changes = steps.finish(told)
    create_markdown_artifact(markdown(changes), key="ingest")
    log.info("%s: %s", changes.dataset, changes.sentence())
    if failed:
        raise CrosstrainError(failed)
    return changes
