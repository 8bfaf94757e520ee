"""The factors of the losses, as recipes set them."""

from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms of `dap_loss`; a term of factor 0 is not computed.

    The defaults, SILog and the range mask alone, are for minutes of a small network; the paper's are `PUBLISHED`.
    """

    silog: float = 1.0  # scale-invariant logarithmic error (arXiv 1406.2283)
    dense_fidelity: float = 0.0  # Gram matrices of perspective patches (DAP, arXiv 2512.16913)
    gradient: float = 0.0  # SILog at edges (DAP)
    normals: float = 0.0  # surface normals (DAP)
    points: float = 0.0  # distances of the points (DAP)
    range_mask: float = 1.0  # cross entropy and Dice of the range mask (DAP)
    affine_invariant: float = 0.0  # disparity up to scale and shift (arXiv 1907.01341)
    gradient_matching: float = 0.0  # gradients of disparity at several scales (arXiv 1907.01341)

    def __post_init__(self) -> None:
        factors = asdict(self)
        if negative := [name for name, factor in factors.items() if not factor >= 0]:
            raise ValueError(f"the factor of a loss must be at least 0, not {factors[negative[0]]} for {negative[0]}")
        if not any(factors.values()):
            raise ValueError("no loss has a factor: there is nothing to train for")


PUBLISHED = LossWeights(silog=1.0, dense_fidelity=0.4, gradient=5.0, normals=2.0, points=2.0, range_mask=2.0)
"""λ₁ … λ₆ of DAP (arXiv 2512.16913) as a summary of the paper gives them; not compared with the paper itself."""

RangeMaskKind = Literal["bce", "squared"]
