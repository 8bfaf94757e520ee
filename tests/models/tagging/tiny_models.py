"""Randomly initialised vision-language models of the real classes, saved as downloaded ones would be."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

from dap_engine.models.support.torchvision_ops import register_missing_operators

register_missing_operators()

from transformers import (  # noqa: E402
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

SPECIAL_TOKENS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
}
TINY_VISION = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_ratio": 2,
    "initializer_range": 0.3,
}
"""Two layers of width 32 each; wide initial weights, so that different pictures get different answers."""


def save_tiny_qwen2vl(
    folder: Path, seed: int = 0, text: dict[str, Any] = TINY_TEXT, vision: dict[str, Any] = TINY_VISION
) -> Path:
    """Write model, tokenizer, processors and chat template, 0.3 MB in all, to `folder`: same seed, same weights."""
    tokenizer = byte_tokenizer()
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        Qwen2VLForConditionalGeneration(Qwen2VLConfig(**_parts(tokenizer, text, vision))).save_pretrained(folder)
    return folder


def byte_tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE of the 256 bytes and three merges, with Qwen's special tokens."""
    merges = [("i", "n"), ("o", "u"), ("ou", "t")]
    vocabulary = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges), "<|endoftext|>"]
    tokenizer = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    return tokenizer


def _parts(tokenizer: Qwen2Tokenizer, text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a Qwen's configuration."""
    token_id = tokenizer.convert_tokens_to_ids
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": token_id("<|im_end|>")}
    return {
        "text_config": text | tokens,
        "vision_config": dict(vision),
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
    }


def save_tiny_qwen25vl(folder: Path) -> Path:
    """A Qwen2.5-VL, as `save_tiny_qwen2vl` does."""
    vision = {**TINY_VISION, "intermediate_size": 64, "out_hidden_size": 32, "fullatt_block_indexes": [1]}
    vision.pop("embed_dim"), vision.pop("mlp_ratio")
    config = Qwen2_5_VLConfig(**_parts(byte_tokenizer(), TINY_TEXT, vision))
    processor = Qwen2_5_VLProcessor(**_pixels(), video_processor=Qwen2VLVideoProcessor())
    return _save(folder, processor, Qwen2_5_VLForConditionalGeneration, config)


def save_tiny_qwen3vl(folder: Path) -> Path:
    """A Qwen3-VL, as `save_tiny_qwen2vl` does; its patches have 16 pixels."""
    shape = {"intermediate_size": 64, "out_hidden_size": 32, "deepstack_visual_indexes": [0, 1]}
    vision = {**TINY_VISION, **shape, "num_position_embeddings": 64}
    vision.pop("embed_dim"), vision.pop("mlp_ratio")
    config = Qwen3VLConfig(**_parts(byte_tokenizer(), {**TINY_TEXT, "head_dim": 16}, vision))
    processor = Qwen3VLProcessor(**_pixels(patch_size=16), video_processor=Qwen3VLVideoProcessor())
    return _save(folder, processor, Qwen3VLForConditionalGeneration, config)


def save_tiny_llava(folder: Path) -> Path:
    """A LLaVA, of CLIP's vision and a Llama: one that is no Qwen."""
    tokenizer = byte_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**size, "model_type": "clip_vision_model", "image_size": 56, "patch_size": 14, "initializer_factor": 5.0}
    text = {**size, "model_type": "llama", "vocab_size": len(tokenizer), "initializer_range": 0.3}
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, image_seq_length=16)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token="<|image_pad|>",
        num_additional_image_tokens=1,
    )
    return _save(folder, processor, LlavaForConditionalGeneration, config)


def _pixels(**settings: Any) -> dict[str, Any]:
    image = Qwen2VLImageProcessor(**settings)
    return {"image_processor": image, "tokenizer": byte_tokenizer(), "chat_template": CHAT_TEMPLATE}


def _save(folder: Path, processor: Any, network: Any, config: Any) -> Path:
    processor.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network(config).save_pretrained(folder)
    return folder
