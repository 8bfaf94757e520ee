"""The perspective views of a panorama that models of perspective pictures see, as recipes set them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patches:
    """Twelve square views of `size` pixels and `fov_deg` degrees, to the corners of an icosahedron."""

    size: int = 512
    fov_deg: float = 90.0

    def __post_init__(self) -> None:
        if self.size < 16 or not 78 <= self.fov_deg <= 150:
            raise ValueError("patches: size must be at least 16, and fov_deg from 78 (below, gaps stay) to 150")
