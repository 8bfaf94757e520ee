"""Models that their authors publish as packages of their own, which are used where a user has installed them.

    unik3d:ID        UniK3D (arXiv 2503.16591)            metres, sees the panorama as it is
    dac:FOLDER       Depth Any Camera (2501.02464)        metres, sees the panorama as it is
    panda:FILE       PanDA (2406.13378)                   relative depth, or metres of its fine-tuned models; as it is
    depthcrafter:ID  DepthCrafter (2409.02095)            relative disparity, sees the panorama as it is
    moge:ID          MoGe-2 (2507.02546)                  metres, sees perspective views
    da3:ID           Depth Anything 3 (2511.10647)        metres or relative depth by model, sees perspective views

Each has a file here, of the scheme's name, that turns its conventions into ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from ..support.model_checks import check_weight_files
from .outputs import METRIC, Output, OutputSetting, check_output

ImageDepth = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Images (H, W, 3) uint8 of any sizes to maps (H, W) float32 of theirs."""


@runtime_checkable
class ShotDepth(Protocol):
    """A model of shots of video, which sees all frames of one together."""

    def __call__(self, rgbs: list[np.ndarray]) -> list[np.ndarray]: ...

    def shot(self, rgbs: list[np.ndarray]) -> list[np.ndarray]:
        """Maps (H, W) float32 of the frames (H, W, 3) uint8 of one shot, in order."""
        ...


HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Published:
    """What is known of a model before its package is imported."""

    module: str  # of the package, with its parents; it is what has to be there
    install: str  # what to do otherwise
    weights: Literal["hub", "folder", "file"]  # what is named: a hub id or something here, or one of the other two
    gives: Output = METRIC  # if it is not told otherwise
    on_views: bool = False  # sees perspective views of a panorama, never the panorama


PUBLISHED = {
    "unik3d": Published("unik3d.models", "pip install git+https://github.com/lpiccinelli-eth/UniK3D", "hub"),
    "dac": Published(
        "dac.models.idisc_erp", "put a clone of github.com/yuliangguo/depth_any_camera on PYTHONPATH", "folder"
    ),
    "panda": Published(
        "networks.panda", "put a clone of github.com/caozidong/PanDA on PYTHONPATH", "file", "relative-depth"
    ),
    "depthcrafter": Published(
        "depthcrafter.depth_crafter_ppl",
        "put a clone of github.com/Tencent/DepthCrafter on PYTHONPATH",
        "hub",
        "relative-disparity",
    ),
    "moge": Published("moge.model.v2", "pip install git+https://github.com/microsoft/MoGe", "hub", on_views=True),
    "da3": Published("depth_anything_3.api", "pip install depth-anything-3", "hub", on_views=True),
}


def check_published(scheme: str, weights: str, wanted: OutputSetting) -> Output:
    """What a model gives; ValueError in one line if its package or its weights are not there. Loads neither."""
    one, name = PUBLISHED[scheme], f"{scheme}:{weights}"
    if not _is_installed(one.module):
        raise ValueError(f"{name} needs the package {one.module.split('.')[0]}, which is not here: {one.install}")
    place = Path(weights)
    if one.weights == "file" and not place.is_file():
        raise ValueError(f"{name}: no such file")
    if one.weights == "folder" and not place.is_dir():
        raise ValueError(f"{name}: no such folder")
    if not (place.exists() or HUB_ID.fullmatch(weights)):
        raise ValueError(f"{name}: no such folder, and not a hub id")
    if place.exists():
        check_weight_files(place)
    if scheme == "dac":
        from .dac import checkpoint_in

        checkpoint_in(weights)
    if scheme == "da3":
        from .da3 import output_of

        return check_output(name, output_of(weights), wanted)
    if scheme == "panda" and wanted == METRIC:  # one that is fine-tuned to metres looks like any other
        return METRIC
    return check_output(name, one.gives, wanted)


def _is_installed(module: str) -> bool:
    """Whether a module is there, from where its package lies: nothing is imported, as packages import heavily."""
    top, *parts = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # of a module that was put together by hand
        spec = None
    places = [Path(folder, *parts) for folder in (spec.submodule_search_locations or ())] if spec else []
    return any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)


def load_published(
    scheme: str, weights: str, device: str, batch_size: int, output: Output, fov_deg: float
) -> ImageDepth:
    """A model that `check_published` has passed; ValueError in one line if its package cannot load it.

    `fov_deg` is that of the views, for those that see views.
    """
    from ..support.torchvision_ops import register_missing_operators

    register_missing_operators()  # most of the packages import torchvision
    with _naming(f"{scheme}:{weights}"):
        if scheme == "unik3d":
            from .unik3d import Unik3dDepth

            return Unik3dDepth(weights, device)
        if scheme == "dac":
            from .dac import DacDepth

            return DacDepth(weights, device)
        if scheme == "panda":
            from .panda import PandaDepth

            return PandaDepth(weights, device, metric=output == METRIC)
        if scheme == "depthcrafter":
            from .depthcrafter import DepthCrafterDepth

            return DepthCrafterDepth(weights, device)
        if scheme == "moge":
            from .moge import MogeDepth

            return MogeDepth(weights, device, batch_size, fov_deg)
        from .da3 import Da3Depth

        return Da3Depth(weights, device, fov_deg)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Whatever the packages of others raise, as one line that names the model."""
    try:
        yield
    except Exception as error:  # anybody's code, in any way
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"{name}: {type(error).__name__}: {text}") from error
