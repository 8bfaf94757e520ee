"""The views of a panorama whose predictions are compared, as recipes set them."""

# No `annotations` of `__future__` here: to read settings, text would be evaluated with all that TYPE_CHECKING names.

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Views:
    """`yaw` turns spread over the circle, each as it is and, with `flip`, mirrored, too: so many predictions.

    With `tilt_deg`, all but the first also look up or down by so much, in turn, as a camera that is not level does.
    """

    yaw: int = 4
    flip: bool = True
    tilt_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.yaw < 1 or len(self) < 2:
            raise ValueError("views: two at least are needed to agree, such as yaw 2, or yaw 1 with flip")
        if not 0 <= self.tilt_deg <= 30:
            raise ValueError("views: tilt_deg must be 0 to 30")

    def __len__(self) -> int:
        return self.yaw * (1 + self.flip)

    def of(self, width: int) -> "list[View]":
        """The views of a panorama of a width. The columns are odd: never whole patches of a network."""
        turns = [(width * turn // self.yaw + 2 * turn) | 1 for turn in range(self.yaw)]
        seen = [(columns, flip) for columns in turns for flip in ((False, True) if self.flip else (False,))]
        tilts_deg = [0.0, *(self.tilt_deg * (-1) ** number for number in range(1, len(seen)))]
        return [View(*one, tilt_deg) for one, tilt_deg in zip(seen, tilts_deg, strict=True)]


@dataclass(frozen=True)
class View:
    """A panorama turned to the right by whole columns, then tilted, then mirrored."""

    columns: int
    flip: bool = False
    tilt_deg: float = 0.0

    def see(self, rgb: np.ndarray) -> np.ndarray:
        """An image (H, W, 3) uint8 in this view."""
        turned = np.roll(rgb, self.columns, axis=1)
        if self.tilt_deg:
            import torch

            tilted = _tilted(torch.from_numpy(turned).permute(2, 0, 1).float(), self.tilt_deg, "bilinear")
            turned = tilted.permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
        return np.ascontiguousarray(turned[:, ::-1] if self.flip else turned)

    def unsee(self, seen: np.ndarray) -> np.ndarray:
        """A map (H, W) of this view, turned back; after a tilt the nearest pixels of it."""
        turned = seen[:, ::-1] if self.flip else seen
        if self.tilt_deg:
            import torch

            turned = _tilted(torch.from_numpy(np.ascontiguousarray(turned))[None], -self.tilt_deg, "nearest")[0].numpy()
        return np.roll(turned, -self.columns, axis=1)


def _tilted(values: "Tensor", pitch_deg: float, mode: str) -> "Tensor":
    """A map (C, H, W) as a camera that looks up by so much sees it."""
    from ..geometry.equirectangular import rotate, rotation_matrix

    return rotate(values[None], rotation_matrix(pitch_deg=pitch_deg), mode=mode)[0]
