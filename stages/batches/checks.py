"""The checks of panoramas that steps share which bring them into a run, and what they write of one that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import simplejpeg

from ...engine.steps.step import Step
from ...models.frames.yaw_hash import hash_text
from ...models.horizon import EMBEDDED_WEIGHTS
from ...models.video.frames import Eye

if TYPE_CHECKING:
    from ...models.frames.analyzer import AnalyzedFrame, FrameAnalyzer


@dataclass
class ChecksPanoramas(Step):
    """Settings of these checks. `start_checks` comes first, once a worker."""

    height: int = field(default=512, kw_only=True)  # pixels, of what is kept; the width is twice that
    min_sharpness: float = field(default=0.25, kw_only=True)  # below, a picture is `blurred`; 0: none is
    max_flat_share: float = field(default=0.85, kw_only=True)  # of the sphere in one colour; above: `title_card`
    max_tilt_deg: float | None = field(default=None, kw_only=True)  # against the horizon; none: tilt is not looked at
    level: bool = field(default=False, kw_only=True)  # turn tilted panoramas upright instead of dropping them
    jpeg_quality: int = field(default=95, kw_only=True)

    def __post_init__(self) -> None:
        if self.height < 32 or not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"{self.name}: height must be at least 32, jpeg_quality 1 to 100")
        if self.min_sharpness < 0 or not 0 < self.max_flat_share <= 1:
            raise ValueError(f"{self.name}: min_sharpness must be at least 0, max_flat_share above 0 and at most 1")
        if self.max_tilt_deg is not None and not 0 < self.max_tilt_deg <= 180:
            raise ValueError(f"{self.name}: max_tilt_deg must be above 0 and at most 180")
        if self.level and self.max_tilt_deg is None:
            raise ValueError(f"{self.name}: level needs max_tilt_deg, beyond which a panorama is turned upright")

    def assets(self) -> dict[str, str]:
        return super().assets() | ({"tilt": str(EMBEDDED_WEIGHTS)} if self.max_tilt_deg else {})

    def start_checks(self, assets: Mapping[str, str]) -> None:
        """Loads the network that estimates tilt, if it is wanted."""
        from ...models.horizon.check import PanoramaCheck
        from ...models.horizon.tilt import TiltEstimator

        estimator = TiltEstimator(Path(assets["tilt"])) if self.max_tilt_deg else None
        self._horizon = PanoramaCheck(self.max_tilt_deg, estimator) if estimator else None

    def analyzer(self, eye: Eye = "both") -> FrameAnalyzer:
        """What measures pictures, of which `eye` was cropped to."""
        from ...models.frames.analyzer import FrameAnalyzer

        return FrameAnalyzer(self._horizon, self.level, self.min_sharpness, self.max_flat_share, eye)

    def encode_kept(self, analyzed: AnalyzedFrame) -> bytes:
        """The JPEG of a panorama that is kept, turned upright if it is to be."""
        from ...models.horizon.tilt import levelled

        rgb = levelled(analyzed.frame.rgb, analyzed.upright) if analyzed.upright else analyzed.frame.rgb
        return simplejpeg.encode_jpeg(rgb, quality=self.jpeg_quality, colorspace="RGB", colorsubsampling="420")


def measured(analyzed: AnalyzedFrame) -> dict[str, Any]:
    """What the JSON of a panorama says that is kept; `horizon` was measured before it was levelled, if it was."""
    assert analyzed.verdict is not None, "what is kept was checked"
    height, width = analyzed.frame.rgb.shape[:2]
    return {
        "width": width,
        "height": height,
        "hash": hash_text(analyzed.yaw_hash),
        "quality": analyzed.measures.rounded(),
        "horizon": {**analyzed.verdict.measurements(), "levelled": analyzed.upright is not None},
    }
