"""Where a sample comes from and where it went: from a video to the models that learned from its frames, and back.

Nothing is searched that need not be: a video's shard is found in the plan, training shards through their deal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import pyarrow.parquet as pq
import yaml

from engine.lineage import find_drops, find_row, find_rows, followers
from engine.receipts import Receipt
from engine.rundir import RunDir
from jobs.deals import dealt, packed_columns
from jobs.errors import UsageError

Document = dict[str, Any]
_ABOVE_ALL_KEYS = "\x7f"
_THREADS = 16


@dataclass(frozen=True)
class Lineage:
    """Answers questions about one run."""

    run: RunDir

    @cached_property
    def models(self) -> dict[str, Receipt]:
        """The models of the run by name."""
        return dict(self.run.receipts("models"))

    @cached_property
    def recipe(self) -> Document:
        """run.yaml, as it stands: only names are taken from it."""
        return yaml.safe_load(self.run.storage.read_bytes("run.yaml"))

    def of_sample(self, key: str) -> Document:
        """All that is known of a frame, a labelled panorama, or a whole video; raises UsageError for an unknown key."""
        if video := self._video(key):
            return self._of_video(video) if video["video_id"] == key else self._of_frame(key, video)
        return self._of_labelled(key)
