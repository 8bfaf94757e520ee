"""That each way takes effect; that weights stay the same is tested where whole trainings are compared."""

import pytest
import torch
from torch._dynamo.utils import counters

from dap_engine.models.network.dap import DapModel
from dap_engine.models.training.modules import DapTraining
from dap_engine.models.training.settings import TrainSettings
from dap_engine.models.training.speed import blocks, checkpoint_gradients, compile_blocks
from tests.models.network.test_dap import small


@pytest.fixture
def model() -> DapModel:
    return small().train()


def step(model: DapModel) -> None:
    model(torch.zeros(2, 3, 64, 128)).predicted_depth.sum().backward()


def calls_of_layers(model: DapModel) -> list[int]:
    """Of the first layer's part in the middle, forward and backward."""
    calls: list[int] = []
    blocks(model)[0].norm2.register_forward_hook(lambda *_: calls.append(1))
    step(model)
    return calls


def test_checkpointed_layers_run_again_for_their_gradients(model):
    assert calls_of_layers(model) == [1]
    checkpoint_gradients(model)
    assert calls_of_layers(model) == [1, 1]


@pytest.mark.slow
def test_layers_that_are_alike_are_compiled_once_and_heads_beside_them(model):
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(model, "eager")
    step(model)
    layers = model.config.backbone.num_hidden_layers
    assert len(blocks(model)) == layers + 2
    assert 0 < counters["stats"]["unique_graphs"] < len(blocks(model))
    assert all(name in model.state_dict() for name in small().state_dict())


@pytest.mark.parametrize("fused", [True, False])
def test_the_optimizer_is_fused_where_it_is_to_be(model, fused):
    optimizer = DapTraining(model, TrainSettings(1, fused=fused)).configure_optimizers()["optimizer"]
    assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)
