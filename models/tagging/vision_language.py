"""A vision-language model asked whether a panorama is indoors or outdoors, such as Qwen2-VL (arXiv 2409.12191).

The answer is read from the distribution of the first token of the reply: no text is generated or parsed, so that the
result is a probability and the same at every call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..support.torchvision_ops import register_missing_operators
from .question import Question

register_missing_operators()  # before the two below, which import torchvision

from qwen_vl_utils import process_vision_info  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: E402

_QWEN = "qwen"  # how the model types begin whose images qwen-vl-utils sizes


class Prompt(NamedTuple):
    """What a model is asked about one panorama: the chat as text, and its image at the size that the model sees."""

    text: str
    image: Image.Image


class Chat:
    """The question as a model's processor puts it, and the tokens that its answers begin with."""

    def __init__(self, model: str, question: Question) -> None:
        """Loads the processor of a local folder or hub id; raises ValueError if it holds none for images and text."""
        try:
            self.processor: Any = AutoProcessor.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise ValueError(_cannot_load(model, error)) from error
        if not (hasattr(self.processor, "image_processor") and getattr(self.processor, "chat_template", None)):
            raise ValueError(_cannot_load(model, "it has no processor of images with a chat template"))
        self.processor.tokenizer.padding_side = "left"  # so that the last position of every row is its answer's
        self._question = question
        self.is_qwen = type(self.processor).__name__.lower().startswith(_QWEN)
        self.indoor_ids, self.outdoor_ids = self._first_tokens("indoor"), self._first_tokens("outdoor")

    def prompt(self, rgb: np.ndarray) -> Prompt:
        """The question about an uint8 RGB panorama (H, W, 3), which is scaled down first."""
        image = Image.fromarray(_scaled_down(rgb, self._question.height))
        content = [{"type": "image", "image": image}, {"type": "text", "text": self._question.prompt}]
        if self.is_qwen:
            content[0] |= {"min_pixels": self._question.min_pixels, "max_pixels": self._question.max_pixels}
        chat = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        if self.is_qwen:
            patch_size = self.processor.image_processor.patch_size
            images: Any = process_vision_info([chat], image_patch_size=patch_size)[0]
            (image,) = images
        return Prompt(text, image)

    def _first_tokens(self, word: str) -> list[int]:
        tokenize = self.processor.tokenizer
        return sorted({tokenize(form, add_special_tokens=False).input_ids[0] for form in (word, word.capitalize())})


class TransformersScene:
    """Any image-text-to-text model of transformers, on the first CUDA device in bfloat16 or on the CPU in float32."""

    def __init__(self, model: str, question: Question) -> None:
        """Loads a local folder or hub id; raises ValueError if it holds no such model, or not all of its weights."""
        self._chat = Chat(model, question)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _network(model, torch.bfloat16 if self._device.type == "cuda" else torch.float32)
        self._model.to(self._device).eval()

    def prepare(self, rgb: np.ndarray) -> dict[str, Tensor]:
        """What the network takes of one panorama."""
        text, image = self._chat.prompt(rgb)
        resize = {"do_resize": False} if self._chat.is_qwen else {}
        return dict(self._chat.processor(text=[text], images=[image], return_tensors="pt", **resize))

    @torch.inference_mode()
    def log_odds(self, prepared: list[dict[str, Tensor]]) -> list[float]:
        """ln(p / (1 − p)) of being indoors, by the first tokens of "indoor" and "outdoor" in either case."""
        logits = self._model(**self.inputs(prepared), logits_to_keep=1).logits[:, -1].float()
        indoor, outdoor = logits[:, self._chat.indoor_ids], logits[:, self._chat.outdoor_ids]
        return (indoor.logsumexp(-1) - outdoor.logsumexp(-1)).tolist()

    def inputs(self, prepared: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One batch, on the device: what goes with the tokens is filled up on the left, all else is put together."""
        longest = max(one["input_ids"].shape[1] for one in prepared)
        padding = {"input_ids": self._chat.processor.tokenizer.pad_token_id or 0}

        def padded(name: str, tensor: Tensor, tokens: Tensor) -> Tensor:
            missing = longest - tokens.shape[1] if tensor.shape == tokens.shape else 0
            return torch.nn.functional.pad(tensor, (missing, 0), value=padding.get(name, 0)) if missing else tensor

        return {
            name: torch.cat([padded(name, one[name], one["input_ids"]) for one in prepared]).to(self._device)
            for name in prepared[0]
        }


@dataclass
class VllmScene:
    """The same question through vLLM, which the extra `vllm` brings: for many cards, and the largest models."""

    model: str
    question: Question
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        """Loads the model; raises ValueError if vLLM is not installed or refuses it."""
        try:
            from vllm import LLM, SamplingParams  # type: ignore[import-not-found] - an extra
        except ImportError as error:
            raise ValueError(f"engine: vllm needs its extra (pip install 'dap-engine[vllm]'): {error}") from error
        self._chat = Chat(self.model, self.question)
        pixels = {"min_pixels": self.question.min_pixels, "max_pixels": self.question.max_pixels}
        try:
            self._llm = LLM(
                model=self.model,
                tensor_parallel_size=self.tensor_parallel,
                limit_mm_per_prompt={"image": 1},
                mm_processor_kwargs=pixels if self._chat.is_qwen else None,
                logprobs_mode="processed_logprobs",  # of the answers that are allowed, and no others
                seed=0,
            )
        except (OSError, ValueError) as error:
            raise ValueError(_cannot_load(self.model, error)) from error
        answers = sorted({*self._chat.indoor_ids, *self._chat.outdoor_ids})
        self._sampling = SamplingParams(
            temperature=0.0, max_tokens=1, allowed_token_ids=answers, logprobs=len(answers), detokenize=False
        )

    def prepare(self, rgb: np.ndarray) -> Prompt:
        """The prompt for one panorama."""
        return self._chat.prompt(rgb)

    def log_odds(self, prepared: list[Prompt]) -> list[float]:
        """ln(p / (1 − p)) of being indoors, by the first tokens of "indoor" and "outdoor" in either case."""
        prompts = [{"prompt": prompt.text, "multi_modal_data": {"image": prompt.image}} for prompt in prepared]
        found = self._llm.generate(prompts, self._sampling, use_tqdm=False)
        return [self._answer(request.outputs[0].logprobs[0]) for request in found]

    def _answer(self, logprobs: dict[int, Any]) -> float:
        def likelihood(ids: list[int]) -> float:
            return float(np.logaddexp.reduce([logprobs[token].logprob for token in ids if token in logprobs]))

        return likelihood(self._chat.indoor_ids) - likelihood(self._chat.outdoor_ids)


def _scaled_down(rgb: np.ndarray, height: int) -> np.ndarray:
    if rgb.shape[0] <= height:
        return rgb
    width = round(rgb.shape[1] * height / rgb.shape[0])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def _network(model: str, dtype: torch.dtype) -> Any:
    """The network, typed loosely: its signature is too dynamic for a type checker."""
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ValueError(_cannot_load(model, error)) from error
    network, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ValueError(_cannot_load(model, f"{len(missing)} weights are missing, {missing[0]} first"))
    return network


def _cannot_load(model: str, cause: object) -> str:
    return f"cannot load a vision-language model from {model}: {str(cause).partition(chr(10))[0]}"
