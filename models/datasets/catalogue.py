"""The data sets by name. One is imported when it is asked for, and so are the libraries that its files need."""

from __future__ import annotations

from importlib import import_module

from .base import PanoramaSet

DATASETS = {
    "shards": "shards:SHARDS",
    "airsim360": "airsim360:AIRSIM360",
    "dap-test": "airsim360:AIRSIM360",  # DAP's test set is stored as AirSim360 is
    "stanford2d3d": "stanford2d3d:STANFORD2D3D",
    "matterport3d": "matterport3d:MATTERPORT3D",
    "matterport3d-skybox": "matterport3d:MATTERPORT3D_SKYBOX",
    "deep360": "deep360:DEEP360",
    "structured3d": "structured3d:STRUCTURED3D",
}


def open_dataset(name: str) -> PanoramaSet:
    """The data set of a name; ValueError for an unknown one."""
    if name not in DATASETS:
        raise ValueError(f"no data set {name!r}; known are {sorted(DATASETS)}")
    module, attribute = DATASETS[name].split(":")
    return getattr(import_module(f".{module}", __package__), attribute)
