"""The basis of a step: all that its outputs depend on, whose hash is their fingerprint."""

from __future__ import annotations

import json
from typing import Any

from ..rundir.receipts import Basis
from ..storage.hashing import canonical_json
from .source import source_hashes
from .step import Step


def basis_of(step: Step, assets: dict[str, str], inputs: dict[str, str]) -> Basis:
    """The basis of a step's output, given the hashes of its assets and inputs.

    A setting that names an asset is left out: what counts is the asset's content, wherever it lies. The source of a
    step that is not ours is in it: nobody has to think of raising its version.
    """
    external = {**step.external(), **source_hashes(type(step))}
    return Basis(step.name, step.version, settings_of(step), external, dict(assets), dict(inputs))


def settings_of(step: Step) -> dict[str, Any]:
    """A step's settings as its receipts hold them: plain values, without the places of what it loads."""
    plain = json.loads(canonical_json(step.settings()))  # a tuple of the recipe is a list in a receipt
    return _without(plain, list(step.assets().values()))


def _without(settings: dict[str, Any], places: list[str]) -> dict[str, Any]:
    nested = {key: _without(value, places) if isinstance(value, dict) else value for key, value in settings.items()}
    return {key: value for key, value in nested.items() if value not in places}
