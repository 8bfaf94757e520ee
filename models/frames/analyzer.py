"""What one frame shows, looked at by itself: is it worth keeping, is it a whole panorama, is it level?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..horizon.check import PanoramaCheck, PanoramaVerdict
from ..horizon.projection import check_panorama
from ..horizon.projection_measures import canvas
from ..horizon.tilt import Tilt
from ..video.file import VideoError
from ..video.frames import Eye, VideoFrame
from ..video.spherical_metadata import Declared
from .measures import FrameMeasures, measure_frame
from .shots import Look, look_at
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
    """A frame with all that was measured. `code` says why it cannot be kept; empty: nothing stands against it.

    judgement: None where there was nothing to judge, in a black frame or a title. upright: the tilt to turn it back by.
    """

    frame: VideoFrame
    look: Look
    measures: FrameMeasures
    yaw_hash: int
    judgement: PanoramaVerdict | None = None
    upright: Tilt | None = None
    code: str = ""
    detail: str = ""


@dataclass(frozen=True)
class FrameAnalyzer:
    """Examines frames one by one; no frame depends on another, so several may be examined at a time.

    horizon: None where the tilt is not to be looked at. level: turn tilted panoramas upright. eye: what the frames
    were cropped to, as in `models.video.frames.sample_frames`; one eye's shape says nothing, it is squeezed as a rule.
    """

    horizon: PanoramaCheck | None
    level: bool
    min_sharpness: float
    max_flat_share: float
    eye: Eye = "both"

    def examine(self, frame: VideoFrame) -> AnalyzedFrame:
        """Raises VideoError where the file declares another layout, and the picture does not contradict it."""
        small = canvas(frame.rgb)
        measures = measure_frame(small)
        seen = AnalyzedFrame(frame, look_at(small), measures, yaw_hash(frame.rgb))
        if code := self._worthless(measures):
            return replace(seen, code=code)
        one_eye = self._is_one_eye(frame.declared)
        judgement = self._judge(small, SPHERE_ASPECT if one_eye else frame.display_aspect)
        if judgement.check.reasons and (declared := declared_code(frame.declared, one_eye)):
            raise VideoError(declared, "as the file declares")
        upright = self._upright(judgement)
        seen = replace(seen, judgement=judgement, upright=upright)
        if judgement.reasons and not upright:
            return replace(seen, code=judgement.reasons[0], detail=" ".join(judgement.reasons[1:]))
        if measures.sharpness is not None and measures.sharpness < self.min_sharpness:
            return replace(seen, code="blurred", detail=f"sharpness {measures.sharpness:.2f}")
        return seen

    def _is_one_eye(self, declared: Declared | None) -> bool:
        is_stereo = declared is not None and declared.stereo in ("top_bottom", "side_by_side")
        return self.eye in ("top_half", "left_half") or (self.eye == "left" and is_stereo)

    def _worthless(self, measures: FrameMeasures) -> str:
        if measures.brightness <= DARK:
            return "black"
        return "title_card" if measures.flat_share > self.max_flat_share else ""

    def _judge(self, small: np.ndarray, display_aspect: float) -> PanoramaVerdict:
        check = check_panorama(small, display_aspect)
        return self.horizon.judge(small, check) if self.horizon else PanoramaVerdict(check.reasons, check, None)

    def _upright(self, judgement: PanoramaVerdict) -> Tilt | None:
        """The estimate to turn a panorama upright by, if it is tilted, that is wanted, and the estimate is sure."""
        tilt = judgement.tilt
        wanted = self.level and judgement.reasons == ("tilted",)
        return tilt if wanted and tilt and tilt.confidence >= MIN_CONFIDENCE else None


def declared_code(declared: Declared | None, one_eye: bool = False) -> str:
    """The code of a layout that is not a whole panorama, as a file declares it; empty where it declares none.

    A declaration is believed where the picture itself has any fault as a whole panorama, and does not mend one: what is
    declared equirectangular is measured like all else.
    """
    if declared is None:
        return ""
    if declared.stereo != "mono" and not one_eye:
        return _STEREO_CODES[declared.stereo]
    if declared.projection == "equirectangular":
        return "" if declared.covers_sphere else "partial"
    return _LAYOUT_CODES.get(declared.projection, "")
