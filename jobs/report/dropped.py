"""Dropped frames looked at again: their videos are opened, and only the frames asked for are decoded and measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...engine.records.sample import Drop
from ...models.frames.analyzer import AnalyzedFrame, FrameAnalyzer
from ...models.frames.yaw_hash import hash_distance
from ...models.horizon.check import PanoramaCheck
from ...models.horizon.tilt import TiltEstimator
from ...models.video.decoder import Decoder
from ...models.video.file import VideoError
from ...stages.extract import CANDIDATES
from ...stages.footage.fetch import local_copy
from .measurements import Measures, measures_of

_SILENT_S = 20.0  # a decoder without a frame is given up
_OF_A_VIDEO = 3  # frames that stand for a video that was dropped whole


@dataclass(frozen=True, eq=False)
class Seen:
    """A dropped frame, uint8 RGB (H, 2H, 3), with what was measured of it."""

    key: str
    timestamp_s: float
    rgb: np.ndarray
    measures: Measures
    beside: str = ""  # the key of the kept frame that it repeats


class DroppedFrames:
    """Looks at dropped frames of one extraction, for `budget_s` seconds in all."""

    def __init__(self, settings: Mapping[str, Any], run_uri: str, budget_s: float) -> None:
        self._settings, self._run_uri = settings, run_uri
        self._until_s = time.monotonic() + budget_s
        self._decoder = Decoder(timeout_s=_SILENT_S, memory_bytes=int(settings["memory_gb"] * 2**30))
        self._analyzer: FrameAnalyzer | None = None

    def close(self) -> None:
        """Ends the decoder."""
        self._decoder.close()

    def of_video(
        self, video: Mapping[str, Any], drops: Sequence[Drop], sampled: Mapping[str, str], kept: Mapping[str, int]
    ) -> Iterator[tuple[Drop, Seen]]:
        """Drops of one video that can be shown; fewer, where it cannot be read, or when the time is over.

        `sampled`: the codes of all frames that were looked at, by key, empty for what was kept. `kept`: the yaw hashes
        of those.
        """
        if time.monotonic() > self._until_s:
            return
        whole = next((drop for drop in drops if drop.key not in sampled), None)
        indices = None if whole else _indices(drops, sampled)
        try:
            with local_copy(video["uri"], self._run_uri) as path:
                analyzed = dict(self._analyzed(path, indices, video))
        except (VideoError, OSError):
            return
        if whole:
            for index, frame in analyzed.items():
                yield whole, _seen(f"{whole.key}-{index:08d}", frame)
            return
        for drop in drops:
            if frame := analyzed.get(_index(drop.key)):
                yield drop, self._compared(drop, frame, analyzed, sampled, kept)

    def _analyzed(
        self, path: str, indices: Sequence[int] | None, video: Mapping[str, Any]
    ) -> Iterator[tuple[int, AnalyzedFrame]]:
        """Frames by index. A video whose file declares another layout is measured as far as that goes."""
        settings = self._settings
        most = CANDIDATES * settings["max_frames"] if settings["max_frames"] else None
        frames = self._decoder.sample_frames(
            path,
            settings["every_s"],
            settings["height"],
            max_frames=_OF_A_VIDEO if indices is None else most,
            only=indices,
            snap_to_keyframes=settings["snap_to_keyframes"],
            start_s=video.get("start_s") or 0.0,
            end_s=video.get("end_s"),
            eye="left" if settings["stereo"] == "left_eye" else "both",
        )
        with closing(frames):
            for frame in frames:
                try:
                    yield frame.frame_index, self._load().analyze(frame)
                except VideoError:
                    continue

    def _load(self) -> FrameAnalyzer:
        if self._analyzer is None:
            limit_deg = self._settings["max_tilt_deg"]
            check = PanoramaCheck(limit_deg, TiltEstimator()) if limit_deg else None
            eye = "left" if self._settings["stereo"] == "left_eye" else "both"
            limits = self._settings["min_sharpness"], self._settings["max_flat_share"]
            self._analyzer = FrameAnalyzer(check, self._settings["level"], *limits, eye)
        return self._analyzer

    def _compared(
        self,
        drop: Drop,
        frame: AnalyzedFrame,
        analyzed: Mapping[int, AnalyzedFrame],
        sampled: Mapping[str, str],
        kept: Mapping[str, int],
    ) -> Seen:
        """A frame with what it has in common with an earlier one, where that is why it was dropped."""
        earlier = {key: bits for key, bits in kept.items() if key < drop.key}
        if drop.code == "near_duplicate" and earlier:
            distances = {key: hash_distance(bits, frame.yaw_hash) for key, bits in earlier.items()}
            nearest = min(distances, key=lambda key: distances[key])
            return _seen(drop.key, frame, {"hash_bits": float(distances[nearest])}, nearest)
        if drop.code == "frozen" and (before := _still(drop.key, sampled)):
            other = analyzed.get(_index(before))
            changed = {"mean_change": _change(other, frame)} if other else {}
            return _seen(drop.key, frame, changed, before if before in kept else "")
        return _seen(drop.key, frame)


def _seen(key: str, frame: AnalyzedFrame, more: Measures | None = None, beside: str = "") -> Seen:
    horizon = frame.verdict.measurements() if frame.verdict else {}
    measures = measures_of(frame.measures.rounded(), horizon) | (more or {})
    return Seen(key, frame.frame.timestamp_s, frame.frame.rgb, measures, beside)


def _indices(drops: Sequence[Drop], sampled: Mapping[str, str]) -> list[int]:
    """The frames that drops are about, and those that frozen ones are compared with."""
    keys = {drop.key for drop in drops}
    keys |= {before for drop in drops if drop.code == "frozen" and (before := _still(drop.key, sampled))}
    return sorted(map(_index, keys))


def _still(key: str, sampled: Mapping[str, str]) -> str:
    """The last frame before one that was not frozen itself; empty if there is none."""
    return max((one for one, code in sampled.items() if one < key and code != "frozen"), default="")


def _index(key: str) -> int:
    return int(key.rpartition("-")[2])


def _change(one: AnalyzedFrame, other: AnalyzedFrame) -> float:
    return float(cv2.absdiff(one.signature.small, other.signature.small).mean())
