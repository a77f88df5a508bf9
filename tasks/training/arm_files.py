"""Where trained arms are stored, as the library reads them."""

from tasks.runtime.artifacts import ArmRef
from transfer.selection.model_selection import ArmFiles


def files(arms: list[ArmRef]) -> list[ArmFiles]:
    """Where the arms are stored."""
    return [
        ArmFiles(
            a.plan.method,
            a.seed,
            a.ref.path,
            a.steps,
            a.plan.sources,
            a.plan.label,
            a.finalist,
            a.plan.parts,
        )
        for a in arms
    ]
