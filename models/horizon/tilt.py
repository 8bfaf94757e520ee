"""How far a panorama is from level: roll and pitch of the camera that took it, and the panorama turned upright.

With the camera's axes x forward, y left, z up, and its rotation to the world Rz(yaw)·Ry(−pitch)·Rx(roll) as in
`models.geometry.equirectangular.rotation_matrix`, the up vector in the camera's frame is

    up = (sin pitch, cos pitch · sin roll, cos pitch · cos roll)

so that positive pitch is a nose raised above the horizon, and positive roll a camera that leans to its right. Pitch
lies in [−90°, 90°], roll in (−180°, 180°]: a panorama upside down has roll 180°. The tilt is the angle between
up and z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ..geometry.equirectangular import rotate, rotation_matrix
from ..support.model_checks import check_numbers
from . import EMBEDDED_WEIGHTS
from .projection_measures import canvas
from .sphere_view import rotation_to, turned
from .tilt_edges import find_edges, sharpened
from .tilt_network import KINDS, VIEW_HEIGHT, TiltNetwork, network_input

_LEVEL_PRIOR_KAPPA = 20.0  # most panoramas are level: a prior of about 10°
_DOUBTFUL_KAPPA = 50.0  # below, the network also sees the panorama upside down and lying on each side
_MUCH_SURER = 2.0  # κ of the new estimate over that of the first; below, the first stays
_OTHER_AXES = (0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)
_NETWORK_TRUST = 0.5  # of its κ, against that of edges
_LEVEL_DEG = 8.0  # beyond, the panorama is turned upright by the estimate, near where the network is best
_LOOKS_AGAIN, _SETTLED_DEG = 3, 3.0  # at most; fewer where one moves the estimate by less


@dataclass(frozen=True)
class Tilt:
    """The estimate for one panorama.

    likely_tilt_deg: the tilt, given also that most panoramas are level: what decides where an estimate is unsure.
    confidence: the expected cosine of the angle between the estimated and the true up vector, coth κ − 1/κ of the
    distribution that the network gives. p_partial, p_perspective: that the picture is no whole panorama at all.
    """

    roll_deg: float
    pitch_deg: float
    likely_tilt_deg: float
    confidence: float
    p_partial: float
    p_perspective: float

    @property
    def tilt_deg(self) -> float:
        """Angle between the camera's up and the world's, 0 to 180."""
        return _tilt_deg(up_vector(self.roll_deg, self.pitch_deg))

    def measurements(self) -> dict[str, float]:
        """All numbers, rounded for storage."""
        return {name: round(value, 4) for name, value in (vars(self) | {"tilt_deg": self.tilt_deg}).items()}


def up_vector(roll_deg: float, pitch_deg: float) -> np.ndarray:
    """The world's up in the camera's frame, (3,)."""
    roll, pitch = math.radians(roll_deg), math.radians(pitch_deg)
    return np.array([math.sin(pitch), math.cos(pitch) * math.sin(roll), math.cos(pitch) * math.cos(roll)])


def roll_and_pitch_deg(up: np.ndarray) -> tuple[float, float]:
    """The inverse of `up_vector`, for a vector of any length."""
    x, y, z = (float(value) for value in up)
    return math.degrees(math.atan2(y, z)), math.degrees(math.atan2(x, math.hypot(y, z)))


class TiltEstimator:
    """Estimates tilt from a thumbnail, on the CPU, in a few milliseconds."""

    def __init__(self, weights: Path = EMBEDDED_WEIGHTS):
        self._network = TiltNetwork.load(weights).ready()

    def estimate(self, rgb: np.ndarray) -> Tilt:
        """The tilt of uint8 RGB (H, W, 3), a panorama of any size, squeezed or not."""
        picture = canvas(rgb)
        small = _view(picture)
        evidence, kinds = self._look(small)
        if _tilt_deg(evidence) > _LEVEL_DEG:
            evidence = self._look_again(small, evidence)
        if np.linalg.norm(evidence) < _DOUBTFUL_KAPPA:
            evidence = self._look_around(small, evidence)
        kappa = float(np.linalg.norm(evidence))
        up = sharpened(_NETWORK_TRUST * evidence, find_edges(picture))
        chances = dict(zip(KINDS, kinds, strict=True))
        return Tilt(
            *roll_and_pitch_deg(up),
            likely_tilt_deg=_tilt_deg(kappa * up + np.array([0, 0, _LEVEL_PRIOR_KAPPA])),
            confidence=_confidence(kappa),
            p_partial=chances["partial"],
            p_perspective=chances["perspective"],
        )

    def _look_again(self, rgb: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """The mean with the evidence from the panorama turned upright by the estimate so far, until that settles."""
        for _ in range(_LOOKS_AGAIN):
            upright = rotation_to(evidence / np.linalg.norm(evidence))
            seen, _ = self._look(turned(rgb, upright, VIEW_HEIGHT))
            evidence = (evidence + upright @ seen) / 2
            if _tilt_deg(seen) < _SETTLED_DEG:
                break
        return evidence

    def _look_around(self, rgb: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """The evidence from another side if it is much surer: a wall may have been taken for the floor."""
        upright = rotation_to(evidence / np.linalg.norm(evidence))
        ways = [upright @ rotation_to(np.array(axis, np.float64)) for axis in _OTHER_AXES]
        surest = max((way @ self._look(turned(rgb, way, VIEW_HEIGHT))[0] for way in ways), key=np.linalg.norm)
        other = self._look_again(rgb, surest)
        return other if np.linalg.norm(other) > _MUCH_SURER * np.linalg.norm(evidence) else evidence

    @torch.inference_mode()
    def _look(self, rgb: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Evidence (3,), and probabilities of KINDS."""
        evidence, logits = self._network(torch.from_numpy(network_input(rgb))[None])
        check_numbers("the network of the horizon", (evidence.sum() + logits.sum()).item())
        return evidence[0].double().numpy(), logits[0].softmax(dim=0).tolist()


def _view(picture: np.ndarray) -> np.ndarray:
    """The picture at the network's size; two resizes take a third of the time of one."""
    if len(picture) >= 2 * VIEW_HEIGHT:
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.resize(picture, (2 * VIEW_HEIGHT, VIEW_HEIGHT), interpolation=cv2.INTER_AREA)


def _tilt_deg(up: np.ndarray) -> float:
    return math.degrees(math.atan2(math.hypot(up[0], up[1]), up[2]))


def _confidence(kappa: float) -> float:
    kappa = max(kappa, 1e-3)
    return 1 / math.tanh(kappa) - 1 / kappa


def levelled(rgb: np.ndarray, tilt: Tilt) -> np.ndarray:
    """The panorama uint8 (H, 2H, 3) as a level camera would have taken it, looking the same way."""
    to_camera = rotation_matrix(roll_deg=tilt.roll_deg, pitch_deg=tilt.pitch_deg).T
    turned_bchw = rotate(torch.tensor(rgb).permute(2, 0, 1)[None].float(), to_camera)
    return np.ascontiguousarray(turned_bchw[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
