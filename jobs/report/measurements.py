"""Which measurement decides that a frame is dropped, and at which threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...models.frames.analyzer import DARK
from ...models.frames.shots import FROZEN_MEAN
from ...models.horizon import projection

Measures = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """`measure` beyond `threshold` speaks for dropping: above it, or below it."""

    measure: str
    threshold: float
    above: bool
    words: str

    def speaks(self, value: float) -> bool:
        """Whether a value is on the side of dropping."""
        return value > self.threshold if self.above else value < self.threshold


def rules_of(settings: Mapping[str, Any]) -> dict[str, tuple[Rule, ...]]:
    """By code, what an extraction with these settings looks at; codes that need no measurement are not there."""
    seam = Rule("seam_gap", projection.OPEN_SEAM, True, "gap at the seam")
    poles = (
        Rule("max_cut", projection.NO_POLE, True, "log odds that the worse pole is cut off"),
        Rule("min_stretch", projection.NO_STRETCH, True, "detail along the better pole, 1 is unstretched"),
    )
    whole = (seam, *poles, Rule("p_no_panorama", 0.5, True, "network: no whole panorama"))
    void = Rule("circle_void", projection.BLACK_VOID, True, "emptiness outside of circles")
    found = {
        "black": (Rule("brightness", DARK, False, "grey level that 1 % exceeds"),),
        "blank": (Rule("contrast", projection.MIN_CONTRAST, False, "contrast, grey levels"),),
        "frozen": (Rule("mean_change", FROZEN_MEAN, False, "mean change, grey levels"),),
        "partial": whole,
        "perspective": whole,
        "open_seam": (seam,),
        "unstretched_poles": poles,
        "stereo_top_bottom": (
            Rule("likeness_top_bottom", projection.STEREO_TOP_BOTTOM, True, "likeness of top and bottom"),
        ),
        "stereo_side_by_side": (
            Rule("likeness_side_by_side", projection.STEREO_SIDE_BY_SIDE, True, "likeness of left and right"),
        ),
        "dual_fisheye": (void,),
        "fisheye": (void,),
        "black_bands": (Rule("black_bands", projection.BLACK_BAND, True, "black on opposite sides, share"),),
        "cubemap": (
            Rule("face_edge", projection.FACE_EDGE, True, "edges of cube faces"),
            Rule("middle_edge", projection.MIDDLE_EDGE, True, "edge in the middle row"),
        ),
        "wrong_aspect": (Rule("aspect_off", projection.ASPECT_TOLERANCE, True, "distance from 2:1"),),
    }
    for code, name, setting, above, words in (
        ("blurred", "sharpness", "min_sharpness", False, "sharpness"),
        ("title_card", "flat_share", "max_flat_share", True, "share in one colour"),
        ("tilted", "likely_tilt_deg", "max_tilt_deg", True, "tilt, degrees"),
        ("near_duplicate", "hash_bits", "near_duplicate_bits", False, "bits that differ from the kept frame"),
    ):
        if settings.get(setting) is not None:
            found[code] = (Rule(name, float(settings[setting]), above, words),)
    return found


def measures_of(quality: Mapping[str, Any], horizon: Mapping[str, Any]) -> Measures:
    """The numbers that rules look at, from those that stand in a frame's JSON; what was not measured is not there."""
    given = {**quality, **horizon}
    found = {name: float(value) for name, value in given.items() if isinstance(value, int | float)}
    if "top_stretch" in found:
        found |= {
            "min_stretch": min(found["top_stretch"], found["bottom_stretch"]),
            "max_cut": max(found["top_cut"], found["bottom_cut"]),
            "black_bands": max(
                min(found["black_top"], found["black_bottom"]), min(found["black_left"], found["black_right"])
            ),
            "aspect_off": abs(found["aspect"] / 2 - 1),
        }
    if "p_partial" in found:
        found["p_no_panorama"] = found["p_partial"] + found["p_perspective"]
    return found
