"""Packed columns of small analytic rooms, for the tests of training."""

import json
from pathlib import Path

from tests.models.panoramas import HEIGHT, write_shard

__all__ = ["HEIGHT", "TINY", "pack_rooms"]

TINY = {"image_height": HEIGHT, "head_channels": [8, 8, 8, 8], "head_features": 8, "head_output_features": 8}


def pack_rooms(run: Path, shards: dict[str, int], column: str = "train-rooms") -> str:
    """A column of `<split>-<n>` shards with so many rooms each; returns its name."""
    folder = run / column
    folder.mkdir(parents=True)
    for seed, (name, samples) in enumerate(shards.items()):
        write_shard(folder / f"{name}.tar", samples, seed=seed)
    entries = [
        {"name": f"{name}.tar", "split": name.split("-")[0], "samples": samples} for name, samples in shards.items()
    ]
    (folder / "index.json").write_text(json.dumps({"shards": entries}))
    return column
