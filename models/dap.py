"""Depth Any Panoramas (arXiv 2512.16913): a DINOv3 backbone with a metric depth head and a range-mask head."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoBackbone, AutoConfig, AutoModel, PreTrainedConfig  # noqa: E402
from transformers import initialization as init  # noqa: E402
from transformers.configuration_utils import SubConfigSpec  # noqa: E402
from transformers.utils.generic import ModelOutput  # noqa: E402

from models.dpt_head import Conv, Decoder, DptHead  # noqa: E402
from models.pretrained import StrictPreTrainedModel  # noqa: E402

PUBLISHED_STAGES = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24)}
"""Blocks (counted from 1) whose features the published heads read, by depth of the backbone."""


def default_stages(depth: int) -> tuple[int, ...]:
    """The blocks, counted from 1, that the heads read: the published ones, else four evenly spaced."""
    return PUBLISHED_STAGES.get(depth, tuple(max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4)))


class DapConfig(PreTrainedConfig):
    """Configuration of a `DapModel`; the defaults are the ViT-S shape.

    `backbone_config` is any transformers backbone's (DINOv3 ViT by default); its `out_indices` choose the four blocks
    that the heads read. `image_height` is the native input height; the width is twice that.
    """

    model_type = "dap"
    sub_configs_defaults = {  # noqa: RUF012 (a ClassVar by transformers' convention)
        "backbone_config": SubConfigSpec(AutoConfig, "dinov3_vit", {"num_register_tokens": 4})
    }

    backbone_config: dict | PreTrainedConfig | None = None
    decoder: Decoder = "spherical"
    head_channels: tuple[int, ...] | list[int] = (48, 96, 192, 384)
    head_features: int = 64
    head_output_features: int = 32
    max_depth_m: float = 100.0
    initial_depth_m: float = 5.0
    initial_beyond_range: float = 0.1
    image_height: int = 512

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.backbone_config, dict):
            self.backbone_config = {"model_type": "dinov3_vit"} | self.backbone_config
        super().__post_init__(**kwargs)
        backbone = self.backbone
        if len(backbone.out_indices) != 4:
            backbone.out_indices = list(default_stages(backbone.num_hidden_layers))
        for chance in ("pos_embed_rescale", "pos_embed_jitter", "pos_embed_shift"):
            # Random positions in training draw from the global generator, and the extent of a panorama is known.
            if hasattr(backbone, chance):
                setattr(backbone, chance, None)
        if self.image_height % backbone.patch_size:
            raise ValueError(f"image_height {self.image_height} is no multiple of the patch, {backbone.patch_size}")

    @property
    def backbone(self) -> Any:
        """The backbone's own configuration."""
        return self.backbone_config

    @property
    def image_size(self) -> tuple[int, int]:
        """Native (height, width) of the input."""
        return self.image_height, 2 * self.image_height

    @classmethod
    def tiny(cls, **fields: Any) -> Self:
        """About 0.8 M parameters, which learn from scratch in minutes on two CPU cores at 96×192."""
        backbone = {
            "patch_size": 16,
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "initializer_range": 0.05,
            "num_register_tokens": 4,
        }
        shape = {"head_channels": (16, 24, 32, 48), "head_features": 32, "head_output_features": 16}
        return cls(**{"backbone_config": backbone, "image_height": 96, **shape, **fields})


@dataclass
class DapOutput(ModelOutput):
    """`predicted_depth`: (B, H, W) ray distance in metres; `beyond_range`: (B, H, W) probability of being farther."""

    predicted_depth: Tensor | None = None
    beyond_range: Tensor | None = None


class DapModel(StrictPreTrainedModel):
    """Panoramas to metric depth; both outputs are float32, whatever the weights' dtype or autocast."""

    config_class = DapConfig
    config: DapConfig
    base_model_prefix = "dap"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: DapConfig):
        super().__init__(config)
        backbone = config.backbone
        self.backbone = AutoBackbone.from_config(backbone)
        shape = (backbone.hidden_size, tuple(config.head_channels), config.head_features, config.head_output_features)
        self.depth_head = DptHead(*shape, backbone.patch_size, config.decoder)
        self.mask_head = DptHead(*shape, backbone.patch_size, config.decoder)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> DapOutput:
        """`pixel_values`: (B, 3, H, W), normalised by ImageNet's mean and std; H and W multiples of the patch."""
        maps = tuple(m.contiguous(memory_format=torch.channels_last) for m in self.backbone(pixel_values).feature_maps)
        return DapOutput(
            predicted_depth=self.config.max_depth_m * torch.sigmoid(self.depth_head(maps).float()),
            beyond_range=torch.sigmoid(self.mask_head(maps).float()),
        )

    @classmethod
    def from_backbone(cls, name_or_path: str | Path, *, seed: int = 0, **fields: Any) -> Self:
        """Fresh heads on a pretrained backbone (local folder or hub id); `fields` are those of `DapConfig`."""
        backbone_config = AutoConfig.from_pretrained(str(name_or_path))
        model = cls.new(DapConfig(backbone_config=backbone_config, **fields), seed)
        load = type(model.backbone).from_pretrained
        backbone, info = load(str(name_or_path), config=backbone_config, output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            raise ValueError(f"{name_or_path} does not hold the weights of a {backbone_config.model_type} backbone")
        model.backbone = backbone
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Variance-preserving initialisation of the heads; the backbone initialises itself.

        The last layers start as near constants, at a typical depth and a typical share of sky: a start at a plausible
        5 m instead of the sigmoid's middle, 50 m, saves the first hundreds of steps.
        """
        if isinstance(module, Conv) and module in (self.depth_head.output, self.mask_head.output):
            start = self._start_of(module)
            init.normal_(module.weight, std=0.1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                init.constant_(module.bias, math.log(start / (1 - start)))
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            # Each output of a transposed convolution with stride = kernel sums over its input channels alone.
            fan_in = module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            init.normal_(module.weight, std=math.sqrt(1 / fan_in))
            if module.bias is not None:
                init.zeros_(module.bias)

    def _start_of(self, output: nn.Module) -> float:
        """The value of a head's sigmoid before training."""
        if output is self.depth_head.output:
            return self.config.initial_depth_m / self.config.max_depth_m
        return self.config.initial_beyond_range


AutoConfig.register(DapConfig.model_type, DapConfig)
AutoModel.register(DapConfig, DapModel)
