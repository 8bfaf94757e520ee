"""Taggers that ask a vision-language model, on tiny random models of the real classes."""

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dap_engine.models.tagging.question import DEFAULT_PROMPT, Question
from dap_engine.models.tagging.tagger import Tagger, make_tagger
from tests.models.tagging.tiny_models import (
    save_tiny_llava,
    save_tiny_qwen2vl,
    save_tiny_qwen3vl,
    save_tiny_qwen25vl,
)

SIZE = {"min_pixels": 4 * 28 * 28, "max_pixels": 32 * 28 * 28}
PIXELS = {"question": Question(**SIZE)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_qwen2vl(tmp_path_factory.mktemp("models") / "tiny-qwen")


@pytest.fixture(scope="module")
def rgbs() -> list[np.ndarray]:
    """Panoramas of several sizes, so that a batch needs padding."""
    generator = np.random.Generator(np.random.PCG64(0))
    sizes = [(56, 112), (112, 224), (64, 128), (140, 280)]
    return [generator.integers(0, 255 // (i + 1), (*size, 3), dtype=np.uint8) for i, size in enumerate(sizes)]


def p_indoor(model: Path, rgbs: list[np.ndarray], **settings) -> list[float]:
    return answers(make_tagger(str(model), question=Question(**{**SIZE, **settings})), rgbs)


def answers(tagger: Tagger, rgbs: list[np.ndarray]) -> list[float]:
    return [tag.p_indoor for tag in tagger.tag(rgbs)]


def test_a_batch_is_answered_as_its_panoramas_one_by_one(folder, rgbs):
    tagger = make_tagger(str(folder), **PIXELS)
    alone = [answers(tagger, [rgb])[0] for rgb in rgbs]
    assert answers(tagger, rgbs) == pytest.approx(alone, abs=1e-5)
    assert len({round(p, 3) for p in alone}) == len(rgbs), "the tiny model should tell the panoramas apart"


def test_p_indoor_is_the_share_of_indoor_in_the_next_token_distribution(folder):
    rgb = np.random.Generator(np.random.PCG64(1)).integers(0, 255, (56, 112, 3), dtype=np.uint8)
    tagger = make_tagger(str(folder), **PIXELS)
    processor, network = tagger.model._chat.processor, tagger.model._model
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": DEFAULT_PROMPT}]}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    inputs = processor(text=[text], images=[Image.fromarray(rgb)], do_resize=False, return_tensors="pt")
    with torch.inference_mode():
        distribution = network(**inputs).logits[0, -1].softmax(-1)
    # The byte tokenizer merges "in" and "out", and leaves the capitals alone.
    indoor, outdoor = (
        sum(distribution[i] for i in processor.tokenizer.convert_tokens_to_ids(tokens))
        for tokens in (["in", "I"], ["out", "O"])
    )
    assert answers(tagger, [rgb])[0] == pytest.approx(float(indoor / (indoor + outdoor)), abs=1e-5)


def test_the_answer_is_the_same_at_every_load_and_depends_on_weights_and_prompt(folder, rgbs, tmp_path):
    first = p_indoor(folder, rgbs)
    assert p_indoor(folder, rgbs) == first
    assert p_indoor(save_tiny_qwen2vl(tmp_path / "same"), rgbs) == first
    assert p_indoor(save_tiny_qwen2vl(tmp_path / "other", seed=1), rgbs) != pytest.approx(first, abs=1e-3)
    assert p_indoor(folder, rgbs, prompt="indoor or outdoor?") != pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    ("size", "resized"), [((448, 896), (112, 224)), ((28, 56), (56, 112))], ids=["shrunk to max", "grown to min"]
)
def test_panoramas_are_resized_into_the_bounds(folder, size, resized):
    rgb = np.random.Generator(np.random.PCG64(2)).integers(0, 255, (*size, 3), dtype=np.uint8)
    within = np.asarray(Image.fromarray(rgb).resize(resized[::-1]))
    bounds = {"min_pixels": 8 * 28 * 28, "max_pixels": 32 * 28 * 28}
    assert p_indoor(folder, [rgb], **bounds) == p_indoor(folder, [within], **bounds)


def test_tags_carry_the_name_of_the_model_wherever_it_lies(folder):
    assert make_tagger("hub/Qwen2-VL-2B-Instruct", folder=str(folder), **PIXELS).name == "Qwen2-VL-2B-Instruct"
    assert make_tagger(f"{folder}/", **PIXELS).name == "tiny-qwen"


def test_an_empty_batch_has_no_tags(folder):
    assert make_tagger(str(folder), **PIXELS).tag([]) == []


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no model folder"):
        make_tagger(str(tmp_path))


def test_another_kind_of_model_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "dinov3_vit"}))
    with pytest.raises(ValueError, match="cannot load a vision-language model from"):
        make_tagger(str(tmp_path))


def test_missing_weights_are_refused(tmp_path):
    folder = save_tiny_qwen2vl(tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in weights if "v_proj" in name or "qkv" in name)
    kept = {name: tensor for name, tensor in weights.items() if name != dropped}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 weights are missing"):
        make_tagger(str(folder))


@pytest.mark.parametrize("save", [save_tiny_qwen25vl, save_tiny_qwen3vl, save_tiny_llava])
def test_other_models_answer_a_batch_as_its_panoramas_one_by_one(save, rgbs, tmp_path):
    tagger = make_tagger(str(save(tmp_path / "model")), **PIXELS)
    alone = [answers(tagger, [rgb])[0] for rgb in rgbs]
    assert answers(tagger, rgbs) == pytest.approx(alone, abs=1e-5)
    assert len({round(p, 4) for p in alone}) > 1, "the tiny model should tell panoramas apart"


def test_a_large_panorama_is_scaled_down_first(folder):
    rgb = np.random.Generator(np.random.PCG64(3)).integers(0, 255, (224, 448, 3), dtype=np.uint8)
    smaller = cv2.resize(rgb, (224, 112), interpolation=cv2.INTER_AREA)
    assert p_indoor(folder, [rgb], height=112) == p_indoor(folder, [smaller], height=112)
    assert p_indoor(folder, [rgb], height=112) != p_indoor(folder, [rgb], height=224)


VLLM = """
import math

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor


class SamplingParams:
    def __init__(self, *, temperature, max_tokens, allowed_token_ids, logprobs, detokenize):
        assert (temperature, max_tokens, logprobs) == (0.0, 1, len(allowed_token_ids))
        self.allowed = allowed_token_ids


class LLM:
    def __init__(self, *, model, tensor_parallel_size, limit_mm_per_prompt, mm_processor_kwargs, logprobs_mode, seed):
        assert (tensor_parallel_size, logprobs_mode) == (2, "processed_logprobs")
        self.network = AutoModelForImageTextToText.from_pretrained(model).eval()
        self.processor = AutoProcessor.from_pretrained(model)
        self.pixels = mm_processor_kwargs

    def generate(self, prompts, sampling, use_tqdm):
        return [self.answer(one["prompt"], one["multi_modal_data"]["image"], sampling) for one in prompts]

    @torch.inference_mode()
    def answer(self, text, image, sampling):
        inputs = self.processor(text=[text], images=[image], return_tensors="pt", **self.pixels)
        allowed = self.network(**inputs).logits[0, -1, sampling.allowed].log_softmax(-1).tolist()
        found = {token: Found(logprob=value) for token, value in zip(sampling.allowed, allowed)}
        return Found(outputs=[Found(logprobs=[found])])


class Found:
    def __init__(self, **named):
        self.__dict__.update(named)
"""


def test_vllm_is_asked_the_same_question_about_the_same_pixels(folder, rgbs, monkeypatch):
    stand_in = ModuleType("vllm")
    exec(VLLM, vars(stand_in))
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    tagger = make_tagger(str(folder), **PIXELS, engine="vllm", tensor_parallel=2)
    assert answers(tagger, rgbs) == pytest.approx(p_indoor(folder, rgbs), abs=1e-5)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed")
def test_without_vllm_its_extra_is_named(folder):
    with pytest.raises(ValueError, match=r"pip install 'dap-engine\[vllm\]'"):
        make_tagger(str(folder), engine="vllm")
