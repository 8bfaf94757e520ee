"""Stand-ins for the packages of other models: modules with their interfaces, whose networks are a line of arithmetic.

They check how they are called. What they see is a picture whose red channel says how far it is: 1 m + red / 50.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

SOURCES = {
    "unik3d/models/__init__.py": '''
import torch

class UniK3D(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, model):
        return cls()

    def infer(self, rgb, camera=None, rays=None, normalize=True):
        height, width = rgb.shape[1:]
        assert rgb.dtype == torch.uint8 and normalize and self.resolution_level == 9 and not self.training
        assert camera.params[4:].tolist() == torch.tensor([width, height, torch.pi, torch.pi / 2]).tolist()
        camera.params *= 0  # the real one is resized in place
        distance = (1 + rgb[:1] / 50)[None]
        return {"distance": distance, "depth": -distance, "points": None, "rays": None}
''',
    "unik3d/utils/camera.py": '''
class Spherical:
    def __init__(self, params):
        self.params = params
''',
    "dac/models/idisc_erp.py": '''
import torch

class IDiscERP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))

    @classmethod
    def build(cls, config):
        assert "pretrained" not in config["model"]["pixel_encoder"]
        return cls()

    def forward(self, image, lat_range, long_range):
        assert image.shape == (1, 3, 512, 1024)
        assert torch.allclose(torch.cat([2 * lat_range, long_range]), torch.pi * torch.tensor([[-1.0, 1], [-1, 1]]))
        red = (image[:, :1] * 0.229 + 0.485) * 255
        return (1 + red / 50) * self.scale, {}, {}
''',
    "networks/__init__.py": "from .panda import PanDA",
    "networks/panda.py": '''
import torch

class PanDA(torch.nn.Module):
    def __init__(self, max_depth):
        super().__init__()
        self.max_depth, self.core = max_depth, torch.nn.Module()
        self.core.pretrained = torch.nn.Module()
        self.core.pretrained.cls_token = torch.nn.Parameter(torch.zeros(1, 1, 384))

    def forward(self, image):
        assert image.shape == (1, 3, 504, 1008)
        red = (image[:, :1] * 0.229 + 0.485) * 255
        return {"pred_depth": (1 + red / 50) / 10 * self.max_depth}
''',
    "networks/models.py": '''
from .panda import PanDA

def make(spec):
    assert spec["name"] == "panda" and spec["args"]["midas_model_type"] == "vits"
    assert spec["args"]["fine_tune_type"] == "inference" and spec["args"]["lora_rank"] == 4
    return PanDA(spec["args"]["max_depth"])
''',
    "depthcrafter/unet.py": '''
class DiffusersUNetSpatioTemporalConditionModelDepthCrafter:
    @classmethod
    def from_pretrained(cls, model, torch_dtype):
        return cls()
''',
    "depthcrafter/depth_crafter_ppl.py": '''
from types import SimpleNamespace
import numpy as np

class DepthCrafterPipeline:
    @classmethod
    def from_pretrained(cls, base, unet, torch_dtype, variant):
        assert base == "stabilityai/stable-video-diffusion-img2vid-xt"
        return cls()

    def to(self, device):
        return self

    def set_progress_bar_config(self, disable):
        pass

    def __call__(self, video, height, width, num_inference_steps, guidance_scale, window_size, overlap, generator,
                 output_type):
        assert video.shape[1:] == (height, width, 3) and height % 64 == width % 64 == 0 and 0 <= video.min()
        assert video.max() <= 1 and output_type == "np" and generator.initial_seed() == 0
        disparity = 1 / (1 + video[..., :1] * 255 / 50)
        scale = 1 / disparity.max()  # one for the whole shot
        return SimpleNamespace(frames=[np.repeat(disparity * scale, 3, axis=-1)])
''',
    "moge/model/v2.py": '''
import torch

class MoGeModel(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, path):
        model = cls()
        if torch.load(path, weights_only=True)["metric"]:
            model.scale_head = torch.nn.Identity()
        return model

    def infer(self, image, num_tokens=None, resolution_level=9, force_projection=True, apply_mask=True, fov_x=None,
              use_fp16=True):
        assert image.ndim == 4 and image.max() <= 1 and apply_mask and not use_fp16 and fov_x == 90
        size = image.shape[-1]
        at = (2 * torch.arange(size) + 1) / size - 1
        length = (1 + at[:, None] ** 2 + at ** 2).sqrt()
        depth = (1 + image[:, 0] * 255 / 50) / length
        mask = image[:, 2] < 0.9
        return {"depth": depth.where(mask, torch.inf), "mask": mask, "points": None, "intrinsics": None}
''',
    "depth_anything_3/api.py": '''
import json
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch

class DepthAnything3(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, model):
        made = cls()
        made.name = json.loads((Path(model) / "config.json").read_text())["model_name"]
        return made

    def inference(self, image):
        (rgb,) = image  # several would be taken for views of one scene from several places
        size = len(rgb) // 2
        rgb = rgb.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))
        at = (2 * np.arange(size) + 1) / size - 1
        depth = (1 + rgb[..., 0] / 50) / np.sqrt(1 + at[:, None] ** 2 + at**2)
        self.drawn = torch.rand(1).item()
        if self.name.startswith("da3metric"):
            depth = depth * 300 / (size / 2)
        sky = None if self.name == "da3-small" else (rgb[..., 2] > 230)[None]
        return SimpleNamespace(depth=depth[None], sky=sky, is_metric=0, conf=None)
''',
}  # fmt: skip


def write_packages(folder: Path) -> None:
    """All of them, to be put on sys.path."""
    for name, source in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def write_weights(folder: Path) -> dict[str, str]:
    """Something to name for every scheme: what `SCHEME:` is followed by."""
    (folder / "dac").mkdir(parents=True)
    config = {"model_name": "IDiscERP", "cano_sz": [1024, 1024], "model": {"pixel_encoder": {"pretrained": "x"}}}
    (folder / "dac" / "dac.json").write_text(json.dumps(config))
    torch.save({"model": {"module.scale": torch.full((1,), 2.0)}, "epoch": 3}, folder / "dac" / "dac.pt")
    torch.save({"module.core.pretrained.cls_token": torch.ones(1, 1, 384), "epoch": 3}, folder / "panda.pth")
    for metric in (True, False):
        (folder / f"moge-{metric}").mkdir()
        torch.save({"metric": metric}, folder / f"moge-{metric}" / "model.pt")
    for kind in ("da3metric-large", "da3nested-giant-large", "da3-small"):
        (folder / kind).mkdir()
        (folder / kind / "config.json").write_text(json.dumps({"model_name": kind}))
    return {
        "unik3d": "lpiccinelli/unik3d-vits",
        "dac": str(folder / "dac"),
        "panda": str(folder / "panda.pth"),
        "depthcrafter": "tencent/DepthCrafter",
        "moge": str(folder / "moge-True"),
        "da3": str(folder / "da3metric-large"),
    }


def seen(height: int) -> np.ndarray:
    """A panorama (H, 2H, 3) uint8, smooth, whose red says how far it is."""
    rgb = np.zeros((height, 2 * height, 3), np.uint8)
    rgb[..., 0] = np.linspace(40, 200, height)[:, None]
    return rgb


def distance_m(rgb: np.ndarray) -> np.ndarray:
    """How far the picture says that it is."""
    return 1 + rgb[..., 0].astype(np.float32) / 50
