"""`dap_engine.models` as its users import it."""

import subprocess
import sys

import numpy as np
import pytest

import dap_engine.models
import dap_engine.models.metrics


def test_the_names_that_users_want():
    from dap_engine.models import DapConfig, DapImageProcessor, DapModel, DepthPredictor
    from dap_engine.models.metrics import depth_metrics

    assert DapModel.config_class is DapConfig
    assert {name.__name__ for name in (DapConfig, DapImageProcessor, DapModel, DepthPredictor)} == set(
        dap_engine.models.__all__
    )
    depth_m = np.full((2, 4), 3.0)
    assert depth_metrics(1.1 * depth_m, depth_m, depth_m > 0)["abs_rel"] == pytest.approx(0.1)


def test_they_cost_nothing_until_they_are_used():
    program = "import sys, dap_engine.models, dap_engine.models.metrics\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("module", [dap_engine.models, dap_engine.models.metrics])
def test_other_names_are_no_attributes(module):
    with pytest.raises(AttributeError, match="has no attribute 'Transformer'"):
        _ = module.Transformer
