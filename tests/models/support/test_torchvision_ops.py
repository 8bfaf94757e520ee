"""torchvision and the libraries that import it work after `register_missing_operators`."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

REGISTER = "from dap_engine.models.support.torchvision_ops import register_missing_operators as r; r(); r()\n"


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.slow  # every other test that imports one of them began with it, in conftest.py
@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_libraries_that_import_torchvision_work_afterwards():
    done = run_python(
        REGISTER + "import torchvision, lightning, torchmetrics\n"
        "from qwen_vl_utils import process_vision_info\n"
        "from transformers import Qwen2VLImageProcessor\n"
        "r()\n"
    )
    assert done.returncode == 0, done.stderr


def test_it_does_nothing_where_torchvision_is_absent():
    done = run_python(
        "import importlib.util, sys\n"
        "sys.modules['torchvision'] = None\n"  # what Python itself writes for a module that must not be found
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torchvision' else find(name, *rest)\n"
        + REGISTER
        + "import torch\n"
        "assert not hasattr(torch.ops.torchvision, 'nms')\n"
    )
    assert done.returncode == 0, done.stderr


def test_it_leaves_operators_that_are_registered_alone():
    done = run_python(
        "import torch\n"
        "torch.library.define('torchvision::nms', '(Tensor mine) -> Tensor')\n"
        + REGISTER
        + "assert str(torch.ops.torchvision.nms.default._schema) == 'torchvision::nms(Tensor mine) -> Tensor'\n"
    )
    assert done.returncode == 0, done.stderr
