"""Rankers of labels as recipes set them: images and labels in, a score each out, the higher, the better the label.

    patchgan      how much a patch looks like ground truth (DAP, arXiv 2512.16913). It sees what no truth looks like,
                  not how large an error is.
    critic        how far a patch is off, learnt from a labeler's own errors. It does not see errors of other kinds.
    consistency   how far the labeler contradicts itself, turned and mirrored. It sees what the labeler is unsure of,
                  and damage to a label, not what is wrong alike in all views.
    teachers      how far other labelers contradict the label. They do not see what all get wrong alike.

The step `rank-quality` measures them where the truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from ...engine.steps.asset_settings import AssetUri
from ...models.inference.embedded import check_model_folder
from ...models.labelers.load import (
    Labeler,
    check_labeler,
    function_hashes,
    make_labeler,
    sees_whole_panoramas,
    split_reference,
    weights_of,
)
from ...models.labelers.outputs import check_metric
from ...models.labelers.patches import Patches
from ...models.ranking.consistency import AgreementRanker
from ...models.ranking.views import Views

RankerKind = Literal["patchgan", "critic", "consistency", "teachers"]
_NETWORKS = {"patchgan": "realism", "critic": "error"}


class Scorer(Protocol):
    """A loaded ranker."""

    def score(self, rgbs: list[np.ndarray], labels_m: list[np.ndarray]) -> list[float]:
        """Scores of panoramas (H, W, 3) uint8 with distances (H, W): inf beyond range, nan or 0 missing."""
        ...


@dataclass(frozen=True)
class Ranker:
    """`model`: a discriminator, a critic, or the labeler whose consistency is asked; `teachers`: labelers by name."""

    ranker: RankerKind = "patchgan"
    model: AssetUri | None = None
    teachers: dict[str, AssetUri] = field(default_factory=dict)
    views: Views | None = None  # of consistency, by default four turns and their mirror images; of teachers, none
    patches: Patches | None = None  # models of others see perspective views of these, fused, not the whole panorama

    def check_settings(self, where: str) -> None:
        """ValueError with one line for settings that the ranker does not have, or lacks."""
        if self.ranker in _NETWORKS and not self.model:
            raise ValueError(f"{where}: {self.ranker} needs a model, which train-{_TRAINED_BY[self.ranker]} makes")
        if self.ranker in _NETWORKS and self.views:
            raise ValueError(
                f"{where}: {self.ranker} scores the label as it is; views are for consistency and teachers"
            )
        if (self.ranker == "teachers") != bool(self.teachers):
            raise ValueError(f"{where}: teachers are the labelers of the ranker `teachers`, which needs one at least")
        if self.ranker == "teachers" and self.model:
            raise ValueError(f"{where}: the ranker `teachers` takes no model; the labelers stand in teachers")

    def _labelers(self) -> dict[str, str]:
        """The labelers that are asked, by the names of their weights among the assets."""
        if self.ranker in _NETWORKS:
            return {}
        return ({"model": self.model} if self.model else {}) | {f"teachers.{n}": t for n, t in self.teachers.items()}

    def assets(self) -> Iterator[tuple[str, str]]:
        """What has to be there, by name: weights of networks and labelers."""
        if self.ranker in _NETWORKS and self.model:
            yield "model", self.model
        for name, labeler in self._labelers().items():
            if weights := weights_of(labeler):
                yield name, weights

    def check(self) -> None:
        """ValueError for a model that is not there, or is none."""
        for labeler in self._labelers().values():
            check_metric(labeler, check_labeler(labeler))
            function_hashes([labeler])
        if self.ranker in _NETWORKS and self.model:
            check_model_folder(self.model)

    def schemes(self) -> dict[str, str]:
        """What kind of models the labelers are, where they are not ours."""
        schemes = {name: split_reference(labeler)[0] for name, labeler in self._labelers().items()}
        return {name: scheme for name, scheme in schemes.items() if scheme}

    def functions(self) -> dict[str, str]:
        """Hashes of the functions among the labelers."""
        return function_hashes(self._labelers().values())

    def load(self, weights: Mapping[str, str], device: str, batch_size: int) -> Scorer:
        """The ranker, loaded; `weights`: folders by the names of `assets`. ValueError for a model of another kind."""
        if self.ranker in _NETWORKS:
            from ...models.inference.predictor import QualityScorer

            scorer = QualityScorer(weights["model"], device, batch_size=batch_size)
            if scorer.judges != _NETWORKS[self.ranker]:
                raise ValueError(f"{self.model}: is no {self.ranker}: it judges {scorer.judges}")
            return scorer
        labelers = [
            _load_labeler(labeler, weights.get(name), device, batch_size, self.patches)
            for name, labeler in self._labelers().items()
        ]
        return AgreementRanker(labelers, self.views or (Views() if self.ranker == "consistency" else None))


_TRAINED_BY = {"patchgan": "discriminator", "critic": "critic"}


def _load_labeler(model: str, weights: str | None, device: str, batch_size: int, patches: Patches | None) -> Labeler:
    seen_in = None if sees_whole_panoramas(model) else patches
    labeler = make_labeler(model, weights=weights, device=device, batch_size=batch_size, patches=seen_in)
    check_metric(model, labeler.output)
    return labeler
