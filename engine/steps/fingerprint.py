"""The basis of a step: all that its outputs depend on, whose hash is their fingerprint."""

from __future__ import annotations

import json
from typing import Any

from ..rundir.receipts import SOURCE, Basis
from ..storage.hashing import canonical_json
from .source import source_hashes
from .step import Step


def basis_of(step: Step, assets: dict[str, str], inputs: dict[str, str]) -> Basis:
    """The basis of a step's output, given the hashes of its assets and inputs.

    The source of a step that is not ours is in it: nobody has to think of raising its version.
    """
    sources = {f"{SOURCE}{top}": sha256 for top, sha256 in source_hashes(type(step)).items()}
    external = {**step.external(), **sources}
    return Basis(step.name, step.version, plain_settings(step), external, dict(assets), dict(inputs))


def plain_settings(step: Step) -> dict[str, Any]:
    """A step's settings as its receipts hold them: a tuple of the recipe is a list there."""
    return json.loads(canonical_json(step.settings()))
