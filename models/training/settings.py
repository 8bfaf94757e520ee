"""How networks are trained, as recipes set it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..losses.weights import LossWeights, RangeMaskKind

Part = Literal["backbone", "depth", "range_mask"]
Figure = Literal["abs_rel", "rmse", "delta1"]
"""What a validation measures, on all panoramas together."""


@dataclass(frozen=True)
class TrainSettings:
    """How a depth network is trained; the learning rates are the published ones, for a pretrained backbone."""

    steps: int  # batches, each of which changes the weights once
    backbone_lr: float = 5e-6  # peak of the learning rate of the backbone
    decoder_lr: float = 5e-5  # peak of that of the heads
    weight_decay: float = 0.01  # of AdamW
    fused: bool = False  # AdamW in one kernel, where the device has one
    warmup_steps: int = 0  # of a linear rise of the learning rates; half a cosine down to 0 follows
    gradient_clip: float = 1.0  # the largest norm of a step's gradient; 0 for none
    losses: LossWeights = field(default_factory=LossWeights)
    """Factors of the losses; by default SILog and the range mask alone. Published: `objective.PUBLISHED`."""
    losses_by_source: Mapping[str, LossWeights] = field(default_factory=dict)
    """Factors of the losses for images of a source, such as other losses for pseudo-labels; those of `losses` else."""
    noisy_share: float = 0.0
    """Of the pixels of an image, left out of the disparity losses: those of the largest errors (arXiv 2406.09414)."""
    distortion_map: bool = True  # whether pixels count by their solid angle (arXiv 2512.16913), or all alike
    range_mask_kind: RangeMaskKind = "bce"  # weighted cross entropy, or the squared error
    feature_alignment: float = 0.0
    """Factor of the alignment with the features of a frozen backbone (arXiv 2401.10891)."""
    aligned_sources: tuple[str, ...] = ()  # whose images it is for; all, if none is named
    feature_margin: float = 0.85  # places whose features agree by more than this cosine are left alone
    ema: float = 0.0
    """Decay a step of an average of the weights, such as 0.999: that is validated and is the model; 0 for none."""
    trained_parts: tuple[Part, ...] = get_args(Part)
    """Parts of the network that learn; the others stay as they are. [range_mask] is a new mask for a trained model."""
    freeze_steps: int = 0  # at the beginning, in which the backbone stays as it is
    layer_decay: float = 1.0  # factor of the learning rate from a layer of the backbone to the one before it
    max_skipped: int = 0  # steps whose loss is no number that are left out; one more ends the training
    source_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of an image by its source, such as less for pseudo-labels; 1 for what is not named."""
    confidence: Mapping[str, float] = field(default_factory=dict)
    """By source, how much less an image counts whose label's views disagree: its weight is times exp(−k · spread)."""

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1 or not 0 < self.layer_decay <= 1 or self.freeze_steps < 0:
            raise ValueError("ema must be in [0, 1), layer_decay in (0, 1], freeze_steps not negative")
        if any(sharpness < 0 for sharpness in self.confidence.values()):
            raise ValueError("confidence cannot be negative")
        if not 0 <= self.noisy_share < 1:
            raise ValueError("noisy_share must be in [0, 1)")
        if not self.trained_parts:
            raise ValueError("trained_parts is empty: there is nothing to train")
        if self.trained_parts == ("range_mask",) and not self.losses.range_mask:
            raise ValueError("trained_parts is range_mask alone, and losses.range_mask 0: there is nothing to train")
