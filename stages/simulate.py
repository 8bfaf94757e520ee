"""Simulates labelled panoramas: procedural scenes, or views of a user's own mesh, with exact ray distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import simplejpeg

from ..engine.records.column import Column, TarColumn
from ..engine.records.sample import Drop, Row, Sample
from ..engine.steps.asset_settings import AssetUri
from ..engine.steps.step import SourceStage, StageContext
from ..models.data.depth_png import encode_depth_png
from .batches.splits import unit_hash

if TYPE_CHECKING:
    from ..models.simulator.rendering.panoramas import LabelledPanorama

Kind = Literal["indoor", "outdoor"]


@dataclass
class Simulate(SourceStage):
    """`panoramas` labelled panoramas to `labelled-<source>`, split by scene into train, val and test.

    With `mesh`, a GLB, OBJ or PLY file, all are views of that one scene.
    """

    name: ClassVar[str] = "simulate"
    version: ClassVar[int] = 2

    source_name: str
    panoramas: int
    look: Literal["synthetic", "field"] = "synthetic"
    kinds: list[Kind] = field(default_factory=lambda: list(get_args(Kind)))  # of the scenes, in turn
    height: int = 512
    seed: int = 0
    panoramas_per_shard: int = 100
    views_per_scene: int = 4
    validation_share: float = 0.05
    test_share: float = 0.1
    jpeg_quality: int = 95
    mesh: AssetUri | None = None

    def __post_init__(self) -> None:
        if self.panoramas < 1 or self.panoramas_per_shard < 1 or self.views_per_scene < 1:
            raise ValueError("simulate: panoramas, panoramas_per_shard and views_per_scene must be at least 1")
        if self.panoramas_per_shard % self.views_per_scene:
            per_shard, views = self.panoramas_per_shard, self.views_per_scene
            raise ValueError(
                f"simulate: panoramas_per_shard ({per_shard}) must be a multiple of views_per_scene ({views})"
            )
        if min(self.validation_share, self.test_share) < 0 or self.validation_share + self.test_share > 1:
            raise ValueError("simulate: validation_share and test_share must not be below 0, nor above 1 together")
        if self.height < 16 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError("simulate: height must be at least 16, jpeg_quality 1 to 100")

    @property
    def writes(self) -> Column:
        return TarColumn(f"labelled-{self.source_name}", ("depth.png", "jpg", "json"))

    def check(self) -> None:
        if self.mesh:
            from ..models.simulator.scenes.scene import load_scene

            load_scene(self.mesh)

    def setup(self, context: StageContext) -> None:
        from ..models.simulator.scenes.scene import load_scene

        self._scene = load_scene(context.assets["mesh"]) if self.mesh else None

    def shards(self) -> Sequence[str]:
        return [f"{number:06d}" for number in range(-(-self.panoramas // self.panoramas_per_shard))]

    def source(self, shard: str) -> Iterator[Sample]:
        yield Sample(shard, {})

    def process(self, batch: list[Sample]) -> Iterator[Row | Drop]:
        for sample in batch:
            start = int(sample.key) * self.panoramas_per_shard
            count = min(self.panoramas_per_shard, self.panoramas - start)
            for panorama in self._render(start, count):
                yield Row(panorama.key, self._fields(panorama))

    def _render(self, start: int, count: int) -> Iterator[LabelledPanorama]:
        from ..models.simulator.rendering.mesh_views import mesh_panoramas
        from ..models.simulator.rendering.panoramas import labelled_panoramas

        if self._scene:
            return mesh_panoramas(self._scene, self.seed, count, self.height, start=start)
        return labelled_panoramas(
            self.seed,
            count,
            self.look,
            self.height,
            start=start,
            views_per_scene=self.views_per_scene,
            kinds=self.kinds,
        )

    def _fields(self, panorama: LabelledPanorama) -> dict[str, Any]:
        height, width = panorama.depth_m.shape
        split = self._split_of(panorama.info["scene_id"])
        return {
            "jpg": simplejpeg.encode_jpeg(panorama.rgb, quality=self.jpeg_quality, colorsubsampling="444"),
            "depth.png": encode_depth_png(panorama.depth_m),
            "json": {**panorama.info, "split": split, "width": width, "height": height},
        }

    def _split_of(self, scene_id: str) -> str:
        """All views of a scene are in one split, chosen by a hash of its id."""
        position = unit_hash(scene_id)
        if position < self.test_share:
            return "test"
        return "val" if position < self.test_share + self.validation_share else "train"
