"""Adds new data to a dataset: checks it, adds it, and records a new version."""

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

    One ingest runs at a time; an interrupted one is completed first. Existing items keep their
    split. Unusable files are copied to quarantine/, with reasons.

    Args:
        settings: the settings; `input.limits`, `validate` and `ingest` count here.
        incoming: a folder, an archive or an .npz file.
        dataset: name of a dataset in data/; a new one is created.
        relabel: if a known item comes with another label, use the label of the delivery.
        new_classes: accept classes that the dataset does not have.
        replace: the delivery is the whole dataset: remove items that it does not contain.
        commit: commit data.dvc to Git, with the changes as the message.
        push: push the data to DVC's default remote.
    """
    options = steps.IngestOptions(relabel, new_classes, replace, commit, push)
    with steps.exclusive():
        recovered = _recover()
        place = steps.prepare(dataset, options)
        changes: Changes = steps.plan(steps.receive(incoming, settings), place, options, settings)
        if changes.taken:
            return _finish()
    if recovered is not None and recovered.digest == changes.digest:
        return recovered
    create_markdown_artifact(markdown(changes), key="ingest")
    return changes


@flow(name="resume ingest", **HOOKS)
def resume() -> Changes | None:
    """Complete an interrupted ingest, if there is one."""
    with steps.exclusive():
        return _recover()


def _recover() -> Changes | None:
    """Complete, or undo, the ingest of a killed process."""
    if not steps.interrupted():
        return None
    if steps.is_taken_back():
        steps.take_back()
        return None
    return _finish()


def _finish() -> Changes:
    """Make the changes in the journal, and report them."""
    steps.carry_out()
    steps.accept()
    shared, failure = steps.share()
    announce("data-changed", shared.dataset, {**shared.numbers(), "md5": shared.after})
    changes: Changes = steps.finish(shared)
    create_markdown_artifact(markdown(changes), key="ingest")
    log.info("%s: %s", changes.dataset, changes.sentence())
    if failure:
        raise CrosstrainError(failure)
    return changes
