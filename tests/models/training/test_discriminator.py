"""The networks that judge labels learn what they are for, and nothing gives the answer away."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dap_engine.models.data.depth_png import decode_depth_png, encode_depth_png
from dap_engine.models.data.loader import PanoramaDataModule
from dap_engine.models.data.shards import ShardSet, scan_shards
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from dap_engine.models.training.discriminator import (
    CriticTraining,
    DiscriminatorTraining,
    as_stored_m,
    masked_depth_m,
    patch_errors,
)
from tests.models.network.test_dap import small
from tests.models.panoramas import HEIGHT, write_shard
from tests.models.training.test_modules import _fit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PanoramaDataModule:
    folder = tmp_path_factory.mktemp("shards")
    train, validation = (
        ShardSet(scan_shards([write_shard(folder / f"{name}.tar", samples, seed=samples)]))
        for name, samples in (("train", 9), ("validation", 5))
    )
    return PanoramaDataModule(train, validation, image_height=HEIGHT, batch_size=3, seed=1)


def test_the_discriminator_learns_to_tell_truth_from_predictions(data: PanoramaDataModule, tmp_path: Path) -> None:
    labeler = small()
    before = {name: weight.clone() for name, weight in labeler.state_dict().items()}
    discriminator = Discriminator.new(DiscriminatorConfig.tiny(image_height=HEIGHT))
    module = DiscriminatorTraining(discriminator, labeler, lr=2e-3)
    assert not any(name.startswith("labeler") for name in module.state_dict())
    trainer = _fit(module, data, tmp_path, max_steps=40, enable_checkpointing=False)
    assert trainer.callback_metrics["train/accuracy"] > 0.9
    assert all(torch.equal(weight, before[name]) for name, weight in labeler.state_dict().items())
    batch = next(iter(data.loader(training=False)))
    truth_m = torch.where(batch["beyond_range"], math.inf, batch["depth_m"])
    predicted_m = labeler(batch["pixel_values"]).predicted_depth
    scores = [discriminator.score(batch["pixel_values"], depth_m) for depth_m in (truth_m, predicted_m)]
    assert (scores[0] > scores[1]).all()


def test_a_labeler_is_asked_without_a_trace_for_gradients(data: PanoramaDataModule) -> None:
    pixel_values = next(iter(data.loader(training=False)))["pixel_values"]
    assert not masked_depth_m(small(), pixel_values).requires_grad


def test_what_the_discriminator_learns_from_is_rounded_as_a_stored_label() -> None:
    depth_m = torch.tensor([[1.2345678, 0.0001, 99.99951, 100.0, 100.01, math.inf, 0.0, math.nan]])
    stored_m = torch.from_numpy(decode_depth_png(encode_depth_png(depth_m.numpy())).depth_m)
    assert torch.equal(as_stored_m(depth_m), stored_m.nan_to_num(0.0, posinf=math.inf))


class Everywhere(nn.Module):
    """A labeler that says the same distance everywhere."""

    config = SimpleNamespace(masks_the_range=False)

    def __init__(self, depth_m: float):
        super().__init__()
        self.depth_m = depth_m

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        return SimpleNamespace(predicted_depth=torch.full_like(pixel_values[:, 0], self.depth_m))


def test_a_critic_learns_how_far_labels_are_off(data: PanoramaDataModule, tmp_path: Path) -> None:
    critic = Discriminator.new(DiscriminatorConfig.tiny(image_height=HEIGHT, judges="error"))
    module = CriticTraining(critic, [Everywhere(3.0), Everywhere(80.0)], steps=60, lr=3e-3)
    assert not any(name.startswith("labeler") for name in module.state_dict())
    _fit(module, data, tmp_path, max_steps=60, enable_checkpointing=False)
    batch = next(iter(data.loader(training=False)))
    labels_m = [torch.full_like(batch["depth_m"], depth_m) for depth_m in (3.0, 80.0)]
    predicted = [-critic.score(batch["pixel_values"], label_m).log() for label_m in labels_m]
    known = batch["valid"]
    errors = [(label_m[known].log() - batch["depth_m"][known].log()).abs().mean() for label_m in labels_m]
    assert errors[0] < errors[1]
    assert (predicted[0] < predicted[1]).all()
    assert [each.mean().item() for each in predicted] == pytest.approx([error.item() for error in errors], rel=0.5)


def test_a_discriminator_is_no_critic() -> None:
    with pytest.raises(ValueError, match="judges the error"):
        CriticTraining(Discriminator.new(DiscriminatorConfig.tiny(image_height=HEIGHT)), [], steps=3)


def test_the_error_of_a_patch_is_of_the_pixels_that_have_a_distance_in_both() -> None:
    truth_m, label_m, valid = (
        torch.full((1, 4, 8), 2.0),
        torch.full((1, 4, 8), 4.0),
        torch.ones(1, 4, 8, dtype=torch.bool),
    )
    label_m[0, 0, 0] = 4 * math.e  # one pixel of the first patch is off by one more
    label_m[0, 3, 7] = math.inf  # without a distance, and not valid
    valid[0, 3, 7] = False
    valid[0, :2, 2:4] = False  # a patch of which nothing is known
    valid[0, 2:, 0:1] = False  # and one of which half is
    errors, known = patch_errors(label_m, truth_m, valid, (2, 4))
    off = math.log(2)
    expected = torch.tensor([[[off + 0.25, 0, off, off], [off, off, off, off]]])
    assert torch.allclose(errors, expected)
    assert known.tolist() == [[[True, False, True, True], [True, True, True, True]]]
