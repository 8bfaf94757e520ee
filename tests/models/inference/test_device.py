import pytest
import torch

from dap_engine.models.inference.device import choose_device, in_precision
from dap_engine.models.inference.precision import choose_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_what_is_chosen() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert [choose_precision("auto", device.type) for device in (CPU, CUDA)] == ["float32", "bfloat16"]
    assert [choose_precision("float32", device.type) for device in (CPU, CUDA)] == ["float32", "float32"]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_what_is_computed_in_it(precision, dtype: torch.dtype) -> None:
    factor = torch.ones(2, 2)
    with in_precision(precision, CPU):
        assert (factor @ factor).dtype == dtype
    assert (factor @ factor).dtype == torch.float32


def test_float32_is_not_rounded_by_convolutions_and_the_setting_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    for setting in (True, False):
        torch.backends.cudnn.allow_tf32 = setting
        with in_precision("float32", CPU):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 == setting
    torch.backends.cudnn.allow_tf32 = before
