"""Scores: a number for every labelled frame, from the image and its label together."""

import numpy as np
import pytest

from dap_engine.engine.records.column import TarColumn
from dap_engine.engine.records.sample import Row
from dap_engine.models.data.depth_png import encode_depth_png
from dap_engine.models.network.dap import DapConfig, DapModel
from dap_engine.models.network.discriminator import Discriminator, DiscriminatorConfig
from dap_engine.models.ranking.views import Views
from dap_engine.stages.label import Label
from dap_engine.stages.score import Score
from tests.runs import FRAMES, Bring, failure, finished, frame, hashes, noise_depth_m, rows_of

KEYS = ["a-00", "a-01", "b-00"]
BROKEN = Row("b-01", {"jpg": b"\xff\xd8 no more", "json": {}})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("discriminator")
    Discriminator.new(DiscriminatorConfig.tiny(image_height=32), seed=1).save_pretrained(folder)
    return str(folder)


def labels(round: int = 1, *, flat: str = "", height: int = 32) -> Bring:
    """A label of noise for every key, and one of a single distance for the key `flat`."""
    maps = {key: noise_depth_m(seed, height) for seed, key in enumerate([*KEYS, "b-01"])}
    if flat:
        maps[flat] = np.full_like(maps[flat], 3.0)
    rows = [Row(key, {"depth.png": encode_depth_png(depth_m), "json": {}}) for key, depth_m in maps.items()]
    return Bring(TarColumn(f"labels-{round}", ("depth.png", "json")), {"000000": rows})


def frames(extra: tuple[Row, ...] = ()) -> Bring:
    return Bring(FRAMES, {"000000": [*(frame(key, seed) for seed, key in enumerate(KEYS)), *extra]})


def test_every_labelled_frame_gets_a_finite_score(tmp_path, model):
    run = finished(tmp_path, frames(), labels(), Score(model=model, batch_size=2))
    scores = {key: row["score"] for key, row in rows_of(run, "scores-1").items()}
    assert list(scores) == KEYS
    assert all(0 < score < 1 for score in scores.values())
    assert len(set(scores.values())) == 3


def test_a_broken_image_is_dropped_and_leaves_the_others_their_scores(tmp_path, model):
    whole = finished(tmp_path / "a", frames(), labels(), Score(model=model))
    broken = finished(tmp_path / "b", frames((BROKEN,)), labels(), Score(model=model))
    assert broken.receipts("scores-1")["000000"].drops == {"bad_image": 1}
    assert rows_of(broken, "scores-1") == rows_of(whole, "scores-1")


def test_the_label_counts_not_the_image_alone(tmp_path, model):
    noisy = rows_of(finished(tmp_path / "a", frames(), labels(), Score(model=model)), "scores-1")
    flat = rows_of(finished(tmp_path / "b", frames(), labels(flat="a-01"), Score(model=model)), "scores-1")
    assert [key for key in KEYS if noisy[key]["score"] != pytest.approx(flat[key]["score"], abs=1e-6)] == ["a-01"]


def test_a_round_is_scored_by_its_own_labels_and_labels_may_be_larger(tmp_path, model):
    steps = (frames(), labels(1), labels(2, flat="b-00", height=48))
    run = finished(tmp_path, *steps, Score(model=model, round=2))
    assert list(rows_of(run, "scores-2")) == KEYS
    assert run.receipts("scores-2")["000000"].basis.inputs.keys() == {"frames", "labels-2"}


def test_the_same_bytes_twice(tmp_path, model):
    once, twice = (finished(tmp_path / name, frames(), labels(), Score(model=model)) for name in "ab")
    assert hashes(once, "scores-1") == hashes(twice, "scores-1")


def test_what_was_dropped_before_is_not_scored(tmp_path, model):
    """The inner join: a frame without a label is no sample of this stage."""
    run = finished(tmp_path, Bring(FRAMES, {"000000": [frame("a-00"), frame("zz-00")]}), labels(), Score(model=model))
    assert list(rows_of(run, "scores-1")) == ["a-00"]
    assert run.receipts("scores-1")["000000"].samples_in == 1


VIEWS = Views(yaw=2, flip=True)


@pytest.fixture(scope="module")
def labeler(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("labeler")
    DapModel.new(DapConfig.tiny(image_height=32), seed=3).save_pretrained(folder)
    return str(folder)


def scores_of(run) -> dict[str, float]:
    return {key: row["score"] for key, row in rows_of(run, "scores-1").items()}


def test_consistency_is_read_from_the_label_or_predicted_anew_to_the_same_score(tmp_path, labeler):
    steps = (frames((BROKEN,)), Label(model=labeler, views=VIEWS))
    read = finished(tmp_path / "a", *steps, Score(ranker="consistency"))
    anew = finished(tmp_path / "b", *steps, Score(ranker="consistency", model=labeler, views=VIEWS, batch_size=2))
    assert list(scores_of(read)) == KEYS
    assert scores_of(read) == pytest.approx(scores_of(anew), abs=2e-3)  # the label is rounded to 1/512 m
    assert all(0 < score < 1 for score in scores_of(read).values())
    assert read.receipts("scores-1")["000000"].basis.inputs.keys() == {"labels-1"}


def test_a_label_that_the_labeler_would_not_give_scores_less(tmp_path, labeler):
    score = Score(ranker="consistency", model=labeler, views=VIEWS)
    own = scores_of(finished(tmp_path / "a", frames(), Label(model=labeler), score))
    noise = scores_of(finished(tmp_path / "b", frames(), labels(), score))
    assert all(own[key] > noise[key] for key in KEYS)


def three_metres(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], 3.0)


def four_metres(rgb: np.ndarray) -> np.ndarray:
    return np.full(rgb.shape[:2], 4.0)


def test_teachers_that_say_the_same_as_a_label_speak_for_it(tmp_path):
    teachers = {name: f"python:{__name__}:{name}_metres" for name in ("three", "four")}
    flat = Label(model=teachers["three"])
    by_one = Score(ranker="teachers", teachers={"one": teachers["three"]}, variant="one")
    by_both = Score(ranker="teachers", teachers=teachers, variant="both")
    run = finished(tmp_path, frames(), flat, by_one, by_both)
    assert {row["score"] for row in rows_of(run, "scores-1-one").values()} == {1.0}
    found = [row["score"] for row in rows_of(run, "scores-1-both").values()]
    assert found == pytest.approx([np.exp(-np.log(4 / 3) / np.sqrt(2))] * 3, rel=1e-3)


def test_a_critic_and_a_discriminator_are_not_taken_for_each_other(tmp_path, model):
    config = DiscriminatorConfig.tiny(image_height=32, judges="error")
    Discriminator.new(config, seed=1).save_pretrained(tmp_path / "critic")
    critic = str(tmp_path / "critic")
    assert "is no critic: it judges realism" in failure(
        tmp_path / "a", frames(), labels(), Score(ranker="critic", model=model)
    )
    assert "is no patchgan: it judges error" in failure(tmp_path / "b", frames(), labels(), Score(model=critic))
    scored = finished(tmp_path / "c", frames(), labels(), Score(ranker="critic", model=critic))
    assert all(0 < row["score"] < 1 for row in rows_of(scored, "scores-1").values())


def test_a_label_without_a_spread_fails_with_what_to_do(tmp_path):
    assert "labels-1 has no spread: give views to the step that labels" in failure(
        tmp_path, labels(), Score(ranker="consistency")
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "score: patchgan needs a model, which train-discriminator makes"),
        ({"model": "a", "views": VIEWS}, "score: patchgan scores the label as it is"),
        ({"ranker": "consistency", "views": VIEWS}, "score: views need a model, the labeler"),
        ({"ranker": "critic"}, "score: critic needs a model, which train-critic makes"),
        ({"ranker": "teachers"}, "score: teachers are the labelers"),
        ({"ranker": "consistency", "teachers": {"one": "a"}}, "score: teachers are the labelers"),
        ({"ranker": "teachers", "model": "b", "teachers": {"one": "a"}}, "takes no model"),
    ],
)
def test_settings_of_one_ranker_are_refused_for_another(settings, message):
    with pytest.raises(ValueError, match=message):
        Score(**settings)
