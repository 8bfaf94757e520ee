"""A randomly initialised Qwen2-VL of the real classes, tiny by default, saved as a downloaded one would be."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

from dap_engine.models.support.torchvision_ops import register_missing_operators

register_missing_operators()

from transformers import (  # noqa: E402
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
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
        Qwen2VLForConditionalGeneration(_config(tokenizer, text, vision)).save_pretrained(folder)
    return folder


def byte_tokenizer() -> Qwen2Tokenizer:
    """Byte-level BPE of the 256 bytes and three merges, with Qwen's special tokens."""
    merges = [("i", "n"), ("o", "u"), ("ou", "t")]
    vocabulary = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges), "<|endoftext|>"]
    tokenizer = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    return tokenizer


def _config(tokenizer: Qwen2Tokenizer, text: dict[str, Any], vision: dict[str, Any]) -> Qwen2VLConfig:
    token_id = tokenizer.convert_tokens_to_ids
    tokens = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": token_id("<|im_end|>")}
    return Qwen2VLConfig(
        text_config=text | tokens,
        vision_config=dict(vision),
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
    )
