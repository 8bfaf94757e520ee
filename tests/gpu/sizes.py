"""How much is measured: the real sizes on a GPU, and tiny ones that show on a CPU that the script works."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dap_engine.models.network.config import DapConfig
from dap_engine.models.network.discriminator import DiscriminatorConfig
from tests.models.tagging.tiny_models import TINY_TEXT, TINY_VISION


@dataclass(frozen=True)
class Sizes:
    """`depth` is the network that labels and is trained, `small` a smaller one, for which data must come faster."""

    names: tuple[str, str]
    depth: Callable[[], DapConfig]
    small: Callable[[], DapConfig]
    discriminator: DiscriminatorConfig
    qwen_name: str
    qwen_text: Mapping[str, Any]
    qwen_vision: Mapping[str, Any]
    height: int
    batches: tuple[int, ...]
    train_batches: tuple[int, ...]
    batch: int  # of the stages, the losses and the loader
    rooms: int
    labelled: int
    packed: int
    loader_steps: int
    loader_workers: int
    matrix_side: int
    measure_s: float
    compiler: str
    gpu_tests: str


QWEN2_VL_2B_TEXT = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
QWEN2_VL_2B_VISION = {"depth": 4, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4}

FULL = Sizes(
    names=("ViT-L", "ViT-S"),
    depth=lambda: DapConfig.of("dinov3_vitl16"),
    small=lambda: DapConfig.of("dinov3_vits16"),
    discriminator=DiscriminatorConfig(),
    qwen_name="Qwen2-VL of the 2B widths, 4 + 4 layers",
    qwen_text=QWEN2_VL_2B_TEXT,
    qwen_vision=QWEN2_VL_2B_VISION,
    height=512,
    batches=(8, 1, 4, 16),
    train_batches=(1, 2, 4, 8, 16),
    batch=8,
    rooms=16,
    labelled=64,
    packed=400,
    loader_steps=40,
    loader_workers=8,
    matrix_side=8192,
    measure_s=1.0,
    compiler="inductor",
    gpu_tests="tests/models",
)

TINY = Sizes(
    names=("tiny", "tiny"),
    depth=lambda: DapConfig.tiny(image_height=32),
    small=lambda: DapConfig.tiny(image_height=32),
    discriminator=DiscriminatorConfig.tiny(image_height=32),
    qwen_name="Qwen2-VL, tiny",
    qwen_text=TINY_TEXT,
    qwen_vision=TINY_VISION,
    height=32,
    batches=(2,),
    train_batches=(1, 2),
    batch=2,
    rooms=3,
    labelled=4,
    packed=16,
    loader_steps=3,
    loader_workers=1,
    matrix_side=64,
    measure_s=0.0,
    compiler="eager",
    gpu_tests="tests/models/geometry/test_geometry_gpu.py",
)
