import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dap_engine.models.data.images import resize_rgb
from dap_engine.models.data.pictures import read_picture
from dap_engine.models.geometry.equirectangular import longitudes
from dap_engine.models.inference.embedded import EMBEDDED, resolve_model
from dap_engine.models.inference.predictor import DepthPredictor
from dap_engine.models.metrics.equivariance import seam_ratio, yaw_error
from dap_engine.models.network.dpt_head import Decoder, DptHead


def _ramp(width: int = 64) -> np.ndarray:
    return np.tile(np.arange(1, width + 1, dtype=np.float32), (8, 1))


def test_the_seam_of_a_ramp_is_its_height_over_its_step() -> None:
    assert seam_ratio(_ramp()) == 63
    assert math.isnan(seam_ratio(np.ones((8, 16), np.float32)))


def test_what_goes_around_has_no_seam() -> None:
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    seams = [seam_ratio(np.tile(3 + np.sin(angles + start), (8, 1))) for start in np.linspace(0, 6, 13)]
    assert 0.5 < np.median(seams) < 1.5


def test_a_prediction_that_turns_with_its_input_has_no_error() -> None:
    rgb = np.random.default_rng(0).integers(1, 255, (8, 16, 3), np.uint8)
    assert yaw_error(lambda image: image[..., 0].astype(float), rgb) == 0


def test_a_prediction_that_stays_has_an_error() -> None:
    """Half of the columns at 1 m, the others at 2 m, whatever the input: half a turn is wrong by 1 or by ½."""
    stays = np.repeat([1.0, 2.0], 8)[None].repeat(8, axis=0)
    assert yaw_error(lambda image: stays, np.zeros((8, 16, 3), np.uint8), turns=2) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="2 turns or more, not 1"):
        yaw_error(lambda image: stays, np.zeros((8, 16, 3), np.uint8), turns=1)


def _seams(decoder: Decoder) -> float:
    """Of heads with random weights on features that go around: that at ±180° over those at other cells, in the median.

    At the edge of a cell a random head jumps anyway, since nothing made its enlarging layers smooth.
    """
    theta, excess = longitudes(16), []
    for seed in range(8):
        torch.manual_seed(seed)
        head = DptHead(8, (8, 8, 8, 8), 8, 8, 8, decoder)
        waves = [torch.randn(8, 1, 1) * torch.sin(k * theta + 6 * torch.rand(8, 1, 1)) for k in (1, 2)]
        with torch.no_grad():
            logits = head((sum(waves).expand(1, 8, 8, 16),) * 4)[0].numpy()
        elsewhere = [seam_ratio(np.roll(logits, 16 * cells, axis=1)) for cells in range(1, 8)]
        excess.append(seam_ratio(logits) / np.median(elsewhere))
    return float(np.median(excess))


def test_the_spherical_decoder_closes_the_seam_that_the_plain_one_leaves() -> None:
    assert _seams("spherical") < 1.5
    assert _seams("plain") > 2


@pytest.mark.shared
def test_the_demos_network_has_no_seam_on_real_panoramas(shared_data: Path) -> None:
    predictor = DepthPredictor(resolve_model(EMBEDDED), "cpu")
    rgbs = [resize_rgb(read_picture(str(file)), 96, 192) for file in sorted((shared_data / "panos").glob("*.jpg"))[::2]]
    seams = [seam_ratio(prediction.depth_m) for prediction in predictor.predict(rgbs)]
    assert np.median(seams) < 1.5
