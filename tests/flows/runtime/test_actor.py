"""The actor of a run in the ledger."""

import pytest
from prefect.client.schemas.objects import CreatedBy

from flows.runtime.actor import started


@pytest.mark.parametrize(
    ("creator", "expected"),
    [
        (None, "on request"),
        (CreatedBy(type="SCHEDULE", display_value="CronSchedule"), "by schedule"),
        (
            CreatedBy(type="AUTOMATION", display_value="retrain on data-changed"),
            "by automation retrain on data-changed",
        ),
        (CreatedBy(type="USER", display_value="ada"), "on request"),
    ],
)
def test_the_trigger_of_a_run_is_named(creator: CreatedBy | None, expected: str) -> None:
    assert started(creator) == expected
