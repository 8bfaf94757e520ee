"""The configuration of a `DapModel`, and the sizes of the backbones it may stand on."""

from typing import Any, Self

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before transformers, which imports torchvision where it is installed

from transformers import AutoConfig, PreTrainedConfig  # noqa: E402

from .dpt_head import Decoder  # noqa: E402

NATIVE_HEIGHT = 512

PUBLISHED_STAGES = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24)}
"""Blocks (counted from 1) whose features the published heads read, by depth of the backbone."""

PUBLISHED_HEADS = {
    384: (64, (48, 96, 192, 384)),
    768: (128, (96, 192, 384, 768)),
    1024: (256, (256, 512, 1024, 1024)),
    1280: (256, (256, 512, 1024, 1024)),
    1536: (384, (1536, 1536, 1536, 1536)),
}
"""Features and channels of the heads, by width of the backbone: those of Depth Anything V2 (arXiv 2406.09414)."""


def _dinov3(hidden: int, layers: int, heads: int, *, gated: bool = False) -> dict[str, Any]:
    mlp = {"use_gated_mlp": True, "hidden_act": "silu"} if gated else {}
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "dinov3_vit", **shape, "intermediate_size": 4 * hidden, "num_register_tokens": 4, **mlp}


def _dinov2(hidden: int, layers: int, heads: int, *, gated: bool = False) -> dict[str, Any]:
    shape = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": "dinov2", **shape, "image_size": 518, "use_swiglu_ffn": gated}


BACKBONES = {
    "dinov3_vits16": _dinov3(384, 12, 6),
    "dinov3_vits16plus": _dinov3(384, 12, 6, gated=True),
    "dinov3_vitb16": _dinov3(768, 12, 12),
    "dinov3_vitl16": _dinov3(1024, 24, 16),
    "dinov3_vith16plus": _dinov3(1280, 32, 20, gated=True),
    "dinov2_vits14": _dinov2(384, 12, 6),
    "dinov2_vitb14": _dinov2(768, 12, 12),
    "dinov2_vitl14": _dinov2(1024, 24, 16),
    "dinov2_vitg14": _dinov2(1536, 40, 24, gated=True),
}
"""Backbone configurations by the names that Meta's repositories give them."""


def default_stages(depth: int) -> tuple[int, ...]:
    """The blocks, counted from 1, that the heads read: the published ones, else four evenly spaced."""
    return PUBLISHED_STAGES.get(depth, tuple(max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3, 4)))


class DapConfig(PreTrainedConfig):
    """Configuration of a `DapModel`; the defaults are the ViT-S shape.

    `backbone_config` is any transformers backbone's (DINOv3 ViT by default); its `out_indices` choose the four blocks
    that the heads read, and its width the heads' size where that is not given. `range_threshold_m` is the distance
    that the range mask tells of; None leaves that head out. `published_tokens` and `periodic_positions` (DINOv3 only):
    see the modules of these names.
    `image_height` is the native input height, by default the multiple of the patch next to 512; the width is
    twice that.
    """

    model_type = "dap"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 # pyright: ignore[reportAssignmentType]

    backbone_config: dict | PreTrainedConfig | None = None
    decoder: Decoder = "spherical"
    head_channels: tuple[int, ...] | list[int] | None = None
    head_features: int | None = None
    head_output_features: int = 32
    published_tokens: bool = False
    periodic_positions: bool = False
    max_depth_m: float = 100.0
    range_threshold_m: float | None = 100.0
    initial_depth_m: float = 5.0
    initial_beyond_range: float = 0.1
    image_height: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        backbone: Any = {"num_register_tokens": 4} if self.backbone_config is None else self.backbone_config
        if isinstance(backbone, dict):
            fields = dict(backbone)
            self.backbone_config = AutoConfig.for_model(fields.pop("model_type", "dinov3_vit"), **fields)
        super().__post_init__(**kwargs)
        self._complete_backbone()
        features, channels = PUBLISHED_HEADS.get(self.backbone.hidden_size, PUBLISHED_HEADS[384])
        self.head_features = self.head_features or features
        self.head_channels = self.head_channels or channels
        patch = self.backbone.patch_size
        self.image_height = self.image_height or patch * round(NATIVE_HEIGHT / patch)
        if self.image_height % patch:
            raise ValueError(f"image_height {self.image_height} is no multiple of the patch, {patch}")
        if self.periodic_positions and self.backbone.model_type != "dinov3_vit":
            raise ValueError(f"periodic_positions are for dinov3_vit, not {self.backbone.model_type}")
        if self.range_threshold_m is not None and not 0 < self.range_threshold_m <= self.max_depth_m:
            raise ValueError(f"range_threshold_m {self.range_threshold_m:g} is not within (0, {self.max_depth_m:g}]")

    def _complete_backbone(self) -> None:
        backbone = self.backbone
        if len(backbone.out_indices) != 4:
            backbone.out_indices = list(default_stages(backbone.num_hidden_layers))
        for chance in ("pos_embed_rescale", "pos_embed_jitter", "pos_embed_shift"):
            # Random positions in training draw from the global generator, and the extent of a panorama is known.
            if hasattr(backbone, chance):
                setattr(backbone, chance, None)

    @property
    def backbone(self) -> Any:
        """The backbone's own configuration."""
        return self.backbone_config

    @property
    def masks_the_range(self) -> bool:
        """Whether the range mask's threshold is farther than any distance that the model predicts.

        A mask for a nearer threshold hides distances only where that is asked for.
        """
        return self.range_threshold_m == self.max_depth_m

    @property
    def image_size(self) -> tuple[int, int]:
        """Native (height, width) of the input."""
        height = self.image_height or NATIVE_HEIGHT
        return height, 2 * height

    @property
    def head_shape(self) -> tuple[tuple[int, ...], int, int]:
        """Channels of the four maps, features and output features of a head."""
        assert self.head_channels  # as completed above
        assert self.head_features
        return tuple(self.head_channels), self.head_features, self.head_output_features

    @classmethod
    def of(cls, backbone: str, **fields: Any) -> Self:
        """The configuration for one of `BACKBONES`, with the published heads."""
        if backbone not in BACKBONES:
            raise ValueError(f"no backbone {backbone!r}: there are {', '.join(BACKBONES)}")
        return cls(backbone_config=dict(BACKBONES[backbone]), **fields)

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


AutoConfig.register(DapConfig.model_type, DapConfig)
