"""Depth models of the real classes, tiny and random, as folders that `from_pretrained` loads."""

from collections.abc import Callable
from pathlib import Path

import torch

from dap_engine.models.support.torchvision_ops import register_missing_operators

register_missing_operators()

from transformers import (  # noqa: E402
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DepthProConfig,
    DepthProForDepthEstimation,
    DepthProImageProcessor,
    DPTConfig,
    DPTForDepthEstimation,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil  # noqa: E402
from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil  # noqa: E402

VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
DINO = {
    "model_type": "dinov2", **VIT, "image_size": 56, "patch_size": 14, "out_features": ["stage1", "stage2", "stage3",
    "stage4"], "apply_layernorm": True, "reshape_hidden_states": False,
}  # fmt: skip


def _save(folder: Path, model, processor) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AssertionError(f"{name} is not initialised")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _dpt_processor(multiple: int, size: int, keep_aspect_ratio: bool) -> DPTImageProcessorPil:
    sides = {"height": size, "width": size}
    return DPTImageProcessorPil(size=sides, ensure_multiple_of=multiple, keep_aspect_ratio=keep_aspect_ratio)


def depth_anything(folder: Path, kind: str = "relative") -> None:
    torch.manual_seed(0)
    config = DepthAnythingConfig(
        backbone_config=DINO, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8, patch_size=14, depth_estimation_type=kind, max_depth=20,
    )  # fmt: skip
    _save(folder, DepthAnythingForDepthEstimation(config), _dpt_processor(14, 56, True))


def dpt(folder: Path) -> None:
    torch.manual_seed(0)
    config = DPTConfig(
        **VIT, image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    _save(folder, DPTForDepthEstimation(config), _dpt_processor(16, 64, False))


def zoedepth(folder: Path) -> None:
    torch.manual_seed(0)
    backbone = {
        "model_type": "beit", **VIT, "image_size": 64, "patch_size": 16, "use_relative_position_bias": True,
        "reshape_hidden_states": False, "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }  # fmt: skip
    bins = [{"n_bins": 16, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}]
    config = ZoeDepthConfig(
        backbone_config=backbone, reassemble_factors=[4, 2, 1, 0.5], neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, bottleneck_features=8, num_relative_features=8, bin_configurations=bins,
        bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
    )  # fmt: skip
    processor = ZoeDepthImageProcessorPil(size={"height": 64, "width": 64})
    _save(folder, ZoeDepthForDepthEstimation(config), processor)


def depth_pro(folder: Path) -> None:
    torch.manual_seed(0)
    part = {"model_type": "dinov2", **VIT, "image_size": 32, "patch_size": 8, "num_hidden_layers": 4}
    config = DepthProConfig(
        fusion_hidden_size=8, patch_size=32, image_model_config=part, patch_model_config=part, fov_model_config=part,
        intermediate_hook_ids=[3, 1], intermediate_feature_dims=[8, 8], scaled_images_ratios=[0.25, 0.5, 1],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25], scaled_images_feature_dims=[16, 8, 8], use_fov_model=False,
    )  # fmt: skip
    processor = DepthProImageProcessor(size={"height": 128, "width": 128})
    _save(folder, DepthProForDepthEstimation(config), processor)


def marigold(folder: Path) -> None:
    from diffusers import AutoencoderKL, DDIMScheduler, MarigoldDepthPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, in_channels=8, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, attention_head_dim=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{chr(c): c for c in range(97, 123)}}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=1, vocab_size=200,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    MarigoldDepthPipeline(
        unet=unet, vae=vae, scheduler=DDIMScheduler(prediction_type="v_prediction"), text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer, prediction_type="depth", scale_invariant=True, shift_invariant=True,
        default_denoising_steps=1, default_processing_resolution=0,
    ).save_pretrained(folder)  # fmt: skip


TINY: dict[str, Callable[[Path], None]] = {
    "depth-anything": depth_anything,
    "depth-anything-metric": lambda folder: depth_anything(folder, "metric"),
    "dpt": dpt,
    "zoedepth": zoedepth,
    "depth-pro": depth_pro,
    "marigold": marigold,
}
