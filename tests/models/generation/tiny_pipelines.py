"""Text-to-image pipelines of the real classes with random weights, as small as can be, saved to folders."""

from __future__ import annotations

from pathlib import Path

import torch

_VOCABULARY = {"<|startoftext|>": 0, "<|endoftext|>": 1, **{f"{chr(c)}</w>": c for c in range(97, 123)}}
_VOCABULARY |= {chr(c): c + 30 for c in range(97, 123)}


def _clip():
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    config = CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=1, vocab_size=200,
        bos_token_id=0, eos_token_id=1, projection_dim=32,
    )  # fmt: skip
    return CLIPTextModel(config).eval(), CLIPTokenizer(vocab=_VOCABULARY, merges=[], model_max_length=77)


def save_tiny_flux(folder: Path) -> Path:
    """FLUX: a pixel of the decoder's input is a pixel of the picture, and a token four of them."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(0)
    text_encoder, tokenizer = _clip()
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((chr(c), -2.0) for c in range(97, 123)), ("▁", -2.0)]
    t5 = T5Config(
        vocab_size=200, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, decoder_start_token_id=0,
    )  # fmt: skip
    FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
        ),
        vae=AutoencoderKL(
            sample_size=32, block_out_channels=(4,), layers_per_block=1, latent_channels=1, norm_num_groups=1,
            use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5035,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=text_encoder, tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(t5).eval(), tokenizer_2=T5TokenizerFast(vocab=pieces, extra_ids=0),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_tiny_lora(pipeline_folder: Path, folder: Path, rank: int = 2) -> Path:
    """LoRA weights for the attention of a FLUX transformer, as DiT360 has them; returns their file."""
    from diffusers import FluxPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(1)
    pipeline = FluxPipeline.from_pretrained(pipeline_folder, use_safetensors=True)
    targets = ["attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0"]
    pipeline.transformer.add_adapter(LoraConfig(r=rank, init_lora_weights=False, target_modules=targets))
    layers = get_peft_model_state_dict(pipeline.transformer)
    FluxPipeline.save_lora_weights(folder, transformer_lora_layers={n: 30 * w for n, w in layers.items()})
    return folder / "pytorch_lora_weights.safetensors"


def save_tiny_stable_diffusion(folder: Path) -> Path:
    """Stable Diffusion: a UNet, and a scheduler that remembers earlier steps."""
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    text_encoder, tokenizer = _clip()
    StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32, attention_head_dim=4, norm_num_groups=2,
        ),
        vae=AutoencoderKL(
            block_out_channels=(8, 16), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1),
        text_encoder=text_encoder, tokenizer=tokenizer,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder
