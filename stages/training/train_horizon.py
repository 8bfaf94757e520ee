"""Training of the network that finds the up vector of a panorama: a barrier of the recipe `horizon`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import simplejpeg

from ...engine.records.column import Column, FolderColumn
from ...engine.steps.asset_settings import AssetUri
from ...engine.steps.barrier import Barrier, BarrierContext
from .photographs import read_photographs
from .training import LINEAGE


@dataclass
class TrainHorizon(Barrier):
    """Simulated panoramas, and level photographs if there are any, to `models/<model>`, weights of the tilt network.

    `photographs` is a folder of level panoramas; those of one sub-folder, such as frames of a video, count as one.
    """

    name: ClassVar[str] = "train-horizon"
    version: ClassVar[int] = 2

    model: str
    data: list[str]
    steps: int
    photographs: AssetUri | None = None
    start: AssetUri | None = None
    peak_lr: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.peak_lr <= 0:
            raise ValueError("train-horizon: steps must be at least 1, peak_lr positive")

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.data)

    @property
    def writes(self) -> Column:
        return FolderColumn("models")

    @property
    def produces(self) -> str:
        return f"models/{self.model}"

    def shards(self, context: BarrierContext) -> Sequence[str]:
        return [self.model]

    def run(self, context: BarrierContext) -> None:
        from ...models.horizon.tilt_network import TiltNetwork
        from ...models.horizon.tilt_pictures import TiltPictures
        from ...models.horizon.tilt_training import train_tilt

        photographs = _photographs(context.assets)
        simulated = [rgb for column in self.data for rgb in _simulated(context, column)]
        start = TiltNetwork.load(Path(context.assets["start"])) if self.start else None
        pictures = TiltPictures(simulated, list(photographs.values()))
        network = train_tilt(
            pictures, self.steps, seed=self.seed, peak_lr=self.peak_lr, start=start, log=context.log
        )  # fmt: skip
        with context.scratch() as scratch:
            network.save(scratch / "model")
            lineage = {"fingerprint": context.basis.fingerprint, **dataclasses.asdict(context.basis)}
            lineage["photographs"] = sorted(photographs)
            (scratch / "model" / LINEAGE).write_text(json.dumps(lineage, indent=1, sort_keys=True) + "\n")
            context.commit(self.model, scratch / "model", len(simulated), len(simulated))


def _simulated(context: BarrierContext, column: str) -> Iterator[np.ndarray]:
    """The panoramas of a column, turned level by what is known of their cameras."""
    for receipt in context.inputs[column].values():
        for row in context.run.rows(receipt):
            rgb, info = simplejpeg.decode_jpeg(row.fields["jpg"]), row.fields["json"]
            yield _level(rgb, info)


def _level(rgb: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
    from ...models.horizon.sphere_view import rotation_to, turned
    from ...models.horizon.tilt import up_vector
    from ...models.horizon.tilt_network import VIEW_HEIGHT

    up = up_vector(info.get("roll_deg", 0.0), info.get("pitch_deg", 0.0))
    return turned(rgb, rotation_to(up), VIEW_HEIGHT)


def _photographs(assets: Mapping[str, str]) -> dict[str, list[np.ndarray]]:
    """Thumbnails by group: a sub-folder's images are one, an image of the folder itself is one of its own."""
    from ...models.horizon.tilt_network import VIEW_HEIGHT

    groups: dict[str, list[np.ndarray]] = {}
    if "photographs" not in assets:
        return groups
    folder = Path(assets["photographs"])
    for path, rgb in read_photographs(folder):
        group = path.stem if path.parent == folder else path.parent.name
        thumbnail = cv2.resize(rgb, (2 * VIEW_HEIGHT, VIEW_HEIGHT), interpolation=cv2.INTER_AREA)
        groups.setdefault(group, []).append(thumbnail)
    return groups
