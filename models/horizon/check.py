"""Horizon validation: is a picture a whole panorama, and level? Of frames, and of loose files as people try them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..video.decoder import Decoder
from ..video.frames import VideoError, read_header
from .projection import ProjectionMeasures, check_panorama
from .tilt import Tilt, TiltEstimator

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
IMAGE_FORMATS = "image2,jpeg_pipe,png_pipe,webp_pipe"
MAX_TILT_DEG = 15.0

# Measurements and the network err in different pictures: where they contradict each other, the surer one is believed.
_SURELY_WHOLE = 0.15  # probability of being no panorama; below, poles that seem cut off are a panorama's all the same
_SOME_DOUBT, _WORN_SEAM = 0.15, 2.0  # above both, it is none, although the seam alone would do
_DOUBT, _UNEVEN_SEAM = 0.5, 1.2
_MUCH_DOUBT = 0.8  # above, it is none, whatever was measured
_UNCLEAR = frozenset({"open_seam", "partial", "perspective", "unstretched_poles"})  # what measurements may confuse


@dataclass(frozen=True)
class PanoramaVerdict:
    """The verdict on one picture: no reasons if it is to be kept; `tilt` is None for what is clearly no panorama."""

    reasons: tuple[str, ...]
    check: ProjectionMeasures
    tilt: Tilt | None

    @property
    def valid(self) -> bool:
        return not self.reasons

    def measurements(self) -> dict[str, float | None]:
        """roll_deg, pitch_deg (None: not estimated) and every other number that was measured."""
        angles: dict[str, float | None] = {"roll_deg": None, "pitch_deg": None}
        return angles | (self.tilt.measurements() if self.tilt else {}) | self.check.measurements()


class PanoramaCheck:
    """Judges pictures; a panorama that leans by more than `max_tilt_deg` is `tilted` (None: it may lean at will)."""

    def __init__(self, max_tilt_deg: float | None = MAX_TILT_DEG, estimator: TiltEstimator | None = None):
        self._max_tilt_deg = max_tilt_deg
        self._estimator = estimator or TiltEstimator()

    def judge(self, rgb: np.ndarray, check: ProjectionMeasures) -> PanoramaVerdict:
        """The verdict on uint8 RGB (H, W, 3) that was checked already."""
        if not _UNCLEAR.issuperset(check.reasons):
            return PanoramaVerdict(check.reasons, check, None)
        tilt = self._estimator.estimate(rgb)
        reasons = tuple(dict.fromkeys(_projection_reasons(check, tilt)))
        if not reasons and self._max_tilt_deg is not None and tilt.likely_tilt_deg > self._max_tilt_deg:
            reasons = ("tilted",)
        return PanoramaVerdict(reasons, check, tilt)


def _projection_reasons(check: ProjectionMeasures, tilt: Tilt) -> Iterator[str]:
    """What the measurements and the network say together."""
    doubt = tilt.p_partial + tilt.p_perspective
    if check.valid and not _is_doubtful(check, doubt):
        return
    if "open_seam" not in check.reasons and doubt < _SURELY_WHOLE:
        return
    if check.valid or check.reasons[0] == "open_seam":
        yield "perspective" if tilt.p_perspective > tilt.p_partial else "partial"
    yield from check.reasons


def _is_doubtful(check: ProjectionMeasures, doubt: float) -> bool:
    return (
        doubt > _MUCH_DOUBT
        or (doubt > _DOUBT and check.seam_gap > _UNEVEN_SEAM)
        or (doubt > _SOME_DOUBT and check.seam_gap > _WORN_SEAM)
    )


def inspect_file(
    path: str | os.PathLike[str],
    *,
    every_s: float = 2.0,
    height: int = 512,
    max_tilt_deg: float | None = MAX_TILT_DEG,
) -> list[dict[str, Any]]:
    """Judges an image, or every sampled frame of a video. A file that cannot be read is one entry with its code.

    Entries: file, valid, reasons (codes), and the measurements of `PanoramaVerdict`; frames of videos also frame_index
    and timestamp_s.
    """
    return [inspection.entry for inspection in inspections(path, every_s, height, PanoramaCheck(max_tilt_deg))]


@dataclass(frozen=True)
class Inspection:
    """What `inspect_file` says about one picture, the picture (None: unreadable), and the verdict on it."""

    entry: dict[str, Any]
    rgb: np.ndarray | None = None
    judgement: PanoramaVerdict | None = None


def inspections(
    path: str | os.PathLike[str], every_s: float, height: int, judge: PanoramaCheck
) -> Iterator[Inspection]:
    """The pictures of a file one after the other, judged; a file that fails in the middle ends with its code."""
    path = os.fspath(path)
    try:
        if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES:
            yield _inspect(path, read_image(path), None, judge)
            return
        with Decoder() as decoder:
            for frame in decoder.sample_frames(path, every_s, height):
                seen = _inspect(path, frame.rgb, frame.display_aspect, judge)
                seen.entry.update(frame_index=frame.frame_index, timestamp_s=frame.timestamp_s)
                yield seen
    except VideoError as error:
        yield Inspection(_unreadable(path, error))


def read_image(path: str) -> np.ndarray:
    """Pixels of a JPEG, PNG or WebP as uint8 RGB (H, W, 3). Bombs are refused by their header; raises VideoError."""
    read_header(path, IMAGE_FORMATS)
    bgr = cv2.imread(path, cv2.IMREAD_COLOR)
    if bgr is None:
        raise VideoError("unreadable", "not a picture")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _inspect(path: str, rgb: np.ndarray, display_aspect: float | None, judge: PanoramaCheck) -> Inspection:
    judgement = judge.judge(rgb, check_panorama(rgb, display_aspect))
    entry = {"file": path, "valid": judgement.valid, "reasons": list(judgement.reasons)}
    return Inspection(entry | judgement.measurements(), rgb, judgement)


def _unreadable(path: str, error: VideoError) -> dict[str, Any]:
    reason = {"reasons": [error.code], "detail": error.detail}
    return {"file": path, "valid": False, "roll_deg": None, "pitch_deg": None, **reason}
