"""Depth Anything 3 through the real package, where it is installed: networks of its classes, tiny and random."""

import numpy as np
import pytest
import torch

from dap_engine.models.labelers.load import check_labeler, make_labeler
from dap_engine.models.labelers.patches import Patches
from dap_engine.models.support.torchvision_ops import register_missing_operators
from tests.models.labelers.stand_ins import seen

register_missing_operators()  # before the package, which imports torchvision
pytest.importorskip("depth_anything_3.api", reason="depth-anything-3 is not installed", exc_type=ImportError)

METRIC = """
__object__: {path: depth_anything_3.model.da3, name: DepthAnything3Net, args: as_params}
net:
  __object__: {path: depth_anything_3.model.dinov2.dinov2, name: DinoV2, args: as_params}
  name: vits
  out_layers: [5, 7, 9, 11]
  alt_start: -1
  qknorm_start: -1
  rope_start: -1
  cat_token: false
head:
  __object__: {path: depth_anything_3.model.dpt, name: DPT, args: as_params}
  dim_in: 384
  output_dim: 1
  features: 64
  out_channels: [48, 96, 192, 384]
"""


@pytest.fixture(params=["da3-small", "da3metric-tiny"])
def model(request, tmp_path, monkeypatch):
    """A folder of the package's own making."""
    from depth_anything_3.api import MODEL_REGISTRY, DepthAnything3  # pyright: ignore[reportMissingImports]

    (tmp_path / "metric.yaml").write_text(METRIC)
    monkeypatch.setitem(MODEL_REGISTRY, "da3metric-tiny", str(tmp_path / "metric.yaml"))
    torch.manual_seed(0)
    network = DepthAnything3(model_name=request.param)
    network.save_pretrained(tmp_path / "model", config={"model_name": request.param})
    return str(tmp_path / "model")


def test_views_are_as_the_package_predicts_them_in_metres_where_it_knows_them(model):
    """One view alone: on a CPU the package takes seconds for each."""
    from depth_anything_3.api import DepthAnything3  # pyright: ignore[reportMissingImports]

    view = seen(84)[:, :84]
    labeler = make_labeler(f"da3:{model}", device="cpu", patches=Patches(size=84))
    (found,), (again,) = (labeler._depth_of([view]) for _ in range(2))  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    expected = DepthAnything3.from_pretrained(model).inference([view]).depth[0]
    metric = check_labeler(f"da3:{model}") == "metric-depth"
    assert metric == ("metric" in labeler.output)
    focal = expected.shape[1] / 2  # of 90 degrees
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], (expected * (focal / 300 if metric else 1))[known], rtol=1e-5)
    np.testing.assert_array_equal(found, again)
