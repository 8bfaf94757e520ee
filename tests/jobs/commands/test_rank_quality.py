"""`dap run` of a recipe that labels with views, scores by consistency, and measures what rankers are worth."""

import json

import pytest

from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig

RECIPE = """
name: ranked
executor: in-process
steps:
  held-out: {{step: simulate, source_name: field, look: field, panoramas: 4, panoramas_per_shard: 4, height: 16,
             test_share: 1.0, validation_share: 0.0}}
  film: {{step: film, videos: 1, height: 32, seconds: 1, fps: 2}}
  plan: {{step: plan, videos: "run:footage", videos_per_shard: 1}}
  extract: {{step: extract, height: 32, every_s: 0.5}}
  label: {{step: label, model: {labeler}, views: {{yaw: 2, flip: true}}}}
  score: {{step: score, ranker: consistency}}
  rank-quality:
    step: rank-quality
    labeler: {labeler}
    data: labelled-field
    rankers:
      patchgan: {{model: {judge}}}
      consistency: {{ranker: consistency, views: {{yaw: 2, flip: false}}}}
"""


@pytest.fixture
def recipe(tmp_path, tiny_model):
    judge = tmp_path / "judge"
    Discriminator.new(DiscriminatorConfig.tiny(image_height=16), seed=1).save_pretrained(judge)
    path = tmp_path / "ranked.yaml"
    path.write_text(RECIPE.format(labeler=tiny_model, judge=judge))
    return path


def test_a_recipe_ranks_labels_and_says_what_the_ranking_is_worth(dap_here, recipe, tmp_path):
    place = tmp_path / "run"
    done = dap_here("run", recipe, "--run-dir", place)
    assert done.returncode == 0, done.stderr
    assert "rank-quality: chosen: " in done.stderr, "the table is printed"
    figures = json.loads((place / "reports" / "rank-quality" / "rank-quality.json").read_text())
    assert figures["chosen"] in ("patchgan", "consistency", "combined")
    for scene in figures["scenes"].values():
        assert scene["n"] > 0
        assert scene["rankers"].keys() == {"patchgan", "consistency", "combined"}
        for found in scene["rankers"].values():
            low, high = found["spearman_interval"]
            assert -1 <= low <= found["spearman"] <= high <= 1 or scene["n"] < 3
        assert scene["oracle"]["top_half_abs_rel_ratio"] <= 1
    assert json.loads(dap_here("verify", "--run-dir", place, "--json").stdout)["ok"]
    assert "up to date: nothing to do" in dap_here("run", recipe, "--run-dir", place).stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("score.ranker=patchgan", "step 'score': score: patchgan needs a model, which train-discriminator makes"),
        ("label.views={yaw: 1, flip: false}", "views: two at least are needed"),
        ("rank-quality.rankers.consistency.ranker=patchgan", "rank-quality: consistency: patchgan needs a model"),
        ("score.ranker=critics", "ranker"),
    ],
)
def test_settings_of_rankers_that_do_not_fit_end_before_any_work(dap_here, recipe, tmp_path, setting, message):
    done = dap_here("run", recipe, "--run-dir", tmp_path / "run", "--set", setting)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "run" / "receipts").exists()
