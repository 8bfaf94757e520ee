"""Panoramas from text as a column of a run: checked as frames are, and each the same whatever is made beside it."""

import re

import pytest

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.verification.verify import verify_run
from dap_engine.models.generation.prompts import Words
from dap_engine.stages.generate import Generate
from tests.footage import panorama, perspective
from tests.runs import failure, finished, result_of, rows_of

HUB = "black-forest-labs/FLUX.1-dev"


class Drawn:
    """Stands in for the pipeline: every third picture is one of a lens."""

    def __init__(self, model, lora, *, device, wrap):
        pass

    def generate(self, prompts, seeds, *, height, steps, guidance):
        return [(perspective if seed % 3 == 0 else panorama)(height, seed % 1000) for seed in seeds]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    monkeypatch.setattr("dap_engine.models.generation.pipeline.PanoramaGenerator", Drawn)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    settings = {"height": 64, "picture_height": 128, "min_sharpness": 0, "panoramas_per_shard": 4}
    return lambda **more: Generate(str(tmp_path / "model"), **{"panoramas": 10, **settings, **more})


def test_whole_panoramas_are_kept_with_their_prompts_and_others_dropped_with_codes(drawn, tmp_path):
    run = finished(tmp_path / "run", drawn())
    rows = rows_of(run, "generated")
    assert list(run.receipts("generated")) == [f"generated-{number:06d}" for number in range(3)]
    assert all(re.fullmatch(r"generated-0000000\d-0", key) for key in rows)
    for key, row in rows.items():
        info = row["json"]
        assert info["prompt"] == Words().compose(0, int(key.split("-")[1]))
        assert info["seed"] % 3
        assert (info["width"], info["height"]) == (128, 64)
    drops = run.receipts("generated").drops
    assert set(drops) == {"perspective"}
    assert len(rows) + drops["perspective"] == 10
    assert verify_run(run).problems == []


def test_a_panorama_is_the_same_in_any_batch_and_in_any_number(drawn, tmp_path):
    few = rows_of(finished(tmp_path / "few", drawn(panoramas=5)), "generated")
    many = rows_of(finished(tmp_path / "many", drawn(panoramas=10, batch_size=3)), "generated")
    assert few.items() <= many.items()
    other = rows_of(finished(tmp_path / "other", drawn(panoramas=5, seed=1)), "generated")
    assert other != few


def test_prompts_of_a_file_are_taken_in_turn_and_are_part_of_what_it_is_made_from(drawn, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a cave\na tent\n")
    rows = rows_of(run := finished(tmp_path / "run", drawn(prompts=str(file))), "generated")
    assert {key.split("-")[1][-1]: row["json"]["prompt"] for key, row in rows.items()} == {
        key.split("-")[1][-1]: ["a cave", "a tent"][int(key.split("-")[1]) % 2] for key in rows
    }
    before = run.receipts("generated")["generated-000000"].fingerprint
    file.write_text("a cave\na barn\n")
    finished(tmp_path / "run", drawn(prompts=str(file)))
    assert run.receipts("generated")["generated-000000"].fingerprint != before


def test_none_at_all_needs_nothing(tmp_path):
    nothing = Generate(HUB, panoramas=0)
    check_nodes([Node("generate", nothing)])
    assert not result_of(tmp_path, nothing).unfinished


def test_a_pipeline_that_is_not_there_is_told_in_one_line_with_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = failure(tmp_path, Generate("nobody/nothing", panoramas=1)).strip().splitlines()[-1]
    assert error.startswith("ValueError: nobody/nothing")
    assert "generate.model and .lora" in error
    assert "panoramas=0" in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "."}, "is no pipeline of diffusers: it has no model_index.json"),
        ({"model": "nowhere"}, "nowhere: no such folder, and not a hub id"),
        ({"prompts": "no/prompts.txt"}, "no/prompts.txt"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=re.escape(message)):
        check_nodes([Node("generate", Generate(**{"model": HUB, "panoramas": 1, **settings}))])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"panoramas": -1}, "at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"picture_height": 500}, "multiple of 16"),
        ({"height": 2048}, "at least height"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Generate(HUB, **{"panoramas": 1, **settings})


def test_a_real_pipeline_fills_a_column(tmp_path):
    """With tiny random weights, whose pictures are noise: each is a row or a drop with a code, twice the same."""
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("peft", reason="peft is not installed")
    from tests.models.generation.tiny_pipelines import save_tiny_flux, save_tiny_lora

    flux = save_tiny_flux(tmp_path / "flux")
    lora = save_tiny_lora(flux, tmp_path / "lora")
    step = Generate(
        str(flux), panoramas=3, lora=str(lora), height=32, picture_height=64, steps=2, panoramas_per_shard=2,
        min_sharpness=0, device="cpu", max_tilt_deg=15,
    )  # fmt: skip
    first, second = finished(tmp_path / "a", step), finished(tmp_path / "b", step)
    receipts = first.receipts("generated")
    assert receipts.samples[0] == 3
    assert receipts.samples[1] + sum(receipts.drops.values()) == 3
    for shard, receipt in receipts.items():
        other = second.receipts("generated")[shard]
        assert (other.output, other.drops_output) == (receipt.output, receipt.drops_output)
    assert verify_run(first).problems == []
