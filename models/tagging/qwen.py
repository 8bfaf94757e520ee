"""Qwen2-VL asked whether a panorama is indoors or outdoors (Wang et al. 2024, arXiv 2409.12191).

The answer is read from the logits of the first token of the reply: no text is generated or parsed, so that the result
is a probability and the same at every call.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..support.torchvision_ops import register_missing_operators

register_missing_operators()  # before the two below, which import torchvision

from qwen_vl_utils import process_vision_info  # noqa: E402
from transformers import AutoConfig, AutoProcessor, Qwen2VLForConditionalGeneration  # noqa: E402


class QwenScene:
    """A Qwen2-VL model and its processor, on the first CUDA device in bfloat16 or on the CPU in float32."""

    def __init__(self, model: str, *, prompt: str, min_pixels: int, max_pixels: int) -> None:
        """Load a local folder or hub id.

        Raises:
            ValueError: the folder or id holds no Qwen2-VL, or not all of its weights.
        """
        self._prompt, self._min_pixels, self._max_pixels = prompt, min_pixels, max_pixels
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._processor, self._model = _load(model, dtype)
        self._model.to(self._device).eval()
        self._processor.tokenizer.padding_side = "left"  # so that the last position of every row is its answer's
        self._indoor_ids = self._first_tokens("indoor")
        self._outdoor_ids = self._first_tokens("outdoor")

    @torch.inference_mode()
    def p_indoor(self, rgbs: list[np.ndarray]) -> list[float]:
        """Softmax over the first tokens of "indoor" and "outdoor" (either case), for uint8 RGB panoramas (H, W, 3)."""
        if not rgbs:
            return []
        logits = self._model(**self._inputs(rgbs), logits_to_keep=1).logits[:, -1].float()
        indoor, outdoor = logits[:, self._indoor_ids].logsumexp(-1), logits[:, self._outdoor_ids].logsumexp(-1)
        return torch.sigmoid(indoor - outdoor).tolist()

    def _inputs(self, rgbs: list[np.ndarray]) -> dict[str, Tensor]:
        conversations = [self._ask(rgb) for rgb in rgbs]
        texts = self._processor.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True)
        patch_size = self._processor.image_processor.patch_size
        images = process_vision_info(conversations, image_patch_size=patch_size)[0]
        batch = self._processor(text=texts, images=images, do_resize=False, padding=True, return_tensors="pt")
        return batch.to(self._device)

    def _ask(self, rgb: np.ndarray) -> list[dict]:
        image = {
            "type": "image",
            "image": Image.fromarray(rgb),
            "min_pixels": self._min_pixels,
            "max_pixels": self._max_pixels,
        }
        return [{"role": "user", "content": [image, {"type": "text", "text": self._prompt}]}]

    def _first_tokens(self, word: str) -> list[int]:
        tokenize = self._processor.tokenizer
        return sorted({tokenize(form, add_special_tokens=False).input_ids[0] for form in (word, word.capitalize())})


def _load(model: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Processor and network, typed loosely: their signatures are too dynamic for a type checker."""
    try:
        config = AutoConfig.from_pretrained(model)
        if config.model_type != "qwen2_vl":
            raise ValueError(f"it is a {config.model_type}")
        processor = AutoProcessor.from_pretrained(model)
        loaded: Any = Qwen2VLForConditionalGeneration.from_pretrained(model, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load a Qwen2-VL from {model}: {str(error).partition(chr(10))[0]}") from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"cannot load a Qwen2-VL from {model}: {len(missing)} weights are missing, {missing[0]} first")
    return processor, network
