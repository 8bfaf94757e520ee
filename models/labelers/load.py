"""Depth models of any origin behind one interface, to label with and to compare with.

    PATH | embedded             our own folder
    hf:ID                       any depth-estimation model of transformers, by hub id or folder: MiDaS/DPT,
                                Depth Anything V1/V2, Depth Pro, ZoeDepth, …
    diffusers:ID                Marigold, through diffusers
    unik3d: dac: panda: depthcrafter: moge: da3:
                                models that their authors publish as packages (`models.labelers.published`)
    python:MODULE:FUNCTION      anything else: FUNCTION(rgb), (H, W, 3) uint8, gives (H, W) floats: depth in metres,
                                or what `output` says; a list of each if FUNCTION.batched is set

Ours and some of those packages are made for panoramas. All others are made for perspective pictures: they see the
panorama as it is, and what they give is taken for ray distance; or, with `Patches`, overlapping perspective views of
it, whose depths along the viewing axis are turned to ray distances, brought to agree where they overlap, and fused on
the sphere (`models.labelers.fusion`). MoGe and Depth Anything 3 always see views.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..inference.embedded import check_model_folder, resolve_model
from ..inference.precision import Precision
from ..support.model_checks import check_weight_files
from .function import source_hash
from .outputs import METRIC, Output, OutputSetting, check_output
from .patches import Patches
from .published import HUB_ID, PUBLISHED, ImageDepth, ShotDepth, check_published, load_published

SCHEMES = ("hf", "diffusers", "python", *PUBLISHED)


@dataclass(frozen=True)
class Estimate:
    """Of one panorama: a map (H, W) of what the labeler's `output` says, and the probability of being beyond the range.

    The latter is None if the labeler has no range mask. `nearer_m` is the threshold of a mask that is nearer than the
    range: such a mask hides distances where it is asked to.
    """

    values: np.ndarray
    beyond_range: np.ndarray | None = None
    nearer_m: float | None = None

    def masked(self, threshold: float = 0.5, *, nearer: bool = False) -> np.ndarray:
        """The map with inf where the range is more probably exceeded than not.

        A mask of a nearer threshold is applied with `nearer` alone: beyond it there is no distance, nan.
        """
        if self.beyond_range is None or (self.nearer_m is not None and not nearer):
            return self.values
        hidden = np.float32(np.inf if self.nearer_m is None else np.nan)
        return np.where(self.beyond_range > threshold, hidden, self.values)


class Labeler(ABC):
    """A loaded model: what it gives, and the precision that it runs in (None: unknown, as of a function)."""

    output: Output
    precision: str | None

    @abstractmethod
    def estimate(self, rgbs: list[np.ndarray]) -> list[Estimate]:
        """Maps of panoramas (H, W, 3) uint8 of any sizes, in order."""

    def estimate_shot(self, rgbs: list[np.ndarray]) -> list[Estimate]:
        """Maps of the frames of one shot, (H, W, 3) uint8 of one size, in order; most models see them one by one."""
        return self.estimate(rgbs)


class DapLabeler(Labeler):
    """Our own network."""

    output: Output = METRIC

    def __init__(
        self, folder: str, device: str, batch_size: int, yaw_turns: int, precision: Precision, height: int | None
    ) -> None:
        from ..inference.predictor import DepthPredictor

        self.predictor = DepthPredictor(
            folder, device, batch_size=batch_size, yaw_turns=yaw_turns, precision=precision, height=height
        )
        self.precision = self.predictor.precision

    def estimate(self, rgbs: list[np.ndarray]) -> list[Estimate]:
        config, found = self.predictor.model.config, self.predictor.predict(rgbs)
        if config.range_threshold_m is None:
            return [Estimate(one.depth_m) for one in found]
        nearer_m = None if config.masks_the_range else config.range_threshold_m
        return [Estimate(one.depth_m, one.beyond_range, nearer_m) for one in found]


class ForeignLabeler(Labeler):
    """A model of others, on panoramas as they are or on perspective views of them."""

    def __init__(
        self, depth_of: ImageDepth, output: Output, patches: Patches | None, precision: str | None = "float32"
    ) -> None:
        self.output: Output = output
        self.precision = precision
        self._depth_of, self._patches = depth_of, patches

    def estimate(self, rgbs: list[np.ndarray]) -> list[Estimate]:
        if self._patches is None:
            return [Estimate(values) for values in self._depth_of(rgbs)]
        return [self._on_views(rgb, self._patches) for rgb in rgbs]

    def estimate_shot(self, rgbs: list[np.ndarray]) -> list[Estimate]:
        if isinstance(self._depth_of, ShotDepth):
            return [Estimate(values) for values in self._depth_of.shot(rgbs)]
        return self.estimate(rgbs)

    def _on_views(self, rgb: np.ndarray, patches: Patches) -> Estimate:
        from .fusion import fuse_on_sphere, views_of

        maps = np.stack(self._depth_of(views_of(rgb, patches)))
        return Estimate(fuse_on_sphere(maps, self.output, rgb.shape[0], patches))


def split_reference(model: str) -> tuple[str, str]:
    """A recipe's reference to a model, `SCHEME:REST`, to its scheme (empty for our own) and the rest."""
    scheme, colon, rest = model.partition(":")
    return (scheme, rest) if colon and scheme in SCHEMES else ("", resolve_model(model))


def sees_whole_panoramas(model: str) -> bool:
    """Whether a model is made for panoramas, and `Patches` are not for it."""
    scheme, _ = split_reference(model)
    return not scheme or (scheme in PUBLISHED and not PUBLISHED[scheme].on_views)


def weights_of(model: str) -> str | None:
    """The folder or hub id of a model's weights; None for a function."""
    scheme, rest = split_reference(model)
    return None if scheme == "python" else rest


def check_labeler(model: str, output: OutputSetting = "auto") -> Output:
    """What a model gives; ValueError in one line if there is no such model, or its output is unknown."""
    scheme, rest = split_reference(model)
    given: Output = METRIC if output == "auto" else output
    if scheme == "python":
        from .function import load_function

        load_function(rest)
        return given
    if not scheme:
        check_model_folder(rest)
        return check_output(model, METRIC, output)
    if scheme in PUBLISHED:
        return check_published(scheme, rest, output)
    if not (Path(rest).is_dir() or HUB_ID.fullmatch(rest)):
        raise ValueError(f"{model}: no such folder, and not a hub id")
    if scheme == "diffusers":
        if Path(rest).is_dir():
            check_weight_files(Path(rest))
        return check_output(model, "relative-depth", output)
    from .transformers import output_of

    return output_of(rest, output)


def make_labeler(
    model: str,
    *,
    weights: str | None = None,
    device: str = "auto",
    batch_size: int = 8,
    patches: Patches | None = None,
    output: OutputSetting = "auto",
    yaw_turns: int = 1,
    precision: Precision = "auto",
    height: int | None = None,
) -> Labeler:
    """Loads a model; `weights` is a local copy of it, if there is one. Raises ValueError or OSError.

    `patches` and `output` are for models of others, which run in float32, or as their packages have it. `yaw_turns`,
    `precision` and `height` are for ours: see `DepthPredictor`.
    """
    scheme, rest = split_reference(model)
    rest = weights or rest
    if scheme == "hf":
        from .transformers import TransformersDepth, our_folder

        if ours := our_folder(rest):
            scheme, rest = "", ours
    if not scheme:
        if patches or output not in ("auto", METRIC):
            raise ValueError(f"{model}: our own model sees whole panoramas, and gives metric depth")
        return DapLabeler(rest, device, batch_size, yaw_turns, precision, height)
    if yaw_turns != 1 or precision == "bfloat16" or height is not None:
        raise ValueError(f"{model}: only our own model predicts under several turns, or in bfloat16, or at a height")
    if scheme == "python":
        from .function import FunctionDepth

        given: Output = METRIC if output == "auto" else output
        return ForeignLabeler(FunctionDepth(rest), given, patches, precision=None)
    if scheme == "diffusers":
        from .marigold import MarigoldDepth

        return ForeignLabeler(MarigoldDepth(rest, device), "relative-depth", patches)
    if scheme in PUBLISHED:
        given = check_published(scheme, rest, output)
        if patches and sees_whole_panoramas(model):
            raise ValueError(f"{model}: it sees whole panoramas: patches are not for it")
        views = patches or Patches()
        depth_of = load_published(scheme, rest, device, batch_size, given, views.fov_deg)
        return ForeignLabeler(depth_of, given, views if PUBLISHED[scheme].on_views else None, precision=None)
    network = TransformersDepth(rest, device, batch_size, output)
    return ForeignLabeler(network, network.output, patches)


def function_hashes(models: Iterable[str]) -> dict[str, str]:
    """Hashes of the sources of the `python:` models among `models`, for fingerprints."""
    return {model: source_hash(split_reference(model)[1]) for model in models if split_reference(model)[0] == "python"}
