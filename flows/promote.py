"""Judges a registered version again, and promotes it if it passes, or if a person forces it."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.decide import decide
from flows.runtime.form import FormSettings
from flows.runtime.hooks import HOOKS
from tasks.registry import versions
from tasks.registry.audit_record import evaluated_version
from tasks.registry.promote import Outcome


@flow(
    name="promote",
    flow_run_name="{target} version {version}",
    **HOOKS,
)
def promote(
    target: str,
    version: Annotated[int, Field(ge=1)],
    settings: FormSettings,
    forced_reason: str = "",
) -> Outcome:
    """Judge a registered version against the current champion; promote it if it passes every rule.

    Args:
        target: name of the target dataset.
        version: number of the registered version.
        settings: the rules, and everything else in params.yaml.
        forced_reason: why to promote it against the rules; empty: no forced promotion.
    """
    name = versions.name_of(target)
    evaluated, dataset, record = evaluated_version(name, version, forced=bool(forced_reason))
    return decide(name, version, evaluated, dataset, record, settings, forced_reason or None)
