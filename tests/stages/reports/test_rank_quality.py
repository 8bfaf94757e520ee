"""Rank quality as a step: rankers of known worth, on labels whose truth is there, and what is left of it."""

import json

import numpy as np
import pytest
import simplejpeg

from dap_engine.engine.execution.runner import check_nodes
from dap_engine.engine.planning.recipe import Node, RecipeError
from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from dap_engine.models.ranking.corruption import CORRUPTIONS
from dap_engine.models.ranking.views import Views
from dap_engine.stages.ranking.ranker import Ranker
from dap_engine.stages.reports.rank_quality import RankQuality
from tests.runs import Bring, failure, finished

H, W = 16, 32
LABELER = f"python:{__name__}:columns_by_brightness"
CONSISTENCY = {"consistency": Ranker("consistency")}


def columns_by_brightness(rgb: np.ndarray) -> np.ndarray:
    """A labeler that is the less sure, the brighter a picture is: 4 m, times what falls and rises along its columns."""
    wave = np.cos(2 * np.pi * np.arange(rgb.shape[1]) / rgb.shape[1])
    return np.tile(4 * np.exp(rgb.mean() / 255 * wave), (rgb.shape[0], 1))


def plain_jpeg(level: int) -> bytes:
    return simplejpeg.encode_jpeg(np.full((H, W, 3), level, np.uint8), 95)


def labelled(scenes: tuple[str, ...] = ("indoor", "outdoor"), split: str = "test") -> Bring:
    """Ten plain pictures of each scene, ever brighter, whose truth is 4 m everywhere; the last has no truth at all."""
    rows = []
    for scene in scenes:
        for number in range(11):
            depth_m = np.full((H, W), 4.0 if number < 10 else np.inf, np.float32)
            fields = {"jpg": plain_jpeg(20 * number + 10), "depth.png": encode_depth_png(depth_m)}
            rows.append(Row(f"{scene}-{number:02d}", {**fields, "json": {"scene": scene, "split": split}}))
    return Bring(TarColumn("labelled-x", ("depth.png", "jpg", "json")), {"000000": rows})


def rank(**settings) -> RankQuality:
    return RankQuality(**{"labeler": LABELER, "data": "labelled-x", "rankers": CONSISTENCY, "device": "cpu"} | settings)


def figures_of(run, report: str = "rank-quality") -> dict:
    return json.loads(run.storage.read_bytes(f"reports/{report}/rank-quality.json"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("judge")
    Discriminator.new(DiscriminatorConfig.tiny(image_height=16), seed=1).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def rankers(judge) -> dict[str, Ranker]:
    return {"judge": Ranker("patchgan", judge), **CONSISTENCY}


@pytest.fixture(scope="module")
def run(rankers, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run"), labelled(), rank(rankers=rankers))


def test_a_labeler_that_knows_when_it_errs_is_ranked_perfectly_by_its_consistency(run):
    figures = figures_of(run)
    assert figures["chosen"] == "consistency"
    assert figures["scenes"].keys() == {"indoor", "outdoor"}
    for scene in figures["scenes"].values():
        assert scene["n"] == 10, "what has no truth within the range is left out"
        found = scene["rankers"]["consistency"]
        assert found["spearman"] == pytest.approx(1)
        assert found["spearman_interval"] == pytest.approx([1, 1])
        assert found["top_half_abs_rel_ratio"] == pytest.approx(scene["oracle"]["top_half_abs_rel_ratio"])
        assert -1 <= scene["rankers"]["judge"]["spearman"] < 1
        assert scene["rankers"]["combined"]["spearman"] < 1, "the judge's part in it is noise"


def test_what_a_ranker_can_see_is_told_by_kind_of_damage(run):
    ordered = figures_of(run)["corruptions"]
    assert ordered.keys() == CORRUPTIONS.keys()
    assert ordered["noisy"]["consistency"] == 1
    assert all(0 <= share <= 1 for row in ordered.values() for share in row.values())
    assert "with a seam" in run.storage.read_bytes("reports/rank-quality/table.txt").decode()


def test_errors_are_those_of_the_labels_by_hand(run):
    """|exp(b·cos) − 1| averaged over columns, all rows alike."""
    wave = np.cos(2 * np.pi * np.arange(W) / W)
    errors = [np.abs(np.exp((20 * number + 10) / 255 * wave) - 1).mean() for number in range(10)]
    indoor = figures_of(run)["scenes"]["indoor"]
    assert indoor["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-2)
    assert indoor["oracle"]["top_half_abs_rel_ratio"] == pytest.approx(np.mean(errors[:5]) / np.mean(errors), rel=1e-2)


def test_labels_of_views_are_their_mean(run, tmp_path):
    averaged = finished(tmp_path, labelled(), rank(views=Views(yaw=4, flip=False)))
    before, after = (figures_of(one)["scenes"]["indoor"]["abs_rel"] for one in (run, averaged))
    assert after < 0.5 * before


def test_a_table_and_a_picture_stand_beside_the_figures(run):
    table = run.storage.read_bytes("reports/rank-quality/table.txt").decode()
    assert table.count("  consistency  ") == 2
    assert "+1.000" in table
    assert run.storage.read_bytes("reports/rank-quality/ranking.png")[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_same_bytes_twice_in_other_batches_and_no_work_twice(rankers, tmp_path, monkeypatch):
    monkeypatch.setattr("dap_engine.stages.reports.rank_quality._DAMAGED", 9)  # in the middle of a batch
    run = finished(tmp_path / "a", labelled(), rank(rankers=rankers))
    again = finished(tmp_path / "b", labelled(), rank(rankers=rankers, batch_size=11))
    hashes = [one.receipts("reports")["rank-quality"].output.sha256 for one in (run, again)]
    assert hashes[0] == hashes[1]
    finished(tmp_path / "b", labelled(), rank(rankers=rankers, batch_size=11))
    assert again.receipts("reports")["rank-quality"].attempt == 1


def test_another_report_and_another_seed_stand_beside(tmp_path):
    run = finished(tmp_path, labelled(), rank(report="a"), rank(report="b", seed=1))
    one, other = figures_of(run, "a")["scenes"]["indoor"], figures_of(run, "b")["scenes"]["indoor"]
    assert one["oracle"]["top_half_abs_rel_ratio"] == other["oracle"]["top_half_abs_rel_ratio"]
    assert one["oracle"]["top_half_abs_rel_ratio_interval"] != other["oracle"]["top_half_abs_rel_ratio_interval"]


def test_a_split_without_panoramas_is_one_line(tmp_path):
    error = failure(tmp_path, labelled(split="train"), rank())
    assert "labelled-x has no panorama of the split 'test' with a truth within the range" in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rankers": {}}, "needs a ranker"),
        ({"rankers": {"oracle": Ranker("consistency")}}, "cannot be named 'oracle'"),
        ({"rankers": {"a": Ranker("patchgan")}}, "rank-quality: a: patchgan needs a model"),
        (
            {"rankers": {"a": Ranker("patchgan", "x", views=Views())}},
            "rank-quality: a: patchgan scores the label as it is",
        ),
        ({"rankers": {"a": Ranker("consistency", "x")}}, "consistency is that of the labeler"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        rank(**settings)


def test_models_that_are_nowhere_stop_the_recipe_before_any_work(tmp_path):
    for step in (rank(labeler=str(tmp_path)), rank(rankers={"a": Ranker("patchgan", str(tmp_path / "none"))})):
        with pytest.raises(RecipeError, match="step 'rank-quality'"):
            check_nodes([Node("rank-quality", step)])
