"""Horizon validation: is a picture a whole panorama, and level? Of frames, and of loose files as people try them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.pictures import is_picture, read_picture
from ..support.files import FileError
from ..video.decoder import Decoder
from .projection import ProjectionMeasures, measure_projection
from .tilt import Tilt, TiltEstimator

MAX_TILT_DEG = 15.0

# Measurements and the network err in different pictures: where they contradict each other, the surer one is believed.
_SURELY_WHOLE = 0.15  # the network's probability of no panorama; below this, a "cut-off poles" measurement is ignored
_DOUBTS = (0.8, -1.0), (0.5, 1.2), (0.15, 2.0)  # that probability and a seam gap: above both, it is no panorama
_UNCLEAR = frozenset({"open_seam", "partial", "perspective", "unstretched_poles"})  # what measurements may confuse


@dataclass(frozen=True)
class PanoramaVerdict:
    """The verdict on one picture: no reasons if it is to be kept; `tilt` is None for what is clearly no panorama."""

    reasons: tuple[str, ...]
    projection: ProjectionMeasures
    tilt: Tilt | None

    @property
    def valid(self) -> bool:
        return not self.reasons

    def measurements(self) -> dict[str, float | None]:
        """roll_deg, pitch_deg (None: not estimated) and every other number that was measured."""
        angles: dict[str, float | None] = {"roll_deg": None, "pitch_deg": None}
        return angles | (self.tilt.measurements() if self.tilt else {}) | self.projection.measurements()


class PanoramaCheck:
    """Checks pictures; a panorama that leans by more than `max_tilt_deg` is `tilted` (None: none is)."""

    def __init__(self, max_tilt_deg: float | None = MAX_TILT_DEG, estimator: TiltEstimator | None = None):
        self._max_tilt_deg = max_tilt_deg
        self._estimator = estimator or TiltEstimator()

    def check(self, rgb: np.ndarray, projection: ProjectionMeasures) -> PanoramaVerdict:
        """The verdict on uint8 RGB (H, W, 3) whose projection was measured."""
        if not _UNCLEAR.issuperset(projection.reasons):
            return PanoramaVerdict(projection.reasons, projection, None)
        tilt = self._estimator.estimate(rgb)
        reasons = tuple(dict.fromkeys(_projection_reasons(projection, tilt)))
        if not reasons and self._max_tilt_deg is not None and tilt.likely_tilt_deg > self._max_tilt_deg:
            reasons = ("tilted",)
        return PanoramaVerdict(reasons, projection, tilt)


def _projection_reasons(projection: ProjectionMeasures, tilt: Tilt) -> Iterator[str]:
    """The reasons against a picture by its measurements and by the network together."""
    p_no_panorama = tilt.p_partial + tilt.p_perspective
    if projection.valid and not _is_doubtful(p_no_panorama, projection.seam_gap):
        return
    if "open_seam" not in projection.reasons and p_no_panorama < _SURELY_WHOLE:
        return
    if projection.valid or projection.reasons[0] == "open_seam":
        yield "perspective" if tilt.p_perspective > tilt.p_partial else "partial"
    yield from projection.reasons


def _is_doubtful(p_no_panorama: float, seam_gap: float) -> bool:
    """Whether a picture is taken for no panorama although it measures like one: the worse its seam, the sooner."""
    return any(p_no_panorama > p and seam_gap > gap for p, gap in _DOUBTS)


@dataclass(frozen=True)
class CheckedPicture:
    """One picture of a file with its verdict; both are None if it cannot be read.

    entry: file, valid, reasons (codes), and the measurements of `PanoramaVerdict`; a frame of a video also has
    frame_index and timestamp_s, and what cannot be read a detail.
    """

    entry: dict[str, Any]
    rgb: np.ndarray | None = None
    verdict: PanoramaVerdict | None = None


def check_file(
    path: str | os.PathLike[str], every_s: float, height: int, check: PanoramaCheck
) -> Iterator[CheckedPicture]:
    """Checks an image, or frames of `height` rows every `every_s` seconds of a video.

    A file that cannot be read is one entry with its code; one that fails in the middle ends with such an entry.
    """
    path = os.fspath(path)
    try:
        if is_picture(path):
            yield _checked(path, read_picture(path), None, check)
            return
        with Decoder() as decoder:
            for frame in decoder.sample_frames(path, every_s, height):
                checked = _checked(path, frame.rgb, frame.display_aspect, check)
                checked.entry.update(frame_index=frame.frame_index, timestamp_s=frame.timestamp_s)
                yield checked
    except FileError as error:
        angles = {"roll_deg": None, "pitch_deg": None}
        yield CheckedPicture({"file": path, "valid": False, **angles, "reasons": [error.code], "detail": error.detail})


def _checked(path: str, rgb: np.ndarray, display_aspect: float | None, check: PanoramaCheck) -> CheckedPicture:
    verdict = check.check(rgb, measure_projection(rgb, display_aspect))
    entry = {"file": path, "valid": verdict.valid, "reasons": list(verdict.reasons)}
    return CheckedPicture(entry | verdict.measurements(), rgb, verdict)
