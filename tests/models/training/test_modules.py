import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from dap_engine.models.data.loader import PanoramaDataModule
from dap_engine.models.data.shards import ShardSet, scan_shards
from dap_engine.models.geometry.equirectangular import resize
from dap_engine.models.losses.objective import distortion_map
from dap_engine.models.losses.weights import PUBLISHED, LossWeights
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.training.modules import DapTraining, warmup_cosine
from dap_engine.models.training.settings import TrainSettings
from tests.models.network.test_dap import BACKBONE, HEADS, small
from tests.models.panoramas import HEIGHT, write_shard

Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PanoramaDataModule:
    folder = tmp_path_factory.mktemp("shards")
    train = [write_shard(folder / f"train{n}.tar", samples, seed=n) for n, samples in enumerate([7, 6])]
    validation = [write_shard(folder / "validation.tar", 5, seed=9)]
    train, validation = ShardSet(scan_shards(train)), ShardSet(scan_shards(validation))
    return PanoramaDataModule(train, validation, image_height=HEIGHT, batch_size=3, seed=1)


SETTINGS = TrainSettings(10, warmup_steps=1, backbone_lr=3e-3, decoder_lr=3e-3)


def _fit(
    module: LightningModule, data: PanoramaDataModule, folder: Path, *, resume: Path | None = None, **options: Any
) -> Trainer:
    trainer = Trainer(
        **{"max_steps": 10, "max_epochs": -1, "num_sanity_val_steps": 0, "limit_val_batches": 0} | options,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return trainer


def _weights(module: LightningModule) -> Weights:
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def _same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_a_loss_that_is_no_number_stops_the_training(data: PanoramaDataModule, tmp_path: Path) -> None:
    module = DapTraining(small(), SETTINGS)
    module.model.depth_head.output.bias.data.fill_(math.nan)
    backbone = {name: weight for name, weight in _weights(module).items() if "backbone" in name}
    with pytest.raises(FloatingPointError, match=r"^step 0: the loss is no number any more: silog nan, "):
        _fit(module, data, tmp_path, enable_checkpointing=False)
    assert _same({name: module.state_dict()[name] for name in backbone}, backbone)


def test_the_schedule_rises_then_falls_to_0() -> None:
    factors = [warmup_cosine(step, warmup_steps=4, steps=20) for step in range(21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[20] == pytest.approx(0)
    assert warmup_cosine(12, warmup_steps=4, steps=20) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def undisturbed(data: PanoramaDataModule, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """What a training ends with."""
    module = DapTraining(small(), SETTINGS)
    _fit(module, data, tmp_path_factory.mktemp("undisturbed"), enable_checkpointing=False)
    return _weights(module)


def test_training_learns_and_is_deterministic(data: PanoramaDataModule, undisturbed: Weights, tmp_path: Path) -> None:
    module = DapTraining(small(), SETTINGS)
    before = _weights(module)
    _fit(module, data, tmp_path, enable_checkpointing=False)
    assert _same(_weights(module), undisturbed)
    assert not _same(_weights(module), before)


@pytest.mark.parametrize("interrupted_at", [3, 4, 6])
def test_a_resumed_training_ends_with_the_same_weights(
    data: PanoramaDataModule, undisturbed: Weights, tmp_path: Path, interrupted_at: int
) -> None:
    """An epoch has 4 steps: the middle of one, its end, the middle of the next."""
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    _fit(DapTraining(small(), SETTINGS), data, tmp_path, callbacks=[checkpoints], max_steps=interrupted_at)
    resumed = DapTraining(small(seed=5), SETTINGS)
    _fit(resumed, data, tmp_path, enable_checkpointing=False, resume=tmp_path / f"step={interrupted_at}.ckpt")
    assert _same(_weights(resumed), undisturbed)


@pytest.mark.slow
def test_it_overfits_a_handful_of_rooms(tmp_path: Path) -> None:
    rooms = ShardSet(scan_shards([write_shard(tmp_path / "few.tar", 3, seed=0)]))
    data = PanoramaDataModule(rooms, rooms, image_height=HEIGHT, batch_size=3, augment=0.0)
    settings = TrainSettings(60, warmup_steps=6, backbone_lr=3e-3, decoder_lr=5e-3)
    module = DapTraining(small(), settings)
    trainer = _fit(module, data, tmp_path, max_steps=60, limit_val_batches=1.0, enable_checkpointing=False)
    (result,) = trainer.validate(module, data, verbose=False)
    assert result["validation/abs_rel"] < 0.2
    assert result["validation/delta1"] > 0.7


def test_learning_rates_are_separate(data: PanoramaDataModule, tmp_path: Path) -> None:
    settings = TrainSettings(10, backbone_lr=0.0, decoder_lr=1e-3, weight_decay=0.0)
    module = DapTraining(small(), settings)
    before = _weights(module)
    _fit(module, data, tmp_path, enable_checkpointing=False)
    after = _weights(module)
    moved = {name.split(".")[1] for name in after if not torch.equal(after[name], before[name])}
    assert moved == {"depth_head", "mask_head"}


def test_an_untrusted_source_counts_less(data: PanoramaDataModule) -> None:
    batch = next(iter(data.loader(training=False)))
    module = DapTraining(small(), TrainSettings(1, source_weights={"labels": 0.25}))
    batch["source"] = ["labelled", "labels", "labels"]
    assert module._image_weight(batch).tolist() == [1.0, 0.25, 0.25]


def test_a_label_whose_views_disagree_counts_less(data: PanoramaDataModule) -> None:
    batch = next(iter(data.loader(training=False)))
    batch |= {"source": ["labelled", "labels", "labels"], "spread": [None, 0.5, math.inf]}
    module = DapTraining(small(), TrainSettings(1, source_weights={"labels": 0.25}, confidence={"labels": 2.0}))
    assert module._image_weight(batch).tolist() == pytest.approx([1.0, 0.25 * math.exp(-1), 0.0])
    batch["spread"][1] = None
    with pytest.raises(ValueError, match=f"the label of {batch['key'][1]} has no spread"):
        module._image_weight(batch)


def test_empty_places_of_a_batch_count_for_nothing(data: PanoramaDataModule) -> None:
    """Neither for a value nor for a gradient: the second of two ranks has one image, and a place for another."""
    padded = next(iter(data.loader(training=True, rank=1, world_size=2)))
    assert padded["present"].tolist() == [True, False]
    alone = {name: value[:1] for name, value in padded.items()}
    settings = replace(SETTINGS, losses=replace(PUBLISHED, affine_invariant=1.0, gradient_matching=1.0))
    settings = replace(settings, range_mask_kind="bce", feature_alignment=3.0, feature_margin=1.0, noisy_share=0.1)
    found = []
    for batch in (padded, alone):
        module = DapTraining(small().double(), settings)
        module.frozen[0].double()
        for parameter in module.model.backbone.parameters():
            parameter.data *= 1.1
        module.log_dict = lambda *_, **__: None  # no trainer is attached
        module.training_step(batch | {"pixel_values": batch["pixel_values"].double()}, 0).backward()
        found.append([parameter.grad for parameter in module.model.parameters() if parameter.grad is not None])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_losses_of_the_settings_are_the_ones_trained_for(data: PanoramaDataModule, tmp_path: Path) -> None:
    settings = replace(SETTINGS, losses=PUBLISHED, range_mask_kind="squared")
    module = DapTraining(small(), settings)
    trainer = _fit(module, data, tmp_path, max_steps=2, enable_checkpointing=False)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    names = ["silog", "dense_fidelity", "gradient", "normals", "points", "range_mask"]
    assert logged.keys() == {f"train/{name}" for name in [*names, "total"]}
    total = sum(factor * logged[f"train/{name}"] for name, factor in zip(names, [1, 0.4, 5, 2, 2, 2], strict=True))
    assert logged["train/total"] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
def test_the_published_losses_teach_as_well(tmp_path: Path) -> None:
    rooms = ShardSet(scan_shards([write_shard(tmp_path / "few.tar", 3, seed=0)]))
    data = PanoramaDataModule(rooms, rooms, image_height=HEIGHT, batch_size=3, augment=0.0)
    settings = TrainSettings(60, warmup_steps=6, backbone_lr=3e-3, decoder_lr=5e-3, losses=PUBLISHED)
    module = DapTraining(small(), settings)
    trainer = _fit(module, data, tmp_path, max_steps=60, limit_val_batches=1.0, enable_checkpointing=False)
    (result,) = trainer.validate(module, data, verbose=False)
    assert result["validation/abs_rel"] < 0.25


def test_feature_alignment_holds_the_backbone_to_its_start(data: PanoramaDataModule) -> None:
    batch = next(iter(data.loader(training=False)))
    plain, aligned = DapTraining(small(), SETTINGS), DapTraining(small(), replace(SETTINGS, feature_alignment=3.0))
    for module in (plain, aligned):
        module.log_dict = lambda *_, **__: None  # no trainer is attached
    assert _weights(plain).keys() == _weights(aligned).keys()
    assert torch.equal(aligned.training_step(batch, 0), plain.training_step(batch, 0))
    for module in (plain, aligned):
        torch.manual_seed(0)
        for parameter in module.model.backbone.parameters():
            parameter.data += 0.5 * torch.randn_like(parameter)
    frozen = {name: weight.clone() for name, weight in aligned.frozen[0].state_dict().items()}
    apart = aligned.training_step(batch, 0) - plain.training_step(batch, 0)
    assert 0.15 * 3 < apart <= 2 * 3
    apart.backward()
    assert any(parameter.grad is not None for parameter in aligned.model.backbone.parameters())
    assert all(parameter.grad is None for parameter in aligned.frozen[0].parameters())
    assert _same(aligned.frozen[0].state_dict(), frozen)


def test_features_are_aligned_with_a_named_encoder_on_the_images_of_some_sources(data: PanoramaDataModule) -> None:
    """One whose patches are twice as large sees the panorama at twice the distance between its features."""
    batch = next(iter(data.loader(training=False)))
    batch["source"] = ["labels", "labelled", "labelled"]
    encoder = DapModel.new(DapConfig(backbone_config={**BACKBONE, "patch_size": 16}, **HEADS), seed=7).backbone
    settings = replace(SETTINGS, feature_alignment=3.0, feature_margin=1.0, aligned_sources=("labels",))
    module = DapTraining(small(), settings, frozen_encoder=encoder)
    logged: dict[str, torch.Tensor] = {}
    module.log_dict = lambda terms, **_: logged.update(terms)  # no trainer is attached
    module.training_step(batch, 0)
    with torch.no_grad():
        features, frozen = (net(batch["pixel_values"]).feature_maps[-1] for net in (module.model.backbone, encoder))
    cosine = torch.cosine_similarity(features, resize(frozen, *features.shape[-2:]))[0]
    weight = distortion_map(features)
    expected = ((1 - cosine) * weight).sum() / weight.sum()
    torch.testing.assert_close(logged["train/features"], expected)
    with pytest.raises(ValueError, match="features of 32 channels cannot be aligned with 96"):
        DapTraining(DapModel.new(DapConfig.tiny()), settings, frozen_encoder=encoder)


def test_a_step_whose_loss_is_no_number_is_left_out_so_many_times(data: PanoramaDataModule, tmp_path: Path) -> None:
    class Spoilt(DapTraining):
        """Predicts nan in the second step."""

        def _outputs(self, pixel_values: torch.Tensor, seed: int | None = None) -> list[torch.Tensor]:
            return [maps * (torch.nan if self.global_step == 1 else 1) for maps in super()._outputs(pixel_values, seed)]

        def on_train_batch_end(self, *_: Any) -> None:
            weights.append(_weights(self.model))
            noted.append(self.no_number)

    weights: list[Weights] = []
    noted: list[dict[str, Any] | None] = []
    module = Spoilt(small(), replace(SETTINGS, max_skipped=1))
    _fit(module, data, tmp_path, max_steps=3, enable_checkpointing=False)
    assert _same(weights[0], weights[1])
    assert not _same(weights[1], weights[2])
    assert [note and (note["step"], len(note["keys"]), note["sources"]) for note in noted] == [
        None,
        (1, 3, ["labelled"] * 3),
        None,
    ]
    assert math.isnan(noted[1]["terms"]["silog"]) if noted[1] else False
    with pytest.raises(FloatingPointError, match="step 1: the loss is no number any more: silog nan"):
        _fit(Spoilt(small(), SETTINGS), data, tmp_path, max_steps=3, enable_checkpointing=False)


def test_the_average_of_the_weights_is_the_model_and_goes_on(data: PanoramaDataModule, tmp_path: Path) -> None:
    settings, seen = replace(SETTINGS, ema=0.5), list[Weights]()

    class Recording(DapTraining):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(_weights(self.model))

    module = Recording(small(), settings)
    checkpoints = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    _fit(module, data, tmp_path, max_steps=3, callbacks=[checkpoints])
    for name, weight in _weights(module.model).items():
        expected = 0.25 * seen[0][name] + 0.25 * seen[1][name] + 0.5 * seen[2][name]
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-7)
    resumed = DapTraining(small(seed=5), settings)
    _fit(resumed, data, tmp_path, max_steps=3, enable_checkpointing=False, resume=tmp_path / "step=2.ckpt")
    assert _same(_weights(resumed.model), _weights(module.model))


def test_a_backbone_stays_frozen_for_so_many_steps(data: PanoramaDataModule, tmp_path: Path) -> None:
    module = DapTraining(small(), replace(SETTINGS, freeze_steps=2))
    before = _weights(module.model.backbone)
    _fit(module, data, tmp_path, max_steps=2, enable_checkpointing=False)
    assert _same(_weights(module.model.backbone), before)
    module = DapTraining(small(), replace(SETTINGS, freeze_steps=2))
    _fit(module, data, tmp_path, max_steps=3, enable_checkpointing=False)
    assert not _same(_weights(module.model.backbone), before)


@pytest.mark.parametrize(
    ("parts", "moved"), [(("range_mask",), {"mask_head"}), (("depth", "range_mask"), {"depth_head", "mask_head"})]
)
def test_only_the_trained_parts_change(data: PanoramaDataModule, tmp_path: Path, parts: Any, moved: set[str]) -> None:
    module = DapTraining(small(), replace(SETTINGS, trained_parts=parts, freeze_steps=1), micro_batch_size=2)
    before = _weights(module.model)
    _fit(module, data, tmp_path, max_steps=2, enable_checkpointing=False)
    after = _weights(module.model)
    assert {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])} == moved


def test_parts_without_anything_to_learn_from_are_refused() -> None:
    for parts in ((), ("range_mask",)):
        with pytest.raises(ValueError, match="nothing to train"):
            replace(SETTINGS, trained_parts=parts, losses=LossWeights(range_mask=0))


def test_learning_rates_fall_from_layer_to_layer() -> None:
    module = DapTraining(small(), replace(SETTINGS, backbone_lr=1e-3, decoder_lr=2e-3, layer_decay=0.5))
    groups = module.configure_optimizers()["optimizer"].param_groups
    layers = module.model.config.backbone.num_hidden_layers
    rates = {group["name"]: group["initial_lr"] for group in groups}
    assert rates == {"decoder": 2e-3} | {f"backbone-{n}": 1e-3 * 0.5 ** (layers + 1 - n) for n in range(layers + 2)}
    assert sum(len(group["params"]) for group in groups) == len(list(module.model.parameters()))
