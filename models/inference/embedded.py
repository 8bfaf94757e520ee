"""The small depth model that comes with the package, for machines without weights.

It learned from simulated panoramas at 128×256 alone. It shows the flow and gives plausible depth; it is no DAP.
Its README.md says how good it is, its `lineage.json` how it was made; the recipe `embedded` makes it anew.
"""

from pathlib import Path

from ..support import model_checks

EMBEDDED = "embedded"
_FOLDER = Path(__file__).parent / "embedded_weights"


def resolve_model(model: str) -> str:
    """The folder of the embedded model for its name; any other folder or hub id as it is."""
    return str(_FOLDER) if model == EMBEDDED else model


def check_model_folder(model: str) -> None:
    """ValueError unless a folder holds a whole model; one that the run has still to make (`run:…`) passes."""
    if not model.startswith("run:"):
        model_checks.check_model_folder(model)
