"""Shards to read, whole or not."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import simplejpeg


def write_shard(path: Path, samples: dict[str, dict[str, Any]]) -> None:
    """KEY.jpg (from pixels), KEY.depth.png and KEY.json, whichever a sample has."""
    with tarfile.open(path, "w") as tar:
        for key, fields in samples.items():
            for name, value in fields.items():
                if name == "json":
                    value = json.dumps(value).encode()
                elif name == "jpg" and not isinstance(value, bytes):
                    value = simplejpeg.encode_jpeg(value, quality=95, colorsubsampling="444")
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
