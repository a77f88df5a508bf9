import pytest
from pydantic import ValidationError

from transfer.data.quality.thresholds import of_modality

QualitySettings = of_modality("image")


def test_every_threshold_is_described():
    assert all(field.description for field in QualitySettings.model_fields.values())


@pytest.mark.parametrize(
    "value",
    [
        {"max_reject_share": 1.01},
        {"min_classes": 1},
        {"max_imbalance": 0.5},
        {"relations": ["cousin"]},
        {"max_rejects": 3},
        {"min_side": 30, "max_side": 20},
        {"warn_near_duplicate_share": 0.5, "max_near_duplicate_share": 0.1},
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValidationError, match=next(iter(value))):
        QualitySettings(**value)
