"""The index of a packed column: its shards, with exact counts."""

from __future__ import annotations

import json
from typing import Any

from ...engine.storage.storage import Storage


def read_index(storage: Storage, column: str) -> list[dict[str, Any]]:
    """The shards of a packed column: name, split, samples, sha256, bytes. Raises ValueError if it is not packed."""
    try:
        return json.loads(storage.read_bytes(f"{column}/index.json"))["shards"]
    except FileNotFoundError as error:
        raise ValueError(f"{storage.address(column)}: no index.json, so no packed training shards") from error
