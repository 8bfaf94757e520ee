"""Training as a step of a recipe: a model folder that says what it was made from, and no work done twice."""

import json
from pathlib import Path

import pytest
import torch

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.network.discriminator import Discriminator
from dap_engine.models.training.settings import TrainSettings
from dap_engine.stages.pack import Pack, Source
from dap_engine.stages.training.settings import DataConfig, Hardware
from dap_engine.stages.training.train import Network, Train
from dap_engine.stages.training.train_critic import TrainCritic
from dap_engine.stages.training.train_discriminator import TrainDiscriminator
from tests.jobs.packed import TINY
from tests.runs import Bring, failure, finished, hashes, jpeg, noise_depth_m

DATA = DataConfig(image_height=32, batch_size=2, num_workers=0, seed=1)
CPU = Hardware(accelerator="cpu")


def rooms() -> tuple[Bring, Pack]:
    """Five labelled panoramas, one of them for validation, and their packing."""
    rows = [
        Row(f"r-{n}", {"jpg": jpeg(n), "depth.png": encode_depth_png(noise_depth_m(n)), "json": {"split": split}})
        for n, split in enumerate(["train", "train", "val", "train", "train"])
    ]
    column = TarColumn("labelled-rooms", ("depth.png", "jpg", "json"))
    return Bring(column, {"000000": rows}), Pack(train="rooms", sources=[Source("labelled-rooms")])


def training(model: str = "a", steps: int = 3, **settings) -> Train:
    network = Network(config=TINY, seed=settings.pop("seed", 0))
    schedule = TrainSettings(steps, backbone_lr=1e-3, decoder_lr=1e-3)
    defaults = {"network": network, "batches": DATA, "hardware": CPU}
    return Train(model=model, data="train-rooms", training=schedule, **defaults | settings)


def discriminating(**settings) -> TrainDiscriminator:
    defaults = {"steps": 3, "config": {"image_height": 32, "channels": [8, 8, 8]}, "batches": DATA, "hardware": CPU}
    return TrainDiscriminator(model="judge", data="train-rooms", labeler="run:models/a", **defaults | settings)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), *rooms(), training(), discriminating())


def lineage(run, model: str) -> dict:
    return json.loads(run.storage.read_bytes(f"models/{model}/lineage.json"))


def test_the_model_folder_loads_and_has_learnt(run):
    model = DapModel.from_folder(Path(run.uri) / "models" / "a")
    assert model.config.image_height == 32
    assert not same(model, Network(config=TINY).build(None, None))
    assert run.receipts("models")["a"].samples_in == 4


def test_the_lineage_says_what_the_weights_were_made_from(run):
    receipt, found = run.receipts("models")["a"], lineage(run, "a")
    assert found["fingerprint"] == receipt.fingerprint
    assert found["step"] == "train"
    assert found["inputs"].keys() == {"train-rooms"}
    assert found["settings"]["training"]["steps"] == 3
    assert found["validation"].keys() == {"validation/abs_rel", "validation/rmse", "validation/delta1"}
    judge = lineage(run, "judge")
    assert judge["assets"] == {"labeler": receipt.output.sha256}
    assert judge["validation"] == {}


def test_a_finished_training_leaves_no_checkpoint(run):
    assert run.storage.list("checkpoints") == {}


def test_the_same_recipe_gives_the_same_bytes(run, tmp_path):
    again = finished(tmp_path, *rooms(), training(), discriminating())
    assert hashes(again, "models") == hashes(run, "models")


def test_where_it_ran_and_how_often_it_was_saved_train_nothing_anew(run):
    elsewhere = training(hardware=Hardware(accelerator="auto", max_failures=9), checkpoint_every=1)
    again = finished(run.uri, *rooms(), elsewhere, discriminating(checkpoint_every=2))
    assert {name: receipt.attempt for name, receipt in again.receipts("models").items()} == {"a": 1, "judge": 1}


def test_a_model_goes_on_from_another_of_the_run_and_follows_its_change(tmp_path):
    after = training("b", init="run:models/a", steps=1, network=Network())
    first = finished(tmp_path, *rooms(), training(), after)
    assert lineage(first, "b")["assets"] == {"init": first.receipts("models")["a"].output.sha256}
    before = hashes(first, "models")
    second = finished(tmp_path, *rooms(), training(seed=5), after)
    assert all(before[name] != sha256 for name, sha256 in hashes(second, "models").items())
    assert second.receipts("models")["b"].attempt == 2


def test_a_trained_model_gets_a_range_mask_of_another_threshold(run, tmp_path):
    """What is trained is that head alone; the rest of the model is as it was, to the bit."""
    schedule = TrainSettings(2, decoder_lr=1e-2, trained_parts=("range_mask",))
    first = Path(run.uri) / "models" / "a"
    mask = Train(model="b", data="train-rooms", init=str(first), range_mask_m=10.0, training=schedule,
                 batches=DATA, hardware=CPU)  # fmt: skip
    finished(tmp_path, *rooms(), mask)
    before, after = (DapModel.from_folder(folder) for folder in (first, tmp_path / "models" / "b"))
    assert after.config.range_threshold_m == 10
    assert {name.split(".")[0] for name, weight in before.state_dict().items()
            if not torch.equal(weight, after.state_dict()[name])} == {"mask_head"}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"init": "run:models/a"}, "network contradicts init"),
        ({"range_mask_m": 10.0}, "range_mask_m is for the model of init"),
    ],
)
def test_what_contradicts_init_is_refused_before_any_work(settings, problem):
    with pytest.raises(RecipeError, match=problem):
        check_nodes([Node("train", training(**settings))])


def test_a_network_starts_from_seeded_fresh_weights():
    networks = [Network(config=TINY, seed=seed).build(None, None) for seed in (1, 1, 2)]
    assert same(networks[0], networks[1])
    assert not same(networks[0], networks[2])
    assert networks[0].config.backbone_config.hidden_size == DapConfig.tiny().backbone_config.hidden_size


def test_a_network_of_a_config_has_the_size_it_says(tmp_path):
    backbone = {"model_type": "dinov3_vit", "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = {**TINY, "backbone_config": {**backbone, "num_hidden_layers": 4, "patch_size": 16}}
    built = Network(size="config", config=config).build(None, None)
    assert built.config.backbone_config.hidden_size == 32
    built.backbone.save_pretrained(tmp_path)
    on_backbone = Network(size="config", config=TINY, seed=9).build(None, str(tmp_path))
    assert same(on_backbone.backbone, built.backbone)
    assert not same(on_backbone, built)


def test_a_network_from_a_folder_has_its_weights(tmp_path):
    saved = DapModel.new(DapConfig.tiny(**TINY), seed=4)
    saved.save_pretrained(tmp_path)
    assert same(Network(seed=1).build(str(tmp_path), None), saved)


def test_the_discriminator_loads_and_scores(run):
    judge = Discriminator.from_folder(Path(run.uri) / "models" / "judge")
    scores = judge.score(torch.zeros(2, 3, 32, 64), torch.ones(2, 32, 64))
    assert scores.shape == (2,)
    assert torch.isfinite(scores).all()


def test_nothing_to_train_on_is_said(tmp_path):
    labelled, _ = rooms()
    pack = Pack(train="rooms", sources=[Source("labelled-rooms")], splits=["val"])
    error = failure(tmp_path, labelled, pack, training())
    assert "0 samples do not fill one batch" in error.strip().splitlines()[-1]


@pytest.mark.parametrize("settings", [{"steps": 0}, {"checkpoint_every": 0}])
def test_no_steps_are_refused_before_any_work(settings):
    with pytest.raises(RecipeError, match="at least 1"):
        check_nodes([Node("train", training(**settings))])


def test_a_critic_learns_from_the_labelers_it_names(tmp_path):
    labelers = {"early": "run:models/a", "late": "run:models/b"}
    critic = TrainCritic(model="critic", data="train-rooms", labelers=labelers, steps=2, batches=DATA, hardware=CPU,
                         config={"image_height": 32, "channels": [8, 8, 8]})  # fmt: skip
    run = finished(tmp_path, *rooms(), training("a"), training("b", steps=4), critic)
    trained = Discriminator.from_folder(tmp_path / "models" / "critic")
    assert trained.config.judges == "error"
    assert lineage(run, "critic")["assets"].keys() == {"early", "late"}
    with pytest.raises(ValueError, match="needs a labeler"):
        TrainCritic(model="critic", data="train-rooms", labelers={}, steps=2)
