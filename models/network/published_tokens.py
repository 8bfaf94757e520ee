"""The published DAP network's way from the backbone's features to its heads, which its weights were trained with."""

from torch import Tensor, nn
from torch.nn import functional as F


class PublishedTokens(nn.Module):
    """Normalises features once more, and loses one patch of them.

    The published code takes the first of the N patch tokens for a class token and drops it. The N − 1 others, in the
    order of rows, are then stretched back to N: as a line, or as the square they happen to fill.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden, eps=1e-5)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        tokens = self.norm(features.flatten(2).transpose(1, 2))[:, 1:].transpose(1, 2)
        return stretched(tokens, features.shape[-2], features.shape[-1])


def stretched(tokens: Tensor, height: int, width: int) -> Tensor:
    """height·width − 1 tokens (B, C, N − 1), resized bilinearly to a map (B, C, height, width)."""
    side = int(tokens.shape[-1] ** 0.5)
    if side * side == tokens.shape[-1]:
        return F.interpolate(tokens.unflatten(-1, (side, side)), (height, width), mode="bilinear")
    line = F.interpolate(tokens[..., None], (height * width, 1), mode="bilinear")
    return line.reshape(*tokens.shape[:-1], height, width)
