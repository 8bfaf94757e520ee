"""Analysis of one frame by itself: is it worth keeping, is it a whole panorama, is it level?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..horizon.check import PanoramaCheck, PanoramaVerdict
from ..horizon.projection import measure_projection
from ..horizon.projection_measures import canvas
from ..horizon.tilt import Tilt
from ..video.file import VideoError
from ..video.frames import Eye, VideoFrame
from ..video.spherical_metadata import Declared
from .measures import FrameMeasures, measure_frame
from .shots import FrameSignature, signature_of
from .yaw_hash import yaw_hash

DARK = 16.0  # grey levels that less than one percent of a black frame exceeds: video's black and its noise
MIN_CONFIDENCE = 0.95  # of an estimate that a panorama is turned by: an expected error below 20°
SPHERE_ASPECT = 2.0

_LAYOUT_CODES = {"rectilinear": "perspective", "cubemap": "cubemap", "mesh": "mesh"}
_STEREO_CODES = {
    "top_bottom": "stereo_top_bottom",
    "side_by_side": "stereo_side_by_side",
    "other": "stereo_other",
}


@dataclass(frozen=True, eq=False)
class AnalyzedFrame:
    """A frame with all that was measured. `code` is why it cannot be kept; empty if it can.

    verdict: None if the frame is black or a title card, whose projection is not checked. upright: the tilt to turn the
    frame back by (None: it stays as it is).
    """

    frame: VideoFrame
    signature: FrameSignature
    measures: FrameMeasures
    yaw_hash: int
    verdict: PanoramaVerdict | None = None
    upright: Tilt | None = None
    code: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FrameAnalyzer:
    """Analyzes frames one by one. No frame depends on another.

    panorama_check: None: the projection is measured, but no tilt is estimated. level: turn tilted panoramas upright.
    eye: what the frames were cropped to, as in `models.video.frames.sample_frames`. The shape of one eye is not
    checked: it is usually squeezed.
    """

    panorama_check: PanoramaCheck | None
    level: bool
    min_sharpness: float
    max_flat_share: float
    eye: Eye = "both"

    def analyze(self, frame: VideoFrame) -> AnalyzedFrame:
        """Raises VideoError if the file declares another layout and the picture itself is no whole panorama either."""
        small = canvas(frame.rgb)
        measures = measure_frame(small)
        analyzed = AnalyzedFrame(frame, signature_of(small), measures, yaw_hash(frame.rgb))
        if code := self._quality_code(measures):
            return replace(analyzed, code=code)
        one_eye = self._is_one_eye(frame.declared)
        verdict = self._check(small, SPHERE_ASPECT if one_eye else frame.display_aspect)
        if verdict.projection.reasons and (declared := declared_code(frame.declared, one_eye)):
            raise VideoError(declared, "as the file declares")
        upright = self._upright(verdict)
        analyzed = replace(analyzed, verdict=verdict, upright=upright)
        if verdict.reasons and not upright:
            return replace(analyzed, code=verdict.reasons[0], detail=" ".join(verdict.reasons[1:]))
        if measures.sharpness is not None and measures.sharpness < self.min_sharpness:
            return replace(analyzed, code="blurred", detail=f"sharpness {measures.sharpness:.2f}")
        return analyzed

    def _is_one_eye(self, declared: Declared | None) -> bool:
        is_stereo = declared is not None and declared.stereo in ("top_bottom", "side_by_side")
        return self.eye in ("top_half", "left_half") or (self.eye == "left" and is_stereo)

    def _quality_code(self, measures: FrameMeasures) -> str:
        if measures.brightness <= DARK:
            return "black"
        return "title_card" if measures.flat_share > self.max_flat_share else ""

    def _check(self, small: np.ndarray, display_aspect: float) -> PanoramaVerdict:
        projection = measure_projection(small, display_aspect)
        if self.panorama_check:
            return self.panorama_check.check(small, projection)
        return PanoramaVerdict(projection.reasons, projection, None)

    def _upright(self, verdict: PanoramaVerdict) -> Tilt | None:
        """The tilt to turn a panorama upright by: if `level` is set, it is tilted, and the estimate is sure."""
        tilt = verdict.tilt
        wanted = self.level and verdict.reasons == ("tilted",)
        return tilt if wanted and tilt and tilt.confidence >= MIN_CONFIDENCE else None


def declared_code(declared: Declared | None, one_eye: bool = False) -> str:
    """The code of a layout that is not a whole panorama, as a file declares it; empty where it declares none.

    It counts only where the picture itself fails as a whole panorama. What is declared equirectangular is measured like
    everything else.
    """
    if declared is None:
        return ""
    if declared.stereo != "mono" and not one_eye:
        return _STEREO_CODES[declared.stereo]
    if declared.projection == "equirectangular":
        return "" if declared.covers_sphere else "partial"
    return _LAYOUT_CODES.get(declared.projection, "")
