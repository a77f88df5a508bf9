"""The form of a scoring in Prefect's UI, and the summary of its result."""

from prefect.utilities.callables import parameter_schema

from flows.score import _markdown, score
from tasks.operation.score import Scored
from transfer.deployment.batch_scoring import Effort


def test_the_form_has_a_typed_and_described_field_for_every_parameter() -> None:
    schema = parameter_schema(score)
    assert schema.required == ["source", "out", "target"]
    assert {name: field.get("type") for name, field in schema.properties.items()} == {
        "source": "string",
        "out": "string",
        "target": "string",
        "batch": "integer",
    }
    assert all(field["description"] for field in schema.properties.values())


def test_the_summary_counts_labels_and_what_was_not_scored() -> None:
    scored = Scored(
        source="photos",
        out="scores.parquet",
        model="crosstrain-plants",
        version=3,
        rows=12,
        labels={"acer": 7, "betula": 3},
        errors={"truncated": 2},
        reused=0,
        seconds=1.0,
        effort=Effort(),
    )
    summary = _markdown(scored)
    assert "12 items of `photos` by crosstrain-plants version 3" in summary
    assert "| acer | 7 |\n| betula | 3 |" in summary
    assert "| truncated | 2 |" in summary
