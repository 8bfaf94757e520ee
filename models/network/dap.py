"""Depth Any Panoramas (arXiv 2512.16913): a DINOv3 backbone with a metric depth head and a range-mask head."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForDepthEstimation  # noqa: E402
from transformers import initialization as init  # noqa: E402
from transformers.utils.generic import ModelOutput  # noqa: E402

from ..geometry.equirectangular import working_dtype  # noqa: E402
from .config import DapConfig  # noqa: E402
from .dinov3 import convert_meta  # noqa: E402
from .dpt_head import Conv, DptHead  # noqa: E402
from .layout import read_weights  # noqa: E402
from .periodic_positions import PeriodicPositions  # noqa: E402
from .pretrained import StrictPreTrainedModel  # noqa: E402
from .processor import DapImageProcessor  # noqa: E402
from .published_tokens import PublishedTokens  # noqa: E402


@dataclass
class DapOutput(ModelOutput):
    """`predicted_depth`: (B, H, W) ray distance in metres.

    `beyond_range`: (B, H, W), the probability of being farther than the threshold of the range mask; 0 without one.
    """

    predicted_depth: Tensor | None = None
    beyond_range: Tensor | None = None


class DapModel(StrictPreTrainedModel):
    """Panoramas to metric depth; both outputs are float32 (float64 of such weights), whatever the dtype or autocast."""

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
        self.backbone = AutoBackbone.from_config(config.backbone)
        if config.periodic_positions:
            self.backbone.rope_embeddings = PeriodicPositions(config.backbone)
        self.published_tokens = PublishedTokens(config.backbone.hidden_size) if config.published_tokens else None
        self.depth_head = _head(config)
        self.mask_head = None if config.range_threshold_m is None else _head(config)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> DapOutput:
        """`pixel_values`: (B, 3, H, W), normalised by ImageNet's mean and std; H and W multiples of the patch."""
        self._check_size(pixel_values)
        maps = self.features(pixel_values)
        depth_m = self.config.max_depth_m * torch.sigmoid(_in_working_dtype(self.depth_head(maps)))
        if self.mask_head is None:
            return DapOutput(predicted_depth=depth_m, beyond_range=torch.zeros_like(depth_m))
        beyond_range = torch.sigmoid(_in_working_dtype(self.mask_head(maps)))
        return DapOutput(predicted_depth=depth_m, beyond_range=beyond_range)

    def features(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """The four maps (B, C, h, w) that the heads read."""
        maps = self.backbone(pixel_values).feature_maps
        if self.published_tokens is not None:
            maps = tuple(self.published_tokens(features) for features in maps)
        return tuple(features.contiguous(memory_format=torch.channels_last) for features in maps)

    def _check_size(self, pixel_values: Tensor) -> None:
        height, width = pixel_values.shape[-2:]
        patch = self.config.backbone.patch_size
        if height % patch or width % patch:
            raise ValueError(f"{height}×{width} pixels are no multiples of the patch, {patch}")

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Writes config.json and model.safetensors, and preprocessor_config.json for `AutoImageProcessor`."""
        super().save_pretrained(save_directory, **kwargs)
        DapImageProcessor.of(self.config).save_pretrained(save_directory)

    @classmethod
    def from_backbone(cls, name_or_path: str | Path, *, seed: int = 0, **fields: Any) -> Self:
        """Fresh heads on a pretrained backbone; `fields` are those of `DapConfig`.

        A hub id, a folder of the hub's, or a file of Meta's DINOv3 weights (.pth, .safetensors); ValueError if it does
        not hold a whole backbone.
        """
        if Path(name_or_path).is_file():
            return cls._from_meta(Path(name_or_path), seed, fields)
        backbone_config = AutoConfig.from_pretrained(str(name_or_path))
        model = cls.new(DapConfig(backbone_config=backbone_config, **fields), seed)
        load = type(model.backbone).from_pretrained
        backbone, info = load(str(name_or_path), config=backbone_config, output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            raise ValueError(f"{name_or_path} does not hold the weights of a {backbone_config.model_type} backbone")
        model.backbone.load_state_dict(backbone.state_dict())
        return model

    @classmethod
    def _from_meta(cls, file: Path, seed: int, fields: dict[str, Any]) -> Self:
        try:
            backbone_config, weights = convert_meta(read_weights(file))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        model = cls.new(DapConfig(backbone_config=backbone_config, **fields), seed)
        model.backbone.load_state_dict(weights)
        return model

    def plug_range_mask(self, threshold_m: float | None, *, seed: int = 0) -> None:
        """Gives the model a fresh range mask for another threshold (None: takes it away); all else stays as it is."""
        config = DapConfig.from_dict({**self.config.to_dict(), "range_threshold_m": threshold_m})
        self.config.range_threshold_m = config.range_threshold_m  # the threshold was checked
        self.mask_head = None if threshold_m is None else _head(config)
        if self.mask_head is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.mask_head.apply(self._init_weights)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Variance-preserving initialisation of the heads; the backbone initialises itself.

        The last layers start as near constants, at a typical depth and a typical share of sky: a start at a plausible
        5 m instead of the sigmoid's middle, 50 m, saves the first hundreds of steps.
        """
        start = self._start_of(module)
        if start is not None and isinstance(module, Conv):
            init.normal_(module.weight, std=0.1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                init.constant_(module.bias, math.log(start / (1 - start)))
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            # Each output of a transposed convolution with stride = kernel sums over its input channels alone.
            fan_in = module.weight.shape[0] if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            init.normal_(module.weight, std=math.sqrt(1 / fan_in))
            if module.bias is not None:
                init.zeros_(module.bias)

    def _start_of(self, module: nn.Module) -> float | None:
        """The value of a head's sigmoid before training, if the module is a head's last layer."""
        if module is self.depth_head.output:
            return self.config.initial_depth_m / self.config.max_depth_m
        if self.mask_head is not None and module is self.mask_head.output:
            return self.config.initial_beyond_range
        return None


def _in_working_dtype(logits: Tensor) -> Tensor:
    return logits.to(working_dtype(logits.dtype))


def _head(config: DapConfig) -> DptHead:
    return DptHead(config.backbone.hidden_size, *config.head_shape, config.backbone.patch_size, config.decoder)


AutoModel.register(DapConfig, DapModel)
AutoModelForDepthEstimation.register(DapConfig, DapModel)
