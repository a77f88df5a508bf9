"""What the ledger says of who started a run."""

import pytest
from prefect.client.schemas.objects import CreatedBy

from flows.runtime.actor import started


@pytest.mark.parametrize(
    ("creator", "told"),
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
def test_what_started_a_run_is_told(creator: CreatedBy | None, told: str) -> None:
    assert started(creator) == told
