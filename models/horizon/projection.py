"""Is a picture a whole equirectangular panorama, and if not, what else is it?

No single sign is enough on real footage (poles in forests are full of detail, a wall's edge may be on the seam, 2:1 is
also the shape of dual fisheye and side-by-side stereo), so several are combined, each measured and reported.
Thresholds were set on one half of a collection of real panoramas, videos and counterexamples, away from both classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from . import projection_measures as measure
from .projection_poles import cut_odds

ASPECT_TOLERANCE = 0.03  # 426 x 214 and 2:1 with a cropped macroblock row are panoramas; 1.85:1 film is not
STRIP_ASPECT = 4.0  # beyond, no lens took it in one piece: stitched strips and rows of cube faces
MIN_CONTRAST = 4.0  # grey levels; fades and cards of one colour are below, a moonless night above
OPEN_SEAM = 3.0  # closed panoramas: median 0.5, 2.4 at worst but for a wall's edge on the seam; perspective: median 10
OPEN_SEAM_FLAT = 2.0  # where the poles do not look like a panorama's either
FLAT_STRETCH = 0.5  # geometric mean of both poles: tells perspective pictures from cut panoramas where the seam is open
NO_POLE = 2.5  # log odds that an edge is no pole; of panoramas, only a starry night is above
NO_STRETCH = 0.7  # the better pole above: worst panorama 0.65, cylinders and perspective pictures about 0.9
STEREO_TOP_BOTTOM = 0.6  # likeness of halves: sky and ground of one panorama are below 0.3, stereo pairs above 0.75
STEREO_SIDE_BY_SIDE = 0.85  # the two ends of a symmetric bridge reach 0.6, artwork 0.72, stereo pairs 0.98
FACE_EDGE = 1.6  # jump at a cube face's border over the jumps around it; panoramas stay below 1.5
MIDDLE_EDGE = 2.0
BLACK_VOID = 0.5  # black outside of the circles, not inside; nights are black on both sides
PALE_VOID = 0.8  # another colour: pale rooms reach 0.5, stray light around a lens 0.93
BLACK_BAND = 0.04  # of the height or width, on both opposite sides


@dataclass(frozen=True)
class ProjectionMeasures:
    """Of one picture. `reasons` why it is no panorama are codes, the most specific first; `aspect`: width / height."""

    valid: bool
    reasons: tuple[str, ...]
    aspect: float
    contrast: float
    seam_gap: float
    top_stretch: float
    bottom_stretch: float
    top_cut: float
    bottom_cut: float
    likeness_top_bottom: float
    likeness_side_by_side: float
    middle_edge: float
    face_edge: float
    circle_void: float
    void_level: float
    black_top: float
    black_bottom: float
    black_left: float
    black_right: float

    @property
    def mean_stretch(self) -> float:
        """Geometric mean of both poles: a picture that lost one of them only may still be a panorama."""
        return math.sqrt(self.top_stretch * self.bottom_stretch)

    def measurements(self) -> dict[str, float]:
        """All numbers, rounded for storage."""
        return {name: round(value, 4) for name, value in vars(self).items() if name not in ("valid", "reasons")}


def measure_projection(rgb: np.ndarray, display_aspect: float | None = None) -> ProjectionMeasures:
    """Measures uint8 RGB (H, W, 3). `display_aspect` is the true width / height of a picture stored squeezed."""
    measures = _measure(rgb, display_aspect or rgb.shape[1] / rgb.shape[0])
    reasons = tuple(_reasons(ProjectionMeasures(valid=False, reasons=(), **measures)))
    return ProjectionMeasures(valid=not reasons, reasons=reasons, **measures)


def _measure(rgb: np.ndarray, aspect: float) -> dict[str, float]:
    small = measure.canvas(rgb)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    top_stretch, bottom_stretch = measure.pole_stretch(gray)
    top_cut, bottom_cut = cut_odds(gray)
    top_bottom, side_by_side = measure.stereo_likeness(gray)
    columns, rows = (6, 1) if aspect > STRIP_ASPECT else (3, 2)  # of cube faces in a picture of this shape
    void, void_level = measure.circle_void(small, circles=2 if aspect > 1.5 else 1)
    top, bottom, left, right = measure.black_bands(small)
    return {
        "aspect": aspect,
        "contrast": measure.contrast(gray),
        "seam_gap": measure.seam_gap(small),
        "top_stretch": top_stretch,
        "bottom_stretch": bottom_stretch,
        "top_cut": top_cut,
        "bottom_cut": bottom_cut,
        "likeness_top_bottom": top_bottom,
        "likeness_side_by_side": side_by_side,
        "middle_edge": measure.middle_row_edge(gray),
        "face_edge": measure.face_edge(gray, columns=columns, rows=rows),
        "circle_void": void,
        "void_level": void_level,
        "black_top": top,
        "black_bottom": bottom,
        "black_left": left,
        "black_right": right,
    }


def _reasons(measures: ProjectionMeasures) -> Iterator[str]:
    if measures.contrast < MIN_CONTRAST:
        yield "blank"
        return
    wrong_aspect = abs(measures.aspect / 2 - 1) > ASPECT_TOLERANCE
    yield from _other_layout(measures, wrong_aspect)
    is_open, unstretched = _seam_is_open(measures), _poles_are_unstretched(measures)
    if _is_perspective(measures, is_open, unstretched):
        yield "perspective"
    elif unstretched or (wrong_aspect and measures.aspect > 2):
        yield "partial"
    if wrong_aspect:
        yield "wrong_aspect"
    if is_open:
        yield "open_seam"
    if unstretched:
        yield "unstretched_poles"


def _other_layout(measures: ProjectionMeasures, wrong_aspect: bool) -> Iterator[str]:
    bands_across = min(measures.black_top, measures.black_bottom) > BLACK_BAND
    bands_aside = min(measures.black_left, measures.black_right) > BLACK_BAND
    void_limit = BLACK_VOID if measures.void_level < measure.DARK_LEVEL else PALE_VOID
    if measures.circle_void > void_limit and bands_across == bands_aside:
        yield "dual_fisheye" if measures.aspect > 1.5 else "fisheye"
    elif bands_across or bands_aside:
        yield "black_bands"
    if measures.likeness_top_bottom > STEREO_TOP_BOTTOM:
        yield "stereo_top_bottom"
    elif measures.likeness_side_by_side > STEREO_SIDE_BY_SIDE:
        yield "stereo_side_by_side"
    elif wrong_aspect and _is_cubemap(measures):
        yield "cubemap"


def _is_cubemap(measures: ProjectionMeasures) -> bool:
    if measures.aspect > STRIP_ASPECT:
        return measures.face_edge > FACE_EDGE
    if measures.aspect < 1 / STRIP_ASPECT:
        return True  # six faces on top of each other; nothing else is that tall
    return measures.middle_edge > MIDDLE_EDGE or min(measures.face_edge, measures.middle_edge) > FACE_EDGE


def _is_perspective(measures: ProjectionMeasures, is_open: bool, unstretched: bool) -> bool:
    """Cut off on all sides; or flat, and of a shape that comes of cutting off the sides."""
    if is_open:
        return measures.aspect < STRIP_ASPECT and (unstretched or measures.mean_stretch > FLAT_STRETCH)
    return unstretched and measures.aspect < 2 * (1 - ASPECT_TOLERANCE)


def _seam_is_open(measures: ProjectionMeasures) -> bool:
    return measures.seam_gap > (OPEN_SEAM_FLAT if measures.mean_stretch > FLAT_STRETCH else OPEN_SEAM)


def _poles_are_unstretched(measures: ProjectionMeasures) -> bool:
    one_is_cut = max(measures.top_cut, measures.bottom_cut) > NO_POLE
    return one_is_cut or min(measures.top_stretch, measures.bottom_stretch) > NO_STRETCH
